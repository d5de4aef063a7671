//! The store of waiting jobs: what they are, how many, how heavy, and when each must be dealt with at the latest.
//!
//! Where a job stands in line is the lanes' business; the store knows all that wait, those delayed after a failure too, so that
//! bounds and deadlines count for each of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use slab::Slab;

use super::admission::Candidate;
use super::estimate::Promise;
use super::fairness::{Group, Key, Order};
use super::lanes::Stand;
use crate::clock::Moment;
use crate::config::limiter::QueueSettings;
use crate::priority::Priority;

/// A waiting job.
#[derive(Clone, Debug)]
pub struct Waiting<J> {
    /// What the gate knows of it.
    pub candidate: Candidate,
    /// The job.
    pub job: J,
    /// Its order of arrival.
    pub order: Order,
    /// Its model's group.
    pub group: Group,
    /// How it stands within its lane, when it stands in one.
    pub stand: Stand,
    /// Where it waits.
    pub place: Place,
    /// What was estimated when it came; `None` for one that came back.
    pub promise: Option<Promise>,
}

/// Where a job waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its lane, whether its group is open or not.
    Lane,
    /// Not to be sent before this moment.
    Delayed(Moment),
}

/// All waiting jobs.
#[derive(Clone, Debug)]
pub struct Store<J> {
    jobs: Slab<Waiting<J>>,
    by_id: HashMap<u64, Key>,
    /// Jobs within the queue's bound, by priority, oldest first.
    queued: [BTreeMap<Order, Key>; 4],
    deadlines: BTreeSet<(Moment, Key)>,
    delayed: BTreeSet<(Moment, Key)>,
    depth: [usize; 4],
    queued_bytes: usize,
    overflow_bytes: usize,
}

impl<J> Store<J> {
    /// An empty store.
    #[must_use]
    pub fn new() -> Store<J> {
        Store {
            jobs: Slab::new(),
            by_id: HashMap::new(),
            queued: Default::default(),
            deadlines: BTreeSet::new(),
            delayed: BTreeSet::new(),
            depth: [0; 4],
            queued_bytes: 0,
            overflow_bytes: 0,
        }
    }

    /// Adds a job.
    pub fn insert(&mut self, waiting: Waiting<J>) -> Key {
        let priority = waiting.candidate.priority.index();
        let (order, bytes) = (waiting.order, waiting.candidate.bytes);
        let (id, deadline) = (waiting.candidate.id, waiting.candidate.deadline);
        let overflows = waiting.stand == Stand::Overflow;
        let key = self.jobs.insert(waiting);
        self.by_id.insert(id, key);
        self.deadlines.insert((deadline, key));
        self.depth[priority] += 1;
        if overflows {
            self.overflow_bytes += bytes;
        } else {
            self.queued_bytes += bytes;
            self.queued[priority].insert(order, key);
        }
        key
    }

    /// Takes a job out of the store.
    pub fn remove(&mut self, key: Key) -> Option<Waiting<J>> {
        let waiting = self.jobs.try_remove(key)?;
        let priority = waiting.candidate.priority.index();
        if self.by_id.get(&waiting.candidate.id) == Some(&key) {
            self.by_id.remove(&waiting.candidate.id);
        }
        self.deadlines.remove(&(waiting.candidate.deadline, key));
        if let Place::Delayed(until) = waiting.place {
            self.delayed.remove(&(until, key));
        }
        self.depth[priority] -= 1;
        if waiting.stand == Stand::Overflow {
            self.overflow_bytes -= waiting.candidate.bytes;
        } else {
            self.queued_bytes -= waiting.candidate.bytes;
            self.queued[priority].remove(&waiting.order);
        }
        Some(waiting)
    }

    /// A waiting job.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&Waiting<J>> {
        self.jobs.get(key)
    }

    /// The job of this id.
    #[must_use]
    pub fn key_of(&self, id: u64) -> Option<Key> {
        self.by_id.get(&id).copied()
    }

    /// Notes where a job waits from now on.
    pub fn set_place(&mut self, key: Key, place: Place) {
        let Some(waiting) = self.jobs.get_mut(key) else { return };
        if let Place::Delayed(until) = waiting.place {
            self.delayed.remove(&(until, key));
        }
        if let Place::Delayed(until) = place {
            self.delayed.insert((until, key));
        }
        waiting.place = place;
    }

    /// Moves a job from the overflow into the queue.
    pub fn admit(&mut self, key: Key) {
        let Some(waiting) = self.jobs.get_mut(key).filter(|waiting| waiting.stand == Stand::Overflow) else {
            return;
        };
        waiting.stand = Stand::Queued;
        let bytes = waiting.candidate.bytes;
        self.overflow_bytes -= bytes;
        self.queued_bytes += bytes;
        self.queued[waiting.candidate.priority.index()].insert(waiting.order, key);
    }

    /// Whether the queue has room for one more job of this many bytes. An empty queue takes any job.
    #[must_use]
    pub fn has_room(&self, bytes: usize, bounds: &QueueSettings) -> bool {
        self.has_room_without(0, 0, bytes, bounds)
    }

    /// Whether it would have, were this job gone.
    #[must_use]
    pub fn would_have_room(&self, gone: Key, bytes: usize, bounds: &QueueSettings) -> bool {
        let gone_bytes = self.jobs.get(gone).map_or(0, |waiting| waiting.candidate.bytes);
        self.has_room_without(1, gone_bytes, bytes, bounds)
    }

    fn has_room_without(&self, gone: usize, gone_bytes: usize, bytes: usize, bounds: &QueueSettings) -> bool {
        let count = self.queued_len().saturating_sub(gone);
        let held = self.queued_bytes.saturating_sub(gone_bytes);
        count < bounds.max_size && (count == 0 || held.saturating_add(bytes) <= bounds.max_bytes)
    }

    /// Whether the overflow may hold this many bytes more: as many as the queue, so that memory stays bounded.
    #[must_use]
    pub fn overflow_has_room(&self, bytes: usize, bounds: &QueueSettings) -> bool {
        self.overflow_bytes == 0 || self.overflow_bytes.saturating_add(bytes) <= bounds.max_bytes
    }

    /// The newest job in the queue of the lowest priority below this one.
    #[must_use]
    pub fn newest_of_lowest_below(&self, priority: Priority) -> Option<Key> {
        let below = self.queued[priority.index() + 1..].iter().rev();
        below.filter_map(|jobs| jobs.last_key_value()).map(|(_, &key)| key).next()
    }

    /// The job whose time is up first, and when.
    #[must_use]
    pub fn first_deadline(&self) -> Option<(Moment, Key)> {
        self.deadlines.first().copied()
    }

    /// The delayed job that may be sent first, and when.
    #[must_use]
    pub fn first_delayed(&self) -> Option<(Moment, Key)> {
        self.delayed.first().copied()
    }

    /// All jobs.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Waiting<J>)> {
        self.jobs.iter()
    }

    /// How many jobs wait, overflow included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How many jobs are in the queue, overflow not included.
    #[must_use]
    pub fn queued_len(&self) -> usize {
        self.queued.iter().map(BTreeMap::len).sum()
    }

    /// How many bytes the queue holds, overflow not included.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// How many bytes all waiting jobs hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.queued_bytes + self.overflow_bytes
    }

    /// How many jobs wait by priority, overflow included.
    #[must_use]
    pub fn depth(&self) -> [usize; 4] {
        self.depth
    }

    /// Empties the store.
    pub fn drain(&mut self) -> Vec<(Candidate, J)> {
        let jobs = std::mem::take(self).jobs;
        jobs.into_iter().map(|(_, waiting)| (waiting.candidate, waiting.job)).collect()
    }
}

impl<J> Default for Store<J> {
    fn default() -> Store<J> {
        Store::new()
    }
}
