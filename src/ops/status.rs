//! `GET /status`: the sidecar's state as one JSON object.

use crate::limiter::snapshot::{BucketStats, QueueStats, QuotaStats, RetreatStats, WindowStats, rounded};
use crate::ops::fleet::FleetStatus;
use crate::ops::readiness::Ready;
use crate::ops::state::State;
use crate::telemetry::agents::AgentView;
use crate::telemetry::clients::ClientView;
use serde::Serialize;

/// The state as `/status` shows it.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    requests: Requests,
    errors: Errors,
    queue: &'a QueueStats,
    token_bucket: BucketStats,
    window: WindowStats,
    quotas: Vec<Quota<'a>>,
    retreat: Retreat<'a>,
    health: &'a Ready,
    agents: &'a [AgentView],
    clients: &'a [ClientView],
    in_flight: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<FleetStatus>,
    uptime_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Requests {
    total: u64,
    nvidia: u64,
    passthrough: u64,
    ratelimited: u64,
    kept_alive: u64,
}

#[derive(Debug, Serialize)]
struct Errors {
    queue_full_rejects: u64,
    upstream_errors: u64,
}

#[derive(Debug, Serialize)]
struct Retreat<'a> {
    #[serde(flatten)]
    stats: RetreatStats,
    held_models: Vec<HeldModel<'a>>,
}

#[derive(Debug, Serialize)]
struct HeldModel<'a> {
    model: Option<&'a str>,
    seconds_left: f64,
    waiting: usize,
}

/// A quota of single models: of those that the entry matches, the one that has used most.
#[derive(Debug, Serialize)]
pub(super) struct Quota<'a> {
    #[serde(rename = "match")]
    pattern: &'a str,
    /// The window's seconds, `60s`, or `in_flight`.
    window: String,
    used: usize,
    limit: usize,
    /// Zero while a place is free.
    next_free_seconds: f64,
}

/// What is configured of single models.
pub(super) fn quotas(state: &State) -> Vec<Quota<'_>> {
    let shown = |quota: &'_ QuotaStats| (quota.window(), rounded(quota.wait_at(state.now).as_secs_f64()));
    let quotas = state.limiter.quotas.iter().map(|quota| {
        let (window, next_free_seconds) = shown(quota);
        Quota { pattern: &quota.pattern, window, used: quota.used, limit: quota.limit, next_free_seconds }
    });
    quotas.collect()
}

impl<'a> From<&'a State> for Status<'a> {
    fn from(state: &'a State) -> Status<'a> {
        let (totals, limiter) = (&state.totals, &state.limiter);
        let held_models = state.held().map(|(held, seconds)| HeldModel {
            model: held.model.as_deref(),
            seconds_left: rounded(seconds),
            waiting: held.waiting,
        });
        Status {
            requests: Requests {
                total: totals.total,
                nvidia: totals.nvidia,
                passthrough: totals.passthrough,
                ratelimited: totals.ratelimited,
                kept_alive: totals.kept_alive,
            },
            errors: Errors {
                queue_full_rejects: totals.queue_full_rejects,
                upstream_errors: totals.upstream_errors,
            },
            queue: &limiter.queue,
            token_bucket: state.bucket,
            window: limiter.window,
            quotas: quotas(state),
            retreat: Retreat { stats: limiter.retreat, held_models: held_models.collect() },
            health: &state.ready,
            agents: &state.agents,
            clients: &state.clients,
            in_flight: limiter.in_flight,
            fleet: FleetStatus::new(&state.fleet, state.now),
            uptime_seconds: rounded(state.uptime().as_secs_f64()),
        }
    }
}
