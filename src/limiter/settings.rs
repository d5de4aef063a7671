//! Everything that the gate can be told, with its defaults.

use std::time::Duration;

/// The settings of a [`Gate`](super::gate::Gate). `Default` is the specification's figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The base rate: requests a minute that the upstream grants.
    pub rate_rpm: u32,
    /// Tokens of the bucket: how many requests an idle gate lets through at once.
    pub bucket_capacity: u32,
    /// Places of the window that requests of other priorities leave to URGENT; 0 leaves none, at most half of the rate counts.
    pub urgent_reserve: u32,
    /// The rolling window within which the upstream counts.
    pub window: Duration,
    /// How many requests may be on their way at once.
    pub max_in_flight: u32,
    /// The queue's bounds and clocks.
    pub queue: QueueSettings,
    /// The longest that a `Retry-After` of the upstream, or the backoff after refusals without one, holds a model.
    pub retry_after_cap: Duration,
    /// How the rate comes back after refusals.
    pub adaptive: Adaptive,
    /// The figures of the retreat.
    pub retreat: RetreatSettings,
}

/// The queue's bounds and clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// How many jobs the queue holds.
    pub max_size: usize,
    /// How many bytes the bodies of waiting jobs hold together.
    pub max_bytes: usize,
    /// What happens to a request that finds the queue full.
    pub full_policy: QueueFullPolicy,
    /// How long a LOW job waits as the next in line, with nothing above it waiting, before it is shed.
    pub low_priority_timeout: Duration,
    /// A job that has waited this long rises one priority, and again after each further one; zero turns aging off.
    pub aging: Duration,
}

/// What happens to a request that finds the queue full (by count or by bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueFullPolicy {
    /// It waits behind the queued ones of its priority, and is counted.
    #[default]
    Passthrough,
    /// It is refused.
    Reject,
    /// The newest job of the lowest priority makes room, unless the request is itself the lowest.
    DropLowest,
}

impl QueueFullPolicy {
    /// All policies.
    pub const ALL: [QueueFullPolicy; 3] =
        [QueueFullPolicy::Passthrough, QueueFullPolicy::Reject, QueueFullPolicy::DropLowest];

    /// The name in configuration and status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            QueueFullPolicy::Passthrough => "passthrough",
            QueueFullPolicy::Reject => "reject",
            QueueFullPolicy::DropLowest => "drop_lowest",
        }
    }

    /// The policy of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<QueueFullPolicy> {
        QueueFullPolicy::ALL.into_iter().find(|policy| policy.as_str() == name)
    }
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

impl Adaptive {
    /// All modes.
    pub const ALL: [Adaptive; 2] = [Adaptive::Specified, Adaptive::Learned];

    /// The name in configuration and status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Adaptive::Specified => "specified",
            Adaptive::Learned => "learned",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Adaptive> {
        Adaptive::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}

/// The figures of the retreat; the configuration's `retreat_*` and `recover_*`.
#[derive(Clone, Debug, PartialEq)]
pub struct RetreatSettings {
    /// Over how long the share of refusals is taken when deciding to retreat.
    pub window: Duration,
    /// The share of refusals (0 to 1) from which the rate retreats.
    pub threshold: f64,
    /// What one step of the retreat multiplies the rate by (0 to 1).
    pub factor: f64,
    /// The floor: the rate never falls below it.
    pub min_rpm: u32,
    /// How long it must have been quiet, and over how long the share is taken, before the rate recovers.
    pub recover_window: Duration,
    /// The share of refusals (0 to 1) below which the rate recovers.
    pub recover_threshold: f64,
    /// Requests a minute that one step of the recovery adds.
    pub recover_increment_rpm: f64,
    /// At most one step of the rate is taken in this time.
    pub control_interval: Duration,
    /// From how many answers on a share is believed.
    pub min_samples: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            rate_rpm: 40,
            bucket_capacity: 40,
            urgent_reserve: 2,
            window: Duration::from_secs(60),
            max_in_flight: 256,
            queue: QueueSettings::default(),
            retry_after_cap: Duration::from_secs(60),
            adaptive: Adaptive::default(),
            retreat: RetreatSettings::default(),
        }
    }
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings {
            max_size: 500,
            max_bytes: 64 * 1024 * 1024,
            full_policy: QueueFullPolicy::default(),
            low_priority_timeout: Duration::from_secs(2),
            aging: Duration::from_secs(30),
        }
    }
}

impl Default for RetreatSettings {
    fn default() -> RetreatSettings {
        RetreatSettings {
            window: Duration::from_secs(60),
            threshold: 0.05,
            factor: 0.75,
            min_rpm: 5,
            recover_window: Duration::from_secs(120),
            recover_threshold: 0.02,
            recover_increment_rpm: 2.0,
            control_interval: Duration::from_secs(10),
            min_samples: 10,
        }
    }
}
