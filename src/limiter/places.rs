//! The places of requests that left the queue unserved, for when their clients send them again.
//!
//! A client with a time-out of its own gives up, asks again, and would start as a stranger each time: among patient ones
//! it would never be served. What is remembered is the time of its first arrival, and no more: no ticket is reserved.
//! There is room for [`MOST`]. When it is used up, one that was not claimed in time goes first, then the oldest of the
//! client that has the most, so that a crowd of strangers does not push out a client's only one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::clock::Moment;

/// Places remembered at once.
pub const MOST: usize = 4096;

/// The places.
#[derive(Debug, Default)]
pub struct Places {
    places: HashMap<u64, Place>,
    /// By when they are forgotten.
    ends: BTreeSet<(Moment, u64)>,
    /// Each client's, by when it left them.
    clients: HashMap<Arc<str>, BTreeMap<u64, u64>>,
    /// Clients by how many they have.
    counts: BTreeSet<(usize, Arc<str>)>,
    serial: u64,
}

#[derive(Debug)]
struct Place {
    client: Arc<str>,
    arrived: Moment,
    until: Moment,
    serial: u64,
}

impl Places {
    /// How many are remembered, those among them that will be forgotten when they are looked at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A request left unserved that first arrived at `arrived`; until `until` it may come again. `request` identifies it
    /// among the requests of all clients.
    pub fn leave(&mut self, request: u64, client: &Arc<str>, arrived: Moment, until: Moment, now: Moment) {
        // Of two that are the same, the first counts.
        let arrived = self.forget(request).map_or(arrived, |place| place.arrived.min(arrived));
        if self.places.len() >= MOST
            && let Some(victim) = self.victim(now)
        {
            self.forget(victim);
        }
        self.serial += 1;
        let serial = self.serial;
        self.ends.insert((until, request));
        self.count(client, |own| {
            own.insert(serial, request);
        });
        self.places.insert(request, Place { client: client.clone(), arrived, until, serial });
    }

    /// A request comes: the time of its first arrival if it is one that left and may still come again.
    pub fn take(&mut self, request: u64, now: Moment) -> Option<Moment> {
        self.forget(request).filter(|place| now <= place.until).map(|place| place.arrived)
    }

    fn victim(&self, now: Moment) -> Option<u64> {
        if let Some(&(until, request)) = self.ends.first()
            && until < now
        {
            return Some(request);
        }
        let (_, busiest) = self.counts.last()?;
        self.clients.get(busiest)?.first_key_value().map(|(_, &request)| request)
    }

    fn forget(&mut self, request: u64) -> Option<Place> {
        let place = self.places.remove(&request)?;
        self.ends.remove(&(place.until, request));
        self.count(&place.client, |own| {
            own.remove(&place.serial);
        });
        Some(place)
    }

    /// Changes what a client has, and what is counted of it.
    fn count(&mut self, client: &Arc<str>, change: impl FnOnce(&mut BTreeMap<u64, u64>)) {
        let own = self.clients.entry(client.clone()).or_default();
        self.counts.remove(&(own.len(), client.clone()));
        change(own);
        if own.is_empty() {
            self.clients.remove(client);
        } else {
            self.counts.insert((own.len(), client.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: u64) -> Moment {
        Moment::from_secs_f64(secs as f64)
    }

    fn name(number: usize) -> Arc<str> {
        format!("client {number}").into()
    }

    #[test]
    fn a_request_has_its_place_once_and_for_its_time() {
        let mut places = Places::default();
        places.leave(1, &name(1), at(5), at(100), at(10));
        places.leave(2, &name(1), at(6), at(50), at(10));
        assert_eq!(places.take(3, at(20)), None, "another request");
        assert_eq!(places.take(1, at(100)), Some(at(5)));
        assert_eq!(places.take(1, at(100)), None, "taken");
        assert_eq!(places.take(2, at(51)), None, "too late");
        assert!(
            places.is_empty()
                && places.clients.is_empty()
                && places.counts.is_empty()
                && places.ends.is_empty()
        );
    }

    #[test]
    fn one_that_leaves_again_keeps_its_first_arrival() {
        let mut places = Places::default();
        places.leave(1, &name(1), at(5), at(100), at(10));
        places.leave(1, &name(1), at(9), at(120), at(20));
        assert_eq!(places.take(1, at(110)), Some(at(5)));
    }

    #[test]
    fn a_flood_costs_its_own_places_and_a_crowd_those_of_the_busiest() {
        let mut places = Places::default();
        places.leave(0, &name(0), at(1), at(1000), at(1));
        for request in 1..20_000 {
            places.leave(request, &name(1), at(2), at(1000), at(2));
        }
        assert_eq!(places.len(), MOST);
        for client in 2..1002 {
            for request in 0..3 {
                let request = 100_000 + client as u64 * 10 + request;
                places.leave(request, &name(client), at(3), at(1000), at(3));
            }
        }
        assert_eq!(places.len(), MOST);
        assert_eq!(places.take(0, at(4)), Some(at(1)), "the only one of its client");
        assert_eq!(places.take(19_999, at(4)), Some(at(2)), "the newest of the flood");
        assert_eq!(places.take(1, at(4)), None, "the oldest of the flood");
    }

    #[test]
    fn what_was_not_claimed_in_time_goes_first() {
        let mut places = Places::default();
        places.leave(0, &name(0), at(1), at(5), at(1));
        for request in 1..=MOST as u64 {
            places.leave(request, &name(1), at(2), at(1000), at(6));
        }
        assert_eq!(places.len(), MOST);
        assert_eq!(places.take(1, at(7)), Some(at(2)));
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn the_books_agree_whatever_happens(steps in prop::collection::vec((0u64..40, 0usize..5, 0u64..30, any::<bool>()), 0..300)) {
            let mut places = Places::default();
            let mut naive: HashMap<u64, (Moment, Moment)> = HashMap::new();
            for (second, (request, client, last, leaves)) in (0..).zip(steps) {
                let now = at(second);
                // A client's requests are its own.
                let request = request * 5 + client as u64;
                if leaves {
                    let arrived = naive.get(&request).map_or(now, |(arrived, _)| *arrived);
                    naive.insert(request, (arrived, at(second + last)));
                    places.leave(request, &name(client), now, at(second + last), now);
                } else {
                    let expected = naive.remove(&request).filter(|(_, until)| now <= *until).map(|(a, _)| a);
                    prop_assert_eq!(places.take(request, now), expected);
                }
                prop_assert_eq!(places.len(), naive.len());
                let counted: usize = places.clients.values().map(BTreeMap::len).sum();
                prop_assert_eq!((counted, places.ends.len()), (places.len(), places.len()));
                prop_assert_eq!(places.counts.len(), places.clients.len());
            }
        }
    }
}
