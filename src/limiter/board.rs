//! The limiter's latest snapshot, published for everybody who wants to know without asking the limiter.

use crate::limiter::snapshot::Snapshot;
use parking_lot::RwLock;
use std::sync::Arc;

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

    /// Shows `snapshot` from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        *self.0.write() = Arc::new(snapshot);
    }
}
