//! The queue's bounds and clocks.

use std::time::Duration;

use super::key::Reload::Live;
use super::key::Variable::{Own, Short};
use super::key::{Keys, Row, Section, defaults};
use super::kind::OrDefault;
use super::number::{DAY, HOUR, MAX_BYTES, SHORTEST, Seconds, Whole};
use super::word::{Flag, Words, choice};

/// The queue's bounds and clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// `queue_max_size`: how many jobs the queue holds.
    pub max_size: usize,
    /// `queue_max_bytes`: how many bytes the bodies of waiting jobs hold together.
    pub max_bytes: usize,
    /// `fallback_enabled_passthrough`: only chooses the policy when none is given; kept to be shown.
    pub fallback_passthrough: bool,
    /// `queue_full_policy`: what happens to a request that finds the queue full.
    pub full_policy: QueueFullPolicy,
    /// `queue_timeout`: the longest wait for a ticket; a client may ask for less.
    pub timeout: Duration,
    /// `low_priority_timeout`: how long a LOW job waits as the next in line, with nothing above it waiting, before it is
    /// shed.
    pub low_priority_timeout: Duration,
    /// `aging_seconds`: a job that has waited this long rises one priority, and again after each further one; zero turns
    /// aging off.
    pub aging: Duration,
    /// `remember_place`: how long the arrival of a request that left unserved is kept for when it comes again; zero turns
    /// that off.
    pub remember_place: Duration,
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

impl Words for QueueFullPolicy {
    const WORDS: &'static [(&'static str, QueueFullPolicy)] = &[
        ("passthrough", QueueFullPolicy::Passthrough),
        ("reject", QueueFullPolicy::Reject),
        ("drop_lowest", QueueFullPolicy::DropLowest),
    ];
}

impl QueueFullPolicy {
    /// All policies.
    pub const ALL: [QueueFullPolicy; 3] =
        [QueueFullPolicy::Passthrough, QueueFullPolicy::Reject, QueueFullPolicy::DropLowest];

    /// The name in configuration and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.word()
    }
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        defaults()
    }
}

impl Section for QueueSettings {
    fn build(keys: &mut impl Keys<QueueSettings>) -> QueueSettings {
        QueueSettings {
            max_size: keys.key(&Row {
                name: "queue_max_size",
                variable: Short("SIDECAR_QUEUE_MAX"),
                reload: Live,
                kind: OrDefault(Whole(1..=1_000_000)),
                default: 500,
                of: |c| &c.max_size,
                text: "Waiting requests, {range}. Out of range falls back to the default.",
            }),
            max_bytes: keys.key(&Row {
                name: "queue_max_bytes",
                variable: Own,
                reload: Live,
                kind: Whole(1024..=MAX_BYTES),
                default: 64 << 20,
                of: |c| &c.max_bytes,
                text: "Bytes of waiting requests' bodies together, {range}.",
            }),
            fallback_passthrough: keys.key(&Row {
                name: "fallback_enabled_passthrough",
                variable: Short("SIDECAR_FALLBACK_PASSTHROUGH"),
                reload: Live,
                kind: Flag,
                default: true,
                of: |c| &c.fallback_passthrough,
                text: "Chooses the default of `queue_full_policy`: true is `passthrough`, false is `reject`.",
            }),
            full_policy: keys.key(&Row {
                name: "queue_full_policy",
                variable: Short("SIDECAR_QUEUE_POLICY"),
                reload: Live,
                kind: choice(),
                default: QueueFullPolicy::Passthrough,
                of: |c| &c.full_policy,
                text: "What happens to a request that finds the queue full: `passthrough` lets it wait outside the queue, `reject` answers 503, `drop_lowest` removes the newest request of the lowest priority. The default follows `fallback_enabled_passthrough`.",
            }),
            timeout: keys.key(&Row {
                name: "queue_timeout",
                variable: Own,
                reload: Live,
                kind: Seconds(SHORTEST..=DAY),
                // What the OpenAI SDKs wait before they give up.
                default: Duration::from_secs(600),
                of: |c| &c.timeout,
                text: "Seconds that a request waits for a ticket before it gets 429, {range}.",
            }),
            low_priority_timeout: keys.key(&Row {
                name: "low_priority_timeout",
                variable: Short("SIDECAR_LOW_TIMEOUT"),
                reload: Live,
                kind: Seconds(0.0..=DAY),
                default: Duration::from_secs(2),
                of: |c| &c.low_priority_timeout,
                text: "Seconds that a LOW request waits once it is next in line, {range}.",
            }),
            aging: keys.key(&Row {
                name: "aging_seconds",
                variable: Short("SIDECAR_AGING"),
                reload: Live,
                kind: Seconds(0.0..=DAY),
                default: Duration::from_secs(30),
                of: |c| &c.aging,
                text: "Seconds after which a waiting request rises one priority, {range}; 0 is off.",
            }),
            remember_place: keys.key(&Row {
                name: "remember_place",
                variable: Own,
                reload: Live,
                kind: Seconds(0.0..=HOUR),
                default: Duration::from_secs(120),
                of: |c| &c.remember_place,
                text: "Seconds for which a request that left the queue unserved keeps its place for when its client sends it again, {range}; 0 is off.",
            }),
        }
    }
}
