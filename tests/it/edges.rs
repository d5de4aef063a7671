//! Cases at the edge: odd targets, upstreams that answer too much or in an old way, pools that are full, descriptors
//! that run out.

use crate::ask::{ask, chat, model, models};
use crate::client::{Client, End};
use crate::patience::{PATIENCE, now, until};
use crate::process::{Place, Process};
use crate::sidecar::{Sidecar, base, silence_of_at_most};
use crate::upstream::{Held, REFUSAL, Upstream};
use crate::wire::{self, json};
use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

#[test]
fn no_target_leads_anywhere_but_to_the_upstream() {
    let upstream = Upstream::start();
    // Without a path in the base, the target stands right behind the authority.
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.url = base(&upstream.url("")));
    let other = Upstream::start();
    let evil = other.authority();
    for target in
        [format!("@{evil}/"), format!(":80@{evil}/"), format!(".{evil}/"), "v1/models".into(), "*".into()]
    {
        let mut client = sidecar.connect();
        let answer = client.send(format!("GET {target} HTTP/1.1\r\nHost: s\r\n\r\n")).answer();
        answer.assert_error(400, "InvalidRequest");
    }
    for target in [format!("//{evil}/x"), format!("http://{evil}/x"), format!("/x?u=http://{evil}/")] {
        assert_eq!(sidecar.ask(ask("GET", &target)).status(), 200, "{target}");
    }
    let refused = sidecar.begin(ask("CONNECT", &evil)).answer();
    assert!(refused.status() >= 400);
    assert!(other.received().is_empty() && other.partial().is_empty());
    assert!(upstream.received().iter().all(|r| r.field("host") == Some(upstream.authority())));
}

#[test]
fn what_cannot_be_said_upstream_is_refused() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for target in ["/v1/<tag>", "/v1/a`b", "/v1/{a}", "/v1/a|b"] {
        let answer = sidecar.ask(ask("GET", target));
        if answer.status() != 200 {
            answer.assert_error(400, "InvalidRequest");
        }
    }
    sidecar.ask(ask("GET", "/v1/<tag>")).assert_error(400, "InvalidRequest");
    assert!(upstream.partial().is_empty());
}

#[test]
fn blank_lines_before_a_request_are_overlooked() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    for _ in 0..2 {
        assert_eq!(client.send("\r\n").send(Vec::from(models())).answer().status(), 200);
    }
}

#[test]
fn a_request_that_arrives_while_another_is_under_way_has_its_turn() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for first in [chat("first"), models()] {
        let held = upstream.hold();
        let mut client = sidecar.begin(first);
        held.request();
        let second = Vec::from(chat("second"));
        let (begin, end) = second.split_at(25);
        client.send(begin);
        assert!(!client.has_input());
        held.answer(200);
        assert_eq!(client.answer().status(), 200);
        assert_eq!(client.send(end).answer().status(), 200);
    }
}

#[test]
fn a_thousand_pipelined_requests_are_answered_one_by_one() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    client.send(Vec::from(ask("GET", "/health")).repeat(1000));
    for _ in 0..1000 {
        assert_eq!(client.answer().status(), 200);
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_instead_of_asked_for() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.front.max_body_bytes = 10);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: s\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n");
    client.answer().assert_error(413, "InvalidRequest");
}

#[test]
fn bodies_that_are_being_read_share_one_budget() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.front.max_body_memory_bytes = 300_000);
    let whole = Vec::from(ask("POST", "/v1/files").body("x".repeat(200_000)));
    // Together they are too much, and which of them notices it first is open.
    let mut clients = [sidecar.connect(), sidecar.connect()];
    for client in &mut clients {
        client.send(&whole[..whole.len() - 1]);
    }
    let refused = until("the budget is used up", || clients.iter().position(Client::has_input));
    clients[refused].answer().assert_error(503, "QueueFullError");
    drop(clients);
    until("the budget is free again", || {
        (sidecar.connect().send(&whole).answer().status() == 200).then_some(())
    });
}

#[test]
fn bytes_behind_an_answer_are_never_the_next_clients_answer() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let forged = json(200, &[], "\"forged\"");
    for answer in [json(200, &[], "{}"), b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()] {
        upstream.answer_with(&[answer, forged.clone()].concat());
        sidecar.ask(models());
        let next = sidecar.ask(chat("next"));
        assert_ne!(next.text(), "\"forged\"");
    }
}

#[test]
fn an_upstream_that_speaks_http_10_is_understood() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_and_close(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold");
    assert_eq!(sidecar.ask(chat("a")).text(), "old");
    upstream.answer_and_close(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold");
    assert_eq!(sidecar.ask(chat("a")).text(), "old");
    assert_eq!(sidecar.ask(chat("a")).status(), 200);
}

#[test]
fn early_hints_are_not_the_answer() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec();
    upstream.answer_with(&[hints, json(200, &[], "\"answer\"")].concat());
    assert_eq!(sidecar.ask(chat("a")).text(), "\"answer\"");
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| silence_of_at_most(c, Duration::from_secs(2)));
    upstream
        .answer_and_close(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n");
    sidecar.ask(chat("a").field("Upgrade", "x")).assert_error(502, "UpstreamError");
}

#[test]
fn a_length_beside_chunks_is_dropped() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    upstream.answer_with(&[head, wire::chunk("hello"), b"0\r\n\r\n".to_vec()].concat());
    assert_eq!(sidecar.ask(chat("a")).text(), "hello");
}

#[test]
fn an_upstream_without_tls_behind_https_is_a_502() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        c.upstream.url = base(&upstream.url("").replace("http:", "https:"));
        c.upstream.max_attempts = 1;
        silence_of_at_most(c, Duration::from_millis(300));
    });
    let answer = sidecar.ask(chat("a"));
    assert!(matches!(answer.status(), 502 | 504), "{}", answer.text());
    assert!(upstream.received().is_empty());
}

#[test]
fn a_hang_up_during_the_tls_handshake_closes_the_upstream_connection() {
    let upstream = Upstream::start();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.url = base(&url));
    let client = sidecar.begin(chat("a"));
    let (mut handshake, _) = silent.accept().unwrap();
    handshake.set_read_timeout(Some(PATIENCE)).unwrap();
    handshake.read_exact(&mut [0; 5]).expect("the handshake begins");
    drop(client);
    while handshake.read(&mut [0; 4096]).expect("the handshake is given up") > 0 {}
}

#[test]
fn a_full_house_of_other_requests_does_not_hold_up_limited_ones() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.passthrough.max_in_flight = 1);
    let held = upstream.hold();
    let mut busy = sidecar.begin(models());
    held.request();
    let answer = sidecar.ask(models());
    answer.assert_error(503, "QueueFullError");
    assert!(answer.head.number("retry-after") >= 1);
    for _ in 0..3 {
        assert_eq!(sidecar.ask(chat("a")).status(), 200);
    }
    held.answer(200);
    assert_eq!(busy.answer().status(), 200);
}

#[test]
fn a_slow_answer_blocks_nobody() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let held: Vec<Held> = (0..30).map(|_| upstream.hold()).collect();
    let mut slow: Vec<Client> = (0..30).map(|_| sidecar.begin(chat("slow"))).collect();
    upstream.wait_for(30);
    for _ in 0..10 {
        assert_eq!(sidecar.ask(chat("quick")).status(), 200);
    }
    held.into_iter().for_each(|h| h.answer(200));
    assert!(slow.iter_mut().all(|c| c.answer().status() == 200));
}

#[test]
fn a_refusal_that_outlasts_the_clients_patience_is_told_to_it() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_with(&json(429, &[("Retry-After", "30")], REFUSAL));
    let began = now();
    let answer = sidecar.ask(chat("a").field("X-Sidecar-Max-Wait", "1"));
    assert_eq!(answer.status(), 429);
    assert!((2..=60).contains(&answer.head.number("retry-after")), "{:?}", answer.head);
    assert!(now().since(began) < Duration::from_secs(6));
}

#[test]
fn refusals_of_two_models_and_no_success_between_them_pause_the_key() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let refused = json(429, &[("Retry-After", "30")], REFUSAL);
    upstream.always("nvidia/one", &refused);
    upstream.always("nvidia/two", &refused);
    let _one = sidecar.queue(model("nvidia/one", "x"), 1);
    let _two = sidecar.queue(model("nvidia/two", "x"), 2);
    let third = sidecar.queue(model("nvidia/three", "x"), 3);
    assert!(!third.has_input());
    assert_eq!(upstream.received().len(), 2);
    // What does not draw on the key goes on.
    assert_eq!(sidecar.ask(models()).status(), 200);
}

#[test]
fn a_process_that_runs_out_of_descriptors_refuses_and_recovers() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let path = place.configure(&format!("upstream_url: {}", upstream.url("/v1")));
    let process = Process::start_with(&path, "ulimit -n 120");
    let mut clients: Vec<Client> = (0..300).map(|_| process.connect()).collect();
    let served = clients.iter_mut().filter_map(|client| {
        let answer = client.send(Vec::from(ask("GET", "/health"))).try_answer();
        answer.ok().filter(|a| a.status() == 200)
    });
    let served = served.count();
    assert!((1..120).contains(&served), "{served}");
    drop(clients);
    until("it serves again", || {
        let answer = process.begin(chat("a")).try_answer();
        answer.is_ok_and(|a| a.status() == 200).then_some(())
    });
}

#[test]
fn the_limit_on_descriptors_is_raised_at_the_start() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let path = place.configure(&format!("upstream_url: {}", upstream.url("/v1")));
    let process = Process::start_with(&path, "ulimit -S -n 100");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().rev().skip(1).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
}

#[test]
fn a_client_that_never_says_anything_costs_nobody_else_anything() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let silent: Vec<Client> = (0..200).map(|_| sidecar.connect()).collect();
    assert_eq!(sidecar.ask(chat("a")).status(), 200);
    let (bytes, end) = {
        let client = &mut sidecar.connect();
        client.half_close();
        client.rest()
    };
    assert_eq!((bytes.len(), end), (0, End::Closed));
    assert!(silent.iter().all(|c| !c.has_input()));
}

#[test]
fn a_client_that_reads_nothing_leaves_pass_through_workers_to_the_others() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.passthrough.max_in_flight = 8);
    let held: Vec<Held> = (0..8).map(|_| upstream.hold()).collect();
    let greedy = |_| sidecar.begin(models().field("X-Agent-Id", "greedy"));
    let mut clients: Vec<Client> = (0..6).map(greedy).collect();
    upstream.wait_for(6);
    let refused = sidecar.ask(models().field("X-Agent-Id", "greedy"));
    refused.assert_error(503, "QueueFullError");
    assert!(refused.text().contains("has its share"), "{}", refused.text());
    let mut other = sidecar.begin(models().field("X-Agent-Id", "other"));
    upstream.wait_for(7);
    held.into_iter().for_each(|held| held.answer(200));
    clients.iter_mut().chain([&mut other]).for_each(|client| assert_eq!(client.answer().status(), 200));
    assert_eq!(
        sidecar.ask(models().field("X-Agent-Id", "greedy")).status(),
        200,
        "what was held is free again"
    );
}
