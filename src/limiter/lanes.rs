//! The lanes: which waiting job gets the next ticket.
//!
//! One lane a priority. The best lane goes first; within a lane clients take turns ([`fairness`](super::fairness)).
//!
//! **Aging.** A lane competes at its own priority, raised by one for each `aging` that its oldest job has waited, at most
//! to HIGH: time alone never makes URGENT. Lanes that meet at one priority take turns client by client, as if their jobs
//! were in one lane, and a client's own jobs keep the order of their arrival. It is the *lane* that rises and not the
//! job, so that clients still take turns when a long backlog has aged: otherwise the old jobs of a hog would all go before
//! the first job of a polite client.
//!
//! **Bounded starvation.** URGENT goes before everything, but after [`URGENT_ROW`] urgent tickets in a row while others
//! wait, one ticket goes to the best of the others. So with any load above it, the lane at HIGH gets at least every tenth ticket,
//! and since LOW has risen to HIGH after twice the aging time, each priority progresses at least that often.
//!
//! **Overflow.** Jobs that found the queue full wait behind the queued ones of their lane, taking turns among themselves,
//! and move up when there is room.

use std::sync::Arc;
use std::time::Duration;

use super::fairness::{Front, Key, Order, Turn, Turns};
use crate::clock::Moment;
use crate::priority::Priority;

/// So many urgent tickets may follow one another while others wait.
pub const URGENT_ROW: u32 = 9;

/// Waiting jobs, by priority.
#[derive(Clone, Debug)]
pub struct Lanes {
    lanes: [Lane; 4],
    aging: Duration,
    /// Counts arrivals and services, in their order.
    serial: u64,
    urgent_row: u32,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    queued: Turns,
    overflow: Turns,
}

/// Where a job stands within its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// In the queue, at its client's turn.
    Queued,
    /// Before all others of its lane: it was refused and came back.
    Returned,
    /// Behind the queued ones of its lane.
    Overflow,
}

/// The job that gets the next ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Its key.
    pub key: Key,
    /// The priority that its client asked for.
    pub priority: Priority,
    /// The priority at which it competes, as its index.
    pub level: usize,
    /// Whether it is LOW, has not risen, and nothing above it waits: the one that is shed when no ticket comes.
    pub sheddable: bool,
}

impl Lane {
    fn front(&self) -> Option<Front<'_>> {
        self.queued.front().or_else(|| self.overflow.front())
    }

    fn oldest(&self) -> Option<Order> {
        [self.queued.oldest(), self.overflow.oldest()].into_iter().flatten().min()
    }

    fn len(&self) -> usize {
        self.queued.len() + self.overflow.len()
    }

    fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.overflow.is_empty()
    }
}

impl Lanes {
    /// Empty lanes; `aging` of zero turns aging off.
    #[must_use]
    pub fn new(aging: Duration) -> Lanes {
        Lanes { lanes: Default::default(), aging, serial: 0, urgent_row: 0 }
    }

    /// Changes the aging time.
    pub fn set_aging(&mut self, aging: Duration) {
        self.aging = aging;
    }

    /// Whether no job can be picked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Lane::is_empty)
    }

    /// Adds a job.
    pub fn insert(&mut self, priority: Priority, client: &Arc<str>, order: Order, key: Key, stand: Stand) {
        let turn = self.turn_since(order.arrived);
        let lane = &mut self.lanes[priority.index()];
        match stand {
            Stand::Queued => lane.queued.insert(client, order, key, turn),
            Stand::Returned => lane.queued.insert_returned(order, key),
            Stand::Overflow => lane.overflow.insert(client, order, key, turn),
        }
    }

    /// Takes a job out that got no ticket: cancelled, expired, displaced, parked.
    pub fn remove(&mut self, priority: Priority, client: &Arc<str>, order: Order) -> bool {
        let lane = &mut self.lanes[priority.index()];
        lane.queued.remove(client, order, None) || lane.overflow.remove(client, order, None)
    }

    /// Takes the picked job out with its ticket: its client had its turn.
    pub fn serve(&mut self, priority: Priority, client: &Arc<str>, order: Order, now: Moment) {
        let turn = Some(self.turn_since(now));
        let others_wait = self.others_than_urgent_wait();
        self.urgent_row = if priority == Priority::Urgent && others_wait { self.urgent_row + 1 } else { 0 };
        let lane = &mut self.lanes[priority.index()];
        let _ = lane.queued.remove(client, order, turn) || lane.overflow.remove(client, order, turn);
    }

    fn turn_since(&mut self, since: Moment) -> Turn {
        self.serial += 1;
        Turn { since, serial: self.serial }
    }

    /// Whether a job that came as URGENT waits.
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        !self.lanes[Priority::Urgent.index()].is_empty()
    }

    /// Whether LOW jobs wait and nothing above them.
    #[must_use]
    pub fn only_low(&self) -> bool {
        let (low, above) = (&self.lanes[Priority::Low.index()], &self.lanes[..Priority::Low.index()]);
        above.iter().all(Lane::is_empty) && !low.is_empty()
    }

    /// The job that gets the next ticket, if it may go to no priority below `least_urgent`.
    ///
    /// After a row of urgent tickets the others get theirs even then: what is held back from them is meant for URGENT, which had
    /// its turns.
    #[must_use]
    pub fn pick(&self, least_urgent: Priority, now: Moment) -> Option<Pick> {
        let spare_urgent =
            self.urgent_row >= URGENT_ROW && self.has_urgent() && self.others_than_urgent_wait();
        let candidates = match (spare_urgent, least_urgent) {
            (true, _) => &Priority::ALL[Priority::High.index()..],
            (false, least_urgent) => &Priority::ALL[..=least_urgent.index()],
        };
        let mut best: Option<(usize, Priority, Front<'_>)> = None;
        for &priority in candidates {
            let lane = &self.lanes[priority.index()];
            let Some(front) = lane.front() else { continue };
            let level = self.level(priority, lane, now);
            let goes_first = best.as_ref().is_none_or(|(best_level, _, best_front)| {
                level < *best_level || (level == *best_level && goes_before(&front, best_front))
            });
            if goes_first {
                best = Some((level, priority, front));
            }
        }
        let (level, priority, front) = best?;
        let sheddable = self.only_low() && self.rises(front.order.arrived, now) == 0;
        Some(Pick { key: front.key, priority, level, sheddable })
    }

    /// The job that moves from the overflow into the queue when there is room for one.
    #[must_use]
    pub fn first_overflowing(&self) -> Option<Key> {
        self.lanes.iter().find_map(|lane| lane.overflow.front()).map(|front| front.key)
    }

    /// How many jobs would go before a job of this client and priority that arrived at this moment, as things stand.
    #[must_use]
    pub fn ahead_of_next(
        &self,
        priority: Priority,
        client: &Arc<str>,
        arrived: Moment,
        overflow: bool,
        now: Moment,
    ) -> usize {
        let own_lane = &self.lanes[priority.index()];
        let within = if overflow {
            own_lane.queued.len() + own_lane.overflow.ahead_of_next(client, arrived)
        } else {
            own_lane.queued.ahead_of_next(client, arrived)
        };
        let own_level = self.level_of(
            priority,
            own_lane.oldest().map_or(arrived, |oldest| oldest.arrived.min(arrived)),
            now,
        );
        let other_lanes = Priority::ALL.into_iter().filter(|&other| other != priority).map(|other| {
            let lane = &self.lanes[other.index()];
            match self.level(other, lane, now).cmp(&own_level) {
                std::cmp::Ordering::Less => lane.len(),
                std::cmp::Ordering::Equal => lane.len().min(within + 1),
                std::cmp::Ordering::Greater => 0,
            }
        });
        within + other_lanes.sum::<usize>()
    }

    /// All jobs in about the order in which they will go if none is added: lane by lane.
    #[must_use]
    pub fn in_order(&self, now: Moment) -> Vec<Key> {
        let mut order = Priority::ALL;
        order.sort_by_key(|priority| self.level(*priority, &self.lanes[priority.index()], now));
        let lanes = order.into_iter().map(|priority| &self.lanes[priority.index()]);
        lanes
            .flat_map(|lane| lane.queued.in_order().into_iter().chain(lane.overflow.in_order()))
            .map(|(_, key)| key)
            .collect()
    }

    /// The priority at which a lane competes.
    fn level(&self, priority: Priority, lane: &Lane, now: Moment) -> usize {
        self.level_of(priority, lane.oldest().map_or(now, |oldest| oldest.arrived), now)
    }

    /// The priority at which jobs compete the oldest of which arrived then.
    fn level_of(&self, priority: Priority, oldest: Moment, now: Moment) -> usize {
        if priority <= Priority::High {
            return priority.index();
        }
        priority.index().saturating_sub(self.rises(oldest, now)).max(Priority::High.index())
    }

    /// By how many priorities a job has risen.
    fn rises(&self, arrived: Moment, now: Moment) -> usize {
        let waited = now.since(arrived).as_nanos();
        waited
            .checked_div(self.aging.as_nanos())
            .map_or(0, |times| usize::try_from(times).unwrap_or(usize::MAX))
    }

    fn others_than_urgent_wait(&self) -> bool {
        self.lanes[Priority::High.index()..].iter().any(|lane| !lane.is_empty())
    }
}

/// Between two lanes at one level: what came back goes first, one client's jobs by arrival, clients by their turn.
fn goes_before(a: &Front<'_>, b: &Front<'_>) -> bool {
    if a.client == b.client { a.order < b.order } else { a.turn < b.turn }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
