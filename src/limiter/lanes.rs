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
//! **Groups.** The jobs of one model are a group, which may be closed to all, or to all but URGENT; see [`fairness`](super::fairness).
//! A closed group's jobs keep their places and are passed over.
//!
//! **Overflow.** Jobs that found the queue full wait behind the queued ones of their lane, taking turns among themselves,
//! and move up when there is room.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::fairness::{Front, Group, Key, Openness, Order, Turn, Turns};
use crate::clock::Moment;
use crate::priority::Priority;

/// So many urgent tickets may follow one another while others wait.
pub const URGENT_ROW: u32 = 9;

/// Waiting jobs, by priority.
#[derive(Clone, Debug)]
pub struct Lanes {
    lanes: [Lane; 4],
    aging: Duration,
    /// Groups that are not open, to URGENT and to others.
    openness: HashMap<Group, Access>,
    /// Counts arrivals and services, in their order.
    serial: u64,
    urgent_row: u32,
}

/// Whether a group's jobs may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Those that came as URGENT.
    pub urgent: Openness,
    /// All others.
    pub ordinary: Openness,
}

impl Access {
    /// Everything may go.
    pub const OPEN: Access = Access { urgent: Openness::Open, ordinary: Openness::Open };

    fn of(self, priority: Priority) -> Openness {
        match priority {
            Priority::Urgent => self.urgent,
            _ => self.ordinary,
        }
    }
}

/// Where a job stands in line.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Its lane.
    pub priority: Priority,
    /// Whose it is.
    pub client: &'a Arc<str>,
    /// Its model's group.
    pub group: Group,
    /// Its place among its client's jobs.
    pub order: Order,
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
    /// Behind the queued ones of its lane.
    Overflow,
}

/// How many jobs go before one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// All that may go.
    pub all: usize,
    /// Those of the same group, whether it is open or not.
    pub of_group: usize,
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

    fn open_len(&self) -> usize {
        self.queued.open_len() + self.overflow.open_len()
    }

    fn is_closed(&self) -> bool {
        self.queued.is_closed() && self.overflow.is_closed()
    }
}

impl Lanes {
    /// Empty lanes; `aging` of zero turns aging off.
    #[must_use]
    pub fn new(aging: Duration) -> Lanes {
        Lanes { lanes: Default::default(), aging, openness: HashMap::new(), serial: 0, urgent_row: 0 }
    }

    /// Changes the aging time.
    pub fn set_aging(&mut self, aging: Duration) {
        self.aging = aging;
    }

    /// Whether no job can be picked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Lane::is_closed)
    }

    /// Opens or closes a group.
    pub fn set_access(&mut self, group: Group, access: Access) {
        if access == Access::OPEN {
            self.openness.remove(&group);
        } else {
            self.openness.insert(group, access);
        }
        for priority in Priority::ALL {
            let lane = &mut self.lanes[priority.index()];
            lane.queued.set_openness(group, access.of(priority));
            lane.overflow.set_openness(group, access.of(priority));
        }
    }

    /// Which jobs of a group may go.
    #[must_use]
    pub fn access(&self, group: Group) -> Access {
        self.openness.get(&group).copied().unwrap_or_default()
    }

    /// Adds a job, whose client waits for a turn from `since` on if it does not already.
    pub fn insert(&mut self, job: Standing<'_>, key: Key, stand: Stand, since: Moment) {
        let turn = self.turn_since(since);
        let openness = self.access(job.group).of(job.priority);
        let lane = &mut self.lanes[job.priority.index()];
        let turns = match stand {
            Stand::Queued => &mut lane.queued,
            Stand::Overflow => &mut lane.overflow,
        };
        turns.insert(job.client, job.group, openness, job.order, key, turn);
    }

    /// Takes a job out that got no ticket: cancelled, expired, displaced.
    pub fn remove(&mut self, job: Standing<'_>) -> bool {
        self.take(job, None)
    }

    /// Takes the picked job out with its ticket: its client had its turn, and waits for the next one from `since` on.
    pub fn serve(&mut self, job: Standing<'_>, since: Moment) {
        let turn = self.turn_since(since);
        let others_wait = self.others_than_urgent_wait();
        self.urgent_row =
            if job.priority == Priority::Urgent && others_wait { self.urgent_row + 1 } else { 0 };
        self.take(job, Some(turn));
    }

    fn take(&mut self, job: Standing<'_>, turn: Option<Turn>) -> bool {
        let lane = &mut self.lanes[job.priority.index()];
        lane.queued.remove(job.client, job.group, job.order, turn)
            || lane.overflow.remove(job.client, job.group, job.order, turn)
    }

    fn turn_since(&mut self, since: Moment) -> Turn {
        self.serial += 1;
        Turn { since, serial: self.serial }
    }

    /// Whether a job that came as URGENT waits.
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        !self.lanes[Priority::Urgent.index()].is_closed()
    }

    /// Whether LOW jobs wait and nothing above them.
    #[must_use]
    pub fn only_low(&self) -> bool {
        let (low, above) = (&self.lanes[Priority::Low.index()], &self.lanes[..Priority::Low.index()]);
        above.iter().all(Lane::is_closed) && !low.is_closed()
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

    /// How many jobs would go before this one, as things stand, and how many of these are of its own group; `since` is since
    /// when its client would wait for a turn.
    #[must_use]
    pub fn ahead_of(&self, job: Standing<'_>, stand: Stand, since: Moment, now: Moment) -> Ahead {
        let Standing { priority, client, group, order: Order { arrived, .. } } = job;
        let own_lane = &self.lanes[priority.index()];
        let within = |turns: &Turns| Ahead {
            all: turns.ahead_of_next(client, group, arrived, since),
            of_group: turns.ahead_in_group(client, group, arrived, since),
        };
        let within = match stand {
            Stand::Queued => within(&own_lane.queued),
            Stand::Overflow => {
                let behind = within(&own_lane.overflow);
                let queued = &own_lane.queued;
                Ahead {
                    all: queued.open_len() + behind.all,
                    of_group: queued.group_len(group) + behind.of_group,
                }
            }
        };
        let oldest = own_lane.oldest().map_or(arrived, |oldest| oldest.arrived.min(arrived));
        let own_level = self.level_of(priority, oldest, now);
        let others = Priority::ALL.into_iter().filter(|&other| other != priority).map(|other| {
            let lane = &self.lanes[other.index()];
            let most = match self.level(other, lane, now).cmp(&own_level) {
                std::cmp::Ordering::Less => usize::MAX,
                std::cmp::Ordering::Equal => within.all + 1,
                std::cmp::Ordering::Greater => 0,
            };
            let of_group = lane.queued.group_len(group) + lane.overflow.group_len(group);
            Ahead { all: lane.open_len().min(most), of_group: of_group.min(most) }
        });
        others.fold(within, |sum, lane| Ahead {
            all: sum.all + lane.all,
            of_group: sum.of_group + lane.of_group,
        })
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
        self.lanes[Priority::High.index()..].iter().any(|lane| !lane.is_closed())
    }
}

/// Between two lanes at one level: one client's jobs by arrival, clients by their turn.
fn goes_before(a: &Front<'_>, b: &Front<'_>) -> bool {
    if a.client == b.client { a.order < b.order } else { a.turn < b.turn }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
