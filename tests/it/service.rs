//! The life of the process: reload, drain, signals, the service manager, and what the log may and may not say.

use crate::ask::{Ask, ask, chat, model};
use crate::patience::{PATIENCE, now, until};
use crate::process::{Place, Process};
use crate::upstream::Upstream;
use crate::wire;
use rustix::process::Signal;
use serde_json::Value;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

fn yaml(upstream: &Upstream, more: &str) -> String {
    format!("upstream_url: {}\n{more}\n", upstream.url("/v1"))
}

fn status(process: &Process) -> Value {
    process.ask(ask("GET", "/status")).json()
}

/// A configuration file of one test.
struct ConfigFile(Place);

impl ConfigFile {
    fn new(yaml: &str) -> ConfigFile {
        let file = ConfigFile(Place::new());
        file.write(yaml);
        file
    }

    fn write(&self, yaml: &str) {
        self.0.configure(yaml);
    }

    /// The command that runs the program with this file and none of the test's own variables.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nvidia-sidecar"));
        command.env_clear().arg("--config").arg(self.0.file("sidecar.yaml"));
        command
    }

    fn start(&self) -> Process {
        Process::of(self.command().stderr(Stdio::piped()))
    }
}

/// Waits for the end; the status and all lines.
fn ended(mut process: Process) -> (ExitStatus, Vec<String>) {
    let status = process.end();
    (status, process.whole_log().lines().map(str::to_owned).collect())
}

// ---- reload ----

#[test]
fn a_reload_puts_live_keys_into_force_and_touches_no_connection_and_no_job() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "max_in_flight: 1\nrate_rpm: 600"));
    let mut process = file.start();
    let slot = upstream.hold();
    let mut first = process.begin(chat("in flight"));
    slot.request();
    let mut second = process.begin(chat("queued"));
    process.wait_for_queue(1);
    let mut kept = process.connect();

    file.write(&yaml(
        &upstream,
        "max_in_flight: 1\nrate_rpm: 30\nqueue_max_size: 7\nlog_format: text\nmax_attempts: 2\nagents: [{name: planner}]",
    ));
    process.signal(Signal::HUP);
    let held = process.await_line("until a restart");
    assert!(held.contains("log_format stays"), "{held}");
    let changed = process.await_line("reload: changed");
    for key in ["rate_rpm", "queue_max_size", "max_attempts", "agents"] {
        assert!(changed.contains(key), "{key} is not in {changed}");
    }
    let now = status(&process);
    assert_eq!(now["retreat"]["base_rpm"], 30.0);
    assert_eq!(now["token_bucket"]["rate_per_minute"], 30.0);
    assert_eq!(now["queue"]["max_size"], 7);
    assert_eq!(now["queue"]["current_size"], 1, "the job still waits");
    assert_eq!(now["agents"][0]["name"], "planner");

    slot.answer(200);
    assert_eq!(first.answer().status(), 200);
    assert_eq!(second.answer().status(), 200);
    kept.send(Vec::from(ask("GET", "/health")));
    assert_eq!(kept.answer().status(), 200, "a connection from before the reload serves on");
    assert!((process.metric("sidecar_config_reloads_total{result=\"success\"}") - 1.0).abs() < 0.1);
}

#[test]
fn a_broken_file_changes_nothing_and_is_counted_until_it_is_mended() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "rate_rpm: 33"));
    let mut process = file.start();
    let read_at = process.metric("sidecar_config_last_reload_success_timestamp_seconds");
    file.write(&yaml(&upstream, "rate_rpm: 22\nno_such_key: 1\nqueue_max_bytes: many"));
    process.signal(Signal::HUP);
    let faults = [process.await_line("reload: "), process.await_line("reload: ")];
    assert!(faults.iter().any(|line| line.contains("no_such_key")), "{faults:?}");
    assert!(faults.iter().any(|line| line.contains("queue_max_bytes")), "{faults:?}");
    process.await_line("nothing was changed");
    until("the failure is counted", || {
        (process.metric("sidecar_config_last_reload_successful") < 0.5).then_some(())
    });
    assert_eq!(status(&process)["retreat"]["base_rpm"], 33.0);
    assert!((process.metric("sidecar_config_reloads_total{result=\"failure\"}") - 1.0).abs() < 0.1);
    assert!((process.metric("sidecar_config_last_reload_success_timestamp_seconds") - read_at).abs() < 1e-6);

    file.write(&yaml(&upstream, "rate_rpm: 22"));
    process.signal(Signal::HUP);
    process.await_line("reload: changed rate_rpm");
    assert_eq!(status(&process)["retreat"]["base_rpm"], 22.0);
    until("the success is seen", || {
        (process.metric("sidecar_config_last_reload_successful") > 0.5).then_some(())
    });
    assert!(process.metric("sidecar_config_last_reload_success_timestamp_seconds") > read_at);
}

// ---- drain ----

#[test]
fn a_hanging_upstream_and_open_dashboards_do_not_keep_it_beyond_the_bound() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "max_in_flight: 1\nrate_rpm: 6000\ndrain_timeout: 2"));
    let mut process = file.start();
    let mut viewer = process.begin(ask("GET", "/api/dashboard/stream"));
    assert_eq!(viewer.head().status, 200);
    let _hangs = upstream.hold();
    let mut first = process.begin(chat("in flight"));
    upstream.wait_for(1);
    let mut second = process.begin(chat("queued"));
    process.wait_for_queue(1);
    let began = now();
    process.signal(Signal::TERM);
    process.await_line("stopping");
    let refused = second.answer();
    refused.assert_error(503, "ShuttingDown");
    assert!((1..=60).contains(&refused.head.number("retry-after")));
    assert!(matches!(first.answer().status(), 502..=504));
    let (status, log) = ended(process);
    let took = now().since(began);
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(took < Duration::from_millis(3000), "{took:?}");
}

#[test]
fn a_connection_whose_first_request_is_on_its_way_is_answered_while_it_stops() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "drain_timeout: 30"));
    let mut process = file.start();
    let [mut new, mut proxied, _silent] = [(); 3].map(|()| process.connect());
    // The scrape's own connection is the fourth.
    until("they are accepted", || (process.metric("sidecar_connections") > 3.5).then_some(()));
    process.signal(Signal::TERM);
    process.await_line("stopping");
    new.send(Vec::from(ask("GET", "/health")));
    proxied.send(Vec::from(chat("too late")));
    assert_eq!(new.answer().status(), 200);
    proxied.answer().assert_error(503, "ShuttingDown");
    assert_eq!(process.end().code(), Some(0), "the silent one does not keep it");
}

// ---- the service manager ----

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

// ---- the log ----

#[test]
fn each_request_is_one_json_line_with_its_id_and_its_figures() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, ""));
    let process = file.start();
    upstream.answer_with(&wire::json(200, &[("x-request-id", "of-the-upstream")], "{}"));
    process.ask(
        chat("one").field("X-Agent-Id", "planner").field("X-Request-Id", "of-the-client").priority("high"),
    );
    process.ask(chat("two").field("X-Request-Id", "second"));
    process.ask(model("other/model", "three"));
    process.signal(Signal::TERM);
    let (_, log) = ended(process);
    let requests: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .filter(|line| line["target"] == "nvidia_sidecar::request")
        .collect();
    assert_eq!(requests.len(), 3, "{log:#?}");
    let first = &requests[0];
    for (field, value) in [
        ("request_id", "of-the-upstream".into()),
        ("agent", "planner".into()),
        ("priority", "high".into()),
        ("model", "nvidia/test-model".into()),
        ("status", Value::from(200)),
        ("attempts", Value::from(1)),
        ("retreat_state", "normal".into()),
        ("effective_rpm", Value::from(40)),
    ] {
        assert_eq!(first[field], value, "{field} in {first}");
    }
    assert!(
        first["timestamp"].is_string() && first["queue_ms"].is_u64() && first["upstream_ms"].is_u64(),
        "{first}"
    );
    assert_eq!(requests[1]["request_id"], "second");
    assert_eq!(requests[2]["provider"], "passthrough");
}

#[test]
fn the_text_form_reads_like_a_sentence() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "log_format: text"));
    let mut process = file.start();
    process.ask(chat("one").field("X-Agent-Id", "planner").field("X-Request-Id", "mine"));
    let line = process.await_line("request: ");
    assert!(line.contains(" INFO  request: answered request_id=mine agent=planner"), "{line}");
    assert!(!line.contains('\u{1b}'), "no colours in a file: {line}");
}

#[test]
fn no_secret_reaches_the_log_a_page_or_a_metric_at_any_level() {
    const SECRETS: [&str; 6] = [
        "nvapi-UPSTREAMKEY-0123456789abcdef",
        "sk-PASSTHROUGHKEY-0123456789abcdef",
        "ADMINTOKEN-0123456789abcdef",
        "CLIENTTOKEN-ONE-0123456789abcdef",
        "CLIENTTOKEN-TWO-0123456789abcdef",
        "WRONGTOKEN-0123456789abcdef",
    ];
    let [upstream_key, passthrough_key, admin, one, two, wrong] = SECRETS;
    for format in ["json", "text"] {
        let (upstream, other) = (Upstream::start(), Upstream::start());
        let yaml = yaml(
            &upstream,
            &format!(
                "log_level: TRACE\nlog_format: {format}\nupstream_api_key: {upstream_key}\n\
                 passthrough_url: {}\npassthrough_api_key: {passthrough_key}\nretry_on: [429, connect, 503]\n\
                 client_tokens:\n  one: {one}\n  two: {two}\ndrain_timeout: 1",
                other.url("/v1")
            ),
        );
        let file = ConfigFile::new(&yaml);
        let mut command = file.command();
        let mut process = Process::of(command.env("SIDECAR_ADMIN_TOKEN", admin).stderr(Stdio::piped()));
        let bearer = |ask: Ask, token: &str| ask.field("Authorization", &format!("Bearer {token}"));
        let mut pages = String::new();

        upstream.answer(429).answer(503).answer(200);
        assert_eq!(process.ask(bearer(chat("retried"), one)).status(), 200);
        assert_eq!(upstream.received()[0].field("authorization"), Some(format!("Bearer {upstream_key}")));
        assert_eq!(process.ask(bearer(model("other/model", "passed"), two)).status(), 200);
        assert_eq!(other.received()[0].field("authorization"), Some(format!("Bearer {passthrough_key}")));
        let query = format!("/v1/models?api_key={one}");
        assert_eq!(process.ask(bearer(ask("GET", &query), one)).status(), 200);
        // Refusals: by the sidecar, by a broken upstream, of a malformed request.
        pages += &process.ask(bearer(chat("refused"), wrong)).assert_error(401, "InvalidRequest").text();
        upstream.answer_and_close(b"no HTTP at all\r\n\r\n");
        pages += &process.ask(bearer(chat("broken"), one)).text();
        let mut malformed = process.connect();
        malformed.send(format!("GET / HTTP/1.1\r\nAuthorization Bearer {one}\r\n\r\n"));
        pages += &malformed.answer().text();
        // The operator's pages.
        for (token, status) in [(wrong, 403), (admin, 200)] {
            let answer = process.ask(bearer(ask("GET", "/api/admin/config"), token));
            assert_eq!(answer.status(), status);
            pages += &answer.text();
        }
        let change =
            format!(r#"{{"rate_rpm": 50, "admin_token": "{wrong}", "upstream_api_key": "{upstream_key}"}}"#);
        let refused = process.ask(bearer(ask("POST", "/api/admin/config"), admin).body(change));
        assert_eq!(refused.status(), 400);
        pages += &refused.text();
        process.ask(bearer(ask("POST", "/api/admin/config"), admin).body(r#"{"rate_rpm": 50}"#));
        process.await_line("admin: changed");
        for page in ["/status", "/metrics", "/health/ready", "/api/queue"] {
            pages += &process.ask(ask("GET", page)).text();
        }
        // A reload that fails over secrets, one that changes them, and the stop.
        file.write(&format!(
            "{yaml}\nupstream_url: {upstream_key}\nadmin_token: [{wrong}]\nclient_tokens: {two}"
        ));
        process.signal(Signal::HUP);
        process.await_line("nothing was changed");
        file.write(&yaml.replace(one, two).replacen(two, wrong, 1));
        process.signal(Signal::HUP);
        process.await_line("reload: ");
        process.signal(Signal::TERM);
        let (_, log) = ended(process);
        let said = log.join("\n") + &pages;
        assert!(log.len() > 10, "{log:#?}");
        for secret in SECRETS {
            // A masked one shows four characters; six in a row of what follows them is a leak.
            let tail = &secret[secret.len() - 12..];
            for leak in [secret, &secret[4..]] {
                assert!(!said.contains(leak), "{leak} is in\n{said}");
            }
            assert!(!said.contains(tail), "{tail} is in\n{said}");
        }
    }
}
