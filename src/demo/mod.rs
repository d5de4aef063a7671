//! `nvidia-sidecar demo`: the sidecar at work inside one process, between a dozen agents and a look-alike of NIM.
//!
//! ```text
//! agents (blocking HTTP) ──▶ the sidecar ──▶ look-alike of NIM, with a quota that it enforces
//!                                                 ▲
//!               somebody else with the same key ──┘
//! ```
//!
//! No key, no network: everything listens on loopback. On a terminal it draws a live picture, elsewhere it prints a line
//! a second, and a summary at the end in either case. It installs no logger, which would write over the picture.

mod book;
mod cast;
mod fleet;
mod nim;
mod paint;
mod pause;
mod picture;
mod quota;
mod report;
mod screen;
mod state;

use std::error::Error;
use std::io::{self, IsTerminal, Stdout, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::book::Book;
use self::cast::CAST;
use self::fleet::{Fleet, http_agent};
use self::nim::Nim;
use self::pause::Running;
use self::picture::Scene;
use self::screen::Screen;
use self::state::State;
use crate::app::Sidecar;
use crate::cli;
use crate::clock::{Clock, Moment};
use crate::config::limiter::{QueueSettings, Settings};
use crate::config::{self, BaseUrl, Config, Environment, LimitUnmatched, Listen, Routing, Upstream};
use crate::lifecycle::Threads;

/// What the look-alike grants a minute: three times NVIDIA's figure, since a ticket every 1.5 s is little to look at.
const RPM: u32 = 120;
/// A small bucket, so that the quota is spread over the minute instead of spent in its first seconds.
const BUCKET: u32 = 6;
/// How often the picture is drawn, and how often a line is printed.
const FRAME: Duration = Duration::from_millis(250);
const LINE: Duration = Duration::from_secs(1);
/// The sidecar's time to finish what is under way, in the end.
const DRAIN: Duration = Duration::from_secs(1);
/// How long the agents may take to see the end.
const LEAVE: Duration = Duration::from_secs(5);

/// Runs the demo until Ctrl-C, SIGTERM or the end of its time. Status 0; 1 when it cannot start or show anything.
#[must_use]
pub fn run(asked: &cli::Demo, environment: &Environment) -> ExitCode {
    match Demo::start(asked).and_then(|demo| demo.show(&mut View::choose(environment)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nvidia-sidecar demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that runs. Fields drop in the order in which they are declared: the users first.
struct Demo {
    running: Running,
    signalled: Receiver<()>,
    ends: Option<Moment>,
    book: Arc<Mutex<Book>>,
    threads: Threads,
    sidecar: Sidecar,
    nim: Nim,
    clock: Clock,
}

impl Demo {
    fn start(asked: &cli::Demo) -> Result<Demo, Box<dyn Error>> {
        let signalled = signals()?;
        let clock = Clock::start();
        let (running, stop) = pause::running();
        let nim = Nim::start(RPM as usize, clock, stop.clone())?;
        let upstream = BaseUrl::parse(&format!("http://{}/v1", nim.address()))?;
        let sidecar = Sidecar::start(configuration(upstream, asked.port.unwrap_or(0)), clock)?;
        let book = Arc::new(Mutex::new(Book::new(clock.now())));
        let threads = Threads::default();
        let fleet =
            Fleet { sidecar: sidecar.api_address(), nim: nim.address(), book: book.clone(), clock, stop };
        fleet.start(&threads)?;
        let ends = asked.seconds.map(|seconds| clock.now() + seconds);
        Ok(Demo { running, signalled, ends, book, threads, sidecar, nim, clock })
    }

    fn show(self, view: &mut View) -> Result<(), Box<dyn Error>> {
        let url = format!("http://{}", self.sidecar.api_address());
        let watched = view.introduce(&url).and_then(|()| self.watch(view));
        let Demo { running, book, threads, sidecar, nim, clock, .. } = self;
        let ran = clock.now().since(book.lock().started());
        view.leave();
        drop(running);
        // Whether the sidecar had to refuse those who still waited does not matter here.
        let _ = sidecar.stop();
        let _ = threads.join_until(clock.instant(clock.now() + LEAVE));
        watched?;
        let summary = report::summary(&book.lock(), ran, RPM as usize, nim.refused());
        writeln!(io::stdout(), "\n{summary}\nWhile it ran, its state was at {url}/status.")?;
        Ok(())
    }

    /// Shows one frame after the other until the demo's end.
    fn watch(&self, view: &mut View) -> io::Result<()> {
        let http = http_agent(LINE);
        let mut state = State::default();
        loop {
            let now = self.clock.now();
            if self.ends.is_some_and(|ends| now >= ends) {
                return Ok(());
            }
            state = State::of(&http, self.sidecar.api_address()).unwrap_or(state);
            let mut book = self.book.lock();
            let throughput = book.throughput(now);
            view.show(&Scene {
                now,
                ends: self.ends,
                sidecar: self.sidecar.api_address(),
                state: &state,
                book: &book,
                throughput: &throughput,
                rpm: RPM as usize,
                refused: self.nim.refused(),
            })?;
            drop(book);
            let next = (now + view.period()).min(self.ends.unwrap_or(Moment::NEVER));
            if self.signalled.recv_deadline(self.clock.instant(next)).is_ok() {
                return Ok(());
            }
        }
    }
}

/// SIGINT and SIGTERM as a message.
fn signals() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, receiver) = bounded(1);
    Threads::default().spawn("signals".into(), move || {
        for _ in signals.forever() {
            // A second one while the demo ends changes nothing: that takes a few seconds at most.
            let _ = sender.try_send(());
        }
    })?;
    Ok(receiver)
}

fn configuration(upstream: BaseUrl, port: u16) -> Config {
    let defaults = Config::default();
    let agent = |role: &cast::Role| config::Agent::new(role.name, role.name, Duration::from_secs(600));
    Config {
        listen: Listen { port, metrics_port: 0, ..defaults.listen },
        upstream: Upstream { url: upstream, ..defaults.upstream },
        limiter: Settings {
            rate_rpm: RPM,
            bucket_capacity: BUCKET,
            // Shedding low work early is a 429 to an agent, and here none shall get one that waiting could avoid.
            queue: QueueSettings {
                low_priority_timeout: defaults.limiter.queue.timeout,
                ..defaults.limiter.queue
            },
            ..defaults.limiter
        },
        routing: Routing { limit_unmatched: LimitUnmatched::Always, ..defaults.routing },
        agents: CAST.iter().map(agent).collect(),
        drain_timeout: DRAIN,
        ..defaults
    }
}

/// Where the demo is shown.
enum View {
    /// As a picture, in colour or not, from the first frame on.
    Picture { screen: Option<Screen>, colour: bool },
    /// As lines.
    Lines(Stdout),
}

impl View {
    /// A picture on a terminal that can show one (`TERM` is not `dumb`), in colour unless `NO_COLOR` says no; else lines.
    fn choose(environment: &Environment) -> io::Result<View> {
        let out = io::stdout();
        let able = environment.get("TERM").is_some_and(|name| name != "dumb");
        if out.is_terminal() && able {
            Ok(View::Picture { screen: None, colour: environment.get("NO_COLOR").is_none() })
        } else {
            Ok(View::Lines(out))
        }
    }

    fn introduce(&mut self, url: &str) -> io::Result<()> {
        writeln!(
            io::stdout(),
            "nvidia-sidecar demo: {} agents, the sidecar, and a look-alike of NIM that grants\n\
             {RPM} requests in any 60 s, about three times what NVIDIA does. All of it runs in\n\
             this process, without a key or a network. Join in from another terminal:\n\n  \
             curl {url}/v1/chat/completions -H 'X-Priority: urgent' \\\n    \
             -d '{{\"model\": \"{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"hi\"}}]}}'\n",
            CAST.len(),
            nim::MODELS[1],
        )?;
        if let View::Picture { screen, .. } = self {
            *screen = Some(Screen::enter()?);
        }
        Ok(())
    }

    fn show(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        match self {
            View::Picture { screen: None, .. } => Ok(()),
            View::Picture { screen: Some(screen), colour } => {
                let mut lines = picture::lines(scene, screen.size());
                if !*colour {
                    lines = lines.iter().map(|line| paint::plain(line)).collect();
                }
                screen.show(&lines)
            }
            View::Lines(out) => writeln!(out, "{}", report::line(scene)),
        }
    }

    const fn period(&self) -> Duration {
        match self {
            View::Picture { .. } => FRAME,
            View::Lines(_) => LINE,
        }
    }

    /// Gives the terminal back.
    fn leave(&mut self) {
        if let View::Picture { screen, .. } = self {
            *screen = None;
        }
    }
}
