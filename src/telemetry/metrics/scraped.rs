//! The metrics that others keep the figures of, set when they are scraped.

use std::time::Duration;

use prometheus::{Counter, Error, Gauge, GaugeVec, IntCounter};

use super::build::Builder;
use crate::priority::Priority;
use crate::telemetry::agents::AgentView;
use crate::telemetry::metric_names as names;
use crate::telemetry::process::ProcessFigures;
use crate::telemetry::record::{RateState, Route};

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
    /// Whether the upstream can be reached.
    pub healthy: bool,
    /// Time since the start.
    pub uptime: Duration,
    /// The limiter's pace.
    pub pace: RateState,
    /// The configured rate, requests a minute.
    pub base_rpm: f64,
    /// The rate below which the retreat never goes, requests a minute.
    pub floor_rpm: u32,
    /// Share of the upstream's answers in the last 60 s that refused the key.
    pub upstream_429_rate: f64,
    /// Models on hold.
    pub models_held: u64,
    /// Times that the rate was lowered, since the start.
    pub retreats_total: u64,
    /// Times that the rate was lowered to its floor, since the start.
    pub floors_total: u64,
}

/// The metrics that are set when they are scraped.
pub(super) struct Scraped {
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
    floor_rate: Gauge,
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

impl Scraped {
    pub(super) fn new(build: &Builder) -> Result<Scraped, Error> {
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
            floor_rate: build.gauge(&names::FLOOR_RATE)?,
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

    pub(super) fn set(&self, g: &Gauges) {
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
        self.floor_rate.set(f64::from(g.floor_rpm));
        self.effective_rate.set(g.pace.effective_rpm);
        self.upstream_429_rate.set(g.upstream_429_rate);
        set_count(&self.models_held, g.models_held);
    }

    /// Agents may come and go with the configuration: the series are made anew each time.
    pub(super) fn set_agents(&self, agents: &[AgentView]) {
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

    pub(super) fn set_process(&self, process: &ProcessFigures) {
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
