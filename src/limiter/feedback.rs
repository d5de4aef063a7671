//! What the gate learns from what became of its tickets.
//!
//! - Each answer counts for its model; a refusal holds the model ([`hold`](super::hold)) and parks its jobs.
//! - Plain 429s of two models with no success between them are the key's: all tickets pause.
//! - Refusals that are not a model's own ([`models`](super::models)) and all successes are the retreat's samples.
//! - An isolated refusal at the edge of a window that was not over its limit is uneven travel ([`window`](super::window)).

use std::sync::Arc;
use std::time::Duration;

use super::admission::{Candidate, Event, Report, Scope, Ticket, Verdict};
use super::fairness::Key;
use super::flight::{Flight, Suspicion};
use super::gate::Gate;
use super::hold::Passage;
use super::models::Name;
use super::share::Sample;
use super::snapshot::RetreatState;
use super::store::{Place, Waiting};
use crate::clock::Moment;

/// A lesson about travel is taken back when the rate turns out to be the reason within this time.
const LESSON_ON_TRIAL: Duration = Duration::from_secs(60);
/// How full the window must be for a refusal to be one at its edge, as a part of the limit.
const EDGE: f64 = 0.9;

struct Answer {
    sent_at: Moment,
    round_trip: Duration,
    now: Moment,
}

impl<J> Gate<J> {
    /// What became of a ticket. Reports of unknown tickets are ignored.
    pub fn report(&mut self, ticket: Ticket, report: Report, now: Moment) {
        self.advance(now);
        match report {
            Report::Sent { at } => self.sent(ticket, at.min(now)),
            Report::Unsent => self.unsent(ticket, now),
            Report::Answered { sent_at, answered_at, verdict } => {
                let sent_at = sent_at.min(now);
                self.sent(ticket, sent_at);
                let Some(flight) = self.flights.get_mut(&ticket.id).filter(|flight| !flight.answered) else {
                    return;
                };
                flight.answered = true;
                let model = flight.model.clone();
                let answer = Answer { sent_at, round_trip: answered_at.since(sent_at), now };
                match verdict {
                    Verdict::Success => self.succeeded(&model, &answer),
                    Verdict::Refused { scope, retry_after } => {
                        self.refused(&model, scope, retry_after, &answer);
                    }
                    Verdict::Ignored => self.probe_lost(&model, ticket.id, now),
                }
            }
        }
        self.settle(now);
    }

    /// The ticket's slot is free again: the answer was relayed, or there will be none. The last word about a ticket.
    pub fn done(&mut self, ticket: Ticket, now: Moment) {
        self.advance(now);
        let full = !self.has_slot();
        let Some(flight) = self.flights.remove(&ticket.id) else { return };
        self.pace.freed(full, now);
        if flight.sent_at.is_none() {
            // Nothing was reported: it may have been sent until just now.
            self.quota.sent(ticket, now);
            if let Some(shared) = &mut self.shared {
                shared.sent(ticket.id, now);
            }
        }
        if !flight.answered {
            self.probe_lost(&flight.model, ticket.id, now);
        }
        self.note_low(now);
    }

    /// A ticket goes out.
    pub(super) fn take_off(&mut self, ticket: Ticket, candidate: &Candidate, now: Moment) {
        let model = candidate.model.clone();
        if self.key.passage(now) == Passage::Probe {
            self.key.probe(ticket.id, now);
        }
        if let Some(known) = self.models.get_mut(&model)
            && known.trying.take().is_some()
        {
            known.hold.probe(ticket.id, now);
            self.models.find_wake();
        }
        self.flights.insert(ticket.id, Flight { model, sent_at: None, answered: false });
    }

    /// A job left: if it was to be its model's probe, or was parked, the model forgets it.
    pub(super) fn forget_in_model(&mut self, key: Key, waiting: &Waiting<J>) {
        let candidate = &waiting.candidate;
        let Some(model) = self.models.get_mut(&candidate.model) else { return };
        let was_parked = model.parked.remove(&waiting.order.serial).is_some();
        let was_trying = model.trying == Some(key);
        if was_trying {
            model.trying = None;
        }
        if was_parked || was_trying {
            self.models.find_wake();
        }
    }

    /// A model's hold is over: one job may be its probe, or, if it is open again, all may go.
    pub(super) fn end_hold(&mut self, name: &Name, now: Moment) {
        let Some(model) = self.models.get_mut(name) else { return };
        if model.hold.presume(now) || model.passage(now) == Passage::Free {
            self.free(name, now);
        } else if model.passage(now) == Passage::Probe
            && let Some((_, key)) = model.parked.pop_first()
        {
            self.line_up(key, now);
        }
    }

    fn sent(&mut self, ticket: Ticket, at: Moment) {
        let Some(flight) = self.flights.get_mut(&ticket.id).filter(|flight| flight.sent_at.is_none()) else {
            return;
        };
        flight.sent_at = Some(at);
        self.quota.sent(ticket, at);
        if let Some(shared) = &mut self.shared {
            shared.sent(ticket.id, at);
        }
        self.key.probe_sent(ticket.id, at);
        if let Some(model) = self.models.get_mut(&flight.model) {
            model.hold.probe_sent(ticket.id, at);
            self.models.find_wake();
        }
    }

    fn unsent(&mut self, ticket: Ticket, now: Moment) {
        let Some(flight) = self.flights.get_mut(&ticket.id).filter(|flight| flight.sent_at.is_none()) else {
            return;
        };
        flight.sent_at = Some(now);
        flight.answered = true;
        let model = flight.model.clone();
        self.quota.give_back(ticket);
        if let Some(shared) = &mut self.shared {
            shared.unsent(ticket.id);
        }
        self.probe_lost(&model, ticket.id, now);
    }

    fn probe_lost(&mut self, model: &Name, ticket: u64, now: Moment) {
        self.key.probe_lost(ticket, now);
        if let Some(model) = self.models.get_mut(model) {
            model.hold.probe_lost(ticket, now);
            self.models.find_wake();
        }
    }

    fn succeeded(&mut self, name: &Name, answer: &Answer) {
        let now = answer.now;
        let freed = self.models.get_or_insert(name, now).is_some_and(|model| {
            model.count(false, now);
            model.hold.succeeded(answer.sent_at)
        });
        if freed {
            self.free(name, now);
        }
        self.key.succeeded(answer.sent_at);
        if self.suspicion.as_ref().is_some_and(|suspicion| answer.sent_at > suspicion.sent_at) {
            self.suspicion = None;
        }
        if let Some((_, round_trip)) = self.lesson.pending.filter(|&(heard, _)| answer.sent_at >= heard) {
            self.lesson.pending = None;
            self.lesson.learned = Some((now, self.quota.window().travel()));
            self.quota.window_mut().learn_travel(round_trip, now);
        }
        self.sample(false, answer);
    }

    fn refused(&mut self, name: &Name, scope: Scope, retry_after: Option<Duration>, answer: &Answer) {
        let (now, cap) = (answer.now, self.settings.retry_after_cap);
        let mut first_in_row = true;
        let mut until = None;
        if let Some(model) = self.models.get_or_insert(name, now) {
            model.count(true, now);
            until = model.hold.refused(answer.sent_at, retry_after, cap, now);
            first_in_row = model.hold.refusals() <= 1;
        }
        if let Some(until) = until {
            self.park(name, now);
            self.tell(Event::Held { model: name.clone(), until });
        }
        if scope == Scope::Model {
            return;
        }
        let two_models = self.suspicion.as_ref().is_some_and(|suspicion| suspicion.model != *name);
        if two_models && let Some(until) = self.key.refused(answer.sent_at, retry_after, cap, now) {
            self.tell(Event::KeyPaused { until });
        }
        self.suspicion = Some(Suspicion { model: name.clone(), sent_at: answer.sent_at });
        if self.models.refusals_are_its_own(name, now) {
            return;
        }
        self.suspect_travel(first_in_row && !two_models, answer);
        self.sample(true, answer);
    }

    /// A refusal at the window's edge at the base rate may be uneven travel, unless the next try is refused too.
    fn suspect_travel(&mut self, isolated: bool, answer: &Answer) {
        let window = self.quota.window();
        let full =
            window.used(answer.now).max(self.used_by_fleet()) as f64 >= f64::from(window.limit()) * EDGE;
        if !isolated {
            self.lesson.pending = None;
        } else if full && self.retreat.state() == RetreatState::Normal && self.lesson.pending.is_none() {
            self.lesson.pending = Some((answer.now, answer.round_trip));
        }
    }

    /// One answer that tells something about the key.
    fn sample(&mut self, refused: bool, answer: &Answer) {
        let now = answer.now;
        // What the others of a fleet have sent was granted as well.
        let sent = self.quota.window().used(now).max(self.used_by_fleet());
        let sent = u32::try_from(sent).unwrap_or(u32::MAX);
        let granted =
            sent.saturating_sub(self.retreat.refused_within(self.settings.window, now) + u32::from(refused));
        let was = self.retreat.state();
        let change = self.retreat.observe(Sample { refused, sent_at: answer.sent_at, granted }, now);
        if was == RetreatState::Normal && self.retreat.state() == RetreatState::Retreat {
            self.lesson.pending = None;
            if let Some((at, before)) = self.lesson.learned.take()
                && now.since(at) < LESSON_ON_TRIAL
            {
                self.quota.window_mut().restore_travel(before);
            }
        }
        self.changed(change, now);
    }

    /// Moves the model's jobs from the lanes behind its hold.
    fn park(&mut self, name: &Name, now: Moment) {
        let of_model =
            |waiting: &Waiting<J>| waiting.place == Place::Lane && same(&waiting.candidate.model, name);
        let keys: Vec<_> = self.store.iter().filter(|(_, w)| of_model(w)).map(|(key, _)| key).collect();
        if let Some(model) = self.models.get_mut(name) {
            model.trying = None;
        }
        for key in keys {
            let Some(waiting) = self.store.get(key) else { continue };
            self.lanes.remove(waiting.candidate.priority, &waiting.candidate.client, waiting.order);
            self.line_up(key, now);
        }
        self.models.find_wake();
    }

    /// Moves the jobs that are parked behind a model's hold into the lanes, in the order of their arrival.
    fn free(&mut self, name: &Name, now: Moment) {
        let Some(model) = self.models.get_mut(name) else { return };
        let mut parked: Vec<_> = std::mem::take(&mut model.parked).into_values().collect();
        parked.sort_unstable_by_key(|&key| self.store.get(key).map(|waiting| waiting.order));
        // They waited for the model: what the bucket gained meanwhile is no licence for a burst at it.
        if !parked.is_empty() {
            self.quota.forfeit_burst(now);
        }
        for key in parked {
            self.line_up(key, now);
        }
        self.models.find_wake();
        self.tell(Event::Freed { model: name.clone() });
    }
}

fn same(a: &Name, b: &Name) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
        (None, None) => true,
        _ => false,
    }
}
