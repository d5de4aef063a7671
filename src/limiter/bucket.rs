//! The token bucket: how many tickets may follow one another at once.
//!
//! `tokens(t) = min(capacity, tokens(t0) + rate × (t − t0))`; a ticket takes one. It bounds bursts and nothing else: how the
//! places of a minute are shared between a burst and what comes after it is the [`reserve`](super::reserve)'s business.

use std::time::Duration;

use super::rate::Rpm;
use crate::clock::{Moment, duration_from_secs_f64};

/// So that a token which is due is there in spite of rounding: a millionth of a token.
const HAIR: f64 = 1e-6;

/// A token bucket, full at start.
#[derive(Clone, Debug)]
pub struct Bucket {
    tokens: f64,
    capacity: f64,
    rate: Rpm,
    at: Moment,
}

impl Bucket {
    /// A full bucket. A capacity of zero counts as one.
    #[must_use]
    pub fn new(capacity: u32, rate: Rpm, now: Moment) -> Bucket {
        let capacity = f64::from(capacity.max(1));
        Bucket { tokens: capacity, capacity, rate, at: now }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Moment) -> bool {
        self.refill(now);
        let there = self.tokens >= 1.0 - HAIR;
        if there {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
        there
    }

    /// Puts back the token of a ticket that was not used.
    pub fn put_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.capacity);
    }

    /// Forfeits all but one token: what was saved up is not to be spent at once.
    pub fn forfeit(&mut self, now: Moment) {
        self.refill(now);
        self.tokens = self.tokens.min(1.0);
    }

    /// Whether it holds all that it can.
    #[must_use]
    pub fn is_full(&self, now: Moment) -> bool {
        self.tokens_at(now) >= self.capacity - HAIR
    }

    /// When the `nth` token from now (the next one is 1) is there.
    #[must_use]
    pub fn nth_at(&self, nth: f64, now: Moment) -> Moment {
        let missing = nth - HAIR / 2.0 - self.tokens_at(now);
        if missing <= 0.0 {
            return now;
        }
        // A nanosecond more, since a duration is rounded down to whole ones.
        now + duration_from_secs_f64(missing / self.rate.per_second()) + Duration::from_nanos(1)
    }

    /// Changes the rate; what was gained until now was gained at the old one.
    pub fn set_rate(&mut self, rate: Rpm, now: Moment) {
        self.refill(now);
        self.rate = rate;
    }

    /// Changes the capacity; tokens above it are lost.
    pub fn set_capacity(&mut self, capacity: u32, now: Moment) {
        self.refill(now);
        self.capacity = f64::from(capacity.max(1));
        self.tokens = self.tokens.min(self.capacity);
    }

    /// Tokens at `now`.
    #[must_use]
    pub fn tokens_at(&self, now: Moment) -> f64 {
        (self.tokens + now.since(self.at).as_secs_f64() * self.rate.per_second()).min(self.capacity)
    }

    /// The most that it holds.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.capacity
    }

    /// The rate at which it fills.
    #[must_use]
    pub fn rate(&self) -> Rpm {
        self.rate
    }

    fn refill(&mut self, now: Moment) {
        self.tokens = self.tokens_at(now);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(secs)
    }

    #[test]
    fn an_idle_bucket_lets_its_capacity_through_and_then_one_token_an_interval() {
        let mut bucket = Bucket::new(40, Rpm::from(40), at(0.0));
        assert_eq!((0..60).filter(|_| bucket.take(at(0.0))).count(), 40);
        assert!(!bucket.take(at(1.4)));
        assert!(bucket.take(at(1.5)));
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn a_token_is_there_when_it_was_said_to_be_and_not_noticeably_before(
            rpm in 1u32..10_000_000, capacity in 1u32..100, gaps in prop::collection::vec(0u64..5_000_000_000, 1..60),
        ) {
            let mut bucket = Bucket::new(capacity, Rpm::from(rpm), Moment::ZERO);
            let mut now = Moment::ZERO;
            for gap in gaps {
                now = now + Duration::from_nanos(gap);
                let due = bucket.nth_at(1.0, now);
                if due > now + Duration::from_micros(1) {
                    let early = due - (due.since(now) / 1000 + Duration::from_micros(1));
                    prop_assert!(early <= now || !bucket.clone().take(early));
                }
                prop_assert!(bucket.take(due), "said {due:?}");
                now = due;
            }
        }

        #[test]
        fn no_span_of_time_yields_more_than_its_capacity_and_its_rate(
            rpm in 1u32..6_000, capacity in 1u32..50, gaps in prop::collection::vec(0u64..3_000_000_000, 1..200),
        ) {
            let mut bucket = Bucket::new(capacity, Rpm::from(rpm), Moment::ZERO);
            let (mut now, mut taken) = (Moment::ZERO, 0u32);
            for gap in gaps {
                now = now + Duration::from_nanos(gap);
                while bucket.take(now) { taken += 1; }
                let most = f64::from(capacity) + now.as_secs_f64() * f64::from(rpm) / 60.0;
                prop_assert!(f64::from(taken) <= most + 0.01);
            }
        }
    }
}
