//! The figures by which the rate goes down and comes back.

use std::time::Duration;

use super::key::Reload::Live;
use super::key::Variable::Own;
use super::key::{Keys, Row, Section, defaults};
use super::number::{Fraction, HOUR, MAX_RPM, Seconds, Whole};

/// The smallest share; a smaller one would make a rule always or never true.
const SMALLEST_SHARE: f64 = 0.0001;

/// The figures of the retreat; the configuration's `retreat_*` and `recover_*`.
#[derive(Clone, Debug, PartialEq)]
pub struct RetreatSettings {
    /// `retreat_window_seconds`: over how long the share of refusals is taken when deciding to retreat.
    pub window: Duration,
    /// `retreat_429_threshold`: the share of refusals (0 to 1) from which the rate retreats.
    pub threshold: f64,
    /// `retreat_factor`: what one step of the retreat multiplies the rate by (0 to 1).
    pub factor: f64,
    /// `retreat_min_rpm`, the floor: the rate never falls below it.
    pub min_rpm: u32,
    /// `recover_window_seconds`: how long it must have been quiet, and over how long the share is taken, before the rate
    /// recovers.
    pub recover_window: Duration,
    /// `recover_429_threshold`: the share of refusals (0 to 1) below which the rate recovers; at most `threshold`.
    pub recover_threshold: f64,
    /// `recover_increment_rpm`: requests a minute that one step of the recovery adds.
    pub recover_increment_rpm: u32,
    /// At most one step of the rate is taken in this time; not configurable.
    pub control_interval: Duration,
    /// From how many answers on a share is believed; not configurable.
    pub min_samples: u32,
}

impl Default for RetreatSettings {
    fn default() -> RetreatSettings {
        defaults()
    }
}

impl Section for RetreatSettings {
    fn build(keys: &mut impl Keys<RetreatSettings>) -> RetreatSettings {
        RetreatSettings {
            window: keys.key(&Row {
                name: "retreat_window_seconds",
                variable: Own,
                reload: Live,
                kind: Seconds(1.0..=HOUR),
                default: Duration::from_secs(60),
                of: |c| &c.window,
                text: "The span, in seconds, over which the share of 429s is taken to lower the rate, {range}.",
            }),
            threshold: keys.key(&Row {
                name: "retreat_429_threshold",
                variable: Own,
                reload: Live,
                kind: Fraction(SMALLEST_SHARE..=1.0),
                default: 0.05,
                of: |c| &c.threshold,
                text: "The share of 429s from which the rate is lowered, {range}.",
            }),
            factor: keys.key(&Row {
                name: "retreat_factor",
                variable: Own,
                reload: Live,
                kind: Fraction(0.01..=0.99),
                default: 0.75,
                of: |c| &c.factor,
                text: "What the rate is multiplied by when it is lowered, {range}.",
            }),
            min_rpm: keys.key(&Row {
                name: "retreat_min_rpm",
                variable: Own,
                reload: Live,
                kind: Whole(1..=MAX_RPM),
                default: 5,
                of: |c| &c.min_rpm,
                text: "The rate below which it is never lowered, {range}; `rate_rpm` where that is lower.",
            }),
            recover_window: keys.key(&Row {
                name: "recover_window_seconds",
                variable: Own,
                reload: Live,
                kind: Seconds(1.0..=HOUR),
                default: Duration::from_secs(120),
                of: |c| &c.recover_window,
                text: "The span, in seconds, over which the share is taken to raise the rate again, {range}.",
            }),
            recover_threshold: keys.key(&Row {
                name: "recover_429_threshold",
                variable: Own,
                reload: Live,
                kind: Fraction(SMALLEST_SHARE..=1.0),
                default: 0.02,
                of: |c| &c.recover_threshold,
                text: "The share of 429s below which the rate is raised, {range}, at most `retreat_429_threshold`.",
            }),
            recover_increment_rpm: keys.key(&Row {
                name: "recover_increment_rpm",
                variable: Own,
                reload: Live,
                kind: Whole(1..=MAX_RPM),
                default: 2,
                of: |c| &c.recover_increment_rpm,
                text: "The step by which the rate is raised, {range}.",
            }),
            control_interval: Duration::from_secs(10),
            min_samples: 10,
        }
    }
}
