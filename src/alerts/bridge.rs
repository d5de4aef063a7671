//! `nvidia-sidecar alert-bridge`: settings, wiring, signals and stop.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::command::Command;
use super::endpoints::Endpoints;
use super::feishu::Feishu;
use super::metrics::{BridgeMetrics, RouteLabel};
use super::outbox::{Outbox, Receiver};
use super::queue::SendPace;
use super::settings::{AlertRoute, BridgeSettings, Way};
use crate::cli::EXIT_USAGE;
use crate::clock::Clock;
use crate::config::Environment;
use crate::http::server::{Limits, Server};
use crate::lifecycle::Threads;
use crate::service::{Log, SAME_SIGNAL, ignore};

/// What the HTTP side may cost: Alertmanager, Prometheus, a health check and an operator.
const LIMITS: Limits = Limits {
    max_connections: 32,
    max_body_bytes: 1024 * 1024,
    idle: Duration::from_secs(60),
    transfer: Duration::from_secs(10),
};

/// The bounds on sending.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Messages that may wait for one way: with cards of at most 10 kB, some 5 MB for each.
    pub capacity: usize,
    /// How fast they are sent.
    pub pace: SendPace,
    /// How long sending one may take.
    pub timeout: Duration,
    /// How long a stop may go on sending. With one more `timeout` it is under the 40 s after which the unit and the
    /// compose file kill.
    pub flush: Duration,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            capacity: 500,
            pace: SendPace::default(),
            timeout: Duration::from_secs(10),
            flush: Duration::from_secs(20),
        }
    }
}

/// A running bridge.
pub struct Bridge {
    server: Server,
    outboxes: Vec<Arc<Outbox>>,
    threads: Threads,
    tuning: Tuning,
    clock: Clock,
}

impl Bridge {
    /// Starts a bridge on `listener`.
    ///
    /// # Errors
    ///
    /// When the system has no room for a thread.
    pub fn start(
        settings: BridgeSettings,
        listener: TcpListener,
        tuning: Tuning,
        clock: Clock,
    ) -> Result<Bridge, Box<dyn Error>> {
        let labels: Vec<RouteLabel> = settings.routes.iter().map(label).collect();
        let metrics = Arc::new(BridgeMetrics::new(&labels)?);
        let outbox = |(route, label): (AlertRoute, RouteLabel)| {
            let receiver = match route.way {
                Way::Feishu { webhook, secret } => {
                    Receiver::Feishu(Feishu::new(webhook, secret, tuning.timeout, clock))
                }
                Way::Command(words) => Receiver::Command(Command::new(
                    words,
                    settings.command_environment.clone(),
                    tuning.timeout,
                )),
            };
            let bounds = (tuning.capacity, tuning.pace);
            Arc::new(Outbox::new(label, receiver, bounds, Arc::clone(&metrics), clock))
        };
        let outboxes: Vec<_> = settings.routes.into_iter().zip(labels).map(outbox).collect();
        let threads = Threads::default();
        for outbox in &outboxes {
            let RouteLabel { severity, way } = outbox.label();
            let outbox = Arc::clone(outbox);
            threads.spawn(format!("{way}-{}", severity.as_str()), move || outbox.run())?;
        }
        let (style, token) = (settings.style, settings.token);
        let endpoints = Endpoints { outboxes: outboxes.clone(), style, token, metrics, clock };
        let server = Server::start("alert-webhook", listener, LIMITS, clock, move |request, reply| {
            let answer = endpoints.answer(&request);
            reply.send(answer.status, answer.content_type, answer.fields, &answer.body)
        })?;
        Ok(Bridge { server, outboxes, threads, tuning, clock })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Takes no more alerts, sends what is queued within the bound, and returns how many messages are lost.
    #[must_use]
    pub fn stop(self) -> usize {
        self.server.stop();
        for outbox in &self.outboxes {
            outbox.close(self.tuning.flush);
        }
        let bound = self.tuning.flush + self.tuning.timeout + Duration::from_secs(1);
        let _ = self.threads.join_until(self.clock.instant(self.clock.now() + bound));
        self.outboxes.iter().map(|outbox| outbox.len()).sum()
    }
}

fn label(route: &AlertRoute) -> RouteLabel {
    let way = match route.way {
        Way::Feishu { .. } => "feishu",
        Way::Command(_) => "command",
    };
    RouteLabel { severity: route.severity, way }
}

/// Runs the bridge until a signal stops it. Status 0 after a stop; 1 when it cannot start or a second signal ends it
/// at once; 2 when the settings are wrong.
#[must_use]
pub fn run(environment: &Environment) -> ExitCode {
    let settings = match BridgeSettings::read(environment) {
        Ok(settings) => settings,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let clock = Clock::start();
    let log = match Log::start(&settings.log, environment, clock) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("nvidia-sidecar: cannot start the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = serve(settings, clock).unwrap_or_else(|error| {
        log::error!("{error}");
        ExitCode::FAILURE
    });
    log.stop(&clock);
    code
}

fn serve(settings: BridgeSettings, clock: Clock) -> Result<ExitCode, Box<dyn Error>> {
    // Before anything else, so that no signal finds its default, which is to kill.
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2])?;
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let address = settings.listen;
    let listener =
        TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let routes: Vec<RouteLabel> = settings.routes.iter().map(label).collect();
    let bridge = Bridge::start(settings, listener, Tuning::default(), clock)?;
    let ways: Vec<_> =
        routes.iter().map(|route| format!("{} to {}", route.severity.as_str(), route.way)).collect();
    let version = env!("CARGO_PKG_VERSION");
    log::info!("alert-bridge {version} listens on {}: {}", bridge.address(), ways.join(", "));
    for signal in signals.forever() {
        match signal {
            SIGHUP => log::warn!("the bridge has no reload: its settings are the environment's; restart it"),
            SIGUSR1 | SIGUSR2 => ignore(signal),
            _ => return Ok(stop(bridge, &mut signals)?),
        }
    }
    Ok(ExitCode::FAILURE)
}

/// Sends on a thread of its own while this one listens for a second signal, which ends the process at once. What comes within
/// [`SAME_SIGNAL`] of the first is the same one.
fn stop(bridge: Bridge, signals: &mut Signals) -> io::Result<ExitCode> {
    log::info!("stopping: sending what is queued, within {:?}", bridge.tuning.flush);
    let (clock, began) = (bridge.clock, bridge.clock.now());
    let (ended, end) = bounded(1);
    let handle = signals.handle();
    Threads::default().spawn("stop".into(), move || {
        let _ = ended.send(bridge.stop());
        handle.close();
    })?;
    let second = |signal| matches!(signal, SIGTERM | SIGINT) && clock.now().since(began) > SAME_SIGNAL;
    if signals.forever().any(second) {
        log::warn!("a second signal: exiting at once");
        return Ok(ExitCode::FAILURE);
    }
    match end.try_recv() {
        Ok(0) => log::info!("stopped"),
        Ok(lost) => log::error!("stopped with {lost} messages unsent; Alertmanager repeats what still fires"),
        Err(_) => log::error!("stopped"),
    }
    Ok(ExitCode::SUCCESS)
}
