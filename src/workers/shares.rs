//! How many workers of a pool one client may hold, so that none of them keeps all from the others.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// A client may hold so many workers for each that is left free. One client alone gets three quarters of the pool, two get
/// three sevenths each, and something is always left for the next to come (dynamic thresholds, Choudhury and Hahne 1998).
const FOR_EACH_FREE: usize = 3;

/// The workers that each client holds. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<Mutex<HashMap<Arc<str>, usize>>>);

/// One worker that a client holds; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Shares,
    client: Arc<str>,
}

impl Shares {
    /// One more worker for this client while so many are free; `None` when it has its share.
    #[must_use]
    pub fn take(&self, client: &Arc<str>, free: usize) -> Option<Share> {
        let mut held = self.0.lock();
        let count = held.get(client).copied().unwrap_or_default();
        if count >= free.saturating_mul(FOR_EACH_FREE) {
            return None;
        }
        held.insert(client.clone(), count + 1);
        Some(Share { of: self.clone(), client: client.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.0.lock();
        match held.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&self.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as a client gets of a pool of this size, of which others hold some.
    fn taken(shares: &Shares, name: &str, cap: usize, all: &mut Vec<Share>) -> usize {
        let client: Arc<str> = name.into();
        let before = all.len();
        while let Some(share) = shares.take(&client, cap - all.len()) {
            all.push(share);
        }
        all.len() - before
    }

    #[test]
    fn whoever_comes_first_leaves_something_to_those_who_come_later() {
        let (shares, mut all) = (Shares::default(), Vec::new());
        let got: Vec<_> = ["a", "b", "c"].map(|name| taken(&shares, name, 256, &mut all)).into();
        assert_eq!(got, [192, 48, 12]);
        all.retain(|share| &*share.client != "a");
        assert_eq!(taken(&shares, "a", 256, &mut all), 147, "what was given back can be taken again");
    }

    #[test]
    fn the_only_worker_can_be_had_and_nothing_is_kept_of_who_has_gone() {
        let (shares, mut all) = (Shares::default(), Vec::new());
        assert_eq!(taken(&shares, "a", 1, &mut all), 1);
        assert_eq!(taken(&shares, "b", 1, &mut all), 0);
        all.clear();
        assert!(shares.0.lock().is_empty());
    }
}
