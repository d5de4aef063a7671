//! What may be changed while the sidecar runs, by a reload or by an operator, in one place.

use crate::clock::Clock;
use crate::config::{self, Config, Faults, LiveConfig, Reloaded};
use crate::dispatch::thread::{Command, LimiterHandle};
use crate::downstream::job::Job;
use crate::limiter::gate::Unfit;
use crate::limiter::snapshot::WaitingJob;
use crate::telemetry::journal::Journal;
use crate::telemetry::log as logging;
use crate::upstream::agent::{self, AgentSettings};
use crate::upstream::trust::CaFileError;
use crate::upstream::worker::Forwarder;
use crate::workers::pool::Pool;
use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;

/// How long the limiter may take to answer; it answers within milliseconds while it runs.
const LIMITER_ANSWERS: Duration = Duration::from_secs(2);

/// The keys that an operator may change without a file.
pub const ADMIN_KEYS: [&str; 4] =
    ["rate_rpm", "queue_max_size", "fallback_enabled_passthrough", "queue_full_policy"];

/// Changes the running sidecar.
pub struct Control {
    live: Arc<LiveConfig>,
    limiter: LimiterHandle,
    pass_through: Arc<Pool<Job>>,
    journal: Arc<Journal>,
    forwarder: Arc<Forwarder>,
    clock: Clock,
    /// Held for the length of a change: a reload and an operator do not mix.
    changing: Mutex<()>,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum Refusal {
    /// Values that cannot be.
    Faults(Faults),
    /// Values that do not fit the present queue.
    Unfit(Unfit),
    /// Certificates that cannot be used.
    CaFile(CaFileError),
    /// The limiter has ended or does not answer.
    Gone,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Faults(faults) => write!(f, "{faults}"),
            Refusal::Unfit(unfit) => write!(f, "{unfit}"),
            Refusal::CaFile(error) => write!(f, "{error}"),
            Refusal::Gone => f.write_str("the limiter does not answer; the sidecar is stopping"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Control {
    /// Control over the parts given.
    #[must_use]
    pub fn new(
        live: Arc<LiveConfig>,
        limiter: LimiterHandle,
        pass_through: Arc<Pool<Job>>,
        journal: Arc<Journal>,
        forwarder: Arc<Forwarder>,
        clock: Clock,
    ) -> Control {
        Control { live, limiter, pass_through, journal, forwarder, clock, changing: Mutex::new(()) }
    }

    /// Puts the live keys of a newly loaded configuration into force; no connection and no job is touched.
    ///
    /// # Errors
    /// When the queue holds more than the new bound; nothing changes then.
    pub fn reload(&self, loaded: &Config) -> Result<Reloaded, Refusal> {
        let _changing = self.changing.lock();
        let merged = config::reload(&self.live.snapshot(), loaded);
        self.put_into_force(&merged.config)?;
        Ok(merged)
    }

    /// Puts an operator's values into force, all or none.
    ///
    /// # Errors
    /// When one of them cannot be, with all reasons; nothing changes then.
    pub fn patch(&self, values: &Map<String, Value>) -> Result<Arc<Config>, Refusal> {
        let _changing = self.changing.lock();
        let patched = config::patch(&self.live.snapshot(), values, &ADMIN_KEYS).map_err(Refusal::Faults)?;
        self.put_into_force(&patched)?;
        Ok(self.live.snapshot())
    }

    /// The running configuration.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.live.snapshot()
    }

    /// The rate goes back to its base and all holds are forgotten.
    ///
    /// # Errors
    /// When the limiter has ended.
    pub fn reset(&self) -> Result<(), Refusal> {
        self.ask(Command::Reset)
    }

    /// The first jobs of the queue, at most `most`.
    ///
    /// # Errors
    /// When the limiter has ended.
    pub fn waiting(&self, most: usize) -> Result<Vec<WaitingJob>, Refusal> {
        self.ask(|answer| Command::Waiting(most, answer))
    }

    /// Removes a job from the queue; tells whether it was there.
    ///
    /// # Errors
    /// When the limiter has ended.
    pub fn evict(&self, job: u64) -> Result<bool, Refusal> {
        self.ask(|answer| Command::Evict(job, answer))
    }

    /// Whether the limiter answers in its time.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.waiting(0).is_ok()
    }

    fn put_into_force(&self, config: &Config) -> Result<(), Refusal> {
        let agent = self.agent_for(config)?;
        let settings = Box::new(config.limiter.clone());
        self.ask(|answer| Command::Reconfigure(settings, answer))?.map_err(Refusal::Unfit)?;
        if let Some(agent) = agent {
            self.forwarder.renew(agent);
        }
        self.pass_through.set_cap(config.passthrough.max_in_flight);
        self.journal.reconfigure(&self.live.snapshot(), config);
        logging::set_level(config.log.level);
        self.live.replace(config.clone());
        Ok(())
    }

    /// A new agent where the configuration asks for one.
    fn agent_for(&self, config: &Config) -> Result<Option<Agent>, Refusal> {
        let settings = AgentSettings::of(config);
        if settings == AgentSettings::of(&self.live.snapshot()) && !settings.reads_files() {
            return Ok(None);
        }
        agent::agent(&settings, self.clock).map(Some).map_err(Refusal::CaFile)
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, Refusal> {
        let (answer, answered) = bounded(1);
        self.limiter.command(command(answer));
        answered.recv_timeout(LIMITER_ANSWERS).map_err(|_| Refusal::Gone)
    }
}
