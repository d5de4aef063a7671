//! The built program as a process: its configuration file, its log, its signals and its end.

use crate::listening::Listening;
use crate::patience::{PATIENCE, until};
use crate::upstream::Upstream;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

/// A directory of its own for one test; gone when it is dropped.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Place {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a configuration with this text, on ports of its own, and returns its path.
    pub(crate) fn configure(&self, text: &str) -> PathBuf {
        let path = self.file("sidecar.yaml");
        let format = if text.contains("log_format:") { "" } else { "log_format: json\n" };
        fs::write(&path, format!("listen_port: 0\nmetrics_port: 0\n{format}{text}\n")).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The text of a configuration in front of `upstream`.
pub(crate) fn yaml(upstream: &Upstream, more: &str) -> String {
    format!("upstream_url: {}\n{more}\n", upstream.url("/v1"))
}

/// A configuration file of one test.
pub(crate) struct ConfigFile(Place);

impl ConfigFile {
    pub(crate) fn new(yaml: &str) -> ConfigFile {
        let file = ConfigFile(Place::new());
        file.write(yaml);
        file
    }

    pub(crate) fn write(&self, yaml: &str) {
        self.0.configure(yaml);
    }

    /// The command that runs the program with this file and none of the test's own variables.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nvidia-sidecar"));
        command.env_clear().arg("--config").arg(self.0.file("sidecar.yaml"));
        command
    }

    pub(crate) fn start(&self) -> Process {
        Process::of(self.command().stderr(Stdio::piped()))
    }
}

/// Waits for the end; the status and all lines.
pub(crate) fn ended(mut process: Process) -> (ExitStatus, Vec<String>) {
    let status = process.end();
    (status, process.whole_log().lines().map(str::to_owned).collect())
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nvidia-sidecar"));
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command.args(arguments).output().unwrap()
}

/// A running sidecar; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
    listening: Listening,
    metrics_address: SocketAddr,
}

impl Deref for Process {
    type Target = Listening;

    fn deref(&self) -> &Listening {
        &self.listening
    }
}

impl Process {
    /// Starts it with the configuration at `path` and waits until it listens.
    pub(crate) fn start(path: &Path) -> Process {
        Process::start_with(path, "true")
    }

    /// The same, after a shell has carried out `before` in its process.
    pub(crate) fn start_with(path: &Path, before: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        let program = env!("CARGO_BIN_EXE_nvidia-sidecar");
        command.env_clear().stdin(Stdio::null());
        command.arg("-c").arg(format!("{before} && exec \"$0\" \"$@\"")).arg(program);
        Process::of(command.arg("--config").arg(path).stderr(Stdio::piped()))
    }

    /// Starts a prepared command and waits until it listens.
    pub(crate) fn of(command: &mut Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (lines, log) = channel();
        collect(child.stdout.take().unwrap(), lines.clone());
        child.stderr.take().into_iter().for_each(|errors| collect(errors, lines.clone()));
        drop(lines);
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut process =
            Process { child, log, seen: Vec::new(), listening: Listening(address), metrics_address: address };
        let line = process.await_line("listens on ");
        let after = |words: &str| {
            let address = line.split(words).nth(1).and_then(|rest| rest.split([' ', ')']).next());
            address.and_then(|a| a.parse().ok()).unwrap_or_else(|| panic!("no address: {line}"))
        };
        process.listening = Listening(after("listens on "));
        process.metrics_address = after("metrics on ");
        process
    }

    /// Waits for a line of the log that contains this.
    #[track_caller]
    pub(crate) fn await_line(&mut self, containing: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("the log never said {containing:?}: {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(containing) {
                return line;
            }
        }
    }

    /// Everything that was logged until the end.
    pub(crate) fn whole_log(&mut self) -> String {
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        self.seen.join("\n")
    }

    /// Where it serves metrics.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// The value of a series.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> f64 {
        metric(&self.scrape(), series)
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until nobody listens any more.
    #[track_caller]
    pub(crate) fn wait_until_deaf(&self) {
        until("it accepts nothing more", || {
            std::net::TcpStream::connect(self.address()).is_err().then_some(())
        });
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.seen.extend(self.log.try_iter());
            eprintln!("--- the process logged:\n{}", self.seen.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a series, written with its labels, in the text that Prometheus reads.
#[track_caller]
pub(crate) fn metric(text: &str, series: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

/// Hands lines on until the other side closes its end.
fn collect(from: impl Read + Send + 'static, to: Sender<String>) {
    let read = move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = to.send(line);
        }
    };
    Builder::new().spawn(read).unwrap();
}
