//! The reserve: how many places of the window a burst must leave to the URGENT requests that come after it.
//!
//! A ticket for a request that did not come as URGENT is given only if afterwards
//!
//! - one place is free, or will be within one interval (the window's length over its limit), and
//! - `places` are free, or will be within [`SOON`] intervals.
//!
//! The second rule is what an URGENT request may rely on: a burst of a hundred at 40 a minute goes out as 38 + 2,
//! 36 + 4, 20: the places that were held back come into use shortly before the next ones come back, so that nearly nothing is
//! lost. Without the first rule tickets stay in clusters of three, and URGENT waits for 2 s on average instead of 0.6
//! (`docs/decisions/urgent-reserve.md` compares the rules). In an evenly
//! spread minute neither rule ever delays a ticket.

use super::window::Window;
use crate::clock::Moment;

/// Within how many intervals the reserved places must be free.
pub const SOON: u32 = 3;
/// An interval that is a little longer than the even one, since gaps that may only ever widen would lose something of each minute.
const ROOM: (u32, u32) = (21, 20);

/// Places held back for URGENT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    places: u32,
}

impl Reserve {
    /// `places` held back; 0 turns the reserve off.
    #[must_use]
    pub const fn new(places: u32) -> Reserve {
        Reserve { places }
    }

    /// When a request that did not come as URGENT may take a place, if nothing more is granted or reported.
    #[must_use]
    pub fn ordinary_at(self, window: &Window, now: Moment) -> Moment {
        let free = window.places_at(1, now);
        let places = self.places_of(window);
        if places == 0 {
            return free;
        }
        let interval = window.interval(now);
        let evenly = window.places_at(2, now) - interval * ROOM.0 / ROOM.1;
        let kept = window.places_at(1 + places, now) - interval * SOON;
        free.max(evenly).max(kept)
    }

    /// When the `nth` such request (the next one is 1) may take a place, if each of them does as soon as it may.
    #[must_use]
    pub fn nth_ordinary_at(self, nth: u32, window: &Window, now: Moment) -> Moment {
        let free = window.nth_at(nth, now);
        let places = self.places_of(window);
        if places == 0 {
            return free;
        }
        let kept = window.nth_at(nth.saturating_add(places), now) - window.interval(now) * SOON;
        free.max(kept)
    }

    /// At most half of the window.
    fn places_of(self, window: &Window) -> u32 {
        self.places.min(window.limit() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Sends `urgent` moments as they come and ordinary requests whenever they may, for `until` seconds.
    fn backlog(reserve: Reserve, limit: u32, urgent: &[f64], until: f64) -> (Vec<Moment>, Vec<Duration>) {
        let mut window = Window::new(MINUTE, limit);
        let mut urgent = urgent.iter().map(|&secs| Moment::from_secs_f64(secs)).peekable();
        let (mut now, mut ticket) = (Moment::ZERO, 0);
        let (mut sent, mut waits) = (Vec::new(), Vec::new());
        let mut send = |window: &mut Window, now| {
            ticket += 1;
            window.reserve(ticket, now);
            window.sent(ticket, now, now);
        };
        while now <= Moment::from_secs_f64(until) {
            window.advance(now);
            let waiting = urgent.peek().copied().filter(|&came| came <= now);
            let due = match waiting {
                Some(_) => window.places_at(1, now),
                None => {
                    let due = reserve.ordinary_at(&window, now);
                    urgent.peek().map_or(due, |&next| due.min(next))
                }
            };
            if due > now {
                now = due;
                continue;
            }
            if let Some(came) = waiting {
                urgent.next();
                waits.push(now.since(came));
            } else if reserve.ordinary_at(&window, now) > now {
                continue;
            }
            send(&mut window, now);
            sent.push(now);
        }
        (sent, waits)
    }

    #[test]
    fn the_places_that_a_burst_leaves_come_into_use_shortly_before_the_next_come_back() {
        let (sent, _) = backlog(Reserve::new(2), 40, &[], 130.0);
        let until = |secs: f64| sent.iter().filter(|&&at| at <= Moment::from_secs_f64(secs)).count();
        assert_eq!([until(0.0), until(55.0), until(60.2), until(120.4)], [38, 38, 76, 114]);
    }

    #[test]
    fn off_means_off_and_a_window_of_one_has_nothing_to_reserve() {
        assert_eq!(backlog(Reserve::new(0), 40, &[], 1.0).0.len(), 40);
        assert_eq!(backlog(Reserve::new(2), 1, &[], 61.0).0.len(), 2);
    }

    #[test]
    fn an_endless_backlog_loses_next_to_nothing() {
        let (sent, _) = backlog(Reserve::new(2), 40, &[], 3600.0);
        assert!(sent.len() >= 2390, "{} of 2400", sent.len());
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn one_urgent_request_a_minute_never_waits_for_more_than_three_intervals(
            limit in 2u32..100, places in 1u32..5, offset in 0.0f64..60.0, minutes in 1usize..20,
        ) {
            let urgent: Vec<f64> = (0..minutes).map(|minute| offset + 61.0 * minute as f64).collect();
            let until = 61.0 * minutes as f64;
            let (sent, waits) = backlog(Reserve::new(places), limit, &urgent, until);
            let bound = (MINUTE + super::super::window::MARGIN) / limit * SOON;
            for wait in waits {
                prop_assert!(wait <= bound, "{wait:?}, {bound:?} allowed");
            }
            for first in &sent {
                let within = sent.iter().filter(|&&at| at >= *first && at < *first + MINUTE).count();
                prop_assert!(within <= limit as usize);
            }
        }
    }
}
