//! The books of finished requests: each is written once to the log, the metrics and the agents' view.

use crate::clock::{Clock, Moment};
use crate::limiter::snapshot::Snapshot;
use crate::published::Published;
use crate::telemetry::agents::Agents;
use crate::telemetry::log::log_record;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::{RateState, Record};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::SystemTime;

/// Where every finished request is written down.
pub struct Journal {
    metrics: Metrics,
    agents: Mutex<Agents>,
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
        Journal { metrics, agents: Mutex::new(agents), snapshot, clock }
    }

    /// Writes a finished request down.
    pub fn close(&self, record: &Record<'_>) {
        self.metrics.observe(record);
        self.agents.lock().saw(record.client, record, self.clock.now());
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

    /// The configured agents.
    #[must_use]
    pub fn agents(&self) -> &Mutex<Agents> {
        &self.agents
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
}
