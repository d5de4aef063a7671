//! The snapshot that the dashboard's page draws once a second.

use crate::limiter::snapshot::{QueueStats, RetreatStats, WaitingJob, rounded};
use crate::ops::history::{LastMinute, Point};
use crate::ops::readiness::Ready;
use crate::ops::state::State;
use crate::ops::status::{Quota, quotas};
use crate::telemetry::agents::AgentView;
use crate::telemetry::clients::ClientView;
use crate::telemetry::metrics::Totals;
use serde::Serialize;

/// Waiting requests that a snapshot lists; more do not help the viewer, and cost every viewer.
pub const WAITING_LISTED: usize = 50;

/// Everything that the page shows, at one moment. Shares go from 0 to 1, times are in seconds, rates per minute.
#[derive(Debug, Serialize)]
pub struct DashboardSnapshot<'a> {
    version: &'static str,
    /// The server's time, Unix seconds.
    at: f64,
    uptime_seconds: f64,
    /// Whether it is ending: no new connections, the queue runs dry.
    draining: bool,
    /// Whether the admin calls need a token, so that the page does not ask without one.
    admin_token_required: bool,
    health: &'a Ready,
    tokens: Tokens,
    quotas: Vec<Quota<'a>>,
    queue: Queue,
    retreat: Retreat<'a>,
    in_flight: InFlight,
    connections: u64,
    connections_max: u64,
    totals: &'a Totals,
    last_minute: LastMinute,
    /// The first [`WAITING_LISTED`] waiting requests, in the order in which they are expected to go.
    waiting: &'a [WaitingJob],
    agents: &'a [AgentView],
    /// The busiest of about the last hour.
    clients: &'a [ClientView],
    /// The newest complete point of the history.
    point: Option<Point>,
}

#[derive(Debug, Serialize)]
struct Tokens {
    available: f64,
    capacity: f64,
    rate_per_minute: f64,
    window_used: usize,
    window_limit: usize,
}

#[derive(Debug, Serialize)]
struct Queue {
    /// With `current_size` as all that wait, those beside a full queue among them.
    #[serde(flatten)]
    stats: QueueStats,
    /// How long the one that waits longest has waited; zero when none does.
    oldest_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Retreat<'a> {
    #[serde(flatten)]
    stats: RetreatStats,
    held_models: Vec<HeldModel<'a>>,
}

#[derive(Debug, Serialize)]
struct HeldModel<'a> {
    /// Its name, as a client sent it.
    model: &'a str,
    /// For how much longer.
    seconds: f64,
}

/// Requests at the upstream now.
#[derive(Debug, Serialize)]
struct InFlight {
    nvidia: usize,
    passthrough: u64,
}

impl<'a> DashboardSnapshot<'a> {
    /// What the page shows of `state`, with the first of the waiting requests and the newest of the history.
    #[must_use]
    pub fn new(
        state: &'a State,
        waiting: &'a [WaitingJob],
        last_minute: LastMinute,
        point: Option<Point>,
    ) -> DashboardSnapshot<'a> {
        let limiter = &state.limiter;
        let held_models = state.held().map(|(held, seconds)| HeldModel {
            model: held.model.as_deref().unwrap_or_default(),
            seconds: rounded(seconds),
        });
        let oldest = waiting.iter().map(|job| job.waited).max().unwrap_or_default();
        DashboardSnapshot {
            version: env!("CARGO_PKG_VERSION"),
            at: state.unix.as_secs_f64(),
            uptime_seconds: state.uptime().as_secs_f64(),
            draining: state.draining,
            admin_token_required: state.admin_token_required,
            health: &state.ready,
            tokens: Tokens {
                available: rounded(state.bucket.tokens),
                capacity: state.bucket.capacity,
                rate_per_minute: state.bucket.rate_per_minute,
                window_used: limiter.window.used,
                window_limit: limiter.window.limit,
            },
            quotas: quotas(state),
            queue: Queue {
                stats: QueueStats { current_size: limiter.queue.waiting(), ..limiter.queue.clone() },
                oldest_seconds: rounded(oldest.as_secs_f64()),
            },
            retreat: Retreat { stats: limiter.retreat, held_models: held_models.collect() },
            in_flight: InFlight { nvidia: limiter.in_flight, passthrough: state.passthrough_in_flight },
            connections: state.connections,
            connections_max: state.connections_max,
            totals: &state.totals,
            last_minute,
            waiting,
            agents: &state.agents,
            clients: &state.clients,
            point,
        }
    }
}
