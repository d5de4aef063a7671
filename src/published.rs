//! The newest value of something that one thread owns, for all who only read it.

use arc_swap::ArcSwap;
use std::sync::Arc;

/// Holds the newest value. Reading waits for nobody and blocks nobody; what was read stays as it was.
#[derive(Debug)]
pub struct Published<T>(ArcSwap<T>);

impl<T> Published<T> {
    /// A cell that holds `first`.
    #[must_use]
    pub fn new(first: T) -> Published<T> {
        Published(ArcSwap::from_pointee(first))
    }

    /// The newest value.
    #[must_use]
    pub fn read(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Puts `value` in place of the one before.
    pub fn publish(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}
