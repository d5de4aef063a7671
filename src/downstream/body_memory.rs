//! The one budget for the request bodies that all connections hold together, being read or waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the bytes of request bodies in memory; clones share the count.
#[derive(Clone, Debug, Default)]
pub struct BodyBudget(Arc<AtomicUsize>);

/// A share of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct BodyShare {
    budget: BodyBudget,
    bytes: usize,
}

impl BodyBudget {
    /// An empty share.
    #[must_use]
    pub fn share(&self) -> BodyShare {
        BodyShare { budget: self.clone(), bytes: 0 }
    }

    /// Bytes taken by all shares together.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl BodyShare {
    /// Makes this share `bytes` large. Growing fails, and leaves the share as it is, when all shares together would
    /// exceed `most`.
    pub fn resize(&mut self, bytes: usize, most: usize) -> bool {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            if self.budget.0.fetch_add(more, Ordering::Relaxed) + more > most {
                self.budget.0.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else {
            self.budget.0.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_together_never_exceed_the_budget_and_give_back_what_they_took() {
        let budget = BodyBudget::default();
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.resize(60, 100));
        assert!(!b.resize(41, 100), "41 more than the budget has");
        assert!(b.resize(40, 100));
        assert!(a.resize(10, 100));
        assert_eq!(budget.used(), 50);
        drop(a);
        drop(b);
        assert_eq!(budget.used(), 0);
    }
}
