//! The books of finished requests: each is written once to the log, the metrics and the agents' view.

use crate::clock::{Clock, Moment};
use crate::limiter::board::Board;
use crate::ops::agents::Agents;
use crate::ops::log::log_record;
use crate::ops::metrics::Metrics;
use crate::record::{Pace, Record};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::SystemTime;

/// Where every finished request is written down.
pub struct Journal {
    metrics: Metrics,
    agents: Mutex<Agents>,
    board: Arc<Board>,
    clock: Clock,
}

impl Journal {
    /// Empty books. The pace of each request is read off the board.
    #[must_use]
    pub fn new(metrics: Metrics, agents: Agents, board: Arc<Board>, clock: Clock) -> Journal {
        Journal { metrics, agents: Mutex::new(agents), board, clock }
    }

    /// Writes a finished request down.
    pub fn close(&self, record: &Record<'_>) {
        self.metrics.observe(record);
        self.agents.lock().saw(record.client, record, self.clock.now());
        log_record(record);
    }

    /// The limiter's pace at this moment.
    #[must_use]
    pub fn pace(&self) -> Pace {
        let retreat = self.board.read().retreat;
        Pace { state: retreat.state, effective_rpm: retreat.effective_rpm }
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
