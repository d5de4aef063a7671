//! What the gate learns from what became of its tickets.
//!
//! - Each answer counts for its model; a refusal holds the model ([`hold`](super::hold)): its jobs keep their places and wait.
//! - Plain 429s of two models with no success between them are the key's: all tickets pause.
//! - Refusals that are not a model's own ([`models`](super::models)) and all successes are the retreat's samples.
//! - An isolated refusal at the edge of a window that was not over its limit is uneven travel ([`window`](super::window)).

use std::time::Duration;

use super::admission::{Event, Report, Scope, Ticket, Verdict};
use super::fairness::Group;
use super::flight::{Flight, Suspicion};
use super::gate::Gate;
use super::hold::Passage;
use super::models::REST;
use super::quota::Quota;
use super::share::Sample;
use super::snapshot::RetreatState;
use super::store::Waiting;
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
            Report::Sent { at } => self.sent(ticket, at.min(now), now),
            Report::Unsent => self.unsent(ticket, now),
            Report::Answered { sent_at, answered_at, verdict } => {
                let sent_at = sent_at.min(now);
                self.sent(ticket, sent_at, now);
                let Some(flight) = self.flights.get_mut(&ticket.id).filter(|flight| !flight.answered) else {
                    return;
                };
                flight.answered = true;
                let group = flight.group;
                let answer = Answer { sent_at, round_trip: answered_at.since(sent_at), now };
                match verdict {
                    Verdict::Success => self.succeeded(group, &answer),
                    Verdict::Refused { scope, retry_after } => {
                        self.refused(group, scope, retry_after, &answer);
                    }
                    Verdict::Ignored => self.probe_lost(group, ticket.id, now),
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
            self.stamp(ticket, flight.group, now);
        }
        self.landed(&flight.client);
        if let Some(model) = self.models.get_mut(flight.group) {
            model.quota.done();
        }
        if flight.answered {
            self.look_at(flight.group, now);
        } else {
            self.probe_lost(flight.group, ticket.id, now);
        }
        self.note_low(now);
    }

    /// A ticket goes out.
    pub(super) fn take_off(&mut self, ticket: Ticket, waiting: &Waiting<J>, now: Moment) {
        if self.key.passage(now) == Passage::Probe {
            self.key.probe(ticket.id, now);
        }
        let group = waiting.group;
        if let Some(model) = self.models.get_mut(group) {
            if model.hold.passage(now) == Passage::Probe {
                model.hold.probe(ticket.id, now);
            }
            model.quota.take(ticket);
        }
        self.look_at(group, now);
        let client = waiting.candidate.client.clone();
        self.flights.insert(ticket.id, Flight { client, group, sent_at: None, answered: false });
    }

    /// A probe that was not refused for long enough was taken: its model is open again.
    pub(super) fn end_probing(&mut self, group: Group, now: Moment) {
        if self.models.get_mut(group).is_some_and(|model| model.hold.presume(now)) {
            self.freed(group, now);
        }
    }

    fn stamp(&mut self, ticket: Ticket, group: Group, at: Moment) {
        if let Some(shared) = &mut self.shared {
            shared.sent(ticket.id, at);
        }
        if let Some(quota) = &mut self.quota {
            quota.sent(ticket, at);
        }
        if let Some(model) = self.models.get_mut(group) {
            model.quota.sent(ticket, at);
        }
    }

    fn sent(&mut self, ticket: Ticket, at: Moment, now: Moment) {
        let Some(flight) = self.flights.get_mut(&ticket.id).filter(|flight| flight.sent_at.is_none()) else {
            return;
        };
        flight.sent_at = Some(at);
        let group = flight.group;
        self.stamp(ticket, group, at);
        self.key.probe_sent(ticket.id, at);
        if let Some(model) = self.models.get_mut(group) {
            model.hold.probe_sent(ticket.id, at);
        }
        self.look_at(group, now);
    }

    fn unsent(&mut self, ticket: Ticket, now: Moment) {
        let Some(flight) = self.flights.get_mut(&ticket.id).filter(|flight| flight.sent_at.is_none()) else {
            return;
        };
        flight.sent_at = Some(now);
        flight.answered = true;
        if let Some(shared) = &mut self.shared {
            shared.unsent(ticket.id);
        }
        let group = flight.group;
        if let Some(quota) = &mut self.quota {
            quota.give_back(ticket);
        }
        if let Some(model) = self.models.get_mut(group) {
            model.quota.give_back(ticket);
        }
        self.probe_lost(group, ticket.id, now);
    }

    fn probe_lost(&mut self, group: Group, ticket: u64, now: Moment) {
        self.key.probe_lost(ticket, now);
        if let Some(model) = self.models.get_mut(group) {
            model.hold.probe_lost(ticket, now);
        }
        self.look_at(group, now);
    }

    fn succeeded(&mut self, group: Group, answer: &Answer) {
        let now = answer.now;
        let freed = self.models.get_mut(group).is_some_and(|model| {
            model.count(false, now);
            model.hold.succeeded(answer.sent_at)
        });
        if freed {
            self.freed(group, now);
        }
        self.key.succeeded(answer.sent_at);
        if self.suspicion.as_ref().is_some_and(|suspicion| answer.sent_at > suspicion.sent_at) {
            self.suspicion = None;
        }
        if let Some((_, round_trip)) = self.lesson.pending.filter(|&(heard, _)| answer.sent_at >= heard) {
            self.lesson.pending = None;
            if let Some(quota) = &mut self.quota {
                self.lesson.learned = Some((now, quota.window().travel()));
                quota.window_mut().learn_travel(round_trip, now);
            }
        }
        self.sample(false, answer);
    }

    fn refused(&mut self, group: Group, scope: Scope, retry_after: Option<Duration>, answer: &Answer) {
        let (now, cap) = (answer.now, self.settings.retry_after_cap);
        let mut first_in_row = true;
        if group != REST
            && let Some(model) = self.models.get_mut(group)
        {
            model.count(true, now);
            let until = model.hold.refused(answer.sent_at, retry_after, cap, now);
            first_in_row = model.hold.refusals() <= 1;
            if let Some(until) = until {
                let model = model.name.clone();
                self.tell(Event::Held { model, until });
                self.look_at(group, now);
            }
        }
        // Where each model has a quota of its own, no refusal says anything about the others.
        if scope == Scope::Model || self.quota.is_none() {
            return;
        }
        let two_models = self.suspicion.as_ref().is_some_and(|suspicion| suspicion.group != group);
        if two_models && let Some(until) = self.key.refused(answer.sent_at, retry_after, cap, now) {
            self.tell(Event::KeyPaused { until });
        }
        self.suspicion = Some(Suspicion { group, sent_at: answer.sent_at });
        if self.models.refusals_are_its_own(group, now) {
            return;
        }
        self.suspect_travel(first_in_row && !two_models, answer);
        self.sample(true, answer);
    }

    /// A refusal at the window's edge at the base rate may be uneven travel, unless the next try is refused too.
    fn suspect_travel(&mut self, isolated: bool, answer: &Answer) {
        let common = self.used_by_fleet();
        let Some(window) = self.quota.as_ref().map(Quota::window) else { return };
        let full = window.used(answer.now).max(common) as f64 >= f64::from(window.limit()) * EDGE;
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
        let common = self.used_by_fleet();
        let Some(quota) = &mut self.quota else { return };
        let sent = u32::try_from(quota.window().used(now).max(common)).unwrap_or(u32::MAX);
        let granted =
            sent.saturating_sub(self.retreat.refused_within(self.settings.window, now) + u32::from(refused));
        let was = self.retreat.state();
        let change = self.retreat.observe(Sample { refused, sent_at: answer.sent_at, granted }, now);
        if was == RetreatState::Normal && self.retreat.state() == RetreatState::Retreat {
            self.lesson.pending = None;
            if let Some((at, before)) = self.lesson.learned.take()
                && now.since(at) < LESSON_ON_TRIAL
            {
                quota.window_mut().restore_travel(before);
            }
        }
        self.changed(change, now);
    }

    /// A model's hold is over: its jobs go on, one by one for a while.
    fn freed(&mut self, group: Group, now: Moment) {
        let rate = self.easing_rate();
        let Some(model) = self.models.get_mut(group) else { return };
        if model.waiting > 0 {
            model.quota.ease(rate, now);
        }
        let model = model.name.clone();
        self.tell(Event::Freed { model });
        self.look_at(group, now);
    }
}
