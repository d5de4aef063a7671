//! Clients that take turns: round robin with one job a turn, each client's jobs in the order of their arrival.
//!
//! It is the turn of the client that has waited longest for one: since it was last served, or since its first job arrived. So
//! with n clients waiting, a newcomer's first job goes after at most n − 1 others, however many jobs each of them has; and
//! a job that comes again with the time of its first arrival has the turn that it would have, had it never left.
//!
//! Jobs stand in groups, one a model, and a group may be closed: its model is held or has used its quota. A client has one
//! turn for all its groups, and it passes to the next client when none of its jobs stands in an open one. Opening and closing a
//! group costs the same whether one job stands in it or ten thousand.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use slab::Slab;

use crate::clock::Moment;

/// The order of arrival; the number keeps apart what arrived in the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// When it first arrived.
    pub arrived: Moment,
    /// Grows with each job that begins to wait.
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

/// Jobs that wait for the same thing: one model's.
pub type Group = usize;

/// Which jobs of a group may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Openness {
    /// All, in their order.
    #[default]
    Open,
    /// One, as a probe: of a client none of whose jobs was one yet, the job that was refused longest ago; so that no job spends
    /// all its attempts as the probe of a long hold while others wait beside it.
    Probe,
    /// None.
    Closed,
}

/// Jobs of one priority, whose clients take turns.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    clients: Slab<Client>,
    names: HashMap<Arc<str>, usize>,
    groups: HashMap<Group, Ring>,
    /// Groups that are not closed, by the turn of their first client.
    fronts: BTreeSet<(Turn, Group)>,
    /// The same by their oldest job.
    oldest: BTreeSet<(Order, Group)>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Client {
    name: Arc<str>,
    turn: Turn,
    /// It was served while jobs of it waited: its turn counts from then, and not from an arrival.
    served: bool,
    /// The groups in which jobs of it stand.
    groups: Vec<Group>,
}

/// The jobs of one group.
#[derive(Clone, Debug, Default)]
struct Ring {
    openness: Openness,
    turns: BTreeMap<Turn, usize>,
    /// Clients of which a job was the probe since the group was last open.
    probed: HashSet<Arc<str>>,
    jobs: HashMap<usize, BTreeMap<Order, Key>>,
    ages: BTreeSet<Order>,
    /// `at_least[n]`: how many clients wait with more than n jobs. Sums of its head say who goes before whom.
    at_least: Vec<u32>,
    /// How it is entered in [`Turns::fronts`] and [`Turns::oldest`].
    entered: Option<(Turn, Order)>,
}

/// Who goes next.
#[derive(Clone, Debug)]
pub struct Front<'a> {
    /// The job.
    pub key: Key,
    /// When it arrived.
    pub order: Order,
    /// Its client.
    pub client: &'a Arc<str>,
    /// Its client's turn: lower goes first.
    pub turn: Turn,
}

impl Ring {
    fn front(&self, clients: &Slab<Client>) -> Option<(Turn, usize)> {
        let unprobed = |&(_, index): &(&Turn, &usize)| {
            !clients.get(*index).is_some_and(|client| self.probed.contains(&client.name))
        };
        let probe = (self.openness == Openness::Probe).then(|| self.turns.iter().find(unprobed)).flatten();
        probe.or_else(|| self.turns.first_key_value()).map(|(&turn, &client)| (turn, client))
    }

    fn count_in(&mut self, jobs_before: usize) {
        if self.at_least.len() == jobs_before {
            self.at_least.push(0);
        }
        self.at_least[jobs_before] += 1;
    }

    fn count_out(&mut self, jobs_after: usize) {
        self.at_least[jobs_after] -= 1;
        if self.at_least.last() == Some(&0) {
            self.at_least.pop();
        }
    }

    /// How many jobs go before a client's job with `own` of its own before it: each other client's first own + 1.
    fn ahead(&self, own: usize) -> usize {
        self.at_least.iter().take(own + 1).map(|&clients| clients as usize).sum()
    }

    /// How many jobs would go before a job of this client that arrived at this moment.
    fn ahead_of(&self, index: Option<usize>, arrived: Moment, turn: Moment) -> usize {
        let own = index.and_then(|index| self.jobs.get(&index));
        if self.ages.last().is_none_or(|newest| newest.arrived <= arrived) {
            return self.ahead(own.map_or(0, BTreeMap::len));
        }
        // It comes again: some of its client's jobs, and for its first turn some of the clients, are behind it.
        match own.map_or(0, |jobs| jobs.range(..=Order { arrived, serial: u64::MAX }).count()) {
            0 => self.turns.range(..=Turn { since: turn, serial: u64::MAX }).count(),
            before => self.ahead(before),
        }
    }
}

impl Turns {
    /// How many jobs wait, those of closed groups among them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.len
    }

    /// Whether no job may go.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.fronts.is_empty()
    }

    /// How many jobs of groups that are not closed wait.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.fronts.iter().filter_map(|(_, group)| self.groups.get(group)).map(|ring| ring.ages.len()).sum()
    }

    /// How many jobs of a group wait, whether it is open or not.
    #[must_use]
    pub fn group_len(&self, group: Group) -> usize {
        self.groups.get(&group).map_or(0, |ring| ring.ages.len())
    }

    /// The job that has waited longest of those that may go.
    #[must_use]
    pub fn oldest(&self) -> Option<Order> {
        self.oldest.first().map(|&(order, _)| order)
    }

    /// Who goes next.
    #[must_use]
    pub fn front(&self) -> Option<Front<'_>> {
        let &(turn, _) = self.fronts.first()?;
        // The client whose turn it is is the first of each of its groups that is not closed.
        let groups =
            self.fronts.range((turn, 0)..=(turn, Group::MAX)).filter_map(|(_, group)| self.groups.get(group));
        let jobs = groups.filter_map(|ring| {
            let (_, index) = ring.front(&self.clients)?;
            let jobs = ring.jobs.get(&index)?;
            let (&order, &key) = match ring.openness {
                Openness::Probe => jobs.iter().min_by_key(|(order, _)| order.serial)?,
                Openness::Open | Openness::Closed => jobs.first_key_value()?,
            };
            Some((order, key, index))
        });
        let (order, key, index) = jobs.min()?;
        Some(Front { key, order, client: &self.clients.get(index)?.name, turn })
    }

    /// Opens or closes a group.
    pub fn set_openness(&mut self, group: Group, openness: Openness) {
        if let Some(ring) = self.groups.get_mut(&group) {
            ring.openness = openness;
            if openness == Openness::Open {
                ring.probed.clear();
            }
            self.enter(group);
        }
    }

    /// Adds a job; `openness` is its group's. `turn` is the client's if it waits for none yet, or for a later one without
    /// having been served.
    pub fn insert(
        &mut self,
        client: &Arc<str>,
        group: Group,
        openness: Openness,
        order: Order,
        key: Key,
        turn: Turn,
    ) {
        let index = match self.names.get(client) {
            Some(&index) => {
                if !self.clients[index].served && turn < self.clients[index].turn {
                    self.take_turn(index, turn);
                }
                index
            }
            None => {
                let index = self.clients.insert(Client {
                    name: client.clone(),
                    turn,
                    served: false,
                    groups: Vec::new(),
                });
                self.names.insert(client.clone(), index);
                index
            }
        };
        let ring = self.groups.entry(group).or_default();
        ring.openness = openness;
        let client = &mut self.clients[index];
        if !client.groups.contains(&group) {
            client.groups.push(group);
            ring.turns.insert(client.turn, index);
        }
        let jobs = ring.jobs.entry(index).or_default();
        let before = jobs.len();
        jobs.insert(order, key);
        ring.count_in(before);
        ring.ages.insert(order);
        self.len += 1;
        self.enter(group);
    }

    /// Takes a job out. If it was its client's turn, the client goes to the end of the ring, which is `turn`;
    /// without `turn` (a cancelled job) it keeps its place.
    pub fn remove(&mut self, client: &Arc<str>, group: Group, order: Order, turn: Option<Turn>) -> bool {
        let (Some(&index), Some(ring)) = (self.names.get(client), self.groups.get_mut(&group)) else {
            return false;
        };
        let Some(jobs) = ring.jobs.get_mut(&index).filter(|jobs| jobs.contains_key(&order)) else {
            return false;
        };
        jobs.remove(&order);
        let after = jobs.len();
        ring.count_out(after);
        ring.ages.remove(&order);
        self.len -= 1;
        if turn.is_some() && ring.openness == Openness::Probe {
            ring.probed.insert(client.clone());
        }
        if after == 0 {
            ring.jobs.remove(&index);
            ring.turns.remove(&self.clients[index].turn);
            self.clients[index].groups.retain(|&other| other != group);
        }
        self.enter(group);
        if self.clients[index].groups.is_empty() {
            self.names.remove(client);
            self.clients.remove(index);
        } else if let Some(turn) = turn {
            self.clients[index].served = true;
            self.take_turn(index, turn);
        }
        true
    }

    /// How many jobs would go before a job of this client and group that arrived at this moment; `since` is since when its
    /// client would wait for a turn.
    #[must_use]
    pub fn ahead_of_next(&self, client: &Arc<str>, group: Group, arrived: Moment, since: Moment) -> usize {
        let index = self.names.get(client).copied();
        let waiting = index.map(|index| &self.clients[index]).filter(|client| client.served);
        let turn = waiting.map_or(since, |client| client.turn.since);
        let others = self.fronts.iter().map(|&(_, other)| other).filter(|&other| other != group);
        let rings = others.chain([group]).filter_map(|group| self.groups.get(&group));
        rings.map(|ring| ring.ahead_of(index, arrived, turn)).sum()
    }

    /// How many of these would be of the same group.
    #[must_use]
    pub fn ahead_in_group(&self, client: &Arc<str>, group: Group, arrived: Moment, since: Moment) -> usize {
        let index = self.names.get(client).copied();
        self.groups.get(&group).map_or(0, |ring| ring.ahead_of(index, arrived, since))
    }

    /// All jobs that may go, in the order in which they will go if none is added and no group opens or closes.
    #[must_use]
    pub fn in_order(&self) -> Vec<(Order, Key)> {
        let mut by_client: BTreeMap<Turn, Vec<(Order, Key)>> = BTreeMap::new();
        for ring in self.fronts.iter().filter_map(|(_, group)| self.groups.get(group)) {
            for (&turn, index) in &ring.turns {
                let jobs = ring.jobs.get(index).into_iter().flatten().map(|(&order, &key)| (order, key));
                by_client.entry(turn).or_default().extend(jobs);
            }
        }
        let mut rounds = Vec::with_capacity(self.len);
        for (turn, mut jobs) in by_client {
            jobs.sort_unstable();
            rounds.extend(jobs.into_iter().enumerate().map(|(round, job)| ((round, turn), job)));
        }
        rounds.sort_unstable_by_key(|&(turn, _)| turn);
        rounds.into_iter().map(|(_, job)| job).collect()
    }

    fn take_turn(&mut self, index: usize, turn: Turn) {
        let client = &mut self.clients[index];
        let before = std::mem::replace(&mut client.turn, turn);
        for group in client.groups.clone() {
            if let Some(ring) = self.groups.get_mut(&group) {
                ring.turns.remove(&before);
                ring.turns.insert(turn, index);
            }
            self.enter(group);
        }
    }

    /// Enters a group anew among those that are not closed; an empty one is forgotten.
    fn enter(&mut self, group: Group) {
        let Some(ring) = self.groups.get_mut(&group) else { return };
        let first = ring.front(&self.clients).map(|(turn, _)| turn).zip(ring.ages.first().copied());
        let entry = first.filter(|_| ring.openness != Openness::Closed);
        if entry != ring.entered {
            if let Some((turn, order)) = ring.entered.take() {
                self.fronts.remove(&(turn, group));
                self.oldest.remove(&(order, group));
            }
            if let Some((turn, order)) = entry {
                self.fronts.insert((turn, group));
                self.oldest.insert((order, group));
            }
            ring.entered = entry;
        }
        if first.is_none() && ring.probed.is_empty() {
            self.groups.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(serial: u64) -> Order {
        Order { arrived: Moment::from_nanos(serial), serial }
    }

    fn turn(serial: u64) -> Turn {
        Turn { since: Moment::from_nanos(serial), serial }
    }

    /// Turns as one would write them without a thought for cost.
    #[derive(Default)]
    struct Naive {
        jobs: Vec<(Arc<str>, Group, u64)>,
        turns: Vec<(Arc<str>, u64)>,
        closed: BTreeSet<Group>,
    }

    impl Naive {
        fn insert(&mut self, client: &Arc<str>, group: Group, serial: u64) {
            if !self.turns.iter().any(|(name, _)| name == client) {
                self.turns.push((client.clone(), serial));
            }
            self.jobs.push((client.clone(), group, serial));
        }

        fn first(&self) -> Option<(Arc<str>, Group, u64)> {
            let turn =
                |client: &Arc<str>| self.turns.iter().find(|(name, _)| name == client).map(|(_, turn)| *turn);
            let open = self.jobs.iter().filter(|(_, group, _)| !self.closed.contains(group));
            open.min_by_key(|(client, _, serial)| (turn(client), *serial)).cloned()
        }

        fn remove(&mut self, client: &Arc<str>, serial: u64, served: Option<u64>) {
            self.jobs.retain(|job| job.2 != serial);
            let waits = self.jobs.iter().any(|(name, ..)| name == client);
            if !waits {
                self.turns.retain(|(name, _)| name != client);
            } else if let Some(turn) = served {
                self.turns.iter_mut().filter(|(name, _)| name == client).for_each(|entry| entry.1 = turn);
            }
        }
    }

    #[test]
    fn a_flood_waits_its_turn_behind_a_single_request() {
        let (hog, polite): (Arc<str>, Arc<str>) = ("hog".into(), "polite".into());
        let mut turns = Turns::default();
        for serial in 0..500 {
            turns.insert(&hog, 0, Openness::Open, order(serial), 0, turn(serial));
        }
        assert_eq!(turns.ahead_of_next(&polite, 0, Moment::from_nanos(500), Moment::from_nanos(500)), 1);
        turns.insert(&polite, 0, Openness::Open, order(500), 0, turn(500));
        turns.remove(&hog, 0, order(0), Some(turn(501)));
        assert_eq!(turns.front().unwrap().client, &polite);
    }

    #[test]
    fn a_closed_group_is_passed_over_and_its_clients_keep_their_turns() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut turns = Turns::default();
        for (serial, key, client, group) in [(1, 1, &a, 1), (2, 2, &b, 2), (3, 3, &a, 2)] {
            turns.insert(client, group, Openness::Open, order(serial), key, turn(serial));
        }
        turns.set_openness(1, Openness::Closed);
        assert_eq!(turns.front().unwrap().key, 3, "it is still a's turn, with its job of the other group");
        turns.remove(&a, 2, order(3), Some(turn(4)));
        turns.set_openness(1, Openness::Open);
        assert_eq!(turns.front().unwrap().key, 2, "a had its turn");
        assert_eq!((turns.total(), turns.open_len()), (2, 2));
    }

    #[test]
    fn probes_go_round_among_the_jobs_of_a_client() {
        let a: Arc<str> = "a".into();
        let mut turns = Turns::default();
        for (serial, key) in [(1, 1), (2, 2)] {
            turns.insert(&a, 1, Openness::Probe, order(serial), key, turn(serial));
        }
        assert_eq!(turns.front().unwrap().key, 1);
        turns.remove(&a, 1, order(1), Some(turn(3)));
        let refused = Order { serial: 4, ..order(1) };
        turns.insert(&a, 1, Openness::Probe, refused, 1, turn(4));
        assert_eq!(turns.front().unwrap().key, 2, "the other one has not been tried");
        turns.set_openness(1, Openness::Open);
        assert_eq!(turns.front().unwrap().key, 1, "the older one goes first when all may go");
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn turns_agree_with_a_naive_list(
            steps in prop::collection::vec((0u8..6, 0u8..5, 0usize..3), 1..300),
        ) {
            let mut turns = Turns::default();
            let mut naive = Naive::default();
            for (serial, (action, name, group)) in (1..).zip(steps) {
                let client: Arc<str> = format!("client {name}").into();
                let openness = |naive: &Naive| {
                    if naive.closed.contains(&group) { Openness::Closed } else { Openness::Open }
                };
                match action {
                    0..=2 => {
                        let key = usize::try_from(serial).unwrap();
                        turns.insert(&client, group, openness(&naive), order(serial), key, turn(serial));
                        naive.insert(&client, group, serial);
                    }
                    3 => {
                        let front = turns.front().map(|front| (front.client.clone(), front.order));
                        let expected = naive.first();
                        prop_assert_eq!(front.as_ref().map(|f| f.1.serial), expected.as_ref().map(|e| e.2));
                        if let Some((client, group, gone)) = expected {
                            turns.remove(&client, group, order(gone), Some(turn(serial)));
                            naive.remove(&client, gone, Some(serial));
                        }
                    }
                    4 => {
                        if let Some((client, group, gone)) = naive.jobs.get(usize::from(name)).cloned() {
                            prop_assert!(turns.remove(&client, group, order(gone), None));
                            naive.remove(&client, gone, None);
                        }
                    }
                    _ => {
                        if !naive.closed.remove(&group) { naive.closed.insert(group); }
                        turns.set_openness(group, openness(&naive));
                    }
                }
                let open = naive.jobs.iter().filter(|(_, group, _)| !naive.closed.contains(group)).count();
                prop_assert_eq!((turns.total(), turns.open_len()), (naive.jobs.len(), open));
                prop_assert_eq!(turns.in_order().len(), open);
                let oldest = naive.jobs.iter().filter(|(_, group, _)| !naive.closed.contains(group)).map(|job| job.2);
                prop_assert_eq!(turns.oldest().map(|order| order.serial), oldest.min());
            }
        }
    }
}
