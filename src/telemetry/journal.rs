//! The books of finished requests: each is written once to the log, the metrics and the agents' view.

use crate::clock::{Clock, Moment};
use crate::config;
use crate::limiter::snapshot::Snapshot;
use crate::published::Published;
use crate::telemetry::agents::{AgentView, Agents, Beat, UnknownAgent};
use crate::telemetry::log::log_record;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::{Finished, RateState, Record};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Finished requests that wait until the agents are next looked at, which the dashboard's thread does once a second. When
/// more have come, the one that finds no room enters them all.
const UNENTERED: usize = 1024;

/// Where every finished request is written down.
pub struct Journal {
    metrics: Metrics,
    /// Locked by those who look, not by the workers: what they finish is entered when it is looked at.
    agents: Mutex<Agents>,
    finished: (Sender<Finished>, Receiver<Finished>),
    /// Raised by each finished request, each heartbeat and each change of the agents.
    changes: AtomicU64,
    snapshot: Arc<Published<Snapshot>>,
    clock: Clock,
}

impl Journal {
    /// Empty books. The pace of each request is read off the snapshot.
    #[must_use]
    pub fn new(
        metrics: Metrics,
        agents: Agents,
        snapshot: Arc<Published<Snapshot>>,
        clock: Clock,
    ) -> Journal {
        Journal {
            metrics,
            agents: Mutex::new(agents),
            finished: bounded(UNENTERED),
            changes: AtomicU64::new(0),
            snapshot,
            clock,
        }
    }

    /// Writes a finished request down.
    pub fn close(&self, record: &Record<'_>) {
        self.metrics.observe(record);
        let finished = Finished::new(record, self.clock.now());
        if let Err(TrySendError::Full(finished) | TrySendError::Disconnected(finished)) =
            self.finished.0.try_send(finished)
        {
            self.with_agents(|agents| agents.saw(&finished));
        }
        self.changed();
        log_record(record);
    }

    /// The limiter's pace at this moment.
    #[must_use]
    pub fn pace(&self) -> RateState {
        let retreat = self.snapshot.read().retreat;
        RateState { state: retreat.state, effective_rpm: retreat.effective_rpm }
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The configured agents and the rest.
    #[must_use]
    pub fn agents(&self, now: Moment) -> Vec<AgentView> {
        self.with_agents(|agents| agents.view(now))
    }

    /// Takes a heartbeat of the agent `name`.
    ///
    /// # Errors
    /// When no agent of that name is configured.
    pub fn beat(&self, name: &str, beat: Beat, now: Moment) -> Result<(), UnknownAgent> {
        let beaten = self.with_agents(|agents| agents.beat(name, beat, now));
        self.changed();
        beaten
    }

    /// Takes over a new configuration's agents.
    pub fn reconfigure(&self, specs: &[config::Agent], now: Moment) {
        self.with_agents(|agents| agents.reconfigure(specs, now));
        self.changed();
    }

    /// Differs from what it was when anything was written down since.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.metrics.changes().wrapping_add(self.changes.load(Ordering::Acquire))
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Calendar time.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        self.clock.wall()
    }

    /// Last of all: who sees the new figure finds what it stands for.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn with_agents<T>(&self, act: impl FnOnce(&mut Agents) -> T) -> T {
        let mut agents = self.agents.lock();
        // Not those that come meanwhile: a busy proxy must not keep anybody here.
        for request in self.finished.1.try_iter().take(UNENTERED) {
            agents.saw(&request);
        }
        act(&mut agents)
    }
}
