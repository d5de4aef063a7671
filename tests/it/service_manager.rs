//! Under a service manager: what it is told, and the sockets that it hands over.

use crate::ask::{ask, chat};
use crate::patience::PATIENCE;
use crate::process::{ConfigFile, Process, yaml};
use crate::upstream::Upstream;
use rustix::process::Signal;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

/// systemd's end of the notification socket.
struct Manager {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Manager {
    fn new(name: &str) -> Manager {
        let name = format!("notify-{}-{name}", std::process::id());
        let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, path }
    }

    /// The next message that contains this text.
    fn hear(&self, text: &str) -> String {
        loop {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{text} was not told: {e}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.contains(text) {
                return message;
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn the_service_manager_is_told_of_start_reload_and_stop_and_the_watchdog_is_pinged() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "rate_rpm: 33\ndrain_timeout: 3"));
    let manager = Manager::new("life");
    let mut command = file.command();
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "200000");
    let mut process = Process::of(&mut command);
    let ready = manager.hear("READY=1");
    assert!(ready.contains(&format!("STATUS=listens on {}", process.address())), "{ready}");
    manager.hear("WATCHDOG=1");
    manager.hear("WATCHDOG=1");

    file.write("no_such_key: 1");
    process.signal(Signal::HUP);
    assert!(manager.hear("RELOADING=1").contains("MONOTONIC_USEC="));
    assert!(manager.hear("READY=1").contains("reload failed"));
    file.write(&yaml(&upstream, "rate_rpm: 22\ndrain_timeout: 3"));
    process.signal(Signal::HUP);
    manager.hear("RELOADING=1");
    assert!(manager.hear("READY=1").contains("reload succeeded"));

    process.signal(Signal::TERM);
    assert!(manager.hear("STOPPING=1").contains("EXTEND_TIMEOUT_USEC=8000000"));
    assert_eq!(process.end().code(), Some(0));
}

/// Runs the program with these two sockets as descriptors 3 and 4, as systemd does.
fn activated(file: &ConfigFile, names: Option<&str>, third: TcpListener, fourth: TcpListener) -> Process {
    let program = file.command();
    let mut command = Command::new("/bin/sh");
    // The two travel as standard input and error, since those are what a `Command` can set safely.
    let script = r#"exec 3<&0 4<&2 0</dev/null 2>/dev/null; LISTEN_PID=$$ exec "$@""#;
    command.env_clear().args(["-c", script, "sh"]).arg(program.get_program()).args(program.get_args());
    command.env("LISTEN_FDS", "2").envs(names.map(|names| ("LISTEN_FDNAMES", names)));
    command.stdin(Stdio::from(OwnedFd::from(third))).stderr(Stdio::from(OwnedFd::from(fourth)));
    Process::of(&mut command)
}

#[test]
fn handed_over_sockets_are_used_by_their_names_in_any_order() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, ""));
    for (names, api_is_third) in [(Some("http:metrics"), true), (Some("metrics:http"), false), (None, true)] {
        let [third, fourth] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [a, b] = [&third, &fourth].map(|socket| socket.local_addr().unwrap());
        let mut process = activated(&file, names, third, fourth);
        let expected = if api_is_third { (a, b) } else { (b, a) };
        assert_eq!((process.address(), process.metrics_address()), expected, "{names:?}");
        // More connections than loops: each of them serves.
        for _ in 0..16 {
            assert_eq!(process.ask(chat("through a handed-over socket")).status(), 200);
        }
        let mut scrape = crate::client::Client::connect(process.metrics_address());
        scrape.send(Vec::from(ask("GET", "/metrics")));
        assert!(scrape.answer().text().contains("sidecar_uptime_seconds"));
        process.signal(Signal::TERM);
        assert_eq!(process.end().code(), Some(0));
    }
}

#[test]
fn several_sockets_of_one_name_are_several_addresses_of_one_port() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, ""));
    let [third, fourth] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [&third, &fourth].map(|socket| socket.local_addr().unwrap());
    let mut process = activated(&file, Some("http:http"), third, fourth);
    assert_eq!(process.address(), addresses[0]);
    // More connections than loops, so that each serves on each of them.
    for address in addresses.into_iter().cycle().take(16) {
        let mut client = crate::client::Client::connect(address);
        client.send(Vec::from(ask("GET", "/health")));
        assert_eq!(client.answer().status(), 200);
    }
    process.signal(Signal::TERM);
    assert_eq!(process.end().code(), Some(0));
}
