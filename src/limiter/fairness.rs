//! Clients that take turns: round robin with one job a turn, each client's jobs in the order of their arrival.
//!
//! It is the turn of the client that has waited longest for one: since it was last served, or since its first job arrived. So
//! with n clients waiting, a newcomer's first job goes after at most n − 1 others, however many jobs each of them has; and
//! a job that comes again with the time of its first arrival has the turn that it would have, had it never left. Jobs that come
//! back after a refusal had their turn already: they go before the ring, oldest first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use slab::Slab;

use crate::clock::Moment;

/// The order of arrival; the number keeps apart what arrived in the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// When it arrived.
    pub arrived: Moment,
    /// Grows with each job.
    pub serial: u64,
}

/// Since when a client has waited for its turn; the number keeps apart what happened in the same moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn {
    /// Since when.
    pub since: Moment,
    /// Grows with each arrival and each service.
    pub serial: u64,
}

/// A job's name in the gate's store.
pub type Key = usize;

/// Jobs of one priority, whose clients take turns.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    clients: Slab<Client>,
    names: HashMap<Arc<str>, usize>,
    /// Clients by their turn.
    ring: BTreeMap<Turn, usize>,
    returned: BTreeMap<Order, Key>,
    ages: BTreeSet<Order>,
    /// `at_least[n]`: how many clients wait with more than n jobs. Sums of its head say who goes before whom.
    at_least: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Client {
    name: Arc<str>,
    jobs: BTreeMap<Order, Key>,
    turn: Turn,
    /// It was served while these jobs waited: its turn counts from then, and not from an arrival.
    served: bool,
}

/// Who goes next.
#[derive(Clone, Debug)]
pub struct Front<'a> {
    /// The job.
    pub key: Key,
    /// When it arrived.
    pub order: Order,
    /// Its client; `None` for a job that came back, which goes before all turns.
    pub client: Option<&'a Arc<str>>,
    /// The turn: lower goes first.
    pub turn: Turn,
}

impl Turns {
    /// How many jobs wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ages.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ages.is_empty()
    }

    /// The job that has waited longest.
    #[must_use]
    pub fn oldest(&self) -> Option<Order> {
        self.ages.first().copied()
    }

    /// Who goes next.
    #[must_use]
    pub fn front(&self) -> Option<Front<'_>> {
        if let Some((&order, &key)) = self.returned.first_key_value() {
            return Some(Front { key, order, client: None, turn: Turn::default() });
        }
        let (&turn, &index) = self.ring.first_key_value()?;
        let client = self.clients.get(index)?;
        let (&order, &key) = client.jobs.first_key_value()?;
        Some(Front { key, order, client: Some(&client.name), turn })
    }

    /// Adds a job. `turn` is the client's if it waits for none yet, or for a later one without having been served.
    pub fn insert(&mut self, client: &Arc<str>, order: Order, key: Key, turn: Turn) {
        self.ages.insert(order);
        let index = match self.names.get(client) {
            Some(&index) => {
                let client = &self.clients[index];
                if !client.served && turn < client.turn {
                    self.take_turn(index, turn);
                }
                index
            }
            None => {
                let (name, jobs) = (client.clone(), BTreeMap::new());
                let index = self.clients.insert(Client { name, jobs, turn, served: false });
                self.names.insert(client.clone(), index);
                self.ring.insert(turn, index);
                index
            }
        };
        let jobs = &mut self.clients[index].jobs;
        if self.at_least.len() == jobs.len() {
            self.at_least.push(0);
        }
        self.at_least[jobs.len()] += 1;
        jobs.insert(order, key);
    }

    /// Adds a job that came back.
    pub fn insert_returned(&mut self, order: Order, key: Key) {
        self.ages.insert(order);
        self.returned.insert(order, key);
    }

    /// Takes a job out. If it was its client's turn, the client goes to the end of the ring, which is `turn`;
    /// without `turn` (a cancelled job) it keeps its place.
    pub fn remove(&mut self, client: &Arc<str>, order: Order, turn: Option<Turn>) -> bool {
        if !self.ages.remove(&order) {
            return false;
        }
        if self.returned.remove(&order).is_some() {
            return true;
        }
        let Some(&index) = self.names.get(client) else { return true };
        let client = &mut self.clients[index];
        if client.jobs.remove(&order).is_some() {
            self.at_least[client.jobs.len()] -= 1;
            if self.at_least.last() == Some(&0) {
                self.at_least.pop();
            }
        }
        if client.jobs.is_empty() {
            self.ring.remove(&client.turn);
            self.names.remove(&client.name);
            self.clients.remove(index);
        } else if let Some(turn) = turn {
            client.served = true;
            self.take_turn(index, turn);
        }
        true
    }

    fn take_turn(&mut self, index: usize, turn: Turn) {
        let client = &mut self.clients[index];
        self.ring.remove(&client.turn);
        client.turn = turn;
        self.ring.insert(turn, index);
    }

    /// How many jobs would go before a job of this client that arrived at this moment.
    #[must_use]
    pub fn ahead_of_next(&self, client: &Arc<str>, arrived: Moment) -> usize {
        let waiting = self.names.get(client).map(|&index| &self.clients[index]);
        if self.ages.last().is_none_or(|newest| newest.arrived <= arrived) {
            return self.ahead(waiting.map_or(0, |client| client.jobs.len()));
        }
        // It comes again: some of its client's jobs, and for its first turn some of the clients, are behind it.
        let own =
            waiting.map_or(0, |client| client.jobs.range(..=Order { arrived, serial: u64::MAX }).count());
        let turn = waiting.filter(|client| client.served).map_or(arrived, |client| client.turn.since);
        if own > 0 {
            return self.ahead(own);
        }
        self.returned.len() + self.ring.range(..=Turn { since: turn, serial: u64::MAX }).count()
    }

    /// How many jobs go before a client's job with `own` of its own before it: each other client's first own + 1.
    #[must_use]
    pub fn ahead(&self, own: usize) -> usize {
        let rounds = self.at_least.iter().take(own + 1).map(|&clients| clients as usize);
        self.returned.len() + rounds.sum::<usize>()
    }

    /// All jobs in the order in which they will go if none is added.
    #[must_use]
    pub fn in_order(&self) -> Vec<(Order, Key)> {
        let mut rounds = Vec::with_capacity(self.len());
        for (place, &index) in self.ring.values().enumerate() {
            let jobs = self.clients[index].jobs.iter().enumerate();
            rounds.extend(jobs.map(|(round, (&order, &key))| ((round, place), (order, key))));
        }
        rounds.sort_unstable_by_key(|&(turn, _)| turn);
        let returned = self.returned.iter().map(|(&order, &key)| (order, key));
        returned.chain(rounds.into_iter().map(|(_, job)| job)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn order(serial: u64) -> Order {
        Order { arrived: Moment::from_nanos(serial), serial }
    }

    fn turn(serial: u64) -> Turn {
        Turn { since: Moment::from_nanos(serial), serial }
    }

    /// Round robin as one would write it without a thought for cost.
    #[derive(Default)]
    struct Naive {
        ring: VecDeque<(Arc<str>, VecDeque<u64>)>,
    }

    impl Naive {
        fn insert(&mut self, client: &Arc<str>, serial: u64) {
            match self.ring.iter_mut().find(|(name, _)| name == client) {
                Some((_, jobs)) => jobs.push_back(serial),
                None => self.ring.push_back((client.clone(), VecDeque::from([serial]))),
            }
        }

        fn pop(&mut self) -> Option<(Arc<str>, u64)> {
            let (client, mut jobs) = self.ring.pop_front()?;
            let serial = jobs.pop_front()?;
            if !jobs.is_empty() {
                self.ring.push_back((client.clone(), jobs));
            }
            Some((client, serial))
        }

        fn cancel(&mut self, client: &Arc<str>, serial: u64) {
            for (name, jobs) in &mut self.ring {
                if name == client {
                    jobs.retain(|&job| job != serial);
                }
            }
            self.ring.retain(|(_, jobs)| !jobs.is_empty());
        }
    }

    #[test]
    fn a_flood_waits_its_turn_behind_a_single_request() {
        let (hog, polite): (Arc<str>, Arc<str>) = ("hog".into(), "polite".into());
        let mut turns = Turns::default();
        for serial in 0..500 {
            turns.insert(&hog, order(serial), 0, turn(serial));
        }
        assert_eq!(turns.ahead_of_next(&polite, Moment::from_nanos(500)), 1);
        turns.insert(&polite, order(500), 0, turn(500));
        turns.remove(&hog, order(0), Some(turn(501)));
        assert_eq!(turns.front().unwrap().client, Some(&polite));
    }

    #[test]
    fn a_job_that_came_back_goes_first_and_costs_no_turn() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut turns = Turns::default();
        turns.insert(&a, order(1), 1, turn(1));
        turns.insert_returned(order(2), 2);
        assert_eq!(turns.front().unwrap().key, 2);
        turns.remove(&b, order(2), Some(turn(9)));
        assert_eq!(turns.front().unwrap().key, 1);
    }

    proptest! {
        #[test]
        fn turns_agree_with_a_naive_round_robin(steps in prop::collection::vec((0u8..4, 0u8..5), 1..300)) {
            let mut turns = Turns::default();
            let mut naive = Naive::default();
            let mut waiting: Vec<(Arc<str>, u64)> = Vec::new();
            for (serial, (action, name)) in (1..).zip(steps) {
                let client: Arc<str> = format!("client {name}").into();
                match action {
                    0 | 1 => {
                        let before = turns.ahead_of_next(&client, Moment::from_nanos(serial));
                        prop_assert!(before <= turns.len());
                        turns.insert(&client, order(serial), usize::try_from(serial).unwrap(), turn(serial));
                        naive.insert(&client, serial);
                        waiting.push((client, serial));
                    }
                    2 => {
                        let expected = naive.pop();
                        let front = turns.front().map(|front| (front.client.cloned().unwrap(), front.order));
                        prop_assert_eq!(front.as_ref().map(|(c, o)| (c.clone(), o.serial)), expected);
                        if let Some((client, order)) = front {
                            turns.remove(&client, order, Some(turn(serial)));
                            waiting.retain(|(_, s)| *s != order.serial);
                        }
                    }
                    _ => {
                        if !waiting.is_empty() {
                            let (client, gone) = waiting.remove(usize::from(name) % waiting.len());
                            prop_assert!(turns.remove(&client, order(gone), None));
                            naive.cancel(&client, gone);
                        }
                    }
                }
                prop_assert_eq!(turns.len(), waiting.len());
                prop_assert_eq!(turns.in_order().len(), waiting.len());
                prop_assert_eq!(turns.at_least.iter().sum::<u32>() as usize, waiting.len());
            }
        }
    }
}
