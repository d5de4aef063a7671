//! The limiter's end of its fleet: what it says to the thread that talks to Redis, and hears from it.

use super::member::Terms;
use crate::clock::Moment;
use crate::limiter::gate::Gate;
use crate::limiter::shared::{Claim, Grant, Sight, Use};
use crossbeam_channel::{Receiver, Sender, TryRecvError, never};
use std::time::Duration;

/// What the common window is longer than a sidecar's own: clocks of different hosts drift, and Redis' has whole milliseconds.
const MARGIN: Duration = Duration::from_millis(50);

/// What the limiter says.
#[derive(Debug)]
pub enum Note {
    /// Its best waiting request; said again after each grant.
    Claim(Option<Claim>),
    /// What became of grants.
    Used(Vec<Use>),
    /// Other terms.
    Terms(Terms),
}

/// What the limiter hears.
#[derive(Debug)]
pub enum Word {
    /// A place.
    Granted(Grant),
    /// How things stand.
    Sight(Sight),
}

/// The limiter's end.
pub struct Fleet {
    notes: Sender<Note>,
    words: Receiver<Word>,
    terms: Terms,
    claimed: Option<Claim>,
    /// A grant has used up the claim.
    claim_is_spent: bool,
}

impl Fleet {
    pub(super) fn new(notes: Sender<Note>, words: Receiver<Word>, terms: Terms) -> Fleet {
        Fleet { notes, words, terms, claimed: None, claim_is_spent: false }
    }

    /// What is heard; to be waited for.
    #[must_use]
    pub fn words(&self) -> &Receiver<Word> {
        &self.words
    }

    /// Passes on to the gate what was heard; tells whether there was anything.
    pub fn listen<J>(&mut self, gate: &mut Gate<J>, now: Moment) -> bool {
        let mut heard = false;
        loop {
            let word = match self.words.try_recv() {
                Ok(word) => word,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.words = never();
                    break;
                }
            };
            heard = true;
            match word {
                Word::Granted(grant) => {
                    self.claim_is_spent = true;
                    gate.granted(grant);
                }
                Word::Sight(sight) => gate.see_fleet(sight, now),
            }
        }
        heard
    }

    /// Says what the gate has done and wants now.
    pub fn speak<J>(&mut self, gate: &mut Gate<J>, now: Moment) {
        let uses = gate.take_uses();
        if !uses.is_empty() {
            self.say(Note::Used(uses));
        }
        let terms = terms(gate, &self.terms, now);
        if terms != self.terms {
            self.terms = terms.clone();
            self.say(Note::Terms(terms));
        }
        let claim = gate.claim(now);
        if claim != self.claimed || (self.claim_is_spent && claim.is_some()) {
            self.claimed.clone_from(&claim);
            self.say(Note::Claim(claim));
        }
        self.claim_is_spent = false;
    }

    fn say(&self, note: Note) {
        // The thread ends after the limiter, or has panicked: then no grant comes any more.
        let _ = self.notes.send(note);
    }
}

/// The gate's rate as terms of the common window, beside what does not change while it runs.
#[must_use]
pub fn terms<J>(gate: &Gate<J>, fixed: &Terms, now: Moment) -> Terms {
    let Some(own) = gate.common_window(now) else { return fixed.clone() };
    Terms {
        limit: own.limit,
        window: own.length + MARGIN,
        burst: own.burst,
        reserve: own.reserve,
        fleet_max: fixed.fleet_max,
        sharers: fixed.sharers,
        share: own.base.checked_div(fixed.sharers).unwrap_or(0),
    }
}
