//! The gate as plain data, for status pages, metrics and readiness. What `/status` and the dashboard show of it as it is
//! writes itself as JSON; the names are a contract (`tests/it/contract/`).

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Moment, duration_from_secs_f64};
use crate::config::limiter::QueueFullPolicy;
use crate::priority::Priority;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// The gate at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Moment,
    /// The queue.
    pub queue: QueueStats,
    /// The bucket.
    pub bucket: BucketStats,
    /// The rolling window.
    pub window: WindowStats,
    /// What is configured of single models, in the order of the configuration.
    pub quotas: Vec<QuotaStats>,
    /// The retreat.
    pub retreat: RetreatStats,
    /// Requests on their way.
    pub in_flight: usize,
    /// The bound of `in_flight`.
    pub max_in_flight: usize,
    /// Models that are held, longest first; at most [`HELD_SHOWN`].
    pub held: Vec<HeldModel>,
    /// How many models are held, those that `held` has no room for among them.
    pub models_held: usize,
    /// How often the rate was lowered, ever.
    pub retreats_total: u64,
    /// How often it was lowered to its floor, ever.
    pub floors_total: u64,
    /// Until when all tickets pause because the key itself was refused.
    pub key_paused_until: Option<Moment>,
}

impl Snapshot {
    /// How long a newcomer would wait by the depth and rate of that moment.
    #[must_use]
    pub fn expected_wait(&self) -> Duration {
        let waiting: usize = self.queue.depth_by_priority.iter().sum();
        let per_second = self.retreat.effective_rpm / 60.0;
        duration_from_secs_f64((waiting + 1) as f64 / per_second.max(f64::MIN_POSITIVE))
    }
}

/// How many held models a snapshot shows.
pub const HELD_SHOWN: usize = 16;

/// The queue's statistics.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QueueStats {
    /// Its bound.
    pub max_size: usize,
    /// Jobs in the queue now, those that overflow not among them.
    pub current_size: usize,
    /// Waiting jobs by the priority that their clients asked for, in the order of [`Priority::ALL`], overflow included.
    #[serde(serialize_with = "by_priority")]
    pub depth_by_priority: [usize; 4],
    /// Jobs that wait beside the full queue.
    pub overflow: usize,
    /// Bytes that the bodies of waiting jobs hold.
    pub bytes: usize,
    /// The bound of `bytes`.
    pub max_bytes: usize,
    /// Jobs that ever entered, overflow included.
    pub total_enqueued: u64,
    /// Jobs that ever left with a ticket.
    pub total_dequeued: u64,
    /// Jobs refused at the door, displaced or expired, ever.
    pub total_dropped: u64,
    /// Jobs that ever overflowed (`sidecar_fallback_passthrough_total`).
    pub total_overflowed: u64,
    /// What happens when it is full.
    #[serde(serialize_with = "policy_name")]
    pub full_policy: QueueFullPolicy,
    /// Fullness by count or bytes, whichever is more, 0 to 1.
    #[serde(serialize_with = "three_digits")]
    pub utilization: f64,
}

impl QueueStats {
    /// All that wait, in the queue or beside it.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.depth_by_priority.iter().sum()
    }
}

/// The bucket's statistics. Tokens at a later moment are [`BucketStats::tokens_at`].
#[derive(Clone, Copy, Debug, Default)]
pub struct BucketStats {
    /// When the figures held.
    pub at: Moment,
    /// Tokens then.
    pub tokens: f64,
    /// The most that it holds.
    pub capacity: f64,
    /// Tokens that a minute adds.
    pub rate_per_minute: f64,
    /// Places of the window that were free then: a token without a place cannot be used.
    pub free: u32,
    /// When the window's other places come back, and how many of them at each moment.
    pub returns: [(Moment, u32); RETURNS],
}

/// In how many steps the window's places come back as a snapshot shows it.
pub const RETURNS: usize = 8;

impl BucketStats {
    /// Tokens that can be used at `now`, if nothing was taken since.
    #[must_use]
    pub fn tokens_at(&self, now: Moment) -> f64 {
        let grown = self.tokens + now.since(self.at).as_secs_f64() * self.rate_per_minute / 60.0;
        let returned = self.returns.iter().filter(|&&(at, _)| at <= now).map(|&(_, count)| count);
        let places = returned.fold(self.free, u32::saturating_add);
        grown.min(self.capacity).min(f64::from(places))
    }

    /// The bucket as it is at `now`, if nothing was taken since.
    #[must_use]
    pub fn at(&self, now: Moment) -> BucketStats {
        BucketStats { at: now, tokens: self.tokens_at(now), ..*self }
    }

    /// The share of the bucket that is in use, 0 (full of tokens) to 1 (empty).
    #[must_use]
    pub fn utilization(&self) -> f64 {
        if self.capacity > 0.0 { 1.0 - self.tokens / self.capacity } else { 1.0 }
    }
}

impl Serialize for BucketStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bucket = serializer.serialize_struct("BucketStats", 4)?;
        bucket.serialize_field("tokens", &rounded(self.tokens))?;
        bucket.serialize_field("capacity", &self.capacity)?;
        bucket.serialize_field("rate_per_minute", &self.rate_per_minute)?;
        bucket.serialize_field("utilization", &rounded(self.utilization()))?;
        bucket.end()
    }
}

/// The rolling window's statistics.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct WindowStats {
    /// Requests that count now, those granted and not yet sent among them.
    pub used: usize,
    /// How many may count at once.
    pub limit: usize,
    /// What the window was lengthened by for uneven travel.
    #[serde(skip)]
    pub margin: Duration,
}

/// One window of a configured entry of `model_rates`, or its `in_flight`, or with `rate_scope: model` the rate of each model that
/// no entry matches. Each model has it for itself: what is shown is the one that has used most.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaStats {
    /// The entry's `match`; `*` for the rate of `rate_scope: model`.
    pub pattern: Arc<str>,
    /// The window's length; `None` for requests at one time.
    pub span: Option<Duration>,
    /// Requests that count now.
    pub used: usize,
    /// How many may count at once.
    pub limit: usize,
    /// When the next request may go; `None` when one may go now, or one of those on their way has to end first.
    pub next_free: Option<Moment>,
}

impl QuotaStats {
    /// The window as labels and pages name it: its seconds, `60s`, or `in_flight`.
    #[must_use]
    pub fn window(&self) -> String {
        self.span.map_or_else(|| "in_flight".to_owned(), |span| format!("{}s", span.as_secs()))
    }

    /// How long from `now` until the next request may go; zero when one may.
    #[must_use]
    pub fn wait_at(&self, now: Moment) -> Duration {
        self.next_free.map_or(Duration::ZERO, |at| at.since(now))
    }
}

/// The state of the retreat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetreatState {
    /// At the base rate.
    #[default]
    Normal,
    /// Below it, because the upstream refuses.
    Retreat,
    /// On the way back.
    Recover,
}

impl RetreatState {
    /// The name in status and log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RetreatState::Normal => "normal",
            RetreatState::Retreat => "retreat",
            RetreatState::Recover => "recover",
        }
    }

    /// The value of `sidecar_retreat_state`: 0, 1 or 2.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl Serialize for RetreatState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The retreat's statistics.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RetreatStats {
    /// The state.
    pub state: RetreatState,
    /// Requests a minute now.
    pub effective_rpm: f64,
    /// Requests a minute when all is well.
    pub base_rpm: f64,
    /// The share of refusals over the retreat's window, 0 to 1.
    #[serde(serialize_with = "three_digits")]
    pub upstream_429_rate: f64,
    /// The rate that was seen to be granted when the upstream last refused (mode `learned`).
    pub learned_rpm: Option<f64>,
}

/// A held model.
#[derive(Clone, Debug)]
pub struct HeldModel {
    /// Its name; `None` for requests that name none.
    pub model: Option<Arc<str>>,
    /// When it will be tried again.
    pub until: Moment,
    /// How many of its jobs wait.
    pub waiting: usize,
}

/// A waiting job, for an operator's eyes.
#[derive(Clone, Debug, Serialize)]
pub struct WaitingJob {
    /// Its id; text in JSON, whose numbers are exact up to 2⁵³ only.
    #[serde(serialize_with = "as_text")]
    pub id: u64,
    /// The `X-Request-Id` that its answer will carry.
    pub request_id: String,
    /// Whether it has waited so long that it has risen above the priority it came with.
    pub aged: bool,
    /// Who sent it.
    #[serde(rename = "agent", serialize_with = "as_text")]
    pub client: Arc<str>,
    /// What its client asked for.
    #[serde(serialize_with = "priority_name")]
    pub priority: Priority,
    /// The model it asks for.
    #[serde(serialize_with = "model_name")]
    pub model: Option<Arc<str>>,
    /// How long it has waited.
    #[serde(rename = "waited_seconds", serialize_with = "seconds")]
    pub waited: Duration,
    /// Its place, from 1.
    pub position: usize,
    /// How long until its ticket, by the present depth and rate.
    #[serde(rename = "estimate_seconds", serialize_with = "seconds")]
    pub eta: Duration,
    /// How long its client has been kept alive by an early 200.
    #[serde(rename = "kept_alive_seconds", serialize_with = "optional_seconds")]
    pub kept_alive: Option<Duration>,
}

/// What the shell of the gate knows of a waiting job.
#[derive(Clone, Debug, Default)]
pub struct ClientSide {
    /// The `X-Request-Id` that its answer will carry.
    pub request_id: String,
    /// Since when its answer has been an early 200.
    pub early_since: Option<Moment>,
}

/// Three digits after the point are enough for people and keep the JSON short.
#[must_use]
pub fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

/// [`rounded`], for fields.
///
/// # Errors
/// The serializer's own.
pub fn three_digits<S: Serializer>(figure: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(*figure))
}

/// A table in the order of [`Priority::ALL`] as an object with the priorities' names.
///
/// # Errors
/// The serializer's own.
pub fn by_priority<S: Serializer, T: Serialize>(
    table: &[T; Priority::ALL.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(Priority::ALL.iter().map(|priority| priority.as_str()).zip(table))
}

fn policy_name<S: Serializer>(policy: &QueueFullPolicy, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(policy.as_str())
}

fn priority_name<S: Serializer>(priority: &Priority, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(priority.as_str())
}

fn model_name<S: Serializer>(model: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    model.as_deref().serialize(serializer)
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(time.as_secs_f64()))
}

fn optional_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| rounded(time.as_secs_f64())).serialize(serializer)
}

fn as_text<S: Serializer, T: std::fmt::Display>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
