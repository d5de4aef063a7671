//! The way back in mode `learned`: quickly to just under what the upstream was seen to grant, then gently above it.
//!
//! *What it grants* is measured: at a refusal it is at most the number of requests that were sent in the last minute and not
//! refused, and the lowest such number since the last success counts. An upstream that falls from 40 to 20 refuses until
//! its own window has drained, so the first measurement is too high; the next refusal corrects it. Too high costs a refusal,
//! too low would cost requests for as long as nobody notices.
//!
//! 1. After `CALM_UNKNOWN` without a refusal, or one control interval when a success shows that the upstream grants
//!    again, the rate goes just under what it grants.
//! 2. After a rest it climbs: one increment, then twice as much each time the window was filled at the new rate (a rolling
//!    window answers the question "do you grant one more?" at once), or after `UNUSED` if nobody asks for so much.
//! 3. A single refusal ends a climb: back to just under what is granted now, and the next rest is twice as long
//!    (at most `LONGEST_REST`), so that probing an upstream that stays where it is costs little.

use std::time::Duration;

use super::rate::Rpm;
use super::share::Sample;
use crate::clock::Moment;

/// Which part of the granted rate is used at least; it is all but one request a minute if that is more.
const JUST_UNDER: f64 = 0.95;
/// How long it must have been quiet when nothing tells whether the upstream grants again.
const CALM_UNKNOWN: Duration = Duration::from_secs(30);
/// The rest before the first climb.
const FIRST_REST: Duration = Duration::from_secs(60);
/// The longest rest between climbs, and how long the base rate must have held for the rests to start anew.
const LONGEST_REST: Duration = Duration::from_secs(180);
/// A refusal tells something about the rate if at least this part of it was in use.
const IN_USE: f64 = 0.75;
/// How long a step of the climb lasts when the rate is not used.
const UNUSED: Duration = Duration::from_secs(60);

/// What was learned about the rate that is granted, and the state of the climb.
#[derive(Clone, Debug)]
pub struct Climb {
    granted: Option<Rpm>,
    last_refusal: Moment,
    /// A success was seen since the last refusal.
    granted_again: bool,
    climbing: bool,
    /// The rate before the climb.
    started_from: Rpm,
    /// The window was filled at the present rate of the climb.
    filled: bool,
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
            started_from: Rpm::from(0),
            filled: false,
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
    ///
    /// It does not if far less was in use than the rate from which the climb started: then it says nothing about the rate.
    pub fn refused(&mut self, sample: Sample, now: Moment) -> Option<Rpm> {
        let seen = Rpm::from(sample.granted);
        let lowest_in_row =
            self.granted.filter(|_| !self.granted_again).map_or(seen, |granted| granted.min(seen));
        self.granted = Some(lowest_in_row);
        self.last_refusal = now;
        self.granted_again = false;
        if !self.climbing || seen < self.started_from * IN_USE {
            return None;
        }
        self.climbing = false;
        self.next_at = now + self.rest;
        self.rest = (self.rest * 2).min(LONGEST_REST);
        self.just_under()
    }

    /// A success: if it was sent after the last refusal, the upstream grants again.
    pub fn succeeded(&mut self, sample: Sample) {
        self.granted_again |= sample.sent_at >= self.last_refusal;
    }

    /// The window was filled: the present rate is in use.
    pub fn filled(&mut self) {
        self.filled = true;
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

    /// Starts upwards: gives the rate just under what is granted, or this one if far less was in use when that was measured.
    pub fn start(&mut self, rate: Rpm, now: Moment) -> Rpm {
        self.climbing = false;
        self.next_at = now + self.rest;
        match (self.granted, self.just_under()) {
            (Some(granted), Some(just_under)) if granted >= rate * IN_USE => just_under,
            _ => rate,
        }
    }

    /// When the next step of the climb is due, if the last one was taken at `stepped_at`.
    #[must_use]
    pub fn next_at(&self, stepped_at: Moment, control_interval: Duration) -> Moment {
        match (self.climbing, self.filled) {
            (false, _) => self.next_at,
            (true, true) => stepped_at + control_interval,
            (true, false) => stepped_at + UNUSED.max(control_interval),
        }
    }

    /// The next step, in requests a minute.
    pub fn step(&mut self, rate: Rpm, increment_rpm: f64) -> f64 {
        if self.climbing {
            self.stride *= 2.0;
        } else {
            self.stride = 1.0;
            self.started_from = rate;
        }
        self.climbing = true;
        self.filled = false;
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
        self.granted.map(|granted| (granted * JUST_UNDER).max(granted + -1.0))
    }
}
