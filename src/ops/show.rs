//! The dashboard's second hand: once a second it takes the history down and shows one snapshot to all viewers.

use crate::control::Control;
use crate::ops::dashboard::WAITING_LISTED;
use crate::ops::overview::Overview;
use crossbeam_channel::{Receiver, select, tick};
use std::sync::Arc;
use std::time::Duration;

/// Hands each snapshot to `show`, until `end` is closed.
pub fn run(overview: &Overview, control: &Control, show: impl Fn(Arc<[u8]>), end: &Receiver<()>) {
    let ticks = tick(Duration::from_secs(1));
    loop {
        select! {
            recv(ticks) -> _ => {}
            recv(end) -> _ => return,
        }
        let now = overview.sources().clock.now();
        overview.sample(now);
        if overview.viewers() == 0 {
            continue;
        }
        // Built once for all viewers, and only when there is one.
        let waiting = control.waiting(WAITING_LISTED).unwrap_or_default();
        let Ok(json) = overview.dashboard(&waiting, now) else { continue };
        show(format!("event: snapshot\ndata: {json}\n\n").into_bytes().into());
    }
}
