//! Answers that stream: every piece at once, and a truncated one visibly truncated.

use crate::ask::{ask, chat, models};
use crate::client::End;
use crate::sidecar::{Sidecar, silence_of_at_most};
use crate::upstream::{REFUSAL, Upstream};
use crate::wire::{self, LAST_CHUNK, SSE_HEAD};
use std::time::Duration;

#[test]
fn every_event_reaches_the_client_before_the_upstream_sends_the_next() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for request in [chat("stream"), ask("POST", "/v1/other").body("{\"stream\":true}")] {
        let stream = upstream.hold();
        let mut client = sidecar.begin(request);
        stream.request();
        stream.send(SSE_HEAD);
        // The head alone too: a client knows that its stream begins.
        let head = client.head();
        assert_eq!(head.field("content-type").as_deref(), Some("text/event-stream"));
        for i in 0..50 {
            let event = format!("data: {{\"n\":{i}}}\n\n");
            stream.chunk(&event);
            assert_eq!(client.chunk().unwrap().unwrap(), event.as_bytes());
        }
        stream.send(LAST_CHUNK);
        assert_eq!(client.chunk().unwrap(), None);
        // And the connection lives on.
        drop(stream);
        assert_eq!(client.send(Vec::from(models())).answer().status(), 200);
    }
}

#[test]
fn half_an_event_is_passed_on_as_well() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let stream = upstream.hold();
    let mut client = sidecar.begin(chat("stream"));
    stream.send(SSE_HEAD);
    client.head();
    // A chunk of nine bytes in two writes.
    stream.send("9\r\ndata:");
    assert_eq!(client.chunk().unwrap().unwrap(), b"data:");
    stream.send(" 1\n\n\r\n");
    assert_eq!(client.chunk().unwrap().unwrap(), b" 1\n\n");
}

#[test]
fn content_with_a_length_streams_too() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let stream = upstream.hold();
    let mut client = sidecar.begin(chat("plain"));
    stream.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
    let head = client.head();
    assert_eq!(head.number("content-length"), 6);
    // The first half is here while the second is not.
    while !client.has_input() {
        std::thread::yield_now();
    }
    stream.send("def");
    assert_eq!(client.content(&head).unwrap(), b"abcdef");
}

#[test]
fn content_that_ends_with_the_connection_is_whole() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_and_close(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end");
    assert_eq!(sidecar.ask(chat("a")).text(), "until the end");
}

#[test]
fn trailers_are_dropped_and_the_stream_ends_cleanly() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    for _ in 0..2 {
        upstream.answer_with(
            &[SSE_HEAD.as_bytes(), &wire::chunk("data: 1\n\n"), b"0\r\nX-Sum: 1\r\n\r\n"].concat(),
        );
        let answer = client.send(Vec::from(chat("a"))).answer();
        assert_eq!((answer.text().as_str(), answer.head.field("x-sum")), ("data: 1\n\n", None));
    }
}

#[test]
fn a_stream_that_breaks_off_has_no_last_chunk() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let begun = [SSE_HEAD.as_bytes(), &wire::chunk("data: 1\n\n")].concat();
    let middle = [&begun[..], b"ff\r\ndata: half"].concat();
    upstream.answer_and_close(&begun).answer_and_reset(&begun).answer_and_close(&middle);
    for expected in ["data: 1\n\n", "data: 1\n\n", "data: 1\n\ndata: half"] {
        let broken = sidecar.begin(chat("a")).try_answer().expect_err("it looks whole");
        assert!(expected.starts_with(&*String::from_utf8_lossy(&broken.body)));
        if broken.end == End::Closed {
            assert_eq!(String::from_utf8_lossy(&broken.body), expected, "what had come is passed on");
        }
    }
}

#[test]
fn content_shorter_than_its_length_stays_short() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_and_close(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    let mut client = sidecar.begin(chat("a"));
    let head = client.head();
    assert_eq!(head.number("content-length"), 100);
    let broken = client.content(&head).expect_err("it looks whole");
    assert_eq!(broken.body, b"only this");
}

#[test]
fn an_http_10_client_sees_a_reset_when_the_stream_breaks_off() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_and_close(&[SSE_HEAD.as_bytes(), &wire::chunk("data: 1\n\n")].concat());
    let broken = sidecar.begin(chat("a").http_10()).try_answer().expect_err("it looks whole");
    assert_eq!(broken.end, End::Reset);
}

#[test]
fn a_stream_that_falls_silent_is_cut() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| silence_of_at_most(c, Duration::from_millis(200)));
    let stream = upstream.hold();
    let mut client = sidecar.begin(chat("a"));
    stream.send(SSE_HEAD);
    stream.chunk("data: 1\n\n");
    let broken = client.try_answer().expect_err("it looks whole");
    assert_eq!(broken.body, b"data: 1\n\n");
    stream.await_hangup();
}

#[test]
fn a_stream_may_last_as_long_as_it_speaks() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| silence_of_at_most(c, Duration::from_millis(1500)));
    let stream = upstream.hold();
    let mut client = sidecar.begin(chat("a"));
    stream.request();
    stream.send(SSE_HEAD);
    client.head();
    for _ in 0..6 {
        std::thread::park_timeout(Duration::from_millis(300));
        stream.chunk("data: still here\n\n");
        assert!(client.chunk().unwrap().is_some());
    }
    stream.send(LAST_CHUNK);
    assert_eq!(client.chunk().unwrap(), None);
}

#[test]
fn an_error_instead_of_a_stream_comes_through_as_what_it_is() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.max_attempts = 1);
    let stream = || {
        let body = r#"{"model":"nvidia/x","stream":true}"#;
        ask("POST", "/v1/chat/completions").field("Accept", "text/event-stream").body(body)
    };
    upstream.answer_with(&wire::json(400, &[], r#"{"error":"no such model"}"#));
    let answer = sidecar.ask(stream());
    assert_eq!((answer.status(), answer.text().as_str()), (400, r#"{"error":"no such model"}"#));
    assert_eq!(answer.head.field("content-type").as_deref(), Some("application/json"));
    upstream.answer(429);
    let answer = sidecar.ask(stream());
    assert_eq!((answer.status(), answer.text().as_str()), (429, REFUSAL));
    assert!(answer.head.number("retry-after") >= 1);
}

#[test]
fn a_client_that_does_not_read_costs_its_stream_and_nothing_else() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.front.client_timeout = Duration::from_millis(300));
    let stream = upstream.hold();
    let lazy = sidecar.connect();
    lazy.shrink_receive_buffer();
    let mut lazy = lazy;
    lazy.send(Vec::from(chat("lazy")));
    stream.request();
    stream.send(SSE_HEAD);
    let piece = "x".repeat(1 << 20);
    for _ in 0..16 {
        stream.chunk(&piece);
    }
    assert_eq!(sidecar.ask(chat("another")).status(), 200);
    stream.await_hangup();
}
