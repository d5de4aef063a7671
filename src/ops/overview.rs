//! The pages that show the state: each is built once for all viewers until something changes.

use crate::clock::Moment;
use crate::limiter::snapshot::WaitingJob;
use crate::ops::cached::Cached;
use crate::ops::dashboard::DashboardSnapshot;
use crate::ops::gauges;
use crate::ops::history::{History, Sample};
use crate::ops::page::Page;
use crate::ops::state::Sources;
use crate::ops::status::Status;
use crate::telemetry::metrics::CONTENT_TYPE;
use crate::telemetry::process::ProcessFigures;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Viewers of the dashboard's stream at once.
const MAX_VIEWERS: usize = 512;

/// Shows the state.
pub struct Overview {
    sources: Sources,
    history: Mutex<History>,
    /// Failed attempts at the upstream, as of the last sample.
    failures: AtomicU64,
    status: Cached<Page>,
    metrics: Cached<Page>,
}

impl Overview {
    /// An overview of what `sources` know, with an empty history.
    #[must_use]
    pub fn new(sources: Sources) -> Overview {
        Overview {
            sources,
            history: Mutex::default(),
            failures: AtomicU64::new(0),
            status: Cached::default(),
            metrics: Cached::default(),
        }
    }

    /// Where the state comes from.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How many watch the dashboard's stream.
    #[must_use]
    pub fn viewers(&self) -> usize {
        self.sources.open.viewers()
    }

    pub(super) fn may_watch(&self) -> bool {
        self.viewers() < MAX_VIEWERS
    }

    /// Liveness: that this is answered at all is the message.
    #[must_use]
    pub fn health(&self, now: Moment) -> Page {
        let uptime = now.since(Moment::ZERO).as_secs_f64();
        Page::json(200, &json!({"status": "ok", "uptime": uptime, "version": env!("CARGO_PKG_VERSION")}))
    }

    /// `GET /status`.
    #[must_use]
    pub fn status(&self, now: Moment) -> Arc<Page> {
        self.status.get(&self.sources, now, |state| Page::json(200, &Status::from(state)))
    }

    /// `GET /api/dashboard/history`.
    #[must_use]
    pub fn history(&self) -> Page {
        let json = self.history.lock().to_json().unwrap_or_default();
        Page::new(200, "application/json", json)
    }

    /// `GET /metrics`.
    #[must_use]
    pub fn metrics(&self, now: Moment) -> Arc<Page> {
        self.metrics.get(&self.sources, now, |state| {
            self.sources.readiness.refresh();
            let known = gauges::families(state, &ProcessFigures::read());
            match self.sources.journal.metrics().render(known) {
                Ok(text) => Page::new(200, CONTENT_TYPE, text),
                Err(error) => {
                    log::error!("the metrics cannot be written: {error}");
                    Page::refusal(500, "the metrics cannot be written")
                }
            }
        })
    }

    /// Takes the present state down in the history; to be called once a second.
    pub fn sample(&self, now: Moment) {
        let state = self.sources.gather(now);
        // Failures call for a probe, also when nobody looks at a page: an upstream that is gone is to be said once.
        if self.failures.swap(state.totals.upstream_errors, Ordering::Relaxed) < state.totals.upstream_errors
        {
            self.sources.readiness.refresh();
        }
        let waits = || self.sources.journal.take_waits();
        self.history.lock().take(Sample::from(&state), waits, state.unix);
    }

    /// What the dashboard shows now as JSON in one line, with the first of the waiting requests.
    ///
    /// # Errors
    /// When the serializer fails, which plain data does not make it do.
    pub fn dashboard(&self, waiting: &[WaitingJob], now: Moment) -> serde_json::Result<String> {
        self.sources.readiness.refresh();
        let state = self.sources.gather(now);
        let (last_minute, point) = {
            let history = self.history.lock();
            (history.last_minute(), history.latest())
        };
        serde_json::to_string(&DashboardSnapshot::new(&state, waiting, last_minute, point))
    }
}
