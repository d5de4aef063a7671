//! The places that this sidecar was granted within the last window: held, used, and whether Redis has heard of it.

use super::timeline::millis;
use crate::clock::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// A place in the fleet's windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in Redis.
    pub id: String,
    /// The quotas that it draws on, as the script numbers them.
    pub draws: Vec<usize>,
    /// Until when its request may be sent.
    pub valid_until: Moment,
    /// When the request was sent.
    pub sent_at: Option<Moment>,
    /// Redis does not know of it, or not of when it was sent.
    pub untold: bool,
}

/// A sidecar's own places.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: VecDeque<Entry>,
}

impl Ledger {
    /// A place was granted by Redis, or taken out of this sidecar's own share (`untold`).
    pub fn granted(&mut self, id: String, valid_until: Moment, untold: bool) {
        self.entries.push_back(Entry {
            id,
            draws: vec![super::protocol::KEY_QUOTA],
            valid_until,
            sent_at: None,
            untold,
        });
    }

    /// The request of a place was sent. One that came too late, after its place ended, counts anew.
    pub fn sent(&mut self, id: &str, at: Moment) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.sent_at = Some(at);
            entry.untold = true;
        }
    }

    /// The place was not used. Tells whether there was one.
    pub fn give_back(&mut self, id: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.id != id || entry.sent_at.is_some());
        self.entries.len() < before
    }

    /// Forgets what counts no more, `window` after it was sent, or after it could last have been.
    pub fn expire(&mut self, window: Duration, now: Moment) {
        self.entries.retain(|entry| entry.sent_at.unwrap_or(entry.valid_until) + window > now);
    }

    /// Redis has heard of these sendings.
    pub fn told(&mut self, ids: &[String]) {
        for entry in self.entries.iter_mut().filter(|entry| ids.contains(&entry.id)) {
            entry.untold = false;
        }
    }

    /// The names of the sendings that Redis has not heard of.
    #[must_use]
    pub fn sent_untold(&self) -> Vec<String> {
        let sent = self.entries.iter().filter(|entry| entry.untold && entry.sent_at.is_some());
        sent.map(|entry| entry.id.clone()).collect()
    }

    /// The names of the places that are held and not used, of which Redis knows.
    #[must_use]
    pub fn held(&self) -> Vec<String> {
        let held = self.entries.iter().filter(|entry| entry.sent_at.is_none());
        held.map(|entry| entry.id.clone()).collect()
    }

    /// What Redis has not heard, as of `asked`.
    #[must_use]
    pub fn untold(&self, asked: Moment) -> Vec<(String, i64, Vec<usize>)> {
        self.entries.iter().filter(|entry| entry.untold).map(|entry| line(entry, asked)).collect()
    }

    /// Everything, as of `asked`.
    #[must_use]
    pub fn all(&self, asked: Moment) -> Vec<(String, i64, Vec<usize>)> {
        self.entries.iter().map(|entry| line(entry, asked)).collect()
    }

    /// How many places count.
    #[must_use]
    pub fn used(&self) -> usize {
        self.entries.len()
    }

    /// When the `nth` place (from 1) counts no more.
    #[must_use]
    pub fn nth_leaves(&self, nth: usize, window: Duration) -> Option<Moment> {
        let mut leaves: Vec<_> =
            self.entries.iter().map(|entry| entry.sent_at.unwrap_or(entry.valid_until) + window).collect();
        leaves.sort_unstable();
        leaves.get(nth.checked_sub(1)?).copied()
    }
}

/// The age is rounded towards "later": down where it lies in the past, up where it lies ahead.
fn line(entry: &Entry, asked: Moment) -> (String, i64, Vec<usize>) {
    let whole = |duration| i64::try_from(millis(duration)).unwrap_or(i64::MAX);
    let age = match entry.sent_at {
        // Sent after the call was put together: counts as sent now, and is told again with the next call.
        Some(at) if at > asked => -whole(at.since(asked)) - 1,
        Some(at) => whole(asked.since(at)),
        None => -whole(entry.valid_until.since(asked)) - 1,
    };
    (entry.id.clone(), age, entry.draws.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_place_that_is_given_back_is_forgotten_and_one_that_was_sent_is_not() {
        let mut ledger = Ledger::default();
        ledger.granted("a".into(), at(1_000), false);
        ledger.granted("b".into(), at(1_000), false);
        ledger.sent("b", at(500));
        assert!(ledger.give_back("a") && !ledger.give_back("b"));
        assert_eq!((ledger.used(), ledger.held()), (1, vec![]));
        assert_eq!(ledger.sent_untold(), ["b"]);
        ledger.told(&["b".to_owned()]);
        assert_eq!((ledger.sent_untold().len(), ledger.all(at(600))), (0, vec![("b".into(), 100, vec![1])]));
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn no_place_is_told_to_be_older_than_it_is(
            granted in 0u64..5_000, validity in 1u64..10_000, delay in prop::option::of(0u64..20_000), asked in 0u64..40_000,
            nanos in 0u64..1_000_000,
        ) {
            let asked = at(asked) + Duration::from_nanos(nanos);
            let mut ledger = Ledger::default();
            ledger.granted("a".into(), at(granted + validity), false);
            let counts_from = delay.map_or(at(granted + validity), |delay| at(granted + delay));
            if let Some(delay) = delay {
                ledger.sent("a", at(granted + delay));
            }
            let (_, age, _) = ledger.all(asked).remove(0);
            // Where the script puts it on the time line, if it runs at the very moment of asking.
            let put = i128::from(asked.as_nanos()) - i128::from(age) * 1_000_000;
            prop_assert!(put >= i128::from(counts_from.as_nanos()), "{age} ms");
        }
    }
}
