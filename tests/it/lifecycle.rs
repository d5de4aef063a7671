//! Start, reload, drain and end.

use crate::ask::{chat, models};
use crate::client::Client;
use crate::patience::{PATIENCE, now, until};
use crate::process::{Place, Process, run};
use crate::sidecar::{Sidecar, scarce};
use crate::upstream::{Held, Upstream};
use crate::wire::{LAST_CHUNK, SSE_HEAD};
use nvidia_sidecar::app;
use rustix::process::Signal;
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

/// A configuration in front of `upstream`.
fn before(upstream: &Upstream, more: &str) -> String {
    format!("upstream_url: {}\n{more}", upstream.url("/v1"))
}

#[test]
fn sigterm_finishes_the_streams_that_are_under_way_and_exits_0() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process = Process::start(&place.configure(&before(&upstream, "")));
    let mut idle = process.connect();
    assert_eq!(idle.send(Vec::from(models())).answer().status(), 200);
    let stream = upstream.hold();
    let mut client = process.begin(chat("a"));
    stream.request();
    stream.send(SSE_HEAD);
    client.head();
    process.signal(Signal::TERM);
    process.wait_until_deaf();
    idle.assert_closed();
    for i in 0..3 {
        stream.chunk(&format!("data: {i}\n\n"));
        assert!(client.chunk().unwrap().is_some());
    }
    stream.send(LAST_CHUNK);
    assert_eq!(client.chunk().unwrap(), None);
    client.assert_closed();
    assert_eq!(process.end().code(), Some(0));
    assert!(process.whole_log().contains("stopped"));
}

#[test]
fn a_drain_gives_tickets_while_there_are_any_and_refuses_the_rest_in_time() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        scarce(c, 2);
        c.limiter.max_in_flight = 1;
        c.drain_timeout = Duration::from_secs(3);
    });
    let slot = upstream.hold();
    let mut first = sidecar.begin(chat("under way"));
    slot.request();
    let mut waiting: Vec<Client> = (1..=5).map(|depth| sidecar.queue(chat("waits"), depth)).collect();
    let began = now();
    let ended = std::thread::scope(|scope| {
        let stop = scope.spawn(|| sidecar.stop());
        slot.answer(200);
        assert_eq!(first.answer().status(), 200);
        // One ticket is left.
        assert_eq!(waiting.remove(0).answer().status(), 200);
        for client in &mut waiting {
            let answer = client.answer();
            answer.assert_error(503, "ShuttingDown");
            assert!(answer.head.number("retry-after") >= 1);
            client.assert_closed();
        }
        stop.join().unwrap()
    });
    assert!(!matches!(ended, app::End::Failed), "a thread was left behind");
    assert!(now().since(began) < Duration::from_secs(6));
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn a_drain_under_load_loses_no_request() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.drain_timeout = PATIENCE);
    let held: Vec<Held> = (0..20).map(|_| upstream.hold()).collect();
    let clients: Vec<Client> =
        (0..20).map(|i| sidecar.begin(if i % 2 == 0 { chat("limited") } else { models() })).collect();
    upstream.wait_for(20);
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| sidecar.stop());
        for answer in held {
            answer.answer(200);
        }
        for mut client in clients {
            let answer = client.answer();
            assert_eq!(answer.status(), 200);
            client.assert_closed();
        }
        assert!(matches!(stop.join().unwrap(), app::End::Drained));
    });
}

#[test]
fn what_does_not_end_is_cut_at_drain_timeout() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.drain_timeout = Duration::from_secs(2));
    let (silent, stream) = (upstream.hold(), upstream.hold());
    let mut waits = sidecar.begin(chat("silent"));
    silent.request();
    let mut streams = sidecar.begin(chat("stream"));
    stream.request();
    stream.send(SSE_HEAD);
    streams.head();
    let began = now();
    let ended = sidecar.stop();
    assert!(now().since(began) < Duration::from_secs(5), "{:?}", now().since(began));
    assert!(matches!(ended, app::End::Cut));
    waits.answer().assert_error(503, "ShuttingDown");
    let (rest, _) = streams.rest();
    assert!(!rest.ends_with(LAST_CHUNK.as_bytes()), "it looks whole");
}

#[test]
fn a_process_that_was_stopped_and_continued_goes_on_where_it_was() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let process = Process::start(&place.configure(&before(&upstream, "")));
    let (thinks, streams) = (upstream.hold(), upstream.hold());
    let mut first = process.begin(chat("first"));
    thinks.request();
    let mut second = process.begin(chat("second"));
    streams.request();
    streams.send(SSE_HEAD);
    second.head();
    // Each of them interrupts the system calls that are under way.
    for _ in 0..3 {
        process.signal(Signal::STOP);
        process.signal(Signal::CONT);
    }
    thinks.answer(200);
    assert_eq!(first.answer().status(), 200);
    streams.chunk("data: 1\n\n");
    assert!(second.chunk().unwrap().is_some());
    streams.send(LAST_CHUNK);
    assert_eq!(second.chunk().unwrap(), None);
}

#[test]
fn sighup_changes_the_rate_and_drops_neither_a_queued_request_nor_a_connection() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let text = before(&upstream, "rate_rpm: 1\nbucket_capacity: 1");
    let path = place.configure(&text);
    let mut process = Process::start(&path);
    let mut kept = process.connect();
    assert_eq!(kept.send(Vec::from(chat("takes the ticket"))).answer().status(), 200);
    let mut queued: Vec<Client> = (0..5).map(|_| process.begin(chat("waits"))).collect();
    process.wait_for_queue(5);
    place.configure(&text.replace("rate_rpm: 1", "rate_rpm: 10000").replace("capacity: 1", "capacity: 100"));
    process.signal(Signal::HUP);
    let line = process.await_line("reload: changed");
    assert!(line.contains("rate_rpm") && line.contains("bucket_capacity"), "{line}");
    for client in &mut queued {
        assert_eq!(client.answer().status(), 200);
    }
    assert_eq!(kept.send(Vec::from(chat("again"))).answer().status(), 200);
}

#[test]
fn a_broken_file_changes_nothing_and_a_repaired_one_counts_again() {
    let (upstream, other, place) = (Upstream::start(), Upstream::start(), Place::new());
    let path = place.configure(&before(&upstream, ""));
    let mut process = Process::start(&path);
    let broken = ["rate_rpm: [", "no_such_key: 1", "request_timeout: soon", "upstream_url: nonsense"];
    for text in broken {
        fs::write(&path, text).unwrap();
        process.signal(Signal::HUP);
        process.await_line("reload: nothing was changed");
        assert_eq!(process.ask(chat("a")).status(), 200);
    }
    fs::remove_file(&path).unwrap();
    process.signal(Signal::HUP);
    process.await_line("reload: nothing was changed");
    assert_eq!(upstream.received().len(), broken.len());
    place.configure(&before(&other, ""));
    process.signal(Signal::HUP);
    process.await_line("reload: changed upstream_url");
    assert_eq!(process.ask(chat("a")).status(), 200);
    assert_eq!(other.received().len(), 1);
}

#[test]
fn a_key_that_needs_a_restart_is_named_and_keeps_its_value() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let text = before(&upstream, "");
    let path = place.configure(&text);
    let mut process = Process::start(&path);
    place.configure(&format!("{text}\nstate_file: {}", place.file("state").display()));
    process.signal(Signal::HUP);
    process.await_line("state_file stays");
    assert_eq!(process.ask(chat("a")).status(), 200);
    assert!(!place.file("state").exists());
}

#[test]
fn a_queue_bound_below_the_present_depth_is_refused_with_both_numbers() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| scarce(c, 1));
    assert_eq!(sidecar.ask(chat("takes the ticket")).status(), 200);
    let _waiting: Vec<Client> = (1..=3).map(|depth| sidecar.queue(chat("waits"), depth)).collect();
    let mut config = (*sidecar.app().config()).clone();
    config.limiter.queue.max_size = 2;
    let error = sidecar.app().reload(&config).expect_err("it does not fit").to_string();
    assert!(error.contains('2') && error.contains('3'), "{error}");
    assert_eq!(sidecar.status()["queue"]["max_size"], 500);
}

#[test]
fn a_full_window_outlives_a_kill() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let state = place.file("window.state");
    let more = format!("rate_rpm: 5\nbucket_capacity: 5\nurgent_reserve: 0\nstate_file: {}", state.display());
    let path = place.configure(&before(&upstream, &more));
    let mut process = Process::start(&path);
    let waiting: Vec<Client> = (0..8).map(|_| process.begin(chat("before"))).collect();
    upstream.wait_for(5);
    process.wait_for_queue(3);
    process.signal(Signal::KILL);
    process.end();
    drop(waiting);
    for _ in 0..2 {
        let mut process = Process::start(&path);
        for _ in 0..3 {
            let answer = process.ask(chat("after").field("X-Sidecar-Max-Wait", "1"));
            answer.assert_error(429, "RateLimitedError");
            assert!(answer.head.number("retry-after") > 1);
        }
        process.signal(Signal::KILL);
        process.end();
    }
    assert_eq!(upstream.most_within(Duration::from_secs(60)), 5);
}

#[test]
fn however_often_it_is_killed_in_a_burst_the_upstream_never_counts_too_many() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let more = format!(
        "rate_rpm: 6\nbucket_capacity: 6\nurgent_reserve: 0\nstate_file: {}",
        place.file("window.state").display()
    );
    let path = place.configure(&before(&upstream, &more));
    for round in 1..=4 {
        let mut process = Process::start(&path);
        let clients: Vec<Client> = (0..3).map(|_| process.begin(chat("burst"))).collect();
        // Some of them are on their way, some may not be.
        upstream.wait_for(round.min(2));
        process.signal(Signal::KILL);
        process.end();
        drop(clients);
    }
    assert!(upstream.most_within(Duration::from_secs(60)) <= 6, "{}", upstream.received().len());
}

#[test]
fn a_port_that_is_taken_is_one_clear_line_and_status_1() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let path = place.file("sidecar.yaml");
    fs::write(&path, before(&upstream, &format!("listen_port: {port}\nmetrics_port: 0"))).unwrap();
    let output = run(&["--config", path.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(told.contains(&port.to_string()) && told.contains("listen_port"), "{told}");
}

#[test]
fn check_prints_every_key_and_masks_secrets() {
    let place = Place::new();
    let path =
        place.configure("upstream_api_key: nvapi-very-secret\nadmin_token: another-secret\nrate_rpm: 17");
    let tokens = [("SIDECAR_CLIENT_TOKENS", "planner=third-secret")];
    let output = run(&["--check", "--config", path.to_str().unwrap()], &tokens);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("rate_rpm: 17") && told.contains("nvap"), "{told}");
    for key in nvidia_sidecar::config::KEYS.iter() {
        assert!(told.contains(key.name), "{}", key.name);
    }
    for secret in ["secret", "nvapi-"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

#[test]
fn check_is_as_strict_as_the_start_and_leaves_files_as_they_are() {
    let place = Place::new();
    let foreign = place.file("foreign");
    fs::write(&foreign, "precious\n").unwrap();
    let foreign = foreign.to_str().unwrap();
    for (line, parts) in [
        (format!("state_file: {foreign}"), vec!["state_file", foreign, "not a state file"]),
        ("state_file: /nonexistent/state".into(), vec!["state_file", "/nonexistent/state"]),
        (format!("upstream_ca_file: {foreign}"), vec!["upstream_ca_file", foreign]),
        ("upstream_ca_file: /nonexistent/ca.pem".into(), vec!["upstream_ca_file", "/nonexistent/ca.pem"]),
        ("upstream_url: https://h/v1/chat/completions".into(), vec!["upstream_url", "/chat/completions"]),
    ] {
        let path = place.configure(&line);
        for arguments in [&["--check", "--config"][..], &["--config"]] {
            let output = run(&[arguments, &[path.to_str().unwrap()]].concat(), &[]);
            assert_eq!(output.status.code(), Some(2), "{line}");
            let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(parts.iter().all(|part| told.contains(part)), "{line}: {told}");
        }
    }
    assert_eq!(fs::read_to_string(foreign).unwrap(), "precious\n");
}

#[test]
fn a_wrong_configuration_is_status_2_and_names_file_key_and_value() {
    let place = Place::new();
    let path = place.configure("request_timeout: soon");
    for arguments in [&["--check", "--config"][..], &["--config"]] {
        let arguments = [arguments, &[path.to_str().unwrap()]].concat();
        let output = run(&arguments, &[]);
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stderr).unwrap();
        for part in ["sidecar.yaml", "request_timeout", "soon"] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
    let missing = run(&["--config", "/does/not/exist.yaml"], &[]);
    assert_eq!(missing.status.code(), Some(2));
    let same = run(&["--check"], &[("SIDECAR_PORT", "9000"), ("SIDECAR_METRICS_PORT", "9000")]);
    assert_eq!(same.status.code(), Some(2));
}

#[test]
fn the_environment_wins_over_the_file() {
    let place = Place::new();
    let path = place.configure("rate_rpm: 17");
    let variables = [("SIDECAR_CONFIG", path.to_str().unwrap()), ("SIDECAR_RATE_RPM", "23")];
    let told = String::from_utf8(run(&["--check"], &variables).stdout).unwrap();
    assert!(told.contains("rate_rpm: 23"), "{told}");
}

#[test]
fn the_healthcheck_knows_a_living_sidecar_from_a_dead_one() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process = Process::start(&place.configure(&before(&upstream, "")));
    let url = format!("http://{}/health", process.address());
    assert_eq!(run(&["healthcheck", "--url", &url], &[]).status.code(), Some(0));
    process.signal(Signal::TERM);
    assert_eq!(process.end().code(), Some(0));
    let dead = run(&["healthcheck", "--url", &url], &[]);
    assert_eq!(dead.status.code(), Some(1));
    assert_eq!(String::from_utf8(dead.stderr).unwrap().lines().count(), 1);
}

#[test]
fn no_secret_is_ever_logged() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let more = "upstream_api_key: nvapi-very-secret\nlog_level: TRACE";
    let mut process = Process::start(&place.configure(&before(&upstream, more)));
    process.ask(chat("a").field("Authorization", "Bearer clients-own-secret"));
    process.ask(models().field("X-Api-Key", "another-secret"));
    process.ask(crate::ask::ask("GET", "/v1/models?key=query-secret"));
    upstream.hold().close();
    process.ask(chat("fails").field("Authorization", "Bearer clients-own-secret"));
    process.signal(Signal::TERM);
    process.end();
    let log = process.whole_log();
    assert!(log.contains("/v1/models"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn every_line_of_the_log_is_a_json_object() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process = Process::start(&place.configure(&before(&upstream, "log_level: DEBUG")));
    process.ask(chat("a").field("X-Request-Id", "mine").priority("high").field("X-Agent-Id", "me"));
    process.signal(Signal::TERM);
    process.end();
    let log = process.whole_log();
    let lines: Vec<serde_json::Value> = log.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
    let of_request = lines.iter().find(|l| l["request_id"] == "mine").expect("the request's line");
    for (key, value) in [("agent", "me"), ("priority", "high"), ("model", "nvidia/test-model")] {
        assert_eq!(of_request[key], value, "{of_request}");
    }
    for key in ["timestamp", "level", "target", "message", "status", "queue_ms", "upstream_ms", "attempts"] {
        assert!(!of_request[key].is_null(), "{key} in {of_request}");
    }
}

#[test]
fn a_signal_that_follows_the_first_at_once_is_the_same_one_and_users_signals_are_ignored() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process = Process::start(&place.configure(&before(&upstream, "")));
    process.signal(Signal::USR1);
    process.await_line("SIGUSR1 is ignored");
    let held = upstream.hold();
    let mut client = process.begin(chat("a"));
    held.request();
    process.signal(Signal::TERM);
    process.signal(Signal::INT);
    process.signal(Signal::USR2);
    process.await_line("SIGUSR2 is ignored");
    held.answer(200);
    assert_eq!(client.answer().status(), 200);
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process = Process::start(&place.configure(&before(&upstream, "drain_timeout: 600")));
    let stream = upstream.hold();
    let mut client = process.begin(chat("a"));
    stream.request();
    stream.send(SSE_HEAD);
    client.head();
    process.signal(Signal::TERM);
    process.wait_until_deaf();
    let ended = until("the process ends", || {
        process.signal(Signal::INT);
        process.has_ended()
    });
    assert_eq!(ended.code(), Some(1));
    assert_ne!(client.chunk(), Ok(None), "it looks whole");
}

#[test]
fn a_request_that_is_half_there_does_not_stretch_the_stop() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process =
        Process::start(&place.configure(&before(&upstream, "client_timeout: 300\ndrain_timeout: 300")));
    let mut half_a_head = process.connect();
    half_a_head.send("POST /v1/chat/completions HTTP/1.1\r\nHost:");
    let mut half_a_body = process.connect();
    half_a_body.send("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{");
    // What was sent has been read when a later request is answered on each loop; a stop before that is no less quick.
    assert_eq!(process.ask(models()).status(), 200);
    process.signal(Signal::TERM);
    half_a_body.answer().assert_error(503, "ShuttingDown");
    assert_eq!(process.end().code(), Some(0));
}
