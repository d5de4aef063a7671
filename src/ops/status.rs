//! `GET /status`: the sidecar's state as one JSON object.

use crate::clock::Moment;
use crate::dispatch::fleet::thread::FleetView;
use crate::limiter::snapshot::Snapshot;
use crate::ops::fleet::FleetStatus;
use crate::priority::Priority;
use crate::telemetry::agents::AgentView;
use crate::telemetry::journal::Journal;
use serde::Serialize;
use std::collections::BTreeMap;

/// The state of the sidecar at one moment.
#[derive(Debug, Serialize)]
pub struct Status {
    requests: Requests,
    errors: Errors,
    queue: Queue,
    token_bucket: TokenBucket,
    window: Window,
    retreat: Retreat,
    agents: Vec<AgentView>,
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
}

#[derive(Debug, Serialize)]
struct Errors {
    queue_full_rejects: u64,
    upstream_errors: u64,
}

#[derive(Debug, Serialize)]
struct Queue {
    max_size: usize,
    current_size: usize,
    depth_by_priority: BTreeMap<&'static str, usize>,
    overflow: usize,
    bytes: usize,
    max_bytes: usize,
    total_enqueued: u64,
    total_dequeued: u64,
    total_dropped: u64,
    full_policy: &'static str,
    utilization: f64,
}

#[derive(Debug, Serialize)]
struct TokenBucket {
    tokens: f64,
    capacity: f64,
    rate_per_minute: f64,
    utilization: f64,
}

#[derive(Debug, Serialize)]
struct Window {
    used: usize,
    limit: usize,
}

#[derive(Debug, Serialize)]
struct Retreat {
    state: &'static str,
    effective_rpm: f64,
    base_rpm: f64,
    upstream_429_rate: f64,
    held_models: Vec<HeldModel>,
}

#[derive(Debug, Serialize)]
struct HeldModel {
    model: Option<String>,
    seconds_left: f64,
    waiting: usize,
}

impl Status {
    /// The state at `now`.
    #[must_use]
    pub fn new(snapshot: &Snapshot, journal: &Journal, fleet: &FleetView, now: Moment) -> Status {
        let totals = journal.metrics().totals();
        let queue = &snapshot.queue;
        let held_models = snapshot.held.iter().map(|held| HeldModel {
            model: held.model.as_deref().map(str::to_owned),
            seconds_left: rounded(held.until.since(now).as_secs_f64()),
            waiting: held.waiting,
        });
        Status {
            requests: Requests {
                total: totals.total,
                nvidia: totals.nvidia,
                passthrough: totals.passthrough,
                ratelimited: totals.ratelimited,
            },
            errors: Errors {
                queue_full_rejects: totals.queue_full_rejects,
                upstream_errors: totals.upstream_errors,
            },
            queue: Queue {
                max_size: queue.max_size,
                current_size: queue.current_size,
                depth_by_priority: Priority::ALL
                    .map(|p| (p.as_str(), queue.depth_by_priority[p.index()]))
                    .into(),
                overflow: queue.overflow,
                bytes: queue.bytes,
                max_bytes: queue.max_bytes,
                total_enqueued: queue.total_enqueued,
                total_dequeued: queue.total_dequeued,
                total_dropped: queue.total_dropped,
                full_policy: queue.full_policy.as_str(),
                utilization: rounded(queue.utilization),
            },
            token_bucket: TokenBucket {
                tokens: rounded(snapshot.bucket.tokens_at(now)),
                capacity: snapshot.bucket.capacity,
                rate_per_minute: snapshot.bucket.rate_per_minute,
                utilization: rounded(snapshot.bucket.utilization_at(now)),
            },
            window: Window { used: snapshot.window.used, limit: snapshot.window.limit },
            retreat: Retreat {
                state: snapshot.retreat.state.as_str(),
                effective_rpm: snapshot.retreat.effective_rpm,
                base_rpm: snapshot.retreat.base_rpm,
                upstream_429_rate: rounded(snapshot.retreat.upstream_429_rate),
                held_models: held_models.collect(),
            },
            agents: journal.agents().lock().view(now),
            in_flight: snapshot.in_flight,
            fleet: FleetStatus::new(fleet, now),
            uptime_seconds: rounded(now.since(Moment::ZERO).as_secs_f64()),
        }
    }
}

/// Three digits after the point are enough for people and keep the JSON short.
fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}
