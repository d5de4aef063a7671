//! The sidecar as a service: configuration, log, start, signals, reload and stop.

use crate::app::{self, End, Sidecar, StartError};
use crate::cli::EXIT_USAGE;
use crate::clock::Clock;
use crate::config::{self, Config, Environment, LogFormat};
use crate::front::listen::InheritedListeners;
use crate::lifecycle::Threads;
use crate::systemd::{self, Watchdog};
use crate::telemetry::log::{self as logging, LogCloser};
use crossbeam_channel::bounded;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How long the log's last lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A signal that follows the first one so soon is the same one.
pub(crate) const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Runs the proxy until it is told to stop. Status 0 after a stop, also when the drain had to be cut short; 1 when it
/// cannot start or a second signal ends it at once; 2 when the configuration is wrong, also where only the attempt shows it.
#[must_use]
pub fn run(path: Option<PathBuf>, environment: Environment) -> ExitCode {
    let inherited = match systemd::handed_over(&environment) {
        Ok(inherited) => inherited,
        Err(error) => {
            eprintln!("nvidia-sidecar: cannot use what the service manager hands over: {error}");
            return ExitCode::FAILURE;
        }
    };
    let loaded = match config::load(path.as_deref(), &environment) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let clock = Clock::start();
    let log = match Log::start(&loaded.config.log, &environment, clock) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("nvidia-sidecar: cannot start the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = Service { path, environment, clock }.run(inherited, loaded).unwrap_or_else(|error| {
        log::error!("{error}");
        if error.is_of_configuration() { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
    });
    log.stop(&clock);
    code
}

/// Validates the configuration, tries the files that the start would use, and prints the effective configuration, secrets
/// masked. Status 0, or 2 when something is wrong.
#[must_use]
pub fn check(path: Option<&Path>, environment: &Environment) -> ExitCode {
    let loaded = match config::load(path, environment) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    print!("{}", config::render_effective(&loaded.config));
    for way in ways_out(&loaded.config) {
        println!("# {way}");
    }
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let problems = app::check(&loaded.config, Clock::start());
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) }
}

/// Which upstreams are reached through a proxy, in words.
fn ways_out(config: &Config) -> Vec<String> {
    let upstreams = std::iter::once(&config.upstream.url).chain(&config.passthrough.url);
    upstreams.filter_map(|url| config.upstream.outbound_proxy.way_to(url)).collect()
}

/// What a reload needs again.
struct Service {
    path: Option<PathBuf>,
    environment: Environment,
    clock: Clock,
}

impl Service {
    fn run(&self, inherited: InheritedListeners, loaded: config::Loaded) -> Result<ExitCode, StartError> {
        // Before anything else, so that no signal finds its default, which is to kill.
        let mut signals =
            Signals::new([SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2]).map_err(StartError::System)?;
        for warning in &loaded.warnings {
            log::warn!("{warning}");
        }
        for way in ways_out(&loaded.config) {
            log::info!("{way}");
        }
        let sidecar = Sidecar::start_on(inherited, loaded.config, self.clock)?;
        let watchdog = Watchdog::start(sidecar.pulse()).map_err(StartError::System)?;
        log::info!("nvidia-sidecar {} {}", env!("CARGO_PKG_VERSION"), summary(&sidecar));
        systemd::ready(&summary(&sidecar));
        for signal in signals.forever() {
            match signal {
                SIGHUP => {
                    systemd::reloading();
                    let done = self.reload(&sidecar);
                    systemd::ready(&format!("{}; {done}", summary(&sidecar)));
                }
                SIGUSR1 | SIGUSR2 => ignore(signal),
                _ => break,
            }
        }
        systemd::stopping(sidecar.config().drain_timeout);
        let code = self.stop(sidecar, &mut signals);
        if let Some(watchdog) = watchdog {
            watchdog.stop(&self.clock);
        }
        Ok(code)
    }

    /// Drains on a thread of its own while this one listens for a second signal, which ends the process at once. What comes
    /// within a second of the first is the same one: a process group gets it from the terminal and from its parent.
    fn stop(&self, sidecar: Sidecar, signals: &mut Signals) -> ExitCode {
        log::info!("stopping: finishing what is under way, within {:?}", sidecar.config().drain_timeout);
        let began = self.clock.now();
        let (ended, end) = bounded(1);
        let handle: Handle = signals.handle();
        let drain = move || {
            let _ = ended.send(sidecar.stop());
            handle.close();
        };
        if Threads::default().spawn("stop".into(), drain).is_err() {
            return ExitCode::FAILURE;
        }
        for signal in signals.forever() {
            match signal {
                SIGUSR1 | SIGUSR2 => ignore(signal),
                SIGTERM | SIGINT if self.clock.now().since(began) > SAME_SIGNAL => {
                    log::warn!("a second signal: exiting at once");
                    return ExitCode::FAILURE;
                }
                _ => {}
            }
        }
        match end.try_recv() {
            Ok(End::Drained) => log::info!("stopped"),
            Ok(End::Failed) => return ExitCode::FAILURE,
            Ok(End::Cut) | Err(_) => {
                log::warn!("stopped at drain_timeout; what was left has been refused or cut");
            }
        }
        ExitCode::SUCCESS
    }

    /// Reads the configuration again and tells in a few words how that went.
    fn reload(&self, sidecar: &Sidecar) -> &'static str {
        const FAILED: &str = "the last reload failed, see the log";
        let loaded = match config::load(self.path.as_deref(), &self.environment) {
            Ok(loaded) => loaded,
            Err(faults) => {
                for fault in faults.notices() {
                    log::error!("reload: {fault}");
                }
                log::error!("reload: nothing was changed");
                sidecar.count_reload(false);
                return FAILED;
            }
        };
        for warning in &loaded.warnings {
            log::warn!("reload: {warning}");
        }
        let result = sidecar.reload(&loaded.config);
        sidecar.count_reload(result.is_ok());
        let reloaded = match result {
            Ok(reloaded) => reloaded,
            Err(refusal) => {
                log::error!("reload: nothing was changed: {refusal}");
                return FAILED;
            }
        };
        for held in &reloaded.held {
            log::warn!(
                "reload: {} stays {} until a restart (the file says {})",
                held.key,
                held.running,
                held.loaded
            );
        }
        let changed =
            if reloaded.changed.is_empty() { "nothing".into() } else { reloaded.changed.join(", ") };
        log::info!("reload: changed {changed}");
        "the last reload succeeded"
    }
}

/// Where the sidecar stands, in one line for people.
fn summary(sidecar: &Sidecar) -> String {
    format!(
        "listens on {} (metrics on {}) in front of {}",
        sidecar.api_address(),
        sidecar.metrics_address(),
        sidecar.config().upstream.url
    )
}

/// The default of these would end the process; other programs use them for their logs, so scripts send them.
pub(crate) fn ignore(signal: i32) {
    let name = if signal == SIGUSR1 { "SIGUSR1" } else { "SIGUSR2" };
    log::info!("{name} is ignored: SIGTERM stops");
}

/// The log and its writer's thread.
pub(crate) struct Log {
    closer: LogCloser,
    threads: Threads,
}

impl Log {
    /// Installs the process's log and starts its writer.
    pub(crate) fn start(settings: &config::Log, environment: &Environment, clock: Clock) -> io::Result<Log> {
        let format = match settings.format {
            LogFormat::Auto => logging::LogFormat::for_stdout(),
            LogFormat::Text => logging::LogFormat::Text,
            LogFormat::Json => logging::LogFormat::Json,
        };
        let style = logging::Style::for_stdout(format, environment.get("JOURNAL_STREAM"));
        let (writer, closer) = logging::install(style, settings.level, clock).map_err(io::Error::other)?;
        let threads = Threads::default();
        threads.spawn("log".into(), move || writer.run(io::stdout()))?;
        std::panic::set_hook(Box::new(|panic| log::error!("a bug: {panic}")));
        Ok(Log { closer, threads })
    }

    /// Writes the last lines.
    pub(crate) fn stop(self, clock: &Clock) {
        self.closer.close();
        let _ = self.threads.join_until(clock.instant(clock.now() + LAST_LINES));
    }
}
