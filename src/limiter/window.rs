//! The rolling window: never more than `limit` requests in any 60 s, counted as the upstream counts them.
//!
//! A granted ticket reserves a place. Once the request is written, the place is stamped with that moment and is free again
//! after `length + margin`. The upstream counts a request when it *arrives*, some uneven time after it was sent; if no
//! travel is longer than the margin, then no 60 s at the upstream hold more than `limit` arrivals:
//! `arrival(n + limit) ≥ sent(n) + margin + 60 s ≥ arrival(n) + 60 s`.
//!
//! The margin is [`MARGIN`] and is *learned*: a refusal in spite of a window that was not over its limit, which the next try
//! shows to have been an isolated one, means that travel is more uneven than the margin. It then grows to three times
//! the refusal's own round trip (refusals answer at once, so that is travel and nothing else), at most [`MARGIN_MAX`], and decays
//! with a half-life of [`MARGIN_HALF_LIFE`]. It counts for stamps of the past too, so one refusal teaches at once.
//!
//! Stamps of one millisecond are one entry (the latest moment wins), so memory is bounded by the window's length whatever
//! the rate, and each decision costs a binary search.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::{Moment, duration_from_secs_f64};

/// A ticket of which nothing was reported counts as sent this long after its grant.
pub const UNREPORTED: Duration = Duration::from_secs(10);
/// What the window is longer than the upstream's from the start.
pub const MARGIN: Duration = Duration::from_millis(200);
/// The most that uneven travel may lengthen it by.
pub const MARGIN_MAX: Duration = Duration::from_millis(2400);
/// In this time what was learned about travel loses half its weight.
pub const MARGIN_HALF_LIFE: Duration = Duration::from_secs(12 * 3600);

/// How long the window remembers that a place has been free.
pub const LONGEST_LAG: Duration = Duration::from_secs(1);

const NANOS_PER_MILLI: u64 = 1_000_000;

/// A rolling window of requests.
#[derive(Clone, Debug)]
pub struct Window {
    length: Duration,
    limit: u32,
    /// Places of tickets not yet reported as sent: (moment of the grant, ticket).
    reserved: BTreeSet<(Moment, u64)>,
    stamps: VecDeque<Stamp>,
    /// Requests in stamps that have left the window already; `Stamp::upto` counts on from here.
    left: u64,
    learned: Duration,
    learned_at: Moment,
}

/// Requests sent within one millisecond.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    /// When they leave the window, were there no margin.
    leaves: Moment,
    count: u32,
    /// Requests ever stamped, up to and with these.
    upto: u64,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(length: Duration, limit: u32) -> Window {
        Window {
            length,
            limit: limit.max(1),
            reserved: BTreeSet::new(),
            stamps: VecDeque::new(),
            left: 0,
            learned: Duration::ZERO,
            learned_at: Moment::ZERO,
        }
    }

    /// Changes how many requests the window may hold, at least one. What is in it stays in it.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit.max(1);
    }

    /// How long it is, without its margin.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// How many requests the window may hold.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Reserves a place for a ticket granted at `now`.
    pub fn reserve(&mut self, ticket: u64, now: Moment) {
        self.reserved.insert((now, ticket));
    }

    /// Gives the place of a ticket back that was never used.
    pub fn unsent(&mut self, ticket: u64, granted_at: Moment) -> bool {
        self.reserved.remove(&(granted_at, ticket))
    }

    /// The request of a ticket was written to the upstream.
    pub fn sent(&mut self, ticket: u64, granted_at: Moment, sent_at: Moment) {
        // A request written even later than the time after which it was taken for sent counts again: once too often is
        // a place lost for a minute, once too few is a refusal.
        if self.reserved.remove(&(granted_at, ticket)) || sent_at > granted_at + UNREPORTED {
            self.stamp(sent_at + self.length, 1);
        }
    }

    /// Forgets what has left the window and stamps what has gone unreported for too long.
    pub fn advance(&mut self, now: Moment) {
        while let Some(&(granted_at, ticket)) = self.reserved.first() {
            if granted_at + UNREPORTED > now {
                break;
            }
            self.reserved.remove(&(granted_at, ticket));
            self.stamp(granted_at + UNREPORTED + self.length, 1);
        }
        let margin = self.margin(now);
        while let Some(stamp) = self.stamps.front() {
            if stamp.leaves + margin + LONGEST_LAG > now {
                break;
            }
            self.left = stamp.upto;
            self.stamps.pop_front();
        }
    }

    /// How many requests count at `now`, reserved places among them.
    #[must_use]
    pub fn used(&self, now: Moment) -> usize {
        self.reserved.len() + usize::try_from(self.ever() - self.gone(now)).unwrap_or(usize::MAX)
    }

    /// Whether there is a place at `now`.
    #[must_use]
    pub fn has_place(&self, now: Moment) -> bool {
        self.used(now) < self.limit as usize
    }

    /// When the `nth` place from now (the next one is 1) will be free, if all places are used as soon as they are free, and
    /// requests are written as soon as they are granted.
    #[must_use]
    pub fn nth_at(&self, nth: u32, now: Moment) -> Moment {
        let rounds = nth.saturating_sub(1) / self.limit;
        let nth = nth.saturating_sub(1) % self.limit + 1;
        self.free_at(nth, now, Duration::ZERO).max(now) + self.cycle(now).saturating_mul(rounds)
    }

    /// The moment at which `places` (at most the limit) are free, if nothing more is granted or reported.
    #[must_use]
    pub fn places_at(&self, places: u32, now: Moment) -> Moment {
        self.free_at(places, now, UNREPORTED).max(now)
    }

    /// The moment at which a place is free and has been for `lag` (at most [`LONGEST_LAG`]), or was never taken.
    #[must_use]
    pub fn settled_place_at(&self, lag: Duration, now: Moment) -> Moment {
        let then = now - lag;
        let used = self.reserved.len() + usize::try_from(self.ever() - self.gone(then)).unwrap_or(usize::MAX);
        match (used + 1).checked_sub(self.limit as usize) {
            Some(missing) if missing > 0 => self.leaves_at(missing, then, UNREPORTED) + lag,
            _ => now,
        }
    }

    /// How long a place is taken by a request.
    #[must_use]
    pub fn cycle(&self, now: Moment) -> Duration {
        self.length + self.margin(now)
    }

    /// How far apart places are taken when they are taken evenly.
    #[must_use]
    pub fn interval(&self, now: Moment) -> Duration {
        self.cycle(now) / self.limit
    }

    /// When places that are taken now come back, and how many of them at each moment: at most `N` steps, each at the moment
    /// of its last place.
    #[must_use]
    pub fn returns<const N: usize>(&self, now: Moment) -> [(Moment, u32); N] {
        let used = self.used(now);
        let mut done = 0;
        std::array::from_fn(|step| {
            let upto = used * (step + 1) / N;
            let count = u32::try_from(upto - done).unwrap_or(u32::MAX);
            let at = if upto == 0 { now } else { self.leaves_at(upto, now, UNREPORTED) };
            done = upto;
            (at, count)
        })
    }

    fn free_at(&self, places: u32, now: Moment, unreported: Duration) -> Moment {
        match (self.used(now) + places as usize).checked_sub(self.limit as usize) {
            Some(missing) if missing > 0 => self.leaves_at(missing, now, unreported),
            _ => now,
        }
    }

    /// When the `nth` of those that count now leaves: the stamps first, then the reserved places, which are taken to be
    /// stamped `unreported` after their grant.
    fn leaves_at(&self, nth: usize, now: Moment, unreported: Duration) -> Moment {
        if let Some(leaves) = self.nth_leaves(nth, now) {
            return leaves + self.margin(now);
        }
        let stamped = usize::try_from(self.ever() - self.gone(now)).unwrap_or(usize::MAX);
        let reserved = nth.saturating_sub(stamped).saturating_sub(1);
        let granted_at = self.reserved.iter().nth(reserved).map_or(now, |&(granted_at, _)| granted_at);
        granted_at + unreported + self.cycle(now)
    }

    /// By how much the window is longer than the upstream's.
    #[must_use]
    pub fn margin(&self, now: Moment) -> Duration {
        if self.learned.is_zero() {
            return MARGIN;
        }
        let half_lives = now.since(self.learned_at).as_secs_f64() / MARGIN_HALF_LIFE.as_secs_f64();
        MARGIN + duration_from_secs_f64(self.learned.as_secs_f64() * libm::exp2(-half_lives))
    }

    /// An isolated refusal with this round trip came although the window was not over its limit.
    pub fn learn_travel(&mut self, round_trip: Duration, now: Moment) {
        let margin = (self.margin(now) * 4).max(round_trip * 3).min(MARGIN_MAX);
        self.learned = margin.saturating_sub(MARGIN);
        self.learned_at = now;
    }

    /// What was learned about travel, to be handed back to [`Window::restore_travel`].
    #[must_use]
    pub fn travel(&self) -> (Duration, Moment) {
        (self.learned, self.learned_at)
    }

    /// Takes a lesson back that turned out to be about something else.
    pub fn restore_travel(&mut self, (learned, learned_at): (Duration, Moment)) {
        self.learned = learned;
        self.learned_at = learned_at;
    }

    /// Adds what was sent before a restart: how long ago how many requests.
    pub fn restore(&mut self, sent: impl IntoIterator<Item = (Duration, u32)>, now: Moment) {
        for (age, count) in sent {
            let remaining = self.length.saturating_sub(age);
            if !remaining.is_zero() {
                self.stamp(now + remaining, count);
            }
        }
    }

    /// How long ago how many requests were sent, oldest first; reserved places have the age of their grant.
    #[must_use]
    pub fn ages(&self, now: Moment) -> Vec<(Duration, u32)> {
        let stamped = self.stamps.iter().map(|stamp| {
            let remaining = stamp.leaves.since(now);
            let overdue = now.since(stamp.leaves);
            (self.length.saturating_sub(remaining) + overdue, stamp.count)
        });
        let reserved = self.reserved.iter().map(|&(granted_at, _)| (now.since(granted_at), 1));
        stamped.chain(reserved).collect()
    }

    /// Requests ever stamped.
    fn ever(&self) -> u64 {
        self.stamps.back().map_or(self.left, |last| last.upto)
    }

    /// Those of them that have left the window by `now`.
    fn gone(&self, now: Moment) -> u64 {
        let margin = self.margin(now);
        let gone = self.stamps.partition_point(|stamp| stamp.leaves + margin <= now);
        gone.checked_sub(1).map_or(self.left, |last| self.stamps[last].upto)
    }

    /// When the `nth` of the stamped requests that still count leaves the window, were there no margin.
    fn nth_leaves(&self, nth: usize, now: Moment) -> Option<Moment> {
        let target = self.gone(now).saturating_add(nth as u64);
        let index = self.stamps.partition_point(|stamp| stamp.upto < target);
        self.stamps.get(index).map(|stamp| stamp.leaves)
    }

    /// Out-of-order reports take the moment of the latest: the window never forgets too early.
    fn stamp(&mut self, leaves: Moment, count: u32) {
        let upto = self.ever() + u64::from(count);
        match self.stamps.back_mut() {
            Some(last) if leaves.as_nanos() / NANOS_PER_MILLI <= last.leaves.as_nanos() / NANOS_PER_MILLI => {
                last.leaves = last.leaves.max(leaves);
                last.count = last.count.saturating_add(count);
                last.upto = upto;
            }
            _ => self.stamps.push_back(Stamp { leaves, count, upto }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(secs)
    }

    fn send(window: &mut Window, ticket: u64, when: Moment) {
        window.reserve(ticket, when);
        window.sent(ticket, when, when);
    }

    #[test]
    fn a_full_window_has_a_place_when_its_oldest_request_leaves() {
        let mut window = Window::new(MINUTE, 2);
        send(&mut window, 1, at(0.0));
        send(&mut window, 2, at(10.0));
        assert!(!window.has_place(at(60.0)));
        assert_eq!(window.places_at(1, at(20.0)), at(60.2));
        assert_eq!(window.places_at(2, at(20.0)), at(70.2));
        assert!(window.has_place(at(60.2)));
        assert_eq!(window.nth_at(2, at(20.0)), at(70.2));
        assert_eq!(window.nth_at(3, at(20.0)), at(120.4));
    }

    #[test]
    fn a_ticket_given_back_frees_its_place_and_one_never_reported_counts_from_ten_seconds_on() {
        let mut window = Window::new(MINUTE, 1);
        window.reserve(1, at(0.0));
        assert!(window.unsent(1, at(0.0)));
        assert!(window.has_place(at(0.0)));
        window.reserve(2, at(0.0));
        window.advance(at(10.0));
        assert_eq!(window.places_at(1, at(10.0)), at(70.2));
    }

    #[test]
    fn one_refusal_teaches_the_travel_of_stamps_that_lie_in_the_past_too() {
        let mut window = Window::new(MINUTE, 1);
        send(&mut window, 1, at(0.0));
        window.learn_travel(Duration::from_secs(1), at(1.0));
        assert_eq!(window.places_at(1, at(1.0)), at(62.4));
        assert_eq!(window.margin(at(1.0) + MARGIN_HALF_LIFE), Duration::from_millis(1300));
    }

    #[test]
    fn what_was_sent_before_a_restart_still_counts() {
        let mut before = Window::new(MINUTE, 3);
        send(&mut before, 1, at(1000.0));
        send(&mut before, 2, at(1020.0));
        let mut after = Window::new(MINUTE, 3);
        after.restore(before.ages(at(1030.0)), at(0.0));
        assert_eq!(after.used(at(0.0)), 2);
        assert_eq!(after.used(at(30.5)), 1);
        assert_eq!(after.used(at(50.5)), 0);
    }

    #[test]
    fn memory_does_not_grow_with_the_rate() {
        let mut window = Window::new(MINUTE, 10_000_000);
        for ticket in 0..400_000u64 {
            let now = Moment::from_nanos(ticket * 30_000);
            send(&mut window, ticket, now);
        }
        assert_eq!(window.used(at(12.0)), 400_000);
        assert!(window.stamps.len() <= 12_001);
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn no_minute_holds_more_than_the_limit_and_a_naive_count_agrees(
            limit in 1u32..20, steps in prop::collection::vec((0u64..8_000, 0u64..500, any::<bool>()), 1..300),
        ) {
            let mut window = Window::new(MINUTE, limit);
            let (mut now, mut sent): (Moment, Vec<Moment>) = (Moment::ZERO, Vec::new());
            for (ticket, (gap, delay, used)) in steps.into_iter().enumerate() {
                now = now + Duration::from_millis(gap);
                window.advance(now);
                let counted = sent.iter().filter(|&&s| s + MINUTE + MARGIN > now).count();
                prop_assert_eq!(window.used(now), counted);
                prop_assert_eq!(window.has_place(now), counted < limit as usize);
                prop_assert_eq!(window.places_at(1, now) <= now, window.has_place(now));
                if !window.has_place(now) { continue; }
                window.reserve(ticket as u64, now);
                if used {
                    let when = now + Duration::from_millis(delay);
                    window.sent(ticket as u64, now, when);
                    sent.push(when);
                    now = when;
                } else {
                    window.unsent(ticket as u64, now);
                }
            }
            for first in &sent {
                let within = sent.iter().filter(|&&s| s >= *first && s < *first + MINUTE).count();
                prop_assert!(within <= limit as usize);
            }
        }
    }
}
