//! Builds every part and wires them; the only file that knows all stages.

use crate::clock::Clock;
use crate::config::{Config, LiveConfig, Reloaded};
use crate::control::{Control, Refusal};
use crate::dispatch::fleet::{self, thread::FleetView};
use crate::dispatch::state_file::StateFile;
use crate::dispatch::thread::{Command, Limiter, LimiterHandle, Parts};
use crate::downstream::body_memory::BodyBudget;
use crate::downstream::connections::OpenConnections;
use crate::downstream::source::Port;
use crate::front::event_loop::{EventLoop, LoopCommand, LoopHandle};
use crate::front::intake::{Intake, IntakeParts};
use crate::front::listen::{self, InheritedListeners};
use crate::lifecycle::{self, Stopping, Threads};
use crate::limiter::gate::Gate;
use crate::ops::admin_thread::AdminThread;
use crate::ops::admission::Admission;
use crate::ops::listing::Listing;
use crate::ops::overview::Overview;
use crate::ops::pages::Pages;
use crate::ops::readiness::Readiness;
use crate::ops::show;
use crate::ops::state::Sources;
use crate::published::Published;
use crate::telemetry::journal::Journal;
use crate::telemetry::metrics::Metrics;
use crate::upstream::agent::{self, AgentSettings};
use crate::upstream::trust::CaFileError;
use crate::upstream::worker::Forwarder;
use crate::workers::pool::Pool;
use crossbeam_channel::{Sender, bounded};
use signal_hook::consts::SIGTERM;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

/// Descriptors that are not client connections: listeners, selectors, log, state file, and some air.
const OTHER_DESCRIPTORS: usize = 64;

/// How much of `drain_timeout` is kept for telling those who are left, at most.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long an event loop may take to answer; it answers within milliseconds while it turns.
const LOOP_ANSWERS: Duration = Duration::from_secs(2);

/// A sidecar that runs.
pub struct Sidecar {
    live: Arc<LiveConfig>,
    control: Arc<Control>,
    limiter: LimiterHandle,
    forwarder: Arc<Forwarder>,
    journal: Arc<Journal>,
    loops: Vec<LoopHandle>,
    /// The event loops' threads.
    fronts: Threads,
    /// All other threads.
    threads: Threads,
    stopping: Stopping,
    /// The limiter has died of a bug.
    dead: Arc<AtomicBool>,
    /// Closed to end the dashboard's show.
    show: Sender<()>,
    clock: Clock,
    addresses: (SocketAddr, SocketAddr),
}

/// How a sidecar ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything that was under way was finished.
    Drained,
    /// `drain_timeout` was up; what was left has been refused or cut.
    Cut,
    /// A bug had ended the limiter.
    Failed,
}

/// Why a sidecar cannot start.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The state file cannot be used.
    StateFile(std::path::PathBuf, io::Error),
    /// A file that a key names cannot be read.
    Unreadable(&'static str, std::path::PathBuf, io::Error),
    /// The system gives no thread or no selector.
    System(io::Error),
    /// The configured certificates cannot be used.
    CaFile(CaFileError),
    /// The metrics cannot be registered: a bug.
    Metrics(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: the port is taken; stop what listens there or change listen_port or metrics_port"
            ),
            StartError::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            StartError::StateFile(path, error) => {
                write!(f, "cannot use the state_file {}: {error}", path.display())
            }
            StartError::Unreadable(key, path, error) => {
                write!(f, "cannot read the {key} {}: {error}", path.display())
            }
            StartError::CaFile(error) => write!(f, "{error}"),
            StartError::System(error) => write!(f, "the system refuses a thread or a selector: {error}"),
            StartError::Metrics(error) => write!(f, "the metrics cannot be registered: {error}"),
        }
    }
}

impl Error for StartError {}

impl StartError {
    /// Whether the configuration is to blame, rather than the system.
    #[must_use]
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, StartError::CaFile(_) | StartError::StateFile(..) | StartError::Unreadable(..))
    }
}

/// What would keep a sidecar of this configuration from starting, as far as it can be tried beside one that runs: its
/// ports and its threads are not.
#[must_use]
pub fn check(config: &Config, clock: Clock) -> Vec<StartError> {
    let certificates = agent::agent(&AgentSettings::of(config), clock).map(drop).map_err(StartError::CaFile);
    let state = config.state_file.as_ref().map_or(Ok(()), |path| {
        StateFile::check(path, clock).map_err(|error| StartError::StateFile(path.clone(), error))
    });
    let redis =
        [("redis_password_file", &config.fleet.password_file), ("redis_ca_file", &config.fleet.ca_file)];
    let unreadable = redis.into_iter().filter_map(|(key, path)| {
        let path = path.as_ref()?;
        File::open(path).err().map(|error| StartError::Unreadable(key, path.clone(), error))
    });
    [certificates, state].into_iter().filter_map(Result::err).chain(unreadable).collect()
}

impl Sidecar {
    /// Builds all parts, binds the ports and starts the threads.
    ///
    /// # Errors
    /// When a port, the state file or a thread cannot be had; nothing runs then.
    pub fn start(config: Config, clock: Clock) -> Result<Sidecar, StartError> {
        Sidecar::start_on(InheritedListeners::default(), config, clock)
    }

    /// The same on listeners that were inherited over; ports are bound for those that were not.
    ///
    /// # Errors
    /// As [`Sidecar::start`].
    pub fn start_on(
        inherited: InheritedListeners,
        config: Config,
        clock: Clock,
    ) -> Result<Sidecar, StartError> {
        let cores = available_parallelism().map_or(1, usize::from);
        let listening = |port, inherited, count| {
            let addresses = config.listen.host.addresses(port);
            listen::open(&addresses, inherited, count).map_err(|(address, e)| StartError::Listen(address, e))
        };
        let api = listening(config.listen.port, inherited.api, cores)?;
        let metrics_door = listening(config.listen.metrics_port, inherited.metrics, 1)?;
        let addresses = (local_address(&api)?, local_address(&metrics_door)?);
        let state = match &config.state_file {
            Some(path) => {
                Some(StateFile::open(path, clock).map_err(|e| StartError::StateFile(path.clone(), e))?)
            }
            None => None,
        };
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), clock.unix())
            .map_err(|e| StartError::Metrics(e.to_string()))?;

        let (fronts, threads) = (Threads::default(), Threads::default());
        let stopping = Stopping::default();
        let mut gate = Gate::new(config.limiter.clone(), clock.now());
        let board = Arc::new(Published::new(gate.snapshot(clock.now())));
        let journal = Arc::new(Journal::new(metrics, &config, board.clone(), clock));
        let max_in_flight = (config.limiter.max_in_flight as usize, config.passthrough.max_in_flight);
        let most_connections = most_connections(&config);
        let live = Arc::new(LiveConfig::new(config));
        let forwarder = Arc::new(
            Forwarder::new(live.clone(), board.clone(), journal.clone(), stopping.clone(), clock)
                .map_err(StartError::CaFile)?,
        );

        let limited_courier = forwarder.clone();
        let limited = Pool::new("limited", max_in_flight.0, threads.clone(), move || {
            let forwarder = limited_courier.clone();
            Box::new(move |dispatch| forwarder.carry_limited(dispatch))
        });
        let pass_courier = forwarder.clone();
        let pass_through = Arc::new(Pool::new("pass-through", max_in_flight.1, threads.clone(), move || {
            let forwarder = pass_courier.clone();
            Box::new(move |job| forwarder.carry_pass_through(job))
        }));
        let fleet_view = Arc::new(Published::new(FleetView::default()));
        let (fleet_thread, fleet) = fleet::join(fleet::Wiring {
            live: live.clone(),
            gate: &mut gate,
            state: state.as_ref(),
            snapshot: board.clone(),
            view: fleet_view.clone(),
            clock,
        })
        .unzip();
        let workers = Arc::new(limited);
        let parts = Parts { gate, board: board.clone(), workers, state, fleet, clock };
        let (limiter_thread, limiter) = Limiter::new(parts);

        let control = Arc::new(Control::new(
            live.clone(),
            limiter.clone(),
            pass_through.clone(),
            journal.clone(),
            forwarder.clone(),
            clock,
        ));
        let admin = AdminThread::open(control.clone(), &threads).map_err(StartError::System)?;
        let (readiness, prober) =
            Readiness::new(board.clone(), forwarder.clone(), live.clone(), journal.clone(), clock);
        let open = OpenConnections::default();
        let overview = Arc::new(Overview::new(Sources {
            live: live.clone(),
            snapshot: board.clone(),
            fleet: fleet_view,
            journal: journal.clone(),
            readiness: readiness.clone(),
            open: open.clone(),
            most_connections,
            pass_through: pass_through.load(),
            stopping: stopping.clone(),
            clock,
        }));
        let listing = Listing::open(control.clone(), board, clock, &threads).map_err(StartError::System)?;
        let pages = Pages {
            live: live.clone(),
            listing,
            overview: overview.clone(),
            readiness: readiness.clone(),
            admin,
            admission: Admission::default(),
            clock,
        };
        let intake = Arc::new(Intake::new(IntakeParts {
            live: live.clone(),
            limiter: limiter.clone(),
            pass_through,
            pages,
            journal: journal.clone(),
            stopping: stopping.clone(),
            budget: BodyBudget::default(),
            clock,
            most_connections,
        }));

        let mut loops = Vec::new();
        let mut event_loops = Vec::new();
        let mut listeners: Vec<Vec<(TcpListener, Port)>> = (0..cores).map(|_| Vec::new()).collect();
        for (i, listener) in api.into_iter().enumerate() {
            listeners[i % cores].push((listener, Port::Api));
        }
        listeners[0].extend(metrics_door.into_iter().map(|listener| (listener, Port::Metrics)));
        for ports in listeners {
            let (event_loop, handle) =
                EventLoop::new(ports, open.clone(), intake.clone(), stopping.clone(), clock)
                    .map_err(StartError::System)?;
            event_loops.push(event_loop);
            loops.push(handle);
        }

        let (show, show_ends) = bounded(0);
        let (shown_to, show_control) = (loops.clone(), control.clone());
        let show_viewers = move |event| command_all(&shown_to, &LoopCommand::Show(event));
        let watched = Arc::downgrade(&readiness);
        let spawn = |name: &str, run: Box<dyn Fn() + Send>| {
            threads.spawn_lasting(name.into(), run).map_err(StartError::System)
        };
        let dead = Arc::new(AtomicBool::new(false));
        let limiter_died = dead.clone();
        let end_process = move || {
            limiter_died.store(true, Ordering::SeqCst);
            // Without the limiter nothing is right any more: drain, end, and let the service manager start anew.
            let _ = signal_hook::low_level::raise(SIGTERM);
        };
        threads
            .spawn_vital("limiter".into(), move || limiter_thread.run(), end_process.clone())
            .map_err(StartError::System)?;
        if let Some(fleet) = fleet_thread {
            threads
                .spawn_vital("fleet".into(), move || fleet.run(), end_process)
                .map_err(StartError::System)?;
        }
        spawn("prober", Box::new(move || prober.run(&watched)))?;
        spawn(
            "show",
            Box::new(move || {
                show::run(&overview, &show_control, &show_viewers, &show_ends);
            }),
        )?;
        for (i, event_loop) in event_loops.into_iter().enumerate() {
            fronts.spawn(format!("loop-{i}"), move || event_loop.run()).map_err(StartError::System)?;
        }
        Ok(Sidecar {
            live,
            control,
            limiter,
            forwarder,
            journal,
            loops,
            fronts,
            threads,
            stopping,
            dead,
            show,
            clock,
            addresses,
        })
    }

    /// Where requests and the operator's pages are served.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.addresses.0
    }

    /// Where metrics are served.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        self.addresses.1
    }

    /// The running configuration.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.live.snapshot()
    }

    /// Puts the live keys of a newly loaded configuration into force; no connection and no job is touched.
    ///
    /// # Errors
    /// When the queue holds more than the new bound; nothing changes then.
    pub fn reload(&self, loaded: &Config) -> Result<Reloaded, Refusal> {
        self.control.reload(loaded)
    }

    /// Asks whether the limiter and the event loops answer. What asks does not keep the limiter alive, and finds a sidecar
    /// well that is ending.
    pub fn pulse(&self) -> impl Fn() -> bool + Send + use<> {
        let (control, loops) = (Arc::downgrade(&self.control), self.loops.clone());
        move || {
            control.upgrade().is_none_or(|control| control.answers())
                && loops.iter().all(|event_loop| event_loop.answers(LOOP_ANSWERS))
        }
    }

    /// Counts a reload in the metrics.
    pub fn count_reload(&self, succeeded: bool) {
        let metrics = self.journal.metrics();
        if succeeded {
            metrics.reloaded(self.clock.unix());
        } else {
            metrics.reload_failed();
        }
    }

    /// Stops: accepts nothing more, finishes what is in flight and what the tickets allow within `drain_timeout`, refuses
    /// the rest.
    #[must_use]
    pub fn stop(self) -> End {
        let dead = self.dead.clone();
        let drained = self.drain();
        match (dead.load(Ordering::SeqCst), drained) {
            (true, _) => End::Failed,
            (false, true) => End::Drained,
            (false, false) => End::Cut,
        }
    }

    /// Tells whether everything ended by itself.
    fn drain(self) -> bool {
        let Sidecar {
            live, control, limiter, forwarder, loops, fronts, threads, stopping, show, clock, ..
        } = self;
        let within = live.snapshot().drain_timeout;
        let end = clock.now() + within;
        let last_words = end - LAST_WORDS.min(within / 4);
        stopping.drain();
        limiter.command(Command::CloseAt(last_words));
        command_all(&loops, &LoopCommand::Drain);
        let drained = fronts.join_until(clock.instant(last_words));
        if !drained {
            stopping.cut();
            forwarder.cut();
            let told = fronts.join_until(clock.instant(last_words + LAST_WORDS.min(within / 8)));
            if !told {
                command_all(&loops, &LoopCommand::Cut);
            }
        }
        // Stages end because their input closes: these were the last ends outside the loops.
        drop((control, limiter, show));
        threads.join_until(clock.instant(end)) && drained
    }
}

fn command_all(loops: &[LoopHandle], command: &LoopCommand) {
    for event_loop in loops {
        event_loop.command(command.clone());
    }
}

fn local_address(listeners: &[TcpListener]) -> Result<SocketAddr, StartError> {
    let unbound = || StartError::System(io::ErrorKind::AddrNotAvailable.into());
    listeners.first().ok_or_else(unbound)?.local_addr().map_err(StartError::System)
}

/// As many client connections as there are descriptors, each worker's upstream connection set aside.
fn most_connections(config: &Config) -> usize {
    let descriptors = lifecycle::raise_descriptor_limit();
    let upstream = config.limiter.max_in_flight as usize + config.passthrough.max_in_flight;
    let most = descriptors.saturating_sub(OTHER_DESCRIPTORS + upstream).max(descriptors / 4);
    if most < config.front.max_connections {
        log::warn!(
            "max_connections is {}, but the limit on open files ({descriptors}) allows {most} connections only; raise it (ulimit -n, LimitNOFILE=)",
            config.front.max_connections
        );
    }
    most
}
