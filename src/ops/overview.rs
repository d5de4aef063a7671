//! Everything that an operator can see, gathered from those who know it: health, status, metrics, dashboard.

use crate::clock::{Clock, Moment};
use crate::config::LiveConfig;
use crate::dispatch::fleet::thread::FleetView;
use crate::downstream::connections::OpenConnections;
use crate::limiter::snapshot::{Snapshot, WaitingJob};
use crate::ops::dashboard::{
    DashboardSnapshot, HealthView, HeldModelView, InFlightView, QueueView, RetreatView, TokensView,
    WaitingView,
};
use crate::ops::history::{History, Sample};
use crate::ops::page::Page;
use crate::ops::readiness::Readiness;
use crate::ops::status::Status;
use crate::published::Published;
use crate::telemetry::journal::Journal;
use crate::telemetry::metrics::Gauges;
use crate::telemetry::process::ProcessFigures;
use crate::telemetry::record::RateState;
use crate::workers::pool::Load;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Viewers of the dashboard's stream at once.
const MAX_VIEWERS: usize = 512;

/// Gathers what there is to see.
pub struct Overview {
    /// The running configuration.
    pub live: Arc<LiveConfig>,
    /// The limiter's state.
    pub board: Arc<Published<Snapshot>>,
    /// The fleet, where there is one.
    pub fleet: Arc<Published<FleetView>>,
    /// The books.
    pub journal: Arc<Journal>,
    /// Readiness.
    pub readiness: Arc<Readiness>,
    /// The client connections.
    pub open: OpenConnections,
    /// The bound on client connections that the descriptors allow.
    pub most_connections: usize,
    /// How busy the pass-through workers are.
    pub pass_through: Load,
    /// The last hour.
    pub history: Mutex<History>,
    /// The sidecar is ending.
    pub draining: Arc<AtomicBool>,
    /// The clock.
    pub clock: Clock,
}

impl Overview {
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(super) fn may_watch(&self) -> bool {
        self.open.viewers() < MAX_VIEWERS
    }

    /// Liveness: that this is answered at all is the message.
    #[must_use]
    pub fn health(&self, now: Moment) -> Page {
        let uptime = now.since(Moment::ZERO).as_secs_f64();
        Page::json(200, &json!({"status": "ok", "uptime": uptime, "version": env!("CARGO_PKG_VERSION")}))
    }

    /// `GET /status`.
    #[must_use]
    pub fn status(&self, now: Moment) -> Page {
        Page::json(200, &Status::new(&self.board.read(), &self.journal, &self.fleet.read(), now))
    }

    /// `GET /api/dashboard/history`.
    #[must_use]
    pub fn history(&self) -> Page {
        let json = self.history.lock().to_json().unwrap_or_default();
        Page::new(200, "application/json", json)
    }

    /// `GET /metrics`.
    ///
    /// # Errors
    /// When the metrics cannot be encoded.
    pub fn metrics(&self, now: Moment) -> Result<String, prometheus::Error> {
        let agents = self.journal.agents().lock().view(now);
        self.journal.metrics().render(&self.gauges(now), &agents, &ProcessFigures::read())
    }

    fn gauges(&self, now: Moment) -> Gauges {
        let snapshot = self.board.read();
        let queue = &snapshot.queue;
        Gauges {
            tokens_available: snapshot.bucket.tokens_at(now),
            tokens_rate: snapshot.bucket.rate_per_minute / 60.0,
            window_used: snapshot.window.used as u64,
            queue_depth: queue.depth_by_priority.map(|depth| depth as u64),
            queue_max_size: queue.max_size as u64,
            queue_bytes: queue.bytes as u64,
            queue_max_bytes: queue.max_bytes as u64,
            fallbacks_total: queue.total_overflowed,
            in_flight: [snapshot.in_flight as u64, self.pass_through.jobs()],
            connections: self.open.count() as u64,
            connections_max: self.connections_max(),
            healthy: self.readiness.glance().is_upstream_reachable(),
            uptime: now.since(Moment::ZERO),
            pace: RateState { state: snapshot.retreat.state, effective_rpm: snapshot.retreat.effective_rpm },
            base_rpm: snapshot.retreat.base_rpm,
            upstream_429_rate: snapshot.retreat.upstream_429_rate,
            floor_rpm: self.live.snapshot().floor_rpm(),
            models_held: snapshot.models_held as u64,
            retreats_total: snapshot.retreats_total,
            floors_total: snapshot.floors_total,
        }
    }

    fn connections_max(&self) -> u64 {
        self.live.snapshot().front.max_connections.min(self.most_connections) as u64
    }

    /// Takes the present state down in the history; to be called once a second.
    pub fn sample(&self, now: Moment) {
        let (snapshot, totals) = (self.board.read(), self.journal.metrics().totals());
        let sample = Sample {
            ok_total: totals.nvidia_success,
            ratelimited_total: totals.nvidia_ratelimited,
            passthrough_total: totals.passthrough,
            queue_depth: depth(&snapshot),
            effective_rpm: snapshot.retreat.effective_rpm,
            base_rpm: snapshot.retreat.base_rpm,
            tokens: snapshot.bucket.tokens_at(now),
            upstream_429_rate: snapshot.retreat.upstream_429_rate,
            state: snapshot.retreat.state,
        };
        self.history.lock().take(sample, self.clock.unix());
    }

    /// What the dashboard shows now, with the first of the waiting requests.
    #[must_use]
    pub fn dashboard(&self, waiting: &[WaitingJob], now: Moment) -> DashboardSnapshot {
        let snapshot = self.board.read();
        let (last_minute, point) = {
            let history = self.history.lock();
            (history.last_minute(), history.latest())
        };
        let config = self.live.snapshot();
        DashboardSnapshot {
            version: env!("CARGO_PKG_VERSION"),
            at: self.clock.unix().as_secs_f64(),
            uptime_seconds: now.since(Moment::ZERO).as_secs_f64(),
            draining: self.draining.load(Ordering::Relaxed),
            admin_token_required: config.admin_token.is_some(),
            health: HealthView::from(&self.readiness.glance()),
            tokens: TokensView {
                available: snapshot.bucket.tokens_at(now),
                capacity: snapshot.bucket.capacity,
                rate_per_minute: snapshot.bucket.rate_per_minute,
                window_used: snapshot.window.used as u64,
                window_limit: snapshot.window.limit as u64,
            },
            queue: queue_view(&snapshot, waiting),
            retreat: RetreatView {
                state: snapshot.retreat.state.as_str(),
                effective_rpm: snapshot.retreat.effective_rpm,
                base_rpm: snapshot.retreat.base_rpm,
                upstream_429_rate: snapshot.retreat.upstream_429_rate,
                held_models: held_models(&snapshot, now),
            },
            in_flight: InFlightView {
                nvidia: snapshot.in_flight as u64,
                passthrough: self.pass_through.jobs(),
            },
            connections: self.open.count() as u64,
            connections_max: self.connections_max(),
            totals: self.journal.metrics().totals(),
            last_minute,
            waiting: waiting.iter().map(waiting_view).collect(),
            agents: self.journal.agents().lock().view(now),
            point,
        }
    }
}

fn depth(snapshot: &Snapshot) -> u64 {
    snapshot.queue.depth_by_priority.iter().map(|depth| *depth as u64).sum()
}

fn queue_view(snapshot: &Snapshot, waiting: &[WaitingJob]) -> QueueView {
    let queue = &snapshot.queue;
    let oldest = waiting.iter().map(|job| job.waited).max().unwrap_or_default();
    QueueView {
        current_size: depth(snapshot),
        max_size: queue.max_size as u64,
        bytes: queue.bytes as u64,
        max_bytes: queue.max_bytes as u64,
        depth_by_priority: queue.depth_by_priority.map(|depth| depth as u64).into(),
        full_policy: queue.full_policy.as_str(),
        oldest_seconds: oldest.as_secs_f64(),
    }
}

fn held_models(snapshot: &Snapshot, now: Moment) -> Vec<HeldModelView> {
    let view = |held: &crate::limiter::snapshot::HeldModel| HeldModelView {
        model: held.model.as_deref().unwrap_or_default().to_owned(),
        seconds: held.until.since(now).as_secs_f64(),
    };
    snapshot.held.iter().map(view).collect()
}

fn waiting_view(job: &WaitingJob) -> WaitingView {
    WaitingView {
        id: job.id.to_string(),
        agent: job.client.to_string(),
        priority: job.priority.as_str(),
        model: job.model.as_deref().map(str::to_owned),
        waited_seconds: job.waited.as_secs_f64(),
        position: job.position as u64,
        estimate_seconds: Some(job.eta.as_secs_f64()),
    }
}
