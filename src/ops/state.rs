//! Everything that an operator can see of the sidecar at one moment: plain data, gathered in one place
//! ([`Sources::gather`]) and read by `/status`, the dashboard, its history and the metrics.

use crate::clock::{Clock, Moment};
use crate::config::{Config, LiveConfig};
use crate::dispatch::fleet::thread::FleetView;
use crate::downstream::connections::OpenConnections;
use crate::lifecycle::Stopping;
use crate::limiter::snapshot::{BucketStats, HeldModel, Snapshot};
use crate::ops::readiness::{Readiness, Ready};
use crate::published::Published;
use crate::telemetry::agents::AgentView;
use crate::telemetry::clients::ClientView;
use crate::telemetry::journal::Journal;
use crate::telemetry::key_watch::KeyRefused;
use crate::telemetry::metrics::Totals;
use crate::workers::pool::Load;
use std::sync::Arc;
use std::time::Duration;

/// The sidecar at one moment.
#[derive(Clone, Debug)]
pub struct State {
    /// When it was gathered.
    pub now: Moment,
    /// The same as calendar time, since the Unix epoch.
    pub unix: Duration,
    /// The sidecar is ending.
    pub draining: bool,
    /// Admin calls need a token.
    pub admin_token_required: bool,
    /// The rate below which the retreat never goes, requests a minute.
    pub floor_rpm: u32,
    /// The limiter as it was last published.
    pub limiter: Arc<Snapshot>,
    /// The bucket as it is now.
    pub bucket: BucketStats,
    /// Pass-through requests at the upstream.
    pub passthrough_in_flight: u64,
    /// Open client connections.
    pub connections: u64,
    /// Bound on client connections.
    pub connections_max: u64,
    /// Whether the sidecar can do its work.
    pub ready: Ready,
    /// The fleet, with an empty name where there is none.
    pub fleet: Arc<FleetView>,
    /// Since when the upstream refuses the sidecar's own key, if it does.
    pub key_refused: Option<KeyRefused>,
    /// Sums since the start.
    pub totals: Totals,
    /// The configured agents and the rest.
    pub agents: Vec<AgentView>,
    /// The busiest clients of about the last hour.
    pub clients: Vec<ClientView>,
}

impl State {
    /// Time since the start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.now.since(Moment::ZERO)
    }

    /// The models on hold, each with the seconds that are left.
    pub fn held(&self) -> impl Iterator<Item = (&HeldModel, f64)> {
        self.limiter.held.iter().map(|held| (held, held.until.since(self.now).as_secs_f64()))
    }
}

/// Those who know the parts of the state.
pub struct Sources {
    /// The running configuration.
    pub live: Arc<LiveConfig>,
    /// The limiter's state.
    pub snapshot: Arc<Published<Snapshot>>,
    /// The fleet.
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
    /// Whether the sidecar is ending.
    pub stopping: Stopping,
    /// The clock.
    pub clock: Clock,
}

/// What changes with every part of the state but time itself, and costs next to nothing to read.
pub struct Stamp {
    /// Kept, not only their addresses: a freed one's could come again.
    limiter: Arc<Snapshot>,
    config: Arc<Config>,
    fleet: Arc<FleetView>,
    counted: u64,
    pass_through: u64,
    connections: usize,
    draining: bool,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Stamp) -> bool {
        Arc::ptr_eq(&self.limiter, &other.limiter)
            && Arc::ptr_eq(&self.config, &other.config)
            && Arc::ptr_eq(&self.fleet, &other.fleet)
            && self.counted == other.counted
            && self.pass_through == other.pass_through
            && self.connections == other.connections
            && self.draining == other.draining
    }
}

impl Sources {
    /// The state at `now`.
    #[must_use]
    pub fn gather(&self, now: Moment) -> State {
        let (limiter, config) = (self.snapshot.read(), self.live.snapshot());
        State {
            now,
            unix: self.clock.unix(),
            draining: self.stopping.is_draining(),
            admin_token_required: config.admin_token.is_some(),
            floor_rpm: config.floor_rpm(),
            bucket: limiter.bucket.at(now),
            limiter,
            passthrough_in_flight: self.pass_through.jobs(),
            connections: self.open.count() as u64,
            connections_max: config.front.max_connections.min(self.most_connections) as u64,
            ready: self.readiness.judge(),
            fleet: self.fleet.read(),
            key_refused: self.journal.key_refused(),
            totals: self.journal.metrics().totals(),
            agents: self.journal.agents(now),
            clients: self.journal.clients(now),
        }
    }

    /// The stamp of the present state.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            limiter: self.snapshot.read(),
            config: self.live.snapshot(),
            fleet: self.fleet.read(),
            counted: self.journal.changes(),
            pass_through: self.pass_through.jobs(),
            connections: self.open.count(),
            draining: self.stopping.is_draining(),
        }
    }
}
