//! The dashboard's second hand: once a second it takes the history down and shows one snapshot to all viewers.

use crate::control::Control;
use crate::front::event_loop::{LoopHandle, Order};
use crate::ops::dashboard::WAITING_LISTED;
use crate::ops::overview::Overview;
use crossbeam_channel::{Receiver, select, tick};
use std::sync::Arc;
use std::time::Duration;

/// Shows until `end` is closed.
pub fn run(overview: &Overview, control: &Control, loops: &[LoopHandle], end: &Receiver<()>) {
    let ticks = tick(Duration::from_secs(1));
    loop {
        select! {
            recv(ticks) -> _ => {}
            recv(end) -> _ => return,
        }
        overview.sample(overview.clock.now());
        if overview.open.viewers() == 0 {
            continue;
        }
        // Built once for all viewers, and only when there is one.
        let waiting = control.waiting(WAITING_LISTED).unwrap_or_default();
        let snapshot = overview.dashboard(&waiting, overview.clock.now());
        let Ok(json) = serde_json::to_string(&snapshot) else { continue };
        let event: Arc<[u8]> = format!("event: snapshot\ndata: {json}\n\n").into_bytes().into();
        for event_loop in loops {
            event_loop.order(Order::Show(event.clone()));
        }
    }
}
