//! The program as a service manager runs it: a process with a configuration file, variables, signals and a log.

use crate::ask::{Ask, ask};
use crate::client::{Answer, Client};
use crate::patience::{PATIENCE, until};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_nvidia-sidecar");

/// A configuration file of one test; removed with it.
pub(crate) struct ConfigFile(PathBuf);

impl ConfigFile {
    /// A file with this content, ports chosen by the system.
    pub(crate) fn new(yaml: &str) -> ConfigFile {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("it-{}-{}.yaml", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let file = ConfigFile(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        file.write(yaml);
        file
    }

    /// Replaces the content.
    pub(crate) fn write(&self, yaml: &str) {
        std::fs::write(&self.0, format!("listen_port: 0\nmetrics_port: 0\n{yaml}")).unwrap();
    }

    /// The command that runs the program with this file and none of the test's own variables.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_clear().arg("--config").arg(&self.0);
        command
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The running program; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    /// Where it serves requests and the operator's pages.
    pub(crate) api: SocketAddr,
    /// Where it serves metrics.
    pub(crate) metrics: SocketAddr,
}

impl Process {
    /// Starts it and waits until it listens.
    pub(crate) fn start(file: &ConfigFile) -> Process {
        Process::of(file.command().stderr(Stdio::piped()))
    }

    /// The same, of a prepared command.
    pub(crate) fn of(command: &mut Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        listen(child.stdout.take().unwrap(), sender.clone());
        if let Some(stderr) = child.stderr.take() {
            listen_to_errors(stderr, sender);
        }
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut process = Process { child, lines, log: Vec::new(), api: nowhere, metrics: nowhere };
        let line = process.wait_for("listens on ");
        process.api = after(&line, "listens on ").parse().unwrap();
        process.metrics = after(&line, "metrics on ").parse().unwrap();
        process
    }

    /// Waits for a line that contains this text, and gives it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with {text:?} came; the log:\n{}", self.log.join("\n"));
            };
            self.log.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.api)
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn begin(&self, ask: Ask) -> Client {
        let mut client = self.connect();
        client.send(Vec::from(ask));
        client
    }

    /// Sends a request on a connection of its own and reads the answer.
    #[track_caller]
    pub(crate) fn ask(&self, ask: Ask) -> Answer {
        self.begin(ask).answer()
    }

    /// The value of a series without labels, or with those that stand in `name`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric(&self.ask(ask("GET", "/metrics")).text(), name)
    }

    /// Waits until it has ended by itself, and gives its status and all that it wrote.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let status = until("the process ends", || self.child.try_wait().unwrap());
        let mut log = std::mem::take(&mut self.log);
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            log.push(line);
        }
        (status, log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.log.extend(self.lines.try_iter());
            eprintln!("--- the log:\n{}", self.log.join("\n"));
        }
    }
}

/// The value of a series in the text that Prometheus reads.
#[track_caller]
pub(crate) fn metric(text: &str, series: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

/// The word behind `words`.
fn after<'a>(line: &'a str, words: &str) -> &'a str {
    let rest = &line[line.find(words).unwrap() + words.len()..];
    rest.split([' ', ')', '"']).next().unwrap()
}

fn listen(out: ChildStdout, to: Sender<String>) {
    Builder::new().spawn(move || forward(BufReader::new(out), &to)).unwrap();
}

fn listen_to_errors(out: ChildStderr, to: Sender<String>) {
    Builder::new().spawn(move || forward(BufReader::new(out), &to)).unwrap();
}

fn forward(lines: impl BufRead, to: &Sender<String>) {
    for line in lines.lines().map_while(Result::ok) {
        let _ = to.send(line);
    }
}
