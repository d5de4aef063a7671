//! The gate as plain data, for status pages, metrics and readiness.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Moment, duration_from_secs_f64};
use crate::config::limiter::QueueFullPolicy;
use crate::priority::Priority;

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
#[derive(Clone, Debug, Default)]
pub struct QueueStats {
    /// Its bound.
    pub max_size: usize,
    /// Jobs in the queue now, those that overflow not among them.
    pub current_size: usize,
    /// Waiting jobs by the priority that their clients asked for, in the order of [`Priority::ALL`], overflow included.
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
    pub full_policy: QueueFullPolicy,
    /// Fullness by count or bytes, whichever is more, 0 to 1.
    pub utilization: f64,
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
}

impl BucketStats {
    /// Tokens at `now`, if nothing was taken since.
    #[must_use]
    pub fn tokens_at(&self, now: Moment) -> f64 {
        let grown = self.tokens + now.since(self.at).as_secs_f64() * self.rate_per_minute / 60.0;
        grown.min(self.capacity)
    }

    /// The share of the bucket that is in use at `now`, 0 (full of tokens) to 1 (empty).
    #[must_use]
    pub fn utilization_at(&self, now: Moment) -> f64 {
        if self.capacity > 0.0 { 1.0 - self.tokens_at(now) / self.capacity } else { 1.0 }
    }
}

/// The rolling window's statistics.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowStats {
    /// Requests that count now, those granted and not yet sent among them.
    pub used: usize,
    /// How many may count at once.
    pub limit: usize,
    /// What the window was lengthened by for uneven travel.
    pub margin: Duration,
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

/// The retreat's statistics.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetreatStats {
    /// The state.
    pub state: RetreatState,
    /// Requests a minute now.
    pub effective_rpm: f64,
    /// Requests a minute when all is well.
    pub base_rpm: f64,
    /// The share of refusals over the retreat's window, 0 to 1.
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
#[derive(Clone, Debug)]
pub struct WaitingJob {
    /// Its id.
    pub id: u64,
    /// Who sent it.
    pub client: Arc<str>,
    /// What its client asked for.
    pub priority: Priority,
    /// The model it asks for.
    pub model: Option<Arc<str>>,
    /// How long it has waited.
    pub waited: Duration,
    /// Its place, from 1.
    pub position: usize,
    /// How long until its ticket, by the present depth and rate.
    pub eta: Duration,
}
