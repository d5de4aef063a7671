//! A quota: so many requests in so much time, as somebody upstream counts them.
//!
//! Three steps a request: it [takes](Quota::take) a place when there [is one](Quota::free_at), the place is stamped with the
//! moment at which the request was really [sent](Quota::sent), or [given back](Quota::give_back) unused. The
//! [`window`](super::window) holds the promise, the [`bucket`](super::bucket) bounds bursts, the [`reserve`](super::reserve)
//! keeps places for URGENT.
//!
//! **Lasting load.** A burst that fits into two windows goes out at once, a window's worth at a time. When requests still wait
//! after that, tickets are spread evenly: otherwise every minute would go out in one burst for as long as the load lasts, and
//! a client that comes after it, or whose turn it was a moment ago, would wait for most of a minute.

use std::time::Duration;

use super::admission::Ticket;
use super::bucket::Bucket;
use super::rate::Rpm;
use super::reserve::Reserve;
use super::snapshot::{BucketStats, WindowStats};
use super::window::Window;
use crate::clock::Moment;
use crate::priority::Priority;

/// A load lasts when requests have waited for so many windows on end: what fits into two goes out as fast as it may.
const LASTING: f64 = 2.5;
/// Under a lasting load tickets are so many intervals apart. Less than one, since gaps that may only ever widen would lose
/// something of each minute.
const EVEN: f64 = 0.98;

/// By how much the first request of a burst precedes the others when the window was full.
const SCOUT: Duration = Duration::from_millis(300);
/// For so many windows nothing is known of travel.
const NEW: f64 = 1.5;

/// A window with its bucket and its reserve.
#[derive(Clone, Debug)]
pub struct Quota {
    /// The key's own quota has one; the windows of `model_rates` bound bursts by themselves.
    bucket: Option<Bucket>,
    window: Window,
    reserve: Reserve,
    /// Since when requests have waited for a place on end.
    waited_for_since: Option<Moment>,
    /// When a place was first taken.
    first_taken_at: Moment,
    /// When one was last taken.
    taken_at: Moment,
}

impl Quota {
    /// An unused one.
    #[must_use]
    pub fn new(length: Duration, rate: Rpm, bucket_capacity: u32, reserve: Reserve, now: Moment) -> Quota {
        let bucket = Some(Bucket::new(bucket_capacity, rate, now));
        Quota { bucket, ..Quota::of_window(length, rate.whole_in(length), reserve) }
    }

    /// An unused one without a bucket.
    #[must_use]
    pub fn of_window(length: Duration, limit: u32, reserve: Reserve) -> Quota {
        Quota {
            bucket: None,
            window: Window::new(length, limit),
            reserve,
            waited_for_since: None,
            first_taken_at: Moment::NEVER,
            taken_at: Moment::ZERO,
        }
    }

    /// Another rate, for the same window.
    pub fn set_rate(&mut self, rate: Rpm, now: Moment) {
        self.window.set_limit(rate.whole_in(self.window.length()));
        if let Some(bucket) = &mut self.bucket {
            bucket.set_rate(rate, now);
        }
    }

    /// Another bucket and reserve.
    pub fn reconfigure(&mut self, bucket_capacity: u32, reserve: Reserve, now: Moment) {
        if let Some(bucket) = &mut self.bucket {
            bucket.set_capacity(bucket_capacity, now);
        }
        self.reserve = reserve;
    }

    /// When a request of this priority may take a place, if nothing more is taken or reported; not before `now`.
    #[must_use]
    pub fn free_at(&self, priority: Priority, now: Moment) -> Moment {
        let place = match priority {
            Priority::Urgent => self.window.places_at(1, now),
            _ => {
                let place = self.reserve.ordinary_at(&self.window, now).max(self.evenly_at(1, now));
                place.max(self.scouted_at(now))
            }
        };
        self.token_at(1, now).max(place)
    }

    /// When the `nth` request of this priority (the next one is 1) may take a place, if each does as soon as it may.
    #[must_use]
    pub fn nth_at(&self, nth: u32, priority: Priority, now: Moment) -> Moment {
        let place = match priority {
            Priority::Urgent => self.window.nth_at(nth, now),
            _ => self.reserve.nth_ordinary_at(nth, &self.window, now).max(self.evenly_at(nth, now)),
        };
        self.token_at(nth, now).max(place)
    }

    /// Takes a place that is free.
    pub fn take(&mut self, ticket: Ticket) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take(ticket.granted_at);
        }
        self.window.reserve(ticket.id, ticket.granted_at);
        self.first_taken_at = self.first_taken_at.min(ticket.granted_at);
        self.taken_at = ticket.granted_at;
    }

    /// Says whether requests wait for a place.
    pub fn waited_for(&mut self, waited_for: bool, now: Moment) {
        self.waited_for_since = waited_for.then(|| self.waited_for_since.unwrap_or(now));
    }

    /// The request of a ticket was written to the upstream.
    pub fn sent(&mut self, ticket: Ticket, at: Moment) {
        self.window.sent(ticket.id, ticket.granted_at, at);
    }

    /// The ticket was never used.
    pub fn give_back(&mut self, ticket: Ticket) {
        if self.window.unsent(ticket.id, ticket.granted_at)
            && let Some(bucket) = &mut self.bucket
        {
            bucket.put_back();
        }
    }

    /// Takes over what another one of the same length remembers.
    pub fn inherit(&mut self, before: &Quota) {
        let limit = self.window.limit();
        self.window = before.window.clone();
        self.window.set_limit(limit);
        self.waited_for_since = before.waited_for_since;
        self.first_taken_at = before.first_taken_at;
        self.taken_at = before.taken_at;
    }

    /// Forgets what has left the window.
    pub fn advance(&mut self, now: Moment) {
        self.window.advance(now);
    }

    /// When a request may follow another one at once. The first time that a burst comes back, one request goes ahead of the
    /// others and shows whether travel is more uneven than the margin, before a whole minute's worth is refused.
    fn scouted_at(&self, now: Moment) -> Moment {
        let follows = now.since(self.taken_at) < self.window.interval(now) / 2;
        let is_new = now.since(self.first_taken_at) < self.window.cycle(now).mul_f64(NEW);
        if follows && is_new { self.window.settled_place_at(SCOUT, now) } else { now }
    }

    /// The bucket's figures: tokens without a place are none.
    #[must_use]
    pub fn bucket_stats(&self, now: Moment) -> BucketStats {
        let used = u32::try_from(self.window.used(now)).unwrap_or(u32::MAX);
        BucketStats {
            at: now,
            tokens: self.bucket.as_ref().map_or(0.0, |bucket| bucket.tokens_at(now)),
            capacity: self.bucket.as_ref().map_or(0.0, Bucket::capacity),
            rate_per_minute: self.bucket.as_ref().map_or(0.0, |bucket| bucket.rate().per_minute()),
            free: self.window.limit().saturating_sub(used),
            returns: self.window.returns(now),
        }
    }

    /// The window's figures.
    #[must_use]
    pub fn window_stats(&self, now: Moment) -> WindowStats {
        let (used, limit) = (self.window.used(now), self.window.limit() as usize);
        WindowStats { used, limit, margin: self.window.margin(now) }
    }

    fn token_at(&self, nth: u32, now: Moment) -> Moment {
        self.bucket.as_ref().map_or(now, |bucket| bucket.nth_at(f64::from(nth), now))
    }

    /// When the `nth` place from now may be taken by a request that did not come as URGENT, if the load has lasted.
    fn evenly_at(&self, nth: u32, now: Moment) -> Moment {
        match self.waited_for_since {
            Some(since) if now.since(since) > self.window.cycle(now).mul_f64(LASTING) => {
                self.taken_at + self.window.interval(now).mul_f64(EVEN) * nth
            }
            _ => now,
        }
    }

    /// The window, to be read.
    #[must_use]
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// The window, to be taught.
    pub fn window_mut(&mut self) -> &mut Window {
        &mut self.window
    }
}
