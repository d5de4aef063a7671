//! The metrics: handles to count with, and the text that Prometheus scrapes.
//!
//! Counting touches atomics only: the child of every label combination is resolved once and kept in an array. What
//! others know already (the limiter's snapshot, the process's figures) is not counted twice but set when it is scraped.

mod build;

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{
    Counter, Error, Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, Registry, TEXT_FORMAT, TextEncoder,
};

use crate::ops::agents::AgentView;
use crate::ops::metric_names::{self as names, OTHER};
use crate::ops::process::ProcessFigures;
use crate::outcome::{Outcome, StatusLabel};
use crate::priority::Priority;
use crate::record::{Pace, Record, Route, UpstreamError};

use build::Builder;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = TEXT_FORMAT;

/// The statuses that `sidecar_upstream_errors_total` may name.
const ERROR_STATUSES: std::ops::Range<u16> = 400..600;
/// Statuses whose series exist from the start, so that `rate()` sees the first one; the others appear when they come.
const EXPECTED_STATUSES: [u16; 10] = [400, 401, 403, 404, 422, 429, 500, 502, 503, 504];

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
    NoTicket,
    Cancelled,
    ShuttingDown,
}

impl DropReason {
    const ALL: [DropReason; 5] = [
        DropReason::Full,
        DropReason::Displaced,
        DropReason::NoTicket,
        DropReason::Cancelled,
        DropReason::ShuttingDown,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            DropReason::Full => "full",
            DropReason::Displaced => "displaced",
            DropReason::NoTicket => "no_ticket",
            DropReason::Cancelled => "cancelled",
            DropReason::ShuttingDown => "shutting_down",
        }
    }

    fn of(record: &Record<'_>) -> Option<DropReason> {
        if record.route != Route::Limited || record.attempts > 0 {
            return None;
        }
        match record.outcome {
            Outcome::QueueFull => Some(DropReason::Full),
            Outcome::Displaced => Some(DropReason::Displaced),
            Outcome::NoTicket => Some(DropReason::NoTicket),
            Outcome::ClientGone => Some(DropReason::Cancelled),
            Outcome::ShuttingDown => Some(DropReason::ShuttingDown),
            Outcome::Answered(_)
            | Outcome::Truncated(_)
            | Outcome::UpstreamTimeout
            | Outcome::UpstreamBroken
            | Outcome::Invalid(_)
            | Outcome::Internal => None,
        }
    }
}

/// What is known elsewhere and copied into the metrics when they are scraped.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Tokens in the bucket.
    pub tokens_available: f64,
    /// Tokens per second.
    pub tokens_rate: f64,
    /// Requests sent within the last 60 s.
    pub window_used: u64,
    /// Waiting requests, in the order of [`Priority::ALL`].
    pub queue_depth: [u64; 4],
    /// Bound on waiting requests.
    pub queue_max_size: u64,
    /// Bytes of waiting requests.
    pub queue_bytes: u64,
    /// Bound on the bytes of waiting requests.
    pub queue_max_bytes: u64,
    /// Requests that found the queue full and waited behind it, since the start.
    pub fallbacks_total: u64,
    /// Requests at the upstream, in the order of [`Route::ALL`].
    pub in_flight: [u64; 2],
    /// Open client connections.
    pub connections: u64,
    /// Bound on client connections.
    pub connections_max: u64,
    /// Whether the readiness probe succeeds.
    pub healthy: bool,
    /// Time since the start.
    pub uptime: Duration,
    /// The limiter's pace.
    pub pace: Pace,
    /// The configured rate, requests a minute.
    pub base_rpm: f64,
    /// Share of the upstream's answers in the last 60 s that refused the key.
    pub upstream_429_rate: f64,
    /// Models on hold.
    pub models_held: u64,
    /// Times that the rate was lowered, since the start.
    pub retreats_total: u64,
    /// Times that the rate was lowered to its floor, since the start.
    pub floors_total: u64,
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
    /// Requests whose client got a 429.
    pub ratelimited: u64,
    /// Requests refused because the queue was full, displaced ones included.
    pub queue_full_rejects: u64,
    /// Failed attempts at the upstream.
    pub upstream_errors: u64,
}

/// The handles of all metrics.
pub struct Metrics {
    registry: Registry,
    requests: [[IntCounter; 5]; 4],
    by_provider: [[IntCounter; 5]; 2],
    queue_dropped: [IntCounter; 5],
    queue_latency: [Histogram; 4],
    upstream_latency: [Histogram; 2],
    upstream_errors: [UpstreamErrors; 2],
    retries: [IntCounter; 4],
    reloads_ok: IntCounter,
    reloads_failed: IntCounter,
    reload_success_at: Gauge,
    /// Locked while they are set and read together, so that two scrapes at once do not mix.
    scraped: Mutex<Scraped>,
}

/// One route's children of `sidecar_upstream_errors_total`.
struct UpstreamErrors {
    family: IntCounterVec,
    provider: &'static str,
    statuses: Vec<OnceLock<IntCounter>>,
    connect: IntCounter,
    timeout: IntCounter,
    broken: IntCounter,
    other: IntCounter,
}

/// The metrics that are set when they are scraped.
struct Scraped {
    tokens_available: Gauge,
    tokens_rate: Gauge,
    window_used: Gauge,
    queue_depth: [Gauge; 4],
    queue_max_size: Gauge,
    queue_bytes: Gauge,
    queue_max_bytes: Gauge,
    fallbacks: IntCounter,
    in_flight: [Gauge; 2],
    connections: Gauge,
    connections_max: Gauge,
    health: Gauge,
    uptime: Gauge,
    retreat_state: Gauge,
    retreats: IntCounter,
    floors: IntCounter,
    base_rate: Gauge,
    effective_rate: Gauge,
    upstream_429_rate: Gauge,
    models_held: Gauge,
    agent_heartbeat: GaugeVec,
    agent_stagnation: GaugeVec,
    agent_429_rate: GaugeVec,
    agent_response_time: GaugeVec,
    agent_pending: GaugeVec,
    resident_memory: Gauge,
    cpu: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    start_time: Gauge,
    threads: Gauge,
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
            reloads_ok: reloads.with_label_values(&["success"]),
            reloads_failed: reloads.with_label_values(&["failure"]),
            reload_success_at: build.gauge(&names::CONFIG_LAST_SUCCESS)?,
            scraped: Mutex::new(Scraped::new(&build)?),
            registry: build.finish(),
        };
        metrics.reload_success_at.set(config_read_at.as_secs_f64());
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
    }

    /// Counts an attempt that failed and is made again.
    pub fn retried(&self, route: Route, reason: RetryReason, error: UpstreamError) {
        self.retries[reason as usize].inc();
        self.upstream_errors[route.index()].of(error).inc();
    }

    /// Counts a reload of the configuration that took effect at `at` (time since the Unix epoch).
    pub fn reloaded(&self, at: Duration) {
        self.reloads_ok.inc();
        self.reload_success_at.set(at.as_secs_f64());
    }

    /// Counts a reload that failed and changed nothing.
    pub fn reload_failed(&self) {
        self.reloads_failed.inc();
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
            ratelimited: of_status(StatusLabel::RateLimited),
            queue_full_rejects: dropped(DropReason::Full) + dropped(DropReason::Displaced),
            upstream_errors: self.upstream_errors.iter().map(UpstreamErrors::sum).sum(),
        }
    }

    /// The text that Prometheus reads, with the scraped figures set from what is handed in.
    ///
    /// # Errors
    /// When the encoder fails, which a test shows it does not.
    pub fn render(
        &self,
        gauges: &Gauges,
        agents: &[AgentView],
        process: &ProcessFigures,
    ) -> Result<String, Error> {
        let scraped = self.scraped.lock();
        scraped.set(gauges);
        scraped.set_agents(agents);
        scraped.set_process(process);
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl UpstreamErrors {
    fn new(family: IntCounterVec, provider: &'static str) -> UpstreamErrors {
        let class = |name: &str| family.with_label_values(&[name, provider]);
        let (connect, timeout, broken, other) =
            (class("connect"), class("timeout"), class("broken"), class(OTHER));
        let statuses = ERROR_STATUSES.map(|_| OnceLock::new()).collect();
        let errors = UpstreamErrors { family, provider, statuses, connect, timeout, broken, other };
        for status in EXPECTED_STATUSES {
            errors.of(UpstreamError::Status(status));
        }
        errors
    }

    fn of(&self, error: UpstreamError) -> &IntCounter {
        match error {
            UpstreamError::Connect => &self.connect,
            UpstreamError::Timeout => &self.timeout,
            UpstreamError::Broken => &self.broken,
            UpstreamError::Status(status) => {
                let cell =
                    status.checked_sub(ERROR_STATUSES.start).and_then(|i| self.statuses.get(usize::from(i)));
                cell.map_or(&self.other, |cell| {
                    cell.get_or_init(|| {
                        self.family.with_label_values(&[status.to_string().as_str(), self.provider])
                    })
                })
            }
        }
    }

    fn sum(&self) -> u64 {
        let named = [&self.connect, &self.timeout, &self.broken, &self.other];
        self.statuses.iter().filter_map(OnceLock::get).chain(named).map(IntCounter::get).sum()
    }
}

impl Scraped {
    fn new(build: &Builder) -> Result<Scraped, Error> {
        let depth = build.gauges(&names::QUEUE_DEPTH)?;
        let in_flight = build.gauges(&names::IN_FLIGHT)?;
        Ok(Scraped {
            tokens_available: build.gauge(&names::TOKENS_AVAILABLE)?,
            tokens_rate: build.gauge(&names::TOKENS_RATE)?,
            window_used: build.gauge(&names::WINDOW_USED)?,
            queue_depth: Priority::ALL.map(|p| depth.with_label_values(&[p.as_str()])),
            queue_max_size: build.gauge(&names::QUEUE_MAX_SIZE)?,
            queue_bytes: build.gauge(&names::QUEUE_BYTES)?,
            queue_max_bytes: build.gauge(&names::QUEUE_MAX_BYTES)?,
            fallbacks: build.counter(&names::FALLBACK_PASSTHROUGH)?,
            in_flight: Route::ALL.map(|r| in_flight.with_label_values(&[r.provider()])),
            connections: build.gauge(&names::CONNECTIONS)?,
            connections_max: build.gauge(&names::CONNECTIONS_MAX)?,
            health: build.gauge(&names::HEALTH)?,
            uptime: build.gauge(&names::UPTIME)?,
            retreat_state: build.gauge(&names::RETREAT_STATE)?,
            retreats: build.counter(&names::RETREATS)?,
            floors: build.counter(&names::RETREAT_FLOORS)?,
            base_rate: build.gauge(&names::BASE_RATE)?,
            effective_rate: build.gauge(&names::EFFECTIVE_RATE)?,
            upstream_429_rate: build.gauge(&names::UPSTREAM_429_RATE)?,
            models_held: build.gauge(&names::MODELS_HELD)?,
            agent_heartbeat: build.gauges(&names::AGENT_HEARTBEAT)?,
            agent_stagnation: build.gauges(&names::AGENT_STAGNATION)?,
            agent_429_rate: build.gauges(&names::AGENT_429_RATE)?,
            agent_response_time: build.gauges(&names::AGENT_RESPONSE_TIME)?,
            agent_pending: build.gauges(&names::AGENT_PENDING)?,
            resident_memory: build.gauge(&names::PROCESS_RESIDENT_MEMORY)?,
            cpu: build.float_counter(&names::PROCESS_CPU)?,
            open_fds: build.gauge(&names::PROCESS_OPEN_FDS)?,
            max_fds: build.gauge(&names::PROCESS_MAX_FDS)?,
            start_time: build.gauge(&names::PROCESS_START_TIME)?,
            threads: build.gauge(&names::PROCESS_THREADS)?,
        })
    }

    fn set(&self, g: &Gauges) {
        self.tokens_available.set(g.tokens_available);
        self.tokens_rate.set(g.tokens_rate);
        set_count(&self.window_used, g.window_used);
        for (gauge, depth) in self.queue_depth.iter().zip(g.queue_depth) {
            set_count(gauge, depth);
        }
        set_count(&self.queue_max_size, g.queue_max_size);
        set_count(&self.queue_bytes, g.queue_bytes);
        set_count(&self.queue_max_bytes, g.queue_max_bytes);
        raise(&self.fallbacks, g.fallbacks_total);
        for (gauge, in_flight) in self.in_flight.iter().zip(g.in_flight) {
            set_count(gauge, in_flight);
        }
        set_count(&self.connections, g.connections);
        set_count(&self.connections_max, g.connections_max);
        self.health.set(f64::from(u8::from(g.healthy)));
        self.uptime.set(g.uptime.as_secs_f64());
        self.retreat_state.set(f64::from(g.pace.state.code()));
        raise(&self.retreats, g.retreats_total);
        raise(&self.floors, g.floors_total);
        self.base_rate.set(g.base_rpm);
        self.effective_rate.set(g.pace.effective_rpm);
        self.upstream_429_rate.set(g.upstream_429_rate);
        set_count(&self.models_held, g.models_held);
    }

    /// Agents may come and go with the configuration: the series are made anew each time.
    fn set_agents(&self, agents: &[AgentView]) {
        let families = [
            &self.agent_heartbeat,
            &self.agent_stagnation,
            &self.agent_429_rate,
            &self.agent_response_time,
            &self.agent_pending,
        ];
        families.into_iter().for_each(GaugeVec::reset);
        for agent in agents {
            let set = |family: &GaugeVec, value: Option<f64>| {
                if let Some(value) = value {
                    family.with_label_values(&[&agent.name, &agent.label]).set(value);
                }
            };
            set(&self.agent_heartbeat, agent.fresh.map(|fresh| f64::from(u8::from(fresh))));
            set(&self.agent_stagnation, agent.stagnation_seconds);
            set(&self.agent_429_rate, Some(agent.ratelimited_share));
            set(&self.agent_response_time, Some(agent.response_seconds.unwrap_or_default()));
            set(&self.agent_pending, agent.pending.map(approximate));
        }
    }

    fn set_process(&self, process: &ProcessFigures) {
        set_count(&self.resident_memory, process.resident_bytes);
        self.cpu.inc_by((process.cpu_seconds - self.cpu.get()).max(0.0));
        set_count(&self.open_fds, process.open_fds);
        set_count(&self.max_fds, process.max_fds);
        self.start_time.set(process.start_unix_seconds);
        set_count(&self.threads, process.threads);
    }
}

fn set_count(gauge: &Gauge, count: u64) {
    gauge.set(approximate(count));
}

/// Brings a counter up to a total that is kept elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Prometheus knows only floats; they are exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "the format's own precision")]
const fn approximate(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
