//! Builds every part and wires them; the only file that knows all stages.

use crate::clock::Clock;
use crate::config::{self, Config, LiveConfig, Reloaded};
use crate::front::event_loop::{EventLoop, OpenConnections, Order};
use crate::front::intake::{Intake, Wiring};
use crate::front::link::Home;
use crate::front::listen::{self, Door};
use crate::front::memory::Budget;
use crate::lifecycle::{self, Threads};
use crate::limiter::board::Board;
use crate::limiter::gate::{Gate, Unfit};
use crate::limiter::settings::{QueueSettings, RetreatSettings, Settings};
use crate::limiter::state_file::StateFile;
use crate::limiter::thread::{Command, Intakes, Limiter, Parts};
use crate::ops::agents::{AgentSpec, Agents};
use crate::ops::journal::Journal;
use crate::ops::metrics::Metrics;
use crate::ops::pages::Pages;
use crate::upstream::pool::Pool;
use crate::upstream::worker::Courier;
use crossbeam_channel::{Sender, bounded, unbounded};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

/// Descriptors that are not client connections: listeners, selectors, log, state file, and some air.
const OTHER_DESCRIPTORS: usize = 64;

/// How much of `drain_timeout` is kept for telling those who are left, at most.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A sidecar that runs.
pub struct Sidecar {
    live: Arc<LiveConfig>,
    intake: Arc<Intake>,
    limiter: Intakes,
    courier: Arc<Courier>,
    journal: Arc<Journal>,
    loops: Vec<Loop>,
    threads: Threads,
    clock: Clock,
    addresses: (SocketAddr, SocketAddr),
}

struct Loop {
    orders: Sender<Order>,
    home: Arc<Home>,
}

/// Why a sidecar cannot start.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The state file cannot be used.
    StateFile(std::path::PathBuf, io::Error),
    /// The system gives no thread or no selector.
    System(io::Error),
    /// The metrics cannot be registered: a defect.
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
            StartError::System(error) => write!(f, "the system refuses a thread or a selector: {error}"),
            StartError::Metrics(error) => write!(f, "the metrics cannot be registered: {error}"),
        }
    }
}

impl Error for StartError {}

impl Sidecar {
    /// Builds all parts, binds the ports and starts the threads.
    ///
    /// # Errors
    /// When a port, the state file or a thread cannot be had; nothing runs then.
    pub fn start(config: Config, clock: Clock) -> Result<Sidecar, StartError> {
        let loops = available_parallelism().map_or(1, usize::from);
        let listening =
            |address, count| listen::bind(address, count).map_err(|e| StartError::Listen(address, e));
        let api = listening(config.listen.address(), loops)?;
        let metrics_door = listening(config.listen.metrics_address(), 1)?;
        let addresses = (local_address(&api)?, local_address(&metrics_door)?);
        let state = match &config.state_file {
            Some(path) => {
                Some(StateFile::open(path, clock).map_err(|e| StartError::StateFile(path.clone(), e))?)
            }
            None => None,
        };
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), clock.unix())
            .map_err(|e| StartError::Metrics(e.to_string()))?;

        let threads = Threads::default();
        let gate = Gate::new(limiter_settings(&config), clock.now());
        let board = Arc::new(Board::new(gate.snapshot(clock.now())));
        let agents = Agents::new(&agent_specs(&config), clock.now());
        let journal = Arc::new(Journal::new(metrics, agents, board.clone(), clock));
        let max_in_flight = (config.upstream.max_in_flight, config.passthrough.max_in_flight);
        let most_connections = most_connections(&config);
        let live = Arc::new(LiveConfig::new(config));
        let courier = Arc::new(Courier::new(live.clone(), board.clone(), journal.clone(), clock));

        let limited_courier = courier.clone();
        let limited = Pool::new("limited", max_in_flight.0, threads.clone(), move || {
            let courier = limited_courier.clone();
            Box::new(move |dispatch| courier.carry_limited(dispatch))
        });
        let pass_courier = courier.clone();
        let pass_through = Pool::new("pass-through", max_in_flight.1, threads.clone(), move || {
            let courier = pass_courier.clone();
            Box::new(move |job| courier.carry_pass_through(job))
        });
        let (limiter_thread, limiter) =
            Limiter::new(Parts { gate, board: board.clone(), workers: Arc::new(limited), state, clock });
        let open = OpenConnections::default();
        let pages = Pages { live: live.clone(), board, journal: journal.clone(), open: open.clone(), clock };
        let intake = Arc::new(Intake::new(Wiring {
            live: live.clone(),
            limiter: limiter.clone(),
            pass_through: Arc::new(pass_through),
            pages,
            journal: journal.clone(),
            budget: Budget::default(),
            clock,
            most_connections,
        }));

        let mut built = Vec::new();
        let mut metrics_door = Some(metrics_door);
        for listener in api {
            let mut doors = vec![(listener, Door::Api)];
            doors.extend(metrics_door.take().into_iter().flatten().map(|l| (l, Door::Metrics)));
            let (orders, given) = unbounded();
            let event_loop = EventLoop::new(doors, given, open.clone(), intake.clone(), clock)
                .map_err(StartError::System)?;
            built.push((Loop { orders, home: event_loop.home() }, event_loop));
        }
        let spawn = |name: String, run: Box<dyn FnOnce() + Send>| {
            threads.spawn(name, run).map_err(StartError::System)
        };
        spawn("limiter".into(), Box::new(move || limiter_thread.run()))?;
        let mut handles = Vec::new();
        for (i, (handle, event_loop)) in built.into_iter().enumerate() {
            spawn(format!("loop-{i}"), Box::new(move || event_loop.run()))?;
            handles.push(handle);
        }
        Ok(Sidecar { live, intake, limiter, courier, journal, loops: handles, threads, clock, addresses })
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
    pub fn reload(&self, loaded: Config) -> Result<Reloaded, Unfit> {
        let merged = config::reload(&self.live.snapshot(), loaded);
        let (answer, answered) = bounded(1);
        let settings = Box::new(limiter_settings(&merged.config));
        self.limiter.command(Command::Reconfigure(settings, answer));
        // No answer: the limiter has ended, and with it the need for settings.
        answered.recv().unwrap_or(Ok(()))?;
        self.intake.set_max_in_flight(&merged.config);
        self.live.replace(merged.config.clone());
        Ok(merged)
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
    /// the rest. Tells whether everything ended by itself.
    pub fn stop(self) -> bool {
        let Sidecar { live, intake, limiter, courier, loops, threads, clock, .. } = self;
        let within = live.snapshot().drain_timeout;
        let end = clock.now() + within;
        let last_words = end - LAST_WORDS.min(within / 4);
        intake.drain();
        limiter.command(Command::CloseAt(last_words));
        order(&loops, Order::Drain);
        // Stages end because their input closes: these were the last ends outside the loops.
        drop((intake, limiter));
        if threads.join_until(clock.instant(last_words)) {
            return true;
        }
        courier.cut();
        let cut_at = last_words + LAST_WORDS.min(within / 8);
        if threads.join_until(clock.instant(cut_at)) {
            return false;
        }
        order(&loops, Order::Cut);
        let _ = threads.join_until(clock.instant(end));
        false
    }
}

fn order(loops: &[Loop], order: Order) {
    for Loop { orders, home } in loops {
        if orders.send(order).is_ok() {
            let _ = home.waker.wake();
        }
    }
}

fn local_address(listeners: &[TcpListener]) -> Result<SocketAddr, StartError> {
    let unbound = || StartError::System(io::ErrorKind::AddrNotAvailable.into());
    listeners.first().ok_or_else(unbound)?.local_addr().map_err(StartError::System)
}

/// As many client connections as there are descriptors, each worker's upstream connection set aside.
fn most_connections(config: &Config) -> usize {
    let descriptors = lifecycle::raise_descriptor_limit();
    let upstream = config.upstream.max_in_flight + config.passthrough.max_in_flight;
    let most = descriptors.saturating_sub(OTHER_DESCRIPTORS + upstream).max(descriptors / 4);
    if most < config.front.max_connections {
        log::warn!(
            "max_connections is {}, but the limit on open files ({descriptors}) allows {most} connections only; raise it (ulimit -n, LimitNOFILE=)",
            config.front.max_connections
        );
    }
    most
}

fn agent_specs(config: &Config) -> Vec<AgentSpec> {
    let spec = |a: &config::Agent| AgentSpec {
        name: a.name.clone(),
        label: a.label.clone(),
        heartbeat: a.heartbeat,
    };
    config.agents.iter().map(spec).collect()
}

/// The configuration as the limiter takes it.
fn limiter_settings(config: &Config) -> Settings {
    let Config { rate, queue, retreat, upstream, .. } = config;
    let defaults = Settings::default();
    Settings {
        rate_rpm: rate.rpm,
        bucket_capacity: rate.bucket_capacity,
        max_in_flight: u32::try_from(upstream.max_in_flight).unwrap_or(u32::MAX),
        queue: QueueSettings {
            max_size: queue.max_size,
            max_bytes: queue.max_bytes,
            full_policy: queue.full_policy,
            low_priority_timeout: queue.low_timeout,
            aging: queue.aging.unwrap_or_default(),
        },
        retry_after_cap: upstream.retry_after_cap,
        adaptive: retreat.adaptive,
        retreat: RetreatSettings {
            window: retreat.window,
            threshold: retreat.threshold_429,
            factor: retreat.factor,
            min_rpm: retreat.min_rpm,
            recover_window: retreat.recover_window,
            recover_threshold: retreat.recover_threshold,
            recover_increment_rpm: retreat.recover_increment_rpm.into(),
            ..defaults.retreat
        },
        ..defaults
    }
}
