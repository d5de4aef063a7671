//! Waiting that ends early when the demo does.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// Tells every thread of the demo that it ends, once it is dropped.
pub(super) struct Running(#[expect(dead_code, reason = "held only for its drop")] Sender<()>);

/// A thread's view of whether the demo still runs.
#[derive(Clone)]
pub(super) struct Stop(Receiver<()>);

/// A demo that runs, and the view of it.
pub(super) fn running() -> (Running, Stop) {
    let (sender, receiver) = bounded(0);
    (Running(sender), Stop(receiver))
}

impl Stop {
    /// Waits for `duration`, or until the demo ends; tells whether it has ended.
    pub(super) fn pause(&self, duration: Duration) -> bool {
        self.0.recv_timeout(duration) == Err(RecvTimeoutError::Disconnected)
    }

    /// Whether the demo has ended.
    pub(super) fn has_come(&self) -> bool {
        self.pause(Duration::ZERO)
    }

    /// A view of a demo that has ended: no wait at all.
    #[cfg(test)]
    pub(super) fn already() -> Stop {
        running().1
    }
}
