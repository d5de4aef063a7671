//! The gate: bucket, window, slots, holds, lanes and retreat as one decision, on a clock that is handed in.
//!
//! A shell owns it and does four things: [`offer`](Gate::offer) what arrives, [`report`](Gate::report) what became of each
//! ticket, call [`next`](Gate::next) until it says [`Next::Nothing`], and wait for input or [`ready_at`](Gate::ready_at). Each
//! call costs a few tree operations, whatever the depth, the rate and the uptime.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Candidate, Event, Next, Offered, Refused, Ticket};
use super::estimate::{Forecast, Pace};
use super::fairness::{Group, Key, Order};
use super::flight::{Flight, Lesson, Suspicion};
use super::hold::{Hold, Passage};
use super::lanes::{Lanes, Stand, Standing};
use super::model_quota::Rules;
use super::models::Models;
use super::quota::Quota;
use super::rate::Rpm;
use super::reserve::Reserve;
use super::retreat::{Change, Retreat};
use super::shared::Shared;
use super::store::{Place, Store, Waiting};
use crate::clock::Moment;
use crate::config::limiter::{QueueFullPolicy, RateScope, Settings};
use crate::priority::Priority;

/// How many events are kept for the shell.
const EVENTS: usize = 64;

/// More requests on their way than this cost a client no more turns.
const MOST_TURNS: u32 = 20;

/// After a hold a model's requests go at this part of the key's rate.
const EASING: f64 = 1.0;
/// After a hold, where the key has no rate: one request a second.
const EASING_WITHOUT_RATE: Rpm = Rpm::new(60.0);

/// Decides which request goes upstream next, and when. Generic over what waits.
#[derive(Clone, Debug)]
pub struct Gate<J> {
    pub(super) settings: Settings,
    pub(super) store: Store<J>,
    pub(super) lanes: Lanes,
    pub(super) models: Models,
    pub(super) key: Hold,
    /// The key's own quota; `None` where each model has one of its own, and where there is no rate.
    pub(super) quota: Option<Quota>,
    pub(super) retreat: Retreat,
    /// Where places come from when they are a fleet's.
    pub(super) shared: Option<Shared>,
    pub(super) flights: HashMap<u64, Flight>,
    /// How many requests of each client are on their way.
    in_flight_of: HashMap<Arc<str>, u32>,
    pub(super) suspicion: Option<Suspicion>,
    pub(super) lesson: Lesson,
    pub(super) forecast: Forecast,
    pub(super) pace: Pace,
    events: VecDeque<Event>,
    /// The LOW job that is next in line with nothing above it, and since when.
    low_next: Option<(Order, Moment)>,
    serial: u64,
    tickets: u64,
    pub(super) totals: Totals,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) enqueued: u64,
    pub(super) dequeued: u64,
    pub(super) dropped: u64,
    pub(super) overflowed: u64,
    pub(super) retreats: u64,
    pub(super) floors: u64,
}

/// Settings that cannot be taken over as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The queue holds more than the new bound.
    QueueTooDeep {
        /// Jobs in the queue now.
        depth: usize,
        /// The bound asked for.
        max_size: usize,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::QueueTooDeep { depth, max_size } => write!(
                f,
                "queue_max_size {max_size} is below the {depth} jobs that wait now; \
                 try again when fewer wait, or give a larger bound"
            ),
        }
    }
}

impl std::error::Error for Unfit {}

impl<J> Gate<J> {
    /// A gate with a full bucket and an empty window.
    #[must_use]
    pub fn new(settings: Settings, now: Moment) -> Gate<J> {
        let base = Rpm::from(settings.rate_rpm);
        Gate {
            store: Store::new(),
            lanes: Lanes::new(settings.queue.aging),
            models: Models::new(Rules::new(&settings), now),
            key: Hold::default(),
            quota: quota_of(&settings, base, now),
            retreat: Retreat::new(settings.retreat.clone(), settings.adaptive, base, now),
            shared: None,
            flights: HashMap::new(),
            in_flight_of: HashMap::new(),
            suspicion: None,
            lesson: Lesson::default(),
            forecast: Forecast::new(),
            pace: Pace::default(),
            events: VecDeque::new(),
            low_next: None,
            serial: 0,
            tickets: 0,
            totals: Totals::default(),
            settings,
        }
    }

    /// A request arrives. One that comes again has the time of its first arrival in [`Candidate::arrived`], and stands where
    /// it would stand had it waited from then on: within its client's jobs, in its client's turn, and risen as far.
    pub fn offer(&mut self, candidate: Candidate, job: J, now: Moment) -> Offered<J> {
        self.advance(now);
        if self.shared.as_ref().is_some_and(|shared| shared.sight.refuses) {
            return self.refuse(&candidate, job, Refused::FleetAway, now);
        }
        let bounds = &self.settings.queue;
        let mut displaced = None;
        let mut stand = Stand::Queued;
        if !self.store.has_room(candidate.bytes, bounds) {
            match bounds.full_policy {
                QueueFullPolicy::Passthrough if self.store.overflow_has_room(candidate.bytes, bounds) => {
                    stand = Stand::Overflow;
                }
                QueueFullPolicy::Passthrough | QueueFullPolicy::Reject => {
                    return self.refuse(&candidate, job, Refused::QueueFull, now);
                }
                QueueFullPolicy::DropLowest => {
                    let lowest = self.store.newest_of_lowest_below(candidate.priority);
                    let makes_room = |&key: &Key| self.store.would_have_room(key, candidate.bytes, bounds);
                    match lowest.filter(makes_room) {
                        Some(key) => displaced = Some(key),
                        None => return self.refuse(&candidate, job, Refused::QueueFull, now),
                    }
                }
            }
        }
        let outlook = self.outlook(&candidate, stand == Stand::Overflow, now);
        if now + outlook.eta > candidate.deadline {
            return self.refuse(&candidate, job, Refused::NoTicket, now);
        }
        let displaced = displaced.and_then(|key| self.take_out(key));
        let promise = Some(self.forecast.promise(outlook.position));
        let order = self.order(candidate.arrived);
        self.totals.enqueued += 1;
        let group = self.models.group_of(&candidate.model, now);
        let key =
            self.store.insert(Waiting { candidate, job, order, group, stand, place: Place::Lane, promise });
        self.line_up(key, now);
        self.note_low(now);
        if let Some(gone) = displaced {
            self.totals.dropped += 1;
            let outlook = self.outlook(&gone.candidate, false, now);
            return Offered::Displaced { job: gone.job, id: gone.candidate.id, outlook };
        }
        if stand == Stand::Overflow {
            self.totals.overflowed += 1;
            return Offered::Overflow;
        }
        Offered::Queued
    }

    /// What may happen at `now`. Call again until it says [`Next::Nothing`].
    pub fn next(&mut self, now: Moment) -> Next<J> {
        self.advance(now);
        if let Some(gone) = self.overdue(now).and_then(|key| self.take_out(key)) {
            self.totals.dropped += 1;
            self.settle(now);
            let outlook = self.outlook(&gone.candidate, false, now);
            return Next::Expired { job: gone.job, candidate: gone.candidate, outlook };
        }
        let may_send = self.has_slot() && !matches!(self.key.passage(now), Passage::Wait(_));
        let least_urgent = if !may_send {
            None
        } else if self.is_shared() {
            self.least_urgent_granted(now)
        } else if self.key_free_at(Priority::Low, now) <= now {
            Some(Priority::Low)
        } else {
            self.retreat.filled_by(!self.lanes.is_empty());
            (self.key_free_at(Priority::Urgent, now) <= now).then_some(Priority::Urgent)
        };
        if let Some(least_urgent) = least_urgent
            && let Some(pick) = self.lanes.pick(least_urgent, now)
            && self.may_take(pick.priority, now)
            && let Some(waiting) = self.serve(pick.key, now)
        {
            let ticket = self.grant(&waiting, now);
            self.settle(now);
            return Next::Release { job: waiting.job, candidate: waiting.candidate, ticket };
        }
        if let Some(shared) = &mut self.shared {
            shared.give_back_rest();
        }
        if may_send && let Some(quota) = &mut self.quota {
            quota.waited_for(!self.lanes.is_empty(), now);
        }
        // A LOW job may have risen, and is not shed any more.
        self.note_low(now);
        Next::Nothing
    }

    /// The next moment at which [`next`](Gate::next) can do something without new input; `None` if there is none.
    #[must_use]
    pub fn ready_at(&self, now: Moment) -> Option<Moment> {
        let low = self.low_next.map(|(_, since)| since + self.settings.queue.low_priority_timeout);
        let moments = [
            self.store.first_deadline().map(|(at, _)| at),
            self.store.first_delayed().map(|(at, _)| at),
            low,
            self.models.wake().map(|(at, _)| at),
            self.retreat.control_at(),
            self.ticket_at(now),
        ];
        moments.into_iter().flatten().min().map(|at| at.max(now))
    }

    /// A request that was refused, or that could not be sent, comes back with its first time of arrival: to the head of its
    /// client's jobs, and of its priority if it is its client's turn; not to be sent before `not_before`.
    ///
    /// It never finds the queue full: what is on its way is bounded by `max_in_flight`.
    pub fn give_back(&mut self, candidate: Candidate, job: J, now: Moment, not_before: Option<Moment>) {
        self.advance(now);
        let order = self.order(candidate.arrived);
        let group = self.models.group_of(&candidate.model, now);
        let (stand, place, promise) = (Stand::Queued, Place::Lane, None);
        let key = self.store.insert(Waiting { candidate, job, order, group, stand, place, promise });
        match not_before.filter(|&at| at > now) {
            Some(at) => self.store.set_place(key, Place::Delayed(at)),
            None => self.line_up(key, now),
        }
        self.note_low(now);
    }

    /// The client of a waiting job hung up.
    pub fn cancel(&mut self, id: u64, now: Moment) -> Option<J> {
        let gone = self.store.key_of(id).and_then(|key| self.take_out(key))?;
        self.advance(now);
        self.settle(now);
        Some(gone.job)
    }

    /// New settings. A changed rate is the new base of the retreat; the length of the window stays what it was.
    ///
    /// # Errors
    /// When the queue holds more jobs than a smaller bound allows; nothing is changed then.
    pub fn reconfigure(&mut self, settings: Settings, now: Moment) -> Result<(), Unfit> {
        let (depth, max_size) = (self.store.queued_len(), settings.queue.max_size);
        if max_size < self.settings.queue.max_size && depth > max_size {
            return Err(Unfit::QueueTooDeep { depth, max_size });
        }
        self.advance(now);
        let base = Rpm::from(settings.rate_rpm);
        self.retreat.reconfigure(&settings.retreat, settings.adaptive, base, now);
        self.lanes.set_aging(settings.queue.aging);
        let settings = Settings { window: self.settings.window, ..settings };
        let before = self.quota.take();
        self.quota = quota_of(&settings, base, now);
        if let (Some(quota), Some(mut before)) = (&mut self.quota, before) {
            before.reconfigure(settings.bucket_capacity, Reserve::new(settings.urgent_reserve), now);
            *quota = before;
        }
        self.models.set_rules(Rules::new(&settings), now);
        self.settings = settings;
        self.follow_rate(now);
        self.look_at_all(now);
        self.settle(now);
        Ok(())
    }

    /// The operator's command: back to the base rate, holds forgotten.
    pub fn reset_to_base(&mut self, now: Moment) {
        self.advance(now);
        let change = self.retreat.reset(now);
        self.changed(change, now);
        self.key = Hold::default();
        self.suspicion = None;
        self.models.forget_refusals();
        self.look_at_all(now);
        self.settle(now);
    }

    /// All waiting jobs, for a shutdown, in no particular order.
    pub fn drain_all(&mut self) -> Vec<(Candidate, J)> {
        self.lanes = Lanes::new(self.settings.queue.aging);
        self.low_next = None;
        self.store.drain()
    }

    /// What the window remembers from before a restart: how long ago how many requests were sent, oldest first.
    ///
    /// Ages and not moments, because a [`Moment`] cannot lie before the start of the process.
    pub fn restore_window(&mut self, sent: impl IntoIterator<Item = (Duration, u32)>, now: Moment) {
        if let Some(quota) = &mut self.quota {
            quota.window_mut().restore(sent, now);
        }
    }

    /// How long ago how many requests were sent within the window, oldest first, for a state file; tickets that are
    /// granted and not yet sent stand with the age of their grant.
    #[must_use]
    pub fn window_ages(&self, now: Moment) -> Vec<(Duration, u32)> {
        self.quota.as_ref().map_or_else(Vec::new, |quota| quota.window().ages(now))
    }

    /// What the log and the metrics should hear of, since the last call; beyond 64 the oldest are dropped.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    /// Requests on their way: tickets that are not [`done`](Gate::done).
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Waiting jobs, whether in the queue, behind it or behind a hold.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.store.len()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Does what time alone brings: steps of the rate, ends of holds and delays.
    pub(super) fn advance(&mut self, now: Moment) {
        if let Some(quota) = &mut self.quota {
            quota.advance(now);
        }
        let change = self.retreat.control(now);
        self.changed(change, now);
        let mut moved = self.key.presume(now);
        while let Some((_, key)) = self.store.first_delayed().filter(|&(at, _)| at <= now) {
            self.line_up(key, now);
            moved = true;
        }
        while let Some((_, group)) = self.models.wake().filter(|&(at, _)| at <= now) {
            self.end_probing(group, now);
            self.look_at(group, now);
            moved = true;
        }
        if moved {
            self.settle(now);
        }
    }

    /// Puts a waiting job into its lane.
    pub(super) fn line_up(&mut self, key: Key, now: Moment) {
        let Some(waiting) = self.store.get(key) else { return };
        let (group, stand) = (waiting.group, waiting.stand);
        let since = self.turn_since(&waiting.candidate.client, waiting.order.arrived);
        self.lanes.insert(standing(waiting), key, stand, since);
        self.store.set_place(key, Place::Lane);
        if let Some(model) = self.models.get_mut(group) {
            model.waiting += 1;
        }
        self.look_at(group, now);
    }

    /// Takes a job out that gets no ticket.
    pub(super) fn take_out(&mut self, key: Key) -> Option<Waiting<J>> {
        let waiting = self.store.remove(key)?;
        if waiting.place == Place::Lane {
            self.lanes.remove(standing(&waiting));
            self.left_lane(waiting.group);
        }
        Some(waiting)
    }

    fn left_lane(&mut self, group: Group) {
        if let Some(model) = self.models.get_mut(group) {
            model.waiting -= 1;
        }
    }

    /// Opens or closes a model's group as its hold and its quota are now.
    pub(super) fn look_at(&mut self, group: Group, now: Moment) {
        if let Some(access) = self.models.look(group, self.easing_rate(), now) {
            self.lanes.set_access(group, access);
        }
    }

    fn look_at_all(&mut self, now: Moment) {
        let groups: Vec<Group> = self.models.iter().map(|(group, _)| group).collect();
        for group in groups {
            self.look_at(group, now);
        }
    }

    /// Since when a client waits for its turn that has something to send since then: each request that it has on its way
    /// already counts as a turn, as long as an interval of the rate.
    pub(super) fn turn_since(&self, client: &Arc<str>, since: Moment) -> Moment {
        match self.in_flight_of.get(client) {
            Some(&in_flight) => since + self.interval() * in_flight.min(MOST_TURNS),
            None => since,
        }
    }

    /// How far apart tickets are on average.
    pub(super) fn interval(&self) -> Duration {
        if self.settings.rate_rpm > 0 {
            self.retreat.effective().time_for(1.0)
        } else {
            self.pace.time_for(1)
        }
    }

    /// How fast a model's requests go after a hold.
    pub(super) fn easing_rate(&self) -> Rpm {
        if self.settings.rate_rpm > 0 { self.retreat.effective() * EASING } else { EASING_WITHOUT_RATE }
    }

    /// When the key's quota lets a request of this priority go.
    fn key_free_at(&self, priority: Priority, now: Moment) -> Moment {
        self.quota.as_ref().map_or(now, |quota| quota.free_at(priority, now))
    }

    /// What follows when jobs left or moved: the overflow moves up, another LOW job may be next in line.
    pub(super) fn settle(&mut self, now: Moment) {
        while let Some(key) = self.lanes.first_overflowing() {
            let Some(waiting) = self.store.get(key) else { break };
            let candidate = &waiting.candidate;
            if !self.store.has_room(candidate.bytes, &self.settings.queue) {
                break;
            }
            let since = self.turn_since(&candidate.client, waiting.order.arrived);
            self.lanes.remove(standing(waiting));
            self.lanes.insert(standing(waiting), key, Stand::Queued, since);
            self.store.admit(key);
        }
        self.note_low(now);
    }

    /// Takes a change of the rate over and tells of it.
    pub(super) fn changed(&mut self, change: Option<Change>, now: Moment) {
        let Some(change) = change else { return };
        self.totals.retreats += u64::from(change.lowered);
        self.totals.floors += u64::from(change.floor);
        self.follow_rate(now);
        let (effective_rpm, share) = (change.effective.per_minute(), change.share);
        self.tell(Event::Rate { from: change.from, to: change.to, effective_rpm, share });
        if change.floor {
            self.tell(Event::Floor { effective_rpm, share });
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn follow_rate(&mut self, now: Moment) {
        let effective = self.retreat.effective();
        if let Some(quota) = &mut self.quota {
            quota.set_rate(effective, now);
        }
    }

    /// The job that must go without a ticket: its time is up, or it is LOW and no ticket came for too long.
    fn overdue(&self, now: Moment) -> Option<Key> {
        let late = self.store.first_deadline().filter(|&(at, _)| at <= now).map(|(_, key)| key);
        late.or_else(|| {
            let (_, since) = self.low_next?;
            let pick = self.lanes.pick(Priority::Low, now)?;
            (pick.sheddable && since + self.settings.queue.low_priority_timeout <= now).then_some(pick.key)
        })
    }

    /// Takes the picked job out with its ticket.
    fn serve(&mut self, key: Key, now: Moment) -> Option<Waiting<J>> {
        let waiting = self.store.remove(key)?;
        let since = self.turn_since(&waiting.candidate.client, now);
        self.lanes.serve(standing(&waiting), since);
        self.left_lane(waiting.group);
        Some(waiting)
    }

    fn grant(&mut self, waiting: &Waiting<J>, now: Moment) -> Ticket {
        self.tickets += 1;
        let candidate = &waiting.candidate;
        let urgent = candidate.priority == Priority::Urgent;
        let must_send_by = self.shared.as_mut().and_then(|shared| shared.take(self.tickets, urgent, now));
        let ticket = Ticket { id: self.tickets, granted_at: now, must_send_by };
        if waiting.promise.is_some() {
            self.totals.dequeued += 1;
        }
        self.forecast.granted(candidate.priority, waiting.promise);
        if let Some(quota) = &mut self.quota {
            quota.take(ticket);
        }
        *self.in_flight_of.entry(candidate.client.clone()).or_default() += 1;
        self.take_off(ticket, waiting, now);
        ticket
    }

    fn refuse(&mut self, candidate: &Candidate, job: J, reason: Refused, now: Moment) -> Offered<J> {
        self.totals.dropped += 1;
        let outlook = self.outlook(candidate, false, now);
        Offered::Refused { job, reason, outlook }
    }

    /// When the next ticket can be granted, if somebody stands in line and a slot is free.
    fn ticket_at(&self, now: Moment) -> Option<Moment> {
        // A fleet's grant comes by itself.
        if self.lanes.is_empty() || !self.has_slot() || self.is_shared() {
            return None;
        }
        let key = match self.key.passage(now) {
            Passage::Wait(until) => until,
            Passage::Free | Passage::Probe => now,
        };
        let first_of = |urgent: bool| if urgent { Priority::Urgent } else { Priority::Low };
        Some(self.key_free_at(first_of(self.lanes.has_urgent()), now).max(key))
    }

    /// A request of this client is over.
    pub(super) fn landed(&mut self, client: &Arc<str>) {
        if let Some(in_flight) = self.in_flight_of.get_mut(client) {
            *in_flight -= 1;
            if *in_flight == 0 {
                self.in_flight_of.remove(client);
            }
        }
    }

    pub(super) fn has_slot(&self) -> bool {
        self.flights.len() < self.settings.max_in_flight as usize
    }

    fn order(&mut self, arrived: Moment) -> Order {
        self.serial += 1;
        Order { arrived, serial: self.serial }
    }

    /// Whether tickets come so slowly that background work is to be shed: because of a pause, for want of a slot, or since even
    /// evenly spread they are further apart than LOW waits. Not because a burst has just used the window.
    fn is_slow(&self, now: Moment) -> bool {
        !self.has_slot()
            || matches!(self.key.passage(now), Passage::Wait(_))
            || self.interval() > self.settings.queue.low_priority_timeout
    }

    /// Notes which LOW job is next in line with nothing above it, and keeps since when if it still is the same.
    pub(super) fn note_low(&mut self, now: Moment) {
        let behind = self.shared.as_ref().is_some_and(|shared| shared.sight.behind);
        let next = if self.lanes.only_low() && self.is_slow(now) && !behind {
            self.lanes.pick(Priority::Low, now)
        } else {
            None
        };
        let order =
            next.filter(|pick| pick.sheddable).and_then(|pick| self.store.get(pick.key)).map(|w| w.order);
        self.low_next = match (order, self.low_next) {
            (Some(order), Some((before, since))) if order == before => Some((order, since)),
            (Some(order), _) => Some((order, now)),
            (None, _) => None,
        };
    }
}

/// The key's own quota, where it has one.
fn quota_of(settings: &Settings, rate: Rpm, now: Moment) -> Option<Quota> {
    let has_one = settings.rate_scope == RateScope::Key && settings.rate_rpm > 0;
    let reserve = Reserve::new(settings.urgent_reserve);
    has_one.then(|| Quota::new(settings.window, rate, settings.bucket_capacity, reserve, now))
}

pub(super) fn standing<J>(waiting: &Waiting<J>) -> Standing<'_> {
    let candidate = &waiting.candidate;
    let (priority, client) = (candidate.priority, &candidate.client);
    Standing { priority, client, group: waiting.group, order: waiting.order }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
