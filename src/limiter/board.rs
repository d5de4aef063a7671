//! The limiter's latest snapshot, published for everybody who wants to know without asking the limiter.

use crate::limiter::snapshot::Snapshot;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;

/// Holds the latest [`Snapshot`]. Reading never waits for the limiter.
#[derive(Debug)]
pub struct Board(RwLock<Arc<Snapshot>>);

impl Board {
    /// A board that shows `first`.
    #[must_use]
    pub fn new(first: Snapshot) -> Board {
        Board(RwLock::new(Arc::new(first)))
    }

    /// The latest snapshot.
    #[must_use]
    pub fn read(&self) -> Arc<Snapshot> {
        self.0.read().clone()
    }

    /// How long a newcomer would wait by the present depth and rate.
    #[must_use]
    pub fn expected_wait(&self) -> Duration {
        let snapshot = self.read();
        let waiting: usize = snapshot.queue.depth_by_priority.iter().sum();
        let per_second = snapshot.retreat.effective_rpm / 60.0;
        crate::clock::duration_from_secs_f64((waiting + 1) as f64 / per_second.max(f64::MIN_POSITIVE))
    }

    /// Shows `snapshot` from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        *self.0.write() = Arc::new(snapshot);
    }
}
