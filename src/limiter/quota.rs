//! A quota: so many requests in so much time, as somebody upstream counts them.
//!
//! Three steps a request: it [takes](Quota::take) a place when there [is one](Quota::free_at), the place is stamped with the
//! moment at which the request was really [sent](Quota::sent), or [given back](Quota::give_back) unused. The
//! [`window`](super::window) holds the promise, the [`bucket`](super::bucket) bounds bursts, the [`reserve`](super::reserve)
//! keeps places for URGENT.

use std::time::Duration;

use super::admission::Ticket;
use super::bucket::Bucket;
use super::rate::Rpm;
use super::reserve::Reserve;
use super::window::Window;
use crate::clock::Moment;
use crate::priority::Priority;

/// A window with its bucket and its reserve.
#[derive(Clone, Debug)]
pub struct Quota {
    bucket: Bucket,
    window: Window,
    reserve: Reserve,
}

impl Quota {
    /// An unused one.
    #[must_use]
    pub fn new(length: Duration, rate: Rpm, bucket_capacity: u32, reserve: Reserve, now: Moment) -> Quota {
        Quota {
            bucket: Bucket::new(bucket_capacity, rate, now),
            window: Window::new(length, rate.whole_in(length)),
            reserve,
        }
    }

    /// Another rate, for the same window.
    pub fn set_rate(&mut self, rate: Rpm, now: Moment) {
        self.window.set_limit(rate.whole_in(self.window.length()));
        self.bucket.set_rate(rate, now);
    }

    /// Another bucket and reserve.
    pub fn reconfigure(&mut self, bucket_capacity: u32, reserve: Reserve, now: Moment) {
        self.bucket.set_capacity(bucket_capacity, now);
        self.reserve = reserve;
    }

    /// When a request of this priority may take a place, if nothing more is taken or reported; not before `now`.
    #[must_use]
    pub fn free_at(&self, priority: Priority, now: Moment) -> Moment {
        let place = match priority {
            Priority::Urgent => self.window.places_at(1, now),
            _ => self.reserve.ordinary_at(&self.window, now),
        };
        self.bucket.nth_at(1.0, now).max(place)
    }

    /// When the `nth` request of this priority (the next one is 1) may take a place, if each does as soon as it may.
    #[must_use]
    pub fn nth_at(&self, nth: u32, priority: Priority, now: Moment) -> Moment {
        let place = match priority {
            Priority::Urgent => self.window.nth_at(nth, now),
            _ => self.reserve.nth_ordinary_at(nth, &self.window, now),
        };
        self.bucket.nth_at(f64::from(nth), now).max(place)
    }

    /// Takes a place that is free.
    pub fn take(&mut self, ticket: Ticket) {
        self.bucket.take(ticket.granted_at);
        self.window.reserve(ticket.id, ticket.granted_at);
    }

    /// The request of a ticket was written to the upstream.
    pub fn sent(&mut self, ticket: Ticket, at: Moment) {
        self.window.sent(ticket.id, ticket.granted_at, at);
    }

    /// The ticket was never used.
    pub fn give_back(&mut self, ticket: Ticket) {
        if self.window.unsent(ticket.id, ticket.granted_at) {
            self.bucket.put_back();
        }
    }

    /// Lets no burst follow.
    pub fn forfeit_burst(&mut self, now: Moment) {
        self.bucket.forfeit(now);
    }

    /// Forgets what has left the window.
    pub fn advance(&mut self, now: Moment) {
        self.window.advance(now);
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

    /// The bucket, to be read.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }
}
