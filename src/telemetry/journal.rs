//! The books of finished requests: each is written once to the log, the metrics, and the views of agents and clients.

use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::limiter::snapshot::Snapshot;
use crate::priority::Priority;
use crate::published::Published;
use crate::telemetry::agents::{AgentView, Agents, Beat, UnknownAgent};
use crate::telemetry::clients::{ClientView, Clients};
use crate::telemetry::key_watch::{KeyChange, KeyRefused, KeyWatch};
use crate::telemetry::log::log_record;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::{Finished, RateState, Record};
use crate::telemetry::waits::{Percentiles, Waits};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Entries that wait until the books are next looked at, which the dashboard's thread does once a second. When
/// more have come, the one that finds no room enters them all.
const UNENTERED: usize = 1024;

/// Where every finished request is written down.
pub struct Journal {
    metrics: Metrics,
    key: KeyWatch,
    /// Locked by those who look, not by the workers: what they say is entered when it is looked at.
    books: Mutex<Books>,
    entries: (Sender<Entry>, Receiver<Entry>),
    /// Raised by each finished request, each heartbeat and each change of the agents.
    changes: AtomicU64,
    snapshot: Arc<Published<Snapshot>>,
    clock: Clock,
}

struct Books {
    agents: Agents,
    clients: Clients,
    waits: Waits,
}

enum Entry {
    /// A request of this client has come.
    Began(Arc<str>, Moment),
    Finished(Finished),
    /// A request got its ticket after this wait.
    Waited(Priority, Duration),
}

impl Journal {
    /// Empty books for the configuration. The pace of each request is read off the snapshot.
    #[must_use]
    pub fn new(
        metrics: Metrics,
        config: &Config,
        snapshot: Arc<Published<Snapshot>>,
        clock: Clock,
    ) -> Journal {
        let agents = Agents::new(&config.agents, clock.now());
        Journal {
            metrics,
            key: KeyWatch::new(config.upstream.api_key.is_some()),
            books: Mutex::new(Books { agents, clients: Clients::default(), waits: Waits::default() }),
            entries: bounded(UNENTERED),
            changes: AtomicU64::new(0),
            snapshot,
            clock,
        }
    }

    /// Writes a finished request down.
    pub fn close(&self, record: &Record<'_>) {
        let now = self.clock.now();
        self.metrics.observe(record);
        self.enter(Entry::Finished(Finished::new(record, now)));
        let key = self.key.saw(record, now);
        self.changed();
        log_record(record);
        match key {
            Some(KeyChange::Refused(status)) => log::warn!(
                status;
                "the upstream refuses upstream_api_key with {status}: every request for it will fail until another key is \
                 configured (a reload is enough) or this one is accepted again"
            ),
            Some(KeyChange::Accepted) => log::info!("the upstream accepts upstream_api_key again"),
            None => {}
        }
    }

    /// A request of this client has come.
    pub fn begin(&self, client: &Arc<str>) {
        self.enter(Entry::Began(client.clone(), self.clock.now()));
    }

    /// A request got its ticket after waiting for so long.
    pub fn waited(&self, priority: Priority, wait: Duration) {
        self.enter(Entry::Waited(priority, wait));
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
        self.with_books(|books| books.agents.view(now))
    }

    /// The busiest clients.
    #[must_use]
    pub fn clients(&self, now: Moment) -> Vec<ClientView> {
        self.with_books(|books| books.clients.view(now))
    }

    /// How long requests waited since the last call, in the order of [`Priority::ALL`].
    #[must_use]
    pub fn take_waits(&self) -> [Option<Percentiles>; Priority::ALL.len()] {
        self.with_books(|books| books.waits.take())
    }

    /// Since when the upstream refuses the sidecar's own key, if it does.
    #[must_use]
    pub fn key_refused(&self) -> Option<KeyRefused> {
        self.key.refused()
    }

    /// Takes a heartbeat of the agent `name`.
    ///
    /// # Errors
    /// When no agent of that name is configured.
    pub fn beat(&self, name: &str, beat: Beat, now: Moment) -> Result<(), UnknownAgent> {
        let beaten = self.with_books(|books| books.agents.beat(name, beat, now));
        self.changed();
        beaten
    }

    /// Takes over a new configuration in place of `old`.
    pub fn reconfigure(&self, old: &Config, new: &Config) {
        self.with_books(|books| books.agents.reconfigure(&new.agents, self.clock.now()));
        if old.upstream.api_key != new.upstream.api_key {
            self.key.reset(new.upstream.api_key.is_some());
        }
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

    fn enter(&self, entry: Entry) {
        if let Err(TrySendError::Full(entry) | TrySendError::Disconnected(entry)) =
            self.entries.0.try_send(entry)
        {
            self.with_books(|books| books.enter(entry));
        }
    }

    fn with_books<T>(&self, act: impl FnOnce(&mut Books) -> T) -> T {
        let mut books = self.books.lock();
        // Not those that come meanwhile: a busy proxy must not keep anybody here.
        for entry in self.entries.1.try_iter().take(UNENTERED) {
            books.enter(entry);
        }
        act(&mut books)
    }
}

impl Books {
    fn enter(&mut self, entry: Entry) {
        match entry {
            Entry::Began(client, at) => self.agents.began(&client, at),
            Entry::Finished(request) => {
                self.agents.saw(&request);
                self.clients.saw(&request);
            }
            Entry::Waited(priority, wait) => {
                self.waits.add(priority, wait.as_secs_f32(), |below| fastrand::usize(..below));
            }
        }
    }
}
