//! The metrics: handles to count with, and the text that Prometheus scrapes.
//!
//! Counting touches atomics only: the child of every label combination is resolved once and kept in an array. What
//! others know already (the limiter's snapshot, the process's figures) is not counted twice but handed in when the text
//! is made.

mod build;
mod family;
mod keepalive;
mod upstream_errors;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{Error, Gauge, Histogram, IntCounter, Registry, TEXT_FORMAT, TextEncoder};

use crate::outcome::{Outcome, StatusLabel};
use crate::priority::Priority;
use crate::telemetry::metric_names as names;
use crate::telemetry::record::{Record, Route, UpstreamError};

use build::Builder;
use keepalive::Keepalive;
use upstream_errors::UpstreamErrors;

pub use family::{Family, Sample};
pub use keepalive::SignKind;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = TEXT_FORMAT;

/// Why an attempt was made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// The upstream refused with 429 or, as NIM does, with a worker limit.
    Refused,
    /// No connection came about.
    Connect,
    /// A pooled connection had been closed by the upstream.
    StaleConnection,
    /// The upstream answered 502, 503 or 504.
    ServerError,
}

impl RetryReason {
    const ALL: [RetryReason; 4] =
        [RetryReason::Refused, RetryReason::Connect, RetryReason::StaleConnection, RetryReason::ServerError];

    const fn as_str(self) -> &'static str {
        match self {
            RetryReason::Refused => "refused",
            RetryReason::Connect => "connect",
            RetryReason::StaleConnection => "stale_connection",
            RetryReason::ServerError => "server_error",
        }
    }
}

/// Why a request was never sent upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DropReason {
    Full,
    Displaced,
    Removed,
    NoTicket,
    Cancelled,
    ShuttingDown,
    QuotaUnavailable,
}

impl DropReason {
    const ALL: [DropReason; 7] = [
        DropReason::Full,
        DropReason::Displaced,
        DropReason::Removed,
        DropReason::NoTicket,
        DropReason::Cancelled,
        DropReason::ShuttingDown,
        DropReason::QuotaUnavailable,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            DropReason::Full => "full",
            DropReason::Displaced => "displaced",
            DropReason::Removed => "removed",
            DropReason::NoTicket => "no_ticket",
            DropReason::Cancelled => "cancelled",
            DropReason::ShuttingDown => "shutting_down",
            DropReason::QuotaUnavailable => "quota_unavailable",
        }
    }

    fn of(record: &Record<'_>) -> Option<DropReason> {
        if record.route != Route::Limited || record.attempts > 0 {
            return None;
        }
        match record.outcome {
            Outcome::QueueFull => Some(DropReason::Full),
            Outcome::Displaced => Some(DropReason::Displaced),
            Outcome::Removed => Some(DropReason::Removed),
            Outcome::NoTicket => Some(DropReason::NoTicket),
            Outcome::ClientGone => Some(DropReason::Cancelled),
            Outcome::ShuttingDown => Some(DropReason::ShuttingDown),
            Outcome::QuotaUnavailable => Some(DropReason::QuotaUnavailable),
            Outcome::Answered(_)
            | Outcome::Truncated(_)
            | Outcome::UpstreamTimeout
            | Outcome::UpstreamBroken
            | Outcome::Invalid(_)
            | Outcome::Internal => None,
        }
    }
}

/// Figures since the start, for `/status` and the dashboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Finished requests.
    pub total: u64,
    /// Of these, the ones that drew on the quota.
    pub nvidia: u64,
    /// Of these, the ones that did not.
    pub passthrough: u64,
    /// Limited requests that succeeded.
    pub nvidia_success: u64,
    /// Limited requests whose client got a 429.
    pub nvidia_ratelimited: u64,
    /// Limited requests that failed otherwise; clients' own hang-ups aside.
    pub nvidia_failed: u64,
    /// 429s of the upstream to limited requests, those that were waited out included.
    pub upstream_429: u64,
    /// Requests whose client got a 429.
    pub ratelimited: u64,
    /// Requests refused because the queue was full, displaced ones included.
    pub queue_full_rejects: u64,
    /// Failed attempts at the upstream.
    pub upstream_errors: u64,
    /// Requests under way, now, whose client has got an early 200.
    pub kept_alive: u64,
}

/// The handles of all metrics.
pub struct Metrics {
    registry: Registry,
    requests: [[IntCounter; 5]; 4],
    by_provider: [[IntCounter; 5]; 2],
    queue_dropped: [IntCounter; 7],
    queue_latency: [Histogram; 4],
    upstream_latency: [Histogram; 2],
    upstream_errors: [UpstreamErrors; 2],
    retries: [IntCounter; 4],
    keepalive: Keepalive,
    reloads_ok: IntCounter,
    reloads_failed: IntCounter,
    reload_success_at: Gauge,
    reload_successful: Gauge,
    /// Raised by each thing that was counted.
    changes: AtomicU64,
}

impl Metrics {
    /// Makes all metrics, with every series whose labels are known.
    ///
    /// `version` is the label of `sidecar_build_info`; `config_read_at` is when the first configuration was read
    /// (time since the Unix epoch).
    ///
    /// # Errors
    /// When the `prometheus` crate refuses a name or a label; a test shows that it refuses none.
    pub fn new(version: &str, config_read_at: Duration) -> Result<Metrics, Error> {
        let build = Builder::new();
        let requests = build.counters(&names::REQUESTS)?;
        let by_provider = build.counters(&names::REQUESTS_BY_PROVIDER)?;
        let dropped = build.counters(&names::QUEUE_DROPPED)?;
        let queue_latency = build.histograms(&names::QUEUE_LATENCY)?;
        let upstream_latency = build.histograms(&names::UPSTREAM_LATENCY)?;
        let upstream_errors = build.counters(&names::UPSTREAM_ERRORS)?;
        let retries = build.counters(&names::UPSTREAM_RETRIES)?;
        let reloads = build.counters(&names::CONFIG_RELOADS)?;
        build.gauges(&names::BUILD_INFO)?.with_label_values(&[version]).set(1.0);

        let metrics = Metrics {
            requests: Priority::ALL
                .map(|p| StatusLabel::ALL.map(|s| requests.with_label_values(&[p.as_str(), s.as_str()]))),
            by_provider: Route::ALL.map(|r| {
                StatusLabel::ALL.map(|s| by_provider.with_label_values(&[r.provider(), s.as_str()]))
            }),
            queue_dropped: DropReason::ALL.map(|r| dropped.with_label_values(&[r.as_str()])),
            queue_latency: Priority::ALL.map(|p| queue_latency.with_label_values(&[p.as_str()])),
            upstream_latency: Route::ALL.map(|r| upstream_latency.with_label_values(&[r.provider()])),
            upstream_errors: Route::ALL.map(|r| UpstreamErrors::new(upstream_errors.clone(), r.provider())),
            retries: RetryReason::ALL.map(|r| retries.with_label_values(&[r.as_str()])),
            keepalive: Keepalive::new(&build)?,
            reloads_ok: reloads.with_label_values(&["success"]),
            reloads_failed: reloads.with_label_values(&["failure"]),
            reload_success_at: build.gauge(&names::CONFIG_LAST_SUCCESS)?,
            reload_successful: build.gauge(&names::CONFIG_LAST_SUCCESSFUL)?,
            changes: AtomicU64::new(0),
            registry: build.finish(),
        };
        metrics.reload_success_at.set(config_read_at.as_secs_f64());
        metrics.reload_successful.set(1.0);
        Ok(metrics)
    }

    /// Counts a finished request. Its last attempt's failure is counted with it, the earlier ones by [`Metrics::retried`].
    pub fn observe(&self, record: &Record<'_>) {
        let status = record.outcome.meaning().label as usize;
        self.requests[record.priority.index()][status].inc();
        self.by_provider[record.route.index()][status].inc();
        if let Some(reason) = DropReason::of(record) {
            self.queue_dropped[reason as usize].inc();
        }
        if record.route == Route::Limited && record.attempts > 0 {
            self.queue_latency[record.priority.index()].observe(record.queue.as_secs_f64());
        }
        if let Some(latency) = record.upstream {
            self.upstream_latency[record.route.index()].observe(latency.as_secs_f64());
        }
        if let Some(error) = record.upstream_error {
            self.upstream_errors[record.route.index()].of(error).inc();
        }
        if record.early_200.is_some() {
            self.keepalive.ended(record.outcome.meaning().status);
        }
        self.changed();
    }

    /// Counts a sign of life; `is_first`: of its answer, `is_early`: it came with an early 200.
    pub fn signed(&self, kind: SignKind, is_first: bool, is_early: bool) {
        self.keepalive.signed(kind, is_first, is_early);
        self.changed();
    }

    /// Counts an answer of the upstream's whose head came so long after the early 200 of its request.
    pub fn answered_early(&self, after_early_200: Duration) {
        self.keepalive.answered(after_early_200);
        self.changed();
    }

    /// Counts an attempt that failed and is made again.
    pub fn retried(&self, route: Route, reason: RetryReason, error: UpstreamError) {
        self.retries[reason as usize].inc();
        self.upstream_errors[route.index()].of(error).inc();
        self.changed();
    }

    /// Counts a reload of the configuration that took effect at `at` (time since the Unix epoch).
    pub fn reloaded(&self, at: Duration) {
        self.reloads_ok.inc();
        self.reload_success_at.set(at.as_secs_f64());
        self.reload_successful.set(1.0);
        self.changed();
    }

    /// Counts a reload that failed and changed nothing.
    pub fn reload_failed(&self) {
        self.reloads_failed.inc();
        self.reload_successful.set(0.0);
        self.changed();
    }

    /// The sums that `/status` and the dashboard show.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let of_route =
            |route: Route| self.by_provider[route.index()].iter().map(IntCounter::get).sum::<u64>();
        let of_nvidia = |status: StatusLabel| self.by_provider[Route::Limited.index()][status as usize].get();
        let of_status =
            |status: StatusLabel| self.by_provider.iter().map(|r| r[status as usize].get()).sum::<u64>();
        let dropped = |reason: DropReason| self.queue_dropped[reason as usize].get();
        let (nvidia, passthrough) = (of_route(Route::Limited), of_route(Route::PassThrough));
        Totals {
            total: nvidia + passthrough,
            nvidia,
            passthrough,
            nvidia_success: of_nvidia(StatusLabel::Success),
            nvidia_ratelimited: of_nvidia(StatusLabel::RateLimited),
            nvidia_failed: of_nvidia(StatusLabel::Error) + of_nvidia(StatusLabel::Rejected),
            upstream_429: self.upstream_errors[Route::Limited.index()].of(UpstreamError::Status(429)).get(),
            ratelimited: of_status(StatusLabel::RateLimited),
            queue_full_rejects: dropped(DropReason::Full) + dropped(DropReason::Displaced),
            upstream_errors: self.upstream_errors.iter().map(UpstreamErrors::sum).sum(),
            kept_alive: self.keepalive.now(),
        }
    }

    /// Differs from what it was when anything was counted since.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The text that Prometheus reads, with what others know.
    ///
    /// # Errors
    /// When the encoder fails, which a test shows it does not.
    pub fn render(&self, known_elsewhere: Vec<Family>) -> Result<String, Error> {
        let others = known_elsewhere.into_iter().filter(|family| !family.samples.is_empty());
        let mut families = self.registry.gather();
        families.extend(others.map(Family::into_proto));
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families)
    }

    /// Last of all: who sees the new figure finds what it stands for.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
