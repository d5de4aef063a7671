//! What is turned away on its head alone, and what one connection may cost the others.

use crate::ask::{Ask, ask, chat, models};
use crate::patience::{PATIENCE, until};
use crate::sidecar::Sidecar;
use crate::upstream::Upstream;
use nvidia_sidecar::clock::Clock;
use nvidia_sidecar::config::{Config, Secret};
use nvidia_sidecar::lifecycle::Threads;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn with_tokens(config: &mut Config) {
    config.clients.tokens = [("alice".to_owned(), Secret::new("token-of-alice"))].into();
}

fn bearer(ask: Ask, token: &str) -> Ask {
    ask.field("Authorization", &format!("Bearer {token}"))
}

/// A connection on which requests for pages are sent in one go and all answers are read.
struct Flood {
    stream: TcpStream,
    threads: Threads,
    answers: Arc<AtomicUsize>,
}

impl Flood {
    const REQUESTS: usize = 20_000;

    fn begin(address: SocketAddr) -> Flood {
        let stream = TcpStream::connect(address).unwrap();
        let answers = Arc::<AtomicUsize>::default();
        let (mut to, from, count) =
            (stream.try_clone().unwrap(), stream.try_clone().unwrap(), answers.clone());
        let requests = Vec::from(ask("GET", "/metrics")).repeat(Flood::REQUESTS);
        let threads = Threads::default();
        threads.spawn("sends".into(), move || drop(to.write_all(&requests))).unwrap();
        let read = move || {
            let lines = BufReader::new(from).split(b'\n').map_while(Result::ok);
            for _ in lines.filter(|line| line.starts_with(b"HTTP/1.1 200")) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        threads.spawn("reads".into(), read).unwrap();
        Flood { stream, threads, answers }
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let clock = Clock::start();
        let _ = self.threads.join_until(clock.instant(clock.now() + PATIENCE));
    }
}

#[test]
fn one_connections_pipelined_pages_do_not_stop_the_others() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    // So many that each loop has some.
    let floods: Vec<Flood> = (0..8).map(|_| Flood::begin(sidecar.address())).collect();
    until("all floods are being answered", || floods.iter().all(|flood| flood.answers() > 0).then_some(()));
    for _ in 0..8 {
        assert_eq!(sidecar.ask(models()).status(), 200);
    }
    let answers: Vec<usize> = floods.iter().map(Flood::answers).collect();
    assert!(
        answers.iter().all(|count| *count < Flood::REQUESTS),
        "the others waited for the end: {answers:?}"
    );
}

#[test]
fn who_is_not_let_in_hears_so_before_a_byte_of_the_body_is_asked_for() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, with_tokens);
    for fields in ["", "Authorization: Bearer wrong\r\n", "Origin: https://evil.example\r\n"] {
        let mut client = sidecar.connect();
        client.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n{fields}Expect: 100-continue\r\nContent-Length: 30000000\r\n\r\n"
        ));
        let refused = client.answer();
        assert!(matches!(refused.status(), 401 | 403), "{fields}: {}", refused.status());
        client.assert_closed();
    }
    let mut client = sidecar.connect();
    client.send(Vec::from(chat("no token, no body left over")));
    assert_eq!(client.answer().status(), 401);
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn a_refusal_without_a_body_keeps_the_connection() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, with_tokens);
    let mut client = sidecar.connect();
    client.send(Vec::from(models()));
    assert_eq!(client.answer().status(), 401);
    client.send(Vec::from(bearer(models(), "token-of-alice")));
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn a_body_that_came_fast_at_first_may_not_stall_afterwards() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.front.client_timeout = Duration::from_secs(1));
    let mut client = sidecar.connect();
    client.send("POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n");
    // By its size alone it had earned a quarter of an hour.
    client.send(vec![b'x'; 1_000_000]);
    client.answer().assert_error(408, "InvalidRequest");
}

#[test]
fn methods_that_echo_the_key_and_paths_that_leave_the_base_are_refused() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for method in ["TRACE", "trace", "TRACK"] {
        assert_eq!(sidecar.ask(ask(method, "/v1/models")).status(), 405, "{method}");
    }
    for path in [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1\\..\\admin",
        "/v1/%5C..%5Cadmin",
        "/v1/models%00",
        "/v1/./x",
    ] {
        sidecar.ask(ask("GET", path)).assert_error(400, "InvalidRequest");
    }
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn no_page_is_forwarded_whatever_the_spelling() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.admin_token = Some(Secret::new("operator")));
    for path in [
        "/api/nothing",
        "/API/admin/config",
        "//api/admin/config",
        "/%61pi/admin/config",
        "/Status",
        "/metrics/",
    ] {
        let answer = sidecar.ask(bearer(ask("GET", path), "operator"));
        assert_eq!(answer.status(), 404, "{path}: {}", answer.text());
    }
    assert_eq!(sidecar.ask(ask("GET", "/")).head.field("location").as_deref(), Some("/api/dashboard"));
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn pages_are_for_those_who_have_a_token_and_not_for_a_foreign_name() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        with_tokens(c);
        c.admin_token = Some(Secret::new("operator"));
    });
    for path in ["/status", "/metrics", "/api/queue", "/api/dashboard/history"] {
        assert_eq!(sidecar.ask(ask("GET", path)).status(), 401, "{path}");
        for token in ["token-of-alice", "operator"] {
            assert_eq!(sidecar.ask(bearer(ask("GET", path), token)).status(), 200, "{path}");
        }
        let foreign = bearer(ask("GET", path).host("evil.example"), "operator");
        assert_eq!(sidecar.ask(foreign).status(), 403, "{path}");
    }
    assert_eq!(sidecar.ask(ask("GET", "/health")).status(), 200);
    let admin = bearer(ask("GET", "/api/admin/config").host("localhost"), "token-of-alice");
    assert_eq!(sidecar.ask(admin).status(), 403, "a client is not an operator");
}

#[test]
fn the_event_loops_are_asked_too_whether_they_turn() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let pulse = sidecar.app().pulse();
    assert!(pulse());
    let _ = sidecar.stop();
    assert!(pulse(), "one that has ended is not missed");
}

#[test]
fn a_websocket_handshake_is_refused_at_once_and_an_offer_of_http_2_is_not() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for path in ["/v1/responses", "/v1/realtime", "/api/dashboard/stream"] {
        let handshake = ask("GET", path).field("Connection", "Upgrade").field("Upgrade", "WebSocket");
        let answer = sidecar.ask(handshake);
        answer.assert_error(426, "InvalidRequest");
        assert_eq!(answer.head.field("upgrade").as_deref(), Some("HTTP/1.1"));
    }
    assert_eq!(upstream.received().len(), 0);
    let offer = models().field("Connection", "Upgrade, HTTP2-Settings").field("Upgrade", "h2c");
    assert_eq!(sidecar.ask(offer).status(), 200);
}
