//! How many client connections are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the open connections of all loops.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: AtomicUsize,
    viewers: AtomicUsize,
}

impl OpenConnections {
    /// Connections open now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.all.load(Ordering::Relaxed)
    }

    /// A connection was opened.
    pub fn add(&self) {
        self.0.all.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was closed.
    pub fn remove(&self) {
        self.0.all.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection shows the stream from now on.
    pub fn add_viewer(&self) {
        self.0.viewers.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that showed the stream was closed.
    pub fn remove_viewer(&self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Of these, the ones that show the dashboard's stream.
    #[must_use]
    pub fn viewers(&self) -> usize {
        self.0.viewers.load(Ordering::Relaxed)
    }
}
