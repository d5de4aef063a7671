//! The way back in mode `learned`: quickly to just under what the upstream was seen to grant, then gently above it.
//!
//! *What it grants* is measured: at a refusal, and again at the first success after refusals, it is the number of requests
//! that were sent in the last minute and not refused. An upstream that falls from 40 to 20 first refuses everything until
//! its own window has drained to 20, so the second measurement is the true one.
//!
//! 1. After [`CALM_UNKNOWN`] without a refusal, or one control interval when a success shows that the upstream grants
//!    again, the rate goes to [`JUST_UNDER`] of what it grants.
//! 2. After a rest it climbs: one increment, then twice as much each control interval, since a rolling window answers the
//!    question "do you grant one more?" at once.
//! 3. A single refusal ends a climb: back to just under what is granted now, and the next rest is twice as long
//!    (at most [`LONGEST_REST`]), so that probing an upstream that stays where it is costs little.

use std::time::Duration;

use super::rate::Rpm;
use super::retreat::Sample;
use crate::clock::Moment;

/// Which part of the granted rate is used.
const JUST_UNDER: f64 = 0.95;
/// How long it must have been quiet when nothing tells whether the upstream grants again.
const CALM_UNKNOWN: Duration = Duration::from_secs(30);
/// The rest before the first climb.
const FIRST_REST: Duration = Duration::from_secs(60);
/// The longest rest between climbs, and how long the base rate must have held for the rests to start anew.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// What was learned about the rate that is granted, and the state of the climb.
#[derive(Clone, Debug)]
pub struct Climb {
    granted: Option<Rpm>,
    last_refusal: Moment,
    /// A success was seen since the last refusal.
    granted_again: bool,
    climbing: bool,
    next_at: Moment,
    rest: Duration,
    /// The next step, in increments.
    stride: f64,
}

impl Default for Climb {
    fn default() -> Climb {
        Climb {
            granted: None,
            last_refusal: Moment::ZERO,
            granted_again: true,
            climbing: false,
            next_at: Moment::ZERO,
            rest: FIRST_REST,
            stride: 1.0,
        }
    }
}

impl Climb {
    /// The rate that was seen to be granted, if one was.
    #[must_use]
    pub fn granted(&self) -> Option<Rpm> {
        self.granted
    }

    /// A refusal. Gives the rate to fall back to if it ends a climb.
    pub fn refused(&mut self, sample: Sample, now: Moment) -> Option<Rpm> {
        self.last_refusal = now;
        self.granted_again = false;
        self.granted = Some(Rpm::from(sample.granted));
        if !self.climbing {
            return None;
        }
        self.climbing = false;
        self.next_at = now + self.rest;
        self.rest = (self.rest * 2).min(LONGEST_REST);
        self.just_under()
    }

    /// A success. Gives the rate just under what is granted if it is the first one after refusals.
    pub fn granted_again(&mut self, sample: Sample) -> Option<Rpm> {
        if self.granted_again || sample.sent_at < self.last_refusal {
            return None;
        }
        self.granted_again = true;
        self.granted = Some(Rpm::from(sample.granted));
        self.just_under()
    }

    /// The rate retreats from the base, at which it had been since `normal_since`.
    pub fn retreated(&mut self, normal_since: Moment, now: Moment) {
        if now.since(normal_since) > LONGEST_REST {
            self.rest = FIRST_REST;
        }
    }

    /// When it has been calm for long enough to start upwards.
    #[must_use]
    pub fn calm_at(&self, control_interval: Duration) -> Moment {
        self.last_refusal
            + if self.granted_again { control_interval } else { CALM_UNKNOWN.max(control_interval) }
    }

    /// Starts upwards: gives the rate just under what is granted.
    pub fn start(&mut self, now: Moment) -> Option<Rpm> {
        self.climbing = false;
        self.next_at = now + self.rest;
        self.just_under()
    }

    /// When the next step of the climb is due.
    #[must_use]
    pub fn next_at(&self) -> Moment {
        self.next_at
    }

    /// The next step, in requests a minute.
    pub fn step(&mut self, increment_rpm: f64) -> f64 {
        self.stride = if self.climbing { self.stride * 2.0 } else { 1.0 };
        self.climbing = true;
        self.stride * increment_rpm
    }

    /// The base rate is reached: nothing to climb to.
    pub fn arrived(&mut self) {
        self.climbing = false;
    }

    /// The base changed: the next climb starts now.
    pub fn rearm(&mut self, now: Moment) {
        self.next_at = self.next_at.min(now);
        self.rest = FIRST_REST;
    }

    fn just_under(&self) -> Option<Rpm> {
        self.granted.map(|granted| granted * JUST_UNDER)
    }
}
