//! An upstream that refuses, fails or lies: what is sent again, and what the client hears in the end.

use crate::ask::{Ask, ask, chat, model, models};
use crate::patience::now;
use crate::process::{Place, Process};
use crate::sidecar::{Sidecar, base, silence_of_at_most};
use crate::upstream::{REFUSAL, Upstream};
use crate::wire::{self, json};
use std::net::TcpListener;
use std::time::Duration;

/// A refusal that asks for no wait, so that the next attempt comes at once.
fn refusal() -> Vec<u8> {
    json(429, &[("Retry-After", "0")], REFUSAL)
}

#[test]
fn an_agent_does_not_see_a_429_that_waiting_avoids() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_with(&refusal()).answer_with(&json(200, &[], "\"done\""));
    let answer = sidecar.ask(chat("patience"));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "\"done\""));
    assert_eq!(answer.head.number("x-sidecar-attempts"), 2);
    let bodies = upstream.bodies();
    assert_eq!(bodies[0], bodies[1], "the same request again");
}

#[test]
fn the_429_reaches_the_client_when_the_attempts_are_used_up() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.max_attempts = 2);
    upstream.answer_with(&refusal()).answer_with(&refusal());
    let answer = sidecar.ask(chat("a"));
    assert_eq!((answer.status(), answer.text().as_str()), (429, REFUSAL), "the upstream's own words");
    assert_eq!(answer.head.number("x-sidecar-attempts"), 2);
    assert!((1..=60).contains(&answer.head.number("retry-after")));
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn a_models_worker_refusal_is_absorbed_like_a_429() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let busy = "{\"detail\":\"ResourceExhausted: All workers are busy\"}";
    upstream.answer_with(&json(503, &[("Retry-After", "0")], busy)).answer(200);
    let answer = sidecar.ask(chat("a"));
    assert_eq!((answer.status(), answer.head.number("x-sidecar-attempts")), (200, 2));
}

#[test]
fn other_errors_are_passed_on_as_they_are_and_not_sent_again() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for status in [400, 401, 404, 422, 500, 502, 503, 504] {
        upstream.answer(status);
        let answer = sidecar.ask(chat("a"));
        assert_eq!((answer.status(), answer.text().as_str()), (status, "{\"object\":\"answer\"}"));
    }
    assert_eq!(upstream.received().len(), 8);
}

#[test]
fn a_502_is_sent_again_where_retry_on_says_so() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.retry_on.statuses = vec![429, 502]);
    upstream.answer(502).answer(200);
    assert_eq!(sidecar.ask(chat("a")).status(), 200);
    upstream.answer(503);
    assert_eq!(sidecar.ask(chat("a")).status(), 503);
}

#[test]
fn a_429_of_a_request_that_is_not_limited_is_the_clients() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer(429);
    let answer = sidecar.ask(models());
    assert_eq!((answer.status(), answer.head.field("x-sidecar-attempts")), (429, None));
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_model_that_refuses_waits_alone() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let refused = json(429, &[("Retry-After", "30")], REFUSAL);
    upstream.always("nvidia/full", &refused);
    let full = sidecar.begin(model("nvidia/full", "x"));
    upstream.wait_for(1);
    for _ in 0..5 {
        assert_eq!(sidecar.ask(model("nvidia/free", "x")).status(), 200);
    }
    assert!(!full.has_input(), "the refused one waits for its model");
    assert_eq!(upstream.received().len(), 6, "and is not sent before the model's Retry-After has passed");
}

#[test]
fn a_refused_model_is_tried_again_when_its_retry_after_ends() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_with(&json(429, &[("Retry-After", "1")], REFUSAL)).answer(200);
    let answer = sidecar.ask(chat("a"));
    assert_eq!((answer.status(), answer.head.number("x-sidecar-attempts")), (200, 2));
    let received = upstream.received();
    assert!(received[1].at.since(received[0].at) >= Duration::from_millis(900));
    assert!(answer.head.number("x-sidecar-queue-ms") >= 900, "that wait counts as queueing");
}

/// A connection is in the pool, and the upstream closes it at the very moment at which it is used again.
fn assert_stale_is_retried(request: impl Fn() -> Ask) {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for _ in 0..3 {
        assert_eq!(sidecar.ask(request()).status(), 200);
        upstream.hold().close();
        assert_eq!(sidecar.ask(request()).status(), 200);
    }
    let received = upstream.received();
    assert_eq!(received.len(), 9);
    assert_ne!(received[1].connection, received[2].connection, "the second attempt takes a fresh connection");
}

#[test]
fn a_request_that_met_a_stale_connection_is_sent_once_more_on_a_fresh_one() {
    assert_stale_is_retried(|| chat("stale"));
    assert_stale_is_retried(models);
}

#[test]
fn a_connection_that_the_upstream_closed_while_it_rested_is_not_used() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for _ in 0..5 {
        upstream.answer_and_close(&json(200, &[], "{}"));
        assert_eq!(sidecar.ask(ask("POST", "/v1/files").body("once")).status(), 200);
    }
    assert_eq!(upstream.received().len(), 5);
}

#[test]
fn an_upstream_that_closes_fresh_connections_is_not_asked_again() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for request in [chat("a"), models()] {
        upstream.hold().close();
        sidecar.ask(request).assert_error(502, "UpstreamError");
    }
    assert_eq!(upstream.received().len(), 2, "it may have done the work");
}

#[test]
fn a_connection_that_is_refused_is_a_502_with_one_cause_everywhere_when_the_time_is_up() {
    let upstream = Upstream::start();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sidecar = Sidecar::with(&upstream, |c| {
        c.upstream.url = base(&format!("http://{nobody}/v1"));
        c.limiter.queue.timeout = Duration::from_secs(1);
    });
    let answer = sidecar.ask(chat("a"));
    answer.assert_error(502, "UpstreamError");
    assert_eq!(answer.head.number("x-sidecar-attempts"), 0, "nothing was sent");
    let cause = format!("no connection to {nobody}: {nobody} (it refused)");
    assert_eq!(answer.json()["error"]["message"], cause);
    sidecar.ask(models()).assert_error(502, "UpstreamError");
    let status = sidecar.status();
    let failures = status["errors"]["upstream_errors"].as_u64();
    assert!(failures >= Some(4) && failures <= Some(8), "tried several times, and not in a hurry: {status}");
    let ready = sidecar.ask(ask("GET", "/health/ready")).json();
    assert_eq!(ready["problems"][0]["detail"], cause, "{ready}");
}

#[test]
fn the_cause_of_a_failure_is_in_the_log_in_the_words_that_the_client_got() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = Place::new();
    let mut process =
        Process::start(&place.configure(&format!("upstream_url: http://{nobody}/v1\nmax_attempts: 1")));
    let message = process.ask(chat("a")).json()["error"]["message"].as_str().unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&process.await_line("upstream failed")).unwrap();
    assert_eq!(line["cause"], message);
    assert_eq!(line["upstream_error"], "connect");
}

#[test]
fn a_server_error_that_retry_on_names_is_sent_again_after_its_retry_after() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.retry_on.statuses = vec![429, 503]);
    upstream.keep_probes_apart();
    upstream.answer_with(&json(503, &[("Retry-After", "1")], "{}")).answer(503).answer(200);
    let began = now();
    assert_eq!(sidecar.ask(chat("a")).status(), 200);
    // By the client's clock: a busy machine may hear late of a request, and never early of an answer.
    assert!(
        now().since(began) >= Duration::from_millis(1100),
        "before its Retry-After and a pause were over"
    );
}

#[test]
fn a_cap_of_nothing_leaves_the_backoff_after_a_refusal() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.limiter.retry_after_cap = Duration::ZERO);
    for _ in 0..3 {
        upstream.answer(429);
    }
    assert_eq!(sidecar.ask(chat("a")).status(), 200);
    let at: Vec<_> = upstream.received().iter().map(|request| request.at).collect();
    assert!(at.windows(2).all(|pair| pair[1].since(pair[0]) >= Duration::from_millis(90)), "{at:?}");
}

#[test]
fn an_upstream_that_comes_up_between_two_attempts_answers() {
    let upstream = Upstream::start();
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.url = base(&format!("http://{address}/v1")));
    let mut client = sidecar.begin(chat("early"));
    // The first attempt has failed, and the next is a moment away; what comes up now is somewhere else.
    crate::patience::until("the first attempt has failed", || {
        (sidecar.status()["errors"]["upstream_errors"].as_u64() >= Some(1)).then_some(())
    });
    sidecar.reload(|c| c.upstream.url = base(&upstream.url("/v1")));
    let answer = client.answer();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.number("x-sidecar-attempts"), 1, "only what was sent counts");
}

#[test]
fn a_silent_upstream_is_a_504_and_is_left() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| silence_of_at_most(c, Duration::from_millis(200)));
    for request in [chat("silence"), models()] {
        let silence = upstream.hold();
        let began = now();
        let answer = sidecar.ask(request);
        answer.assert_error(504, "UpstreamTimeout");
        assert_eq!(
            answer.head.field("x-should-retry").as_deref(),
            Some("false"),
            "it would be paid for again"
        );
        assert!(now().since(began) >= Duration::from_millis(200));
        silence.await_hangup();
    }
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn an_upstream_that_stops_in_the_middle_of_its_head_is_a_504() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| silence_of_at_most(c, Duration::from_millis(200)));
    let half = upstream.hold();
    half.send("HTTP/1.1 200 OK\r\nContent-Ty");
    sidecar.ask(chat("half")).assert_error(504, "UpstreamTimeout");
    half.await_hangup();
}

#[test]
fn what_is_no_http_is_a_502() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n: no name\r\n\r\nhello",
        b"HTTP/1.1 200",
        b"<html>",
    ] {
        upstream.answer_and_close(garbage);
        let mut client = sidecar.begin(chat("garbage"));
        client.answer().assert_error(502, "UpstreamError");
        assert_eq!(
            client.send(Vec::from(models())).answer().status(),
            200,
            "the client's connection is unharmed"
        );
    }
}

#[test]
fn an_upstream_that_cannot_decide_on_a_length_is_not_trusted() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello!!");
    match sidecar.begin(chat("a")).try_answer() {
        Ok(answer) => drop(answer.assert_error(502, "UpstreamError")),
        Err(broken) => assert!(broken.body.len() < 7, "{broken:?}"),
    }
}

#[test]
fn a_request_of_which_a_byte_was_passed_on_is_never_sent_again() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    assert_eq!(sidecar.ask(chat("a")).status(), 200, "the connection is a pooled one from here on");
    upstream.answer_and_reset(&[wire::SSE_HEAD.as_bytes(), &wire::chunk("data: 1\n\n")].concat());
    assert!(sidecar.begin(chat("b")).try_answer().is_err());
    assert_eq!(upstream.received().len(), 2);
}
