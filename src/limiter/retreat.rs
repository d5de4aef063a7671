//! The retreat and the recovery (AIMD: multiplicative decrease, additive increase): a lower rate while the upstream refuses, and
//! the way back.
//!
//! | state | rule |
//! |---|---|
//! | NORMAL | base rate; share of refusals over `window` ≥ `threshold` → RETREAT |
//! | RETREAT | on entry rate × `factor`; share ≥ 2 × `threshold` → × `factor` again; > 4 × `threshold` → the floor and an alert |
//! | RECOVER | upwards to the base rate, then NORMAL; share ≥ `threshold` → RETREAT |
//!
//! At most one step is taken in a `control_interval`, and a share is believed from `min_samples` answers on with at least
//! `MIN_REFUSALS` refusals among them. A step is judged by its own effect: answers from before it do not count for the next
//! one. So one 429 does not walk the rate to the floor.
//!
//! The way back has two modes. `specified`: after `recover_window` without a change and with a share below
//! `recover_threshold`, `recover_increment_rpm` a step. `learned` measures what the upstream grants instead: see [`Climb`].

use std::time::Duration;

use super::climb::Climb;
use super::rate::Rpm;
use super::share::{Sample, Share};
use super::snapshot::{RetreatState, RetreatStats};
use crate::clock::Moment;
use crate::config::limiter::{Adaptive, RetreatSettings};

/// A share is not believed from a single refusal, however few the answers are.
const MIN_REFUSALS: u32 = 2;
/// A control interval of zero would be a busy loop.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The rate, and what the answers of the upstream do to it.
#[derive(Clone, Debug)]
pub struct Retreat {
    settings: RetreatSettings,
    adaptive: Adaptive,
    base: Rpm,
    effective: Rpm,
    state: RetreatState,
    share: Share,
    /// Answers from before do not count for the next step down.
    judged_from: Moment,
    changed_at: Moment,
    stepped_at: Moment,
    climb: Climb,
}

/// A change of the state or the rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The state before.
    pub from: RetreatState,
    /// The state now.
    pub to: RetreatState,
    /// The rate now.
    pub effective: Rpm,
    /// The share of refusals that led to it.
    pub share: f64,
    /// Whether the rate is lower than before.
    pub lowered: bool,
    /// Whether the rate fell to the floor just now.
    pub floor: bool,
}

impl Retreat {
    /// At the base rate.
    #[must_use]
    pub fn new(settings: RetreatSettings, adaptive: Adaptive, base: Rpm, now: Moment) -> Retreat {
        let share = Share::new(settings.window.max(settings.recover_window));
        Retreat {
            settings,
            adaptive,
            base,
            effective: base,
            state: RetreatState::Normal,
            share,
            judged_from: Moment::ZERO,
            changed_at: now,
            stepped_at: Moment::ZERO,
            climb: Climb::default(),
        }
    }

    /// The rate now.
    #[must_use]
    pub fn effective(&self) -> Rpm {
        self.effective
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> RetreatState {
        self.state
    }

    /// How many refusals were counted in the last `span`.
    #[must_use]
    pub fn refused_within(&self, span: Duration, now: Moment) -> u32 {
        self.share.over(span, Moment::ZERO, now).refused
    }

    /// The figures for status and metrics.
    #[must_use]
    pub fn stats(&self, now: Moment) -> RetreatStats {
        RetreatStats {
            state: self.state,
            effective_rpm: self.effective.per_minute(),
            base_rpm: self.base.per_minute(),
            upstream_429_rate: self.share.over(self.settings.window, Moment::ZERO, now).share(),
            learned_rpm: self.climb.granted().map(Rpm::per_minute),
        }
    }

    /// An answer of the upstream that tells something about the key.
    pub fn observe(&mut self, sample: Sample, now: Moment) -> Option<Change> {
        self.share.add(sample.refused, now);
        if !sample.refused {
            self.climb.succeeded(sample);
            return None;
        }
        match self.climb.refused(sample, now) {
            Some(rate) => Some(self.fall_back(rate, now)),
            None => self.judge(now),
        }
    }

    /// The window has no place to give; if jobs wait for one, the present rate is in use.
    pub fn filled_by(&mut self, jobs_wait: bool) {
        if jobs_wait {
            self.climb.filled();
        }
    }

    /// Takes the steps that time alone brings.
    pub fn control(&mut self, now: Moment) -> Option<Change> {
        if self.control_at().is_none_or(|due| now < due) {
            return None;
        }
        match (self.state, self.adaptive) {
            (RetreatState::Normal, _) => None,
            (RetreatState::Retreat, Adaptive::Specified) => {
                self.stepped_at = now;
                let share = self.share.over(self.settings.recover_window, Moment::ZERO, now).share();
                if share < self.settings.recover_threshold { self.recover(self.effective, now) } else { None }
            }
            (RetreatState::Retreat, Adaptive::Learned) => {
                let rate = self.climb.start(self.effective, now);
                self.recover(rate, now)
            }
            (RetreatState::Recover, Adaptive::Specified) => {
                self.rise(self.settings.recover_increment_rpm.into(), now)
            }
            (RetreatState::Recover, Adaptive::Learned) => {
                let step = self.climb.step(self.effective, self.settings.recover_increment_rpm.into());
                self.rise(step, now)
            }
        }
    }

    /// When [`control`](Retreat::control) has something to do.
    #[must_use]
    pub fn control_at(&self) -> Option<Moment> {
        let interval = self.settings.control_interval.max(SHORTEST_INTERVAL);
        let next_step = self.stepped_at + interval;
        match (self.state, self.adaptive) {
            (RetreatState::Normal, _) => None,
            (RetreatState::Retreat, Adaptive::Specified) => {
                Some(next_step.max(self.changed_at + self.settings.recover_window))
            }
            (RetreatState::Retreat, Adaptive::Learned) => Some(self.climb.calm_at(interval)),
            (RetreatState::Recover, Adaptive::Specified) => Some(next_step),
            (RetreatState::Recover, Adaptive::Learned) => {
                Some(next_step.max(self.climb.next_at(self.stepped_at, interval)))
            }
        }
    }

    /// A new base rate, or new figures. Above the base it may not stay; a rate that was at the base goes with it.
    pub fn reconfigure(&mut self, settings: &RetreatSettings, adaptive: Adaptive, base: Rpm, now: Moment) {
        if self.base != base || self.adaptive != adaptive {
            let at_base = self.state == RetreatState::Normal;
            self.effective = if at_base { base } else { self.effective.min(base) };
            self.base = base;
            self.adaptive = adaptive;
            self.climb.rearm(now);
        }
        if self.settings != *settings {
            self.settings = settings.clone();
            self.share = Share::new(settings.window.max(settings.recover_window));
        }
    }

    /// The operator's command: back to the base rate, refusals forgotten.
    pub fn reset(&mut self, now: Moment) -> Option<Change> {
        let share = self.share.over(self.settings.window, Moment::ZERO, now).share();
        self.share = Share::new(self.settings.window.max(self.settings.recover_window));
        self.climb = Climb::default();
        if self.state == RetreatState::Normal {
            return None;
        }
        Some(self.change(RetreatState::Normal, self.base, share, now))
    }

    /// One step down, if the share since the last one says so.
    fn judge(&mut self, now: Moment) -> Option<Change> {
        let tally = self.share.over(self.settings.window, self.judged_from, now);
        let too_soon = self.state != RetreatState::Normal
            && now < self.changed_at.max(self.stepped_at) + self.settings.control_interval;
        if too_soon || tally.answers < self.settings.min_samples || tally.refused < MIN_REFUSALS {
            return None;
        }
        let (share, threshold) = (tally.share(), self.settings.threshold);
        let needed = if self.state == RetreatState::Retreat { 2.0 * threshold } else { threshold };
        let floor = self.floor();
        if share < needed || self.effective <= floor {
            return None;
        }
        let lower =
            if share > 4.0 * threshold { floor } else { (self.effective * self.settings.factor).max(floor) };
        if self.state == RetreatState::Normal {
            self.climb.retreated(self.changed_at, now);
        }
        self.share.cut(now);
        self.judged_from = now;
        let mut change = self.change(RetreatState::Retreat, lower, share, now);
        change.floor = lower <= floor;
        Some(change)
    }

    fn recover(&mut self, rate: Rpm, now: Moment) -> Option<Change> {
        let share = self.share.over(self.settings.window, Moment::ZERO, now).share();
        self.share.cut(now);
        self.judged_from = now;
        Some(self.raise_to(rate, share, now))
    }

    fn rise(&mut self, step: f64, now: Moment) -> Option<Change> {
        let share = self.share.over(self.settings.window, self.judged_from, now).share();
        Some(self.raise_to(self.effective + step, share, now))
    }

    fn raise_to(&mut self, rate: Rpm, share: f64, now: Moment) -> Change {
        let to = if rate >= self.base { RetreatState::Normal } else { RetreatState::Recover };
        if to == RetreatState::Normal {
            self.climb.arrived();
        }
        self.change(to, rate.min(self.base).max(self.floor()), share, now)
    }

    /// A climb above what is granted was refused: the rate goes just under it.
    fn fall_back(&mut self, rate: Rpm, now: Moment) -> Change {
        let rate = rate.max(self.floor()).min(self.effective);
        let share = self.share.over(self.settings.window, self.judged_from, now).share();
        self.share.cut(now);
        self.judged_from = now;
        self.change(self.state, rate, share, now)
    }

    fn floor(&self) -> Rpm {
        Rpm::from(self.settings.min_rpm).min(self.base)
    }

    fn change(&mut self, to: RetreatState, effective: Rpm, share: f64, now: Moment) -> Change {
        let lowered = effective < self.effective;
        let change = Change { from: self.state, to, effective, share, lowered, floor: false };
        self.state = to;
        self.effective = effective;
        self.changed_at = now;
        self.stepped_at = now;
        change
    }
}

#[cfg(test)]
#[path = "retreat_tests.rs"]
mod tests;
