//! The limiter's settings: the quota, and with `queue` and `retreat` all that its gate
//! is told.

use std::time::Duration;

use super::key::Reload::{Live, Restart};
use super::key::Variable::Own;
use super::key::{Keys, Row, Section, defaults};
use super::kind::OrDefault;
use super::model_rate::ModelRates;
use super::number::{HOUR, MAX_RPM, Seconds, Whole};
use super::word::{Words, choice};

pub use super::model_rate::{ModelPattern, ModelRate, RateWindow};
pub use super::queue::{QueueFullPolicy, QueueSettings};
pub use super::retreat::RetreatSettings;

/// Threads of one worker pool.
pub(super) const MAX_WORKERS: u32 = 4096;

/// The window within which NVIDIA counts.
const MINUTE: Duration = Duration::from_secs(60);

/// The settings of the limiter's gate. `Default` is the specification's figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `rate_rpm`, the base rate: requests a minute that the upstream grants; 0 means no rate at all.
    pub rate_rpm: u32,
    /// `bucket_capacity`: how many requests an idle gate lets through at once.
    pub bucket_capacity: u32,
    /// `urgent_reserve`: places of the window that requests of other priorities leave to URGENT; 0 leaves none, and at
    /// most half of the rate counts.
    pub urgent_reserve: u32,
    /// `rate_scope`: what `rate_rpm` is the rate of.
    pub rate_scope: RateScope,
    /// `model_rates`: rates of single models beside it; the first that matches counts.
    pub model_rates: Vec<ModelRate>,
    /// `rate_window`: the rolling window within which the upstream counts.
    pub window: Duration,
    /// `max_in_flight`: how many requests may be on their way at once.
    pub max_in_flight: u32,
    /// `retry_after_cap`: the longest that a `Retry-After` of the upstream, or the backoff after refusals without one,
    /// holds a model.
    pub retry_after_cap: Duration,
    /// The queue's bounds and clocks.
    pub queue: QueueSettings,
    /// `adaptive`: how the rate comes back after refusals.
    pub adaptive: Adaptive,
    /// The figures of the retreat.
    pub retreat: RetreatSettings,
}

/// What `rate_rpm` is the rate of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateScope {
    /// The key: all models together.
    #[default]
    Key,
    /// Each model by itself.
    Model,
}

impl Words for RateScope {
    const WORDS: &'static [(&'static str, RateScope)] =
        &[("key", RateScope::Key), ("model", RateScope::Model)];
}

/// How the rate comes back after refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adaptive {
    /// By the specification's figures alone: two quiet minutes, then `recover_increment_rpm` a step up to the base.
    Specified,
    /// Down by the same figures; up quickly to just under the rate that was seen to be granted, and gently above it.
    #[default]
    Learned,
}

impl Words for Adaptive {
    const WORDS: &'static [(&'static str, Adaptive)] =
        &[("specified", Adaptive::Specified), ("learned", Adaptive::Learned)];
}

impl Adaptive {
    /// All modes.
    pub const ALL: [Adaptive; 2] = [Adaptive::Specified, Adaptive::Learned];

    /// The name in configuration and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.word()
    }

    /// The mode of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Adaptive> {
        Adaptive::of_word(name)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        defaults()
    }
}

impl Section for Settings {
    fn build(keys: &mut impl Keys<Settings>) -> Settings {
        Settings {
            rate_rpm: keys.key(&Row {
                name: "rate_rpm",
                variable: Own,
                reload: Live,
                kind: OrDefault(Whole(0..=MAX_RPM)),
                default: 40,
                of: |c| &c.rate_rpm,
                text: "Limited requests in any 60 s, {range}; 0 means no rate at all, only `max_in_flight`: for a NIM of your own. Out of range falls back to the default.",
            }),
            bucket_capacity: keys.key(&Row {
                name: "bucket_capacity",
                variable: Own,
                reload: Live,
                kind: Whole(1..=MAX_RPM),
                default: 40,
                of: |c| &c.bucket_capacity,
                text: "The largest burst, {range} requests.",
            }),
            window: keys.key(&Row {
                name: "rate_window",
                variable: Own,
                reload: Restart,
                kind: Seconds(1.0..=60.0),
                default: MINUTE,
                of: |c| &c.window,
                text: "Seconds within which the upstream counts, {range}: of `rate_rpm`, as much as belongs to so many. NVIDIA counts by the minute.",
            }),
            urgent_reserve: keys.key(&Row {
                name: "urgent_reserve",
                variable: Own,
                reload: Live,
                kind: Whole(0..=MAX_RPM / 2),
                default: 2,
                of: |c| &c.urgent_reserve,
                text: "Places of each minute that requests of other priorities leave to URGENT, so that one finds a place at any moment; at most half of the rate counts, 0 is off.",
            }),
            rate_scope: keys.key(&Row {
                name: "rate_scope",
                variable: Own,
                reload: Live,
                kind: choice(),
                default: RateScope::Key,
                of: |c| &c.rate_scope,
                text: "What `rate_rpm` is the rate of: `key` for all models together, `model` for each model by itself.",
            }),
            model_rates: keys.key(&Row {
                name: "model_rates",
                variable: Own,
                reload: Live,
                kind: ModelRates,
                default: Vec::new(),
                of: |c| &c.model_rates,
                text: "Rates of single models beside it: a list of `match` (a model's name with `*`), `rate` (windows such as `20/1m, 300/1h`, each of which holds; s, m, h, d) and `in_flight` (the most at one time). The first that matches counts.",
            }),
            max_in_flight: keys.key(&Row {
                name: "max_in_flight",
                variable: Own,
                reload: Live,
                kind: Whole(1..=MAX_WORKERS),
                // 40 a minute that take ten minutes each.
                default: 512,
                of: |c| &c.max_in_flight,
                text: "Limited requests at the upstream at one time, {range}; each has a thread.",
            }),
            retry_after_cap: keys.key(&Row {
                name: "retry_after_cap",
                variable: Own,
                reload: Live,
                kind: Seconds(0.0..=HOUR),
                default: Duration::from_secs(60),
                of: |c| &c.retry_after_cap,
                text: "The longest, in seconds, that an upstream's `Retry-After` holds a model, {range}.",
            }),
            queue: keys.section(|c| &c.queue),
            adaptive: keys.key(&Row {
                name: "adaptive",
                variable: Own,
                reload: Live,
                kind: choice(),
                default: Adaptive::Learned,
                of: |c| &c.adaptive,
                text: "The rule that steers the rate: `specified` by the figures below, `learned` remembers where refusals began.",
            }),
            retreat: keys.section(|c| &c.retreat),
        }
    }
}
