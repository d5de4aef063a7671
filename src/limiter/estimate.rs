//! How long a newcomer will wait: its place in line, and when that ticket comes.
//!
//! `eta = max(bucket, window, slots) at the k-th ticket from now`, with `k = place × overtaking`. The place counts who goes before
//! it as things stand, under priorities and turns. Who comes later and goes before it all the same (more urgent ones, other
//! clients' turns) cannot be counted, but under a steady load it can be known: *overtaking* is how many tickets really went
//! out until a job of its priority got its own, over the place that it had been told, over the recent past.

use std::time::Duration;

use super::admission::Outlook;
use super::rate::whole;
use crate::clock::{Moment, duration_from_secs_f64};
use crate::http::retry_after;
use crate::priority::Priority;

/// How much of the past an observation leaves: with 0.95 the last twenty count for most.
const MEMORY: f64 = 0.95;
/// At the start this many tickets are taken as seen to come without overtaking.
const PRIOR: f64 = 20.0;
/// One odd observation may not say more than this.
const MOST: f64 = 20.0;

/// What a job was told when it came.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Its place, from 1.
    position: usize,
    /// Tickets ever granted by then.
    granted: u64,
}

/// Learns how many tickets pass before a place's turn comes.
#[derive(Clone, Debug)]
pub struct Forecast {
    granted: u64,
    lanes: [Overtaking; 4],
}

#[derive(Clone, Copy, Debug)]
struct Overtaking {
    tickets: f64,
    places: f64,
}

impl Forecast {
    /// Nothing learned yet: nobody overtakes.
    #[must_use]
    pub fn new() -> Forecast {
        Forecast { granted: 0, lanes: [Overtaking { tickets: PRIOR, places: PRIOR }; 4] }
    }

    /// What to remember of a job at this place.
    #[must_use]
    pub fn promise(&self, position: usize) -> Promise {
        Promise { position, granted: self.granted }
    }

    /// A ticket was granted, to a job of this priority which had been told this.
    pub fn granted(&mut self, priority: Priority, promise: Option<Promise>) {
        self.granted += 1;
        if let Some(promise) = promise {
            let places = as_f64(promise.position);
            let tickets = (self.granted - promise.granted) as f64;
            let lane = &mut self.lanes[priority.index()];
            lane.tickets = lane.tickets * MEMORY + tickets.min(places * MOST);
            lane.places = lane.places * MEMORY + places;
        }
    }

    /// Which ticket from now (the next one is 1) a job at this place will get.
    #[must_use]
    pub fn ticket_of(&self, priority: Priority, position: usize) -> u32 {
        let lane = self.lanes[priority.index()];
        whole((as_f64(position) * lane.tickets / lane.places).round().max(1.0))
    }
}

impl Default for Forecast {
    fn default() -> Forecast {
        Forecast::new()
    }
}

/// How fast slots come free while all are taken: what bounds the tickets when neither bucket nor window does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Seconds from one slot to the next, over the recent past.
    interval_secs: Option<f64>,
    last: Option<Moment>,
}

impl Pace {
    /// A slot came free; `full` says whether all had been taken.
    pub fn freed(&mut self, full: bool, now: Moment) {
        if let Some(last) = self.last.filter(|_| full) {
            let seen = now.since(last).as_secs_f64();
            let before = self.interval_secs.unwrap_or(seen);
            self.interval_secs = Some(before * MEMORY + seen * (1.0 - MEMORY));
        }
        self.last = full.then_some(now);
    }

    /// How long until so many slots have come free, if all are taken.
    #[must_use]
    pub fn time_for(&self, slots: u32) -> Duration {
        duration_from_secs_f64(self.interval_secs.unwrap_or(0.0) * f64::from(slots))
    }
}

impl Outlook {
    /// What a request at this place that would wait for `eta` is told.
    #[must_use]
    pub fn new(position: usize, eta: Duration) -> Outlook {
        Outlook { position, eta, retry_after: Duration::from_secs(retry_after::seconds(eta)) }
    }
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_overtaking_the_place_is_the_ticket() {
        let mut forecast = Forecast::new();
        let promises: Vec<_> = (1..=50).map(|position| forecast.promise(position)).collect();
        for promise in promises {
            forecast.granted(Priority::Normal, Some(promise));
        }
        assert_eq!(forecast.ticket_of(Priority::Normal, 50), 50);
    }

    #[test]
    fn steady_overtaking_is_learned() {
        let mut forecast = Forecast::new();
        for _ in 0..100 {
            let promise = forecast.promise(10);
            for _ in 0..19 {
                forecast.granted(Priority::Urgent, None);
            }
            forecast.granted(Priority::Low, Some(promise));
        }
        assert_eq!(forecast.ticket_of(Priority::Low, 10), 20);
        assert_eq!(forecast.ticket_of(Priority::High, 10), 10);
    }

    #[test]
    fn retry_after_is_whole_seconds_from_one_to_sixty() {
        let told = |secs| Outlook::new(1, Duration::from_secs_f64(secs)).retry_after.as_secs();
        assert_eq!([told(0.0), told(1.2), told(59.0), told(4000.0)], [1, 2, 59, 60]);
    }
}
