//! Clients that wait: signs of life until the answer is there, and the truth at the end of an early 200.

use crate::ask::{Ask, ask, models};
use crate::client::{Client, End};
use crate::patience::until;
use crate::process::{Place, Process};
use crate::sidecar::{Sidecar, scarce, silence_of_at_most};
use crate::upstream::{Held, REFUSAL, Upstream};
use crate::wire::{self, LAST_CHUNK, SSE_HEAD};
use nvidia_sidecar::config::Config;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

/// A chat that wants a stream.
fn stream(text: &str) -> Ask {
    stream_on("/v1/chat/completions", text)
}

fn stream_on(path: &str, text: &str) -> Ask {
    ask("POST", path).body(format!(r#"{{"model":"nvidia/m","stream":true,"content":"{text}"}}"#))
}

/// Signs of life come soon and often.
fn impatient(config: &mut Config) {
    config.keepalive.after = Duration::from_millis(50);
    config.keepalive.interval = Duration::from_millis(50);
}

fn impatient_sidecar(upstream: &Upstream) -> Sidecar {
    Sidecar::with(upstream, |c| {
        impatient(c);
        c.upstream.max_attempts = 1;
    })
}

/// Reads the head of an early 200 and so many signs of life.
#[track_caller]
fn early_200(client: &mut Client, signs: usize) -> Vec<String> {
    let head = client.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.field("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(head.field("cache-control").as_deref(), Some("no-cache"));
    assert_eq!(head.field("x-accel-buffering").as_deref(), Some("no"));
    assert_eq!(head.field("transfer-encoding").as_deref(), Some("chunked"));
    assert!(head.field("x-request-id").is_some());
    (0..signs).map(|_| piece(client)).collect()
}

#[track_caller]
fn piece(client: &mut Client) -> String {
    String::from_utf8(client.chunk().expect("a chunk").expect("not the last chunk")).unwrap()
}

/// The next chunk that is not a sign of life of a chat.
#[track_caller]
fn next_of_upstream(client: &mut Client) -> Option<String> {
    loop {
        match client.chunk().expect("a chunk") {
            None => return None,
            Some(bytes) => {
                let text = String::from_utf8(bytes).unwrap();
                if !is_sign(&text) {
                    return Some(text);
                }
            }
        }
    }
}

fn is_sign(text: &str) -> bool {
    text.starts_with(": keep-alive") || text.starts_with("event: ping") || text.contains(r#""delta":{},"#)
}

/// The rest of an answer that ends with an error frame and without a last chunk: the frame.
#[track_caller]
fn error_frame(client: &mut Client) -> String {
    let mut last = String::new();
    loop {
        match client.chunk() {
            Ok(Some(bytes)) => last = String::from_utf8(bytes).unwrap(),
            Ok(None) => panic!("it ends as if it were whole, after {last:?}"),
            Err(end) => {
                assert_eq!(end, End::Closed);
                return last;
            }
        }
    }
}

fn data(frame: &str) -> Value {
    let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    serde_json::from_str(data).expect("JSON")
}

/// A request holds the only slot until the test lets go.
struct Jam {
    slot: Held,
    first: Client,
    sidecar: Sidecar,
    upstream: Upstream,
}

impl Jam {
    fn new(configure: impl FnOnce(&mut Config)) -> Jam {
        let upstream = Upstream::start();
        let sidecar = Sidecar::with(&upstream, |c| {
            impatient(c);
            c.limiter.max_in_flight = 1;
            configure(c);
        });
        let slot = upstream.hold();
        let first = sidecar.begin(crate::ask::chat("first"));
        slot.request();
        Jam { slot, first, sidecar, upstream }
    }

    fn let_go(self) -> (Upstream, Sidecar) {
        let Jam { slot, mut first, sidecar, upstream } = self;
        slot.answer(200);
        assert_eq!(first.answer().status(), 200);
        (upstream, sidecar)
    }
}

#[test]
fn a_stream_that_waits_in_the_queue_gets_an_early_200_and_then_its_own_bytes() {
    let jam = Jam::new(|_| {});
    let mut client = jam.sidecar.begin(stream("waits"));
    let signs = early_200(&mut client, 3);
    let row = &jam.sidecar.ask(ask("GET", "/api/queue")).json()["waiting"][0];
    assert!(row["kept_alive_seconds"].as_f64() > Some(0.0), "{row}");
    assert_eq!(jam.sidecar.status()["requests"]["kept_alive"], 1);
    for sign in signs {
        let chunk = data(&sign);
        assert_eq!(chunk["choices"], json!([{"index": 0, "delta": {}, "finish_reason": null}]));
        assert_eq!((&chunk["id"], &chunk["model"]), (&json!(""), &json!("nvidia/m")));
        assert_eq!(chunk["object"], "chat.completion.chunk");
    }
    let answer = jam.upstream.hold();
    let (upstream, sidecar) = jam.let_go();
    let request = answer.request();
    assert_eq!(request.field("accept-encoding").as_deref(), Some("identity"));
    answer.send(SSE_HEAD);
    answer.chunk("data: {\"id\":\"c-1\"}\n\n");
    assert_eq!(next_of_upstream(&mut client).as_deref(), Some("data: {\"id\":\"c-1\"}\n\n"));
    answer.chunk("data: [DONE]\n\n");
    answer.send(LAST_CHUNK);
    assert_eq!(next_of_upstream(&mut client).as_deref(), Some("data: [DONE]\n\n"));
    assert_eq!(next_of_upstream(&mut client), None);
    drop(answer);
    // And the connection lives on.
    assert_eq!(client.send(Vec::from(models())).answer().status(), 200);
    drop((sidecar, upstream));
}

#[test]
fn a_stream_is_kept_alive_while_the_upstream_thinks_and_in_its_middle() {
    let upstream = Upstream::start();
    let sidecar = impatient_sidecar(&upstream);
    for request in [stream("a"), ask("POST", "/v1/chat/completions").body(r#"{"model":"o/m","stream":true}"#)]
    {
        let answer = upstream.hold();
        let mut client = sidecar.begin(request);
        answer.request();
        early_200(&mut client, 2);
        answer.send(SSE_HEAD);
        answer.chunk("data: {\"id\":\"c-1\",\"model\":\"real\"}\n\ndata: ha");
        assert_eq!(
            next_of_upstream(&mut client).as_deref(),
            Some("data: {\"id\":\"c-1\",\"model\":\"real\"}\n\ndata: ha")
        );
        std::thread::park_timeout(Duration::from_millis(300));
        assert!(!client.has_input(), "a frame in the middle of another");
        answer.chunk("lf\n\n");
        assert_eq!(piece(&mut client), "lf\n\n");
        let sign = data(&piece(&mut client));
        assert_eq!((&sign["id"], &sign["model"]), (&json!("c-1"), &json!("real")));
        answer.send(LAST_CHUNK);
        assert_eq!(next_of_upstream(&mut client), None);
    }
}

#[test]
fn a_stream_that_begins_in_time_keeps_its_head_and_is_kept_alive_all_the_same() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.keepalive.interval = Duration::from_millis(50));
    let answer = upstream.hold();
    let mut client = sidecar.begin(stream("a"));
    answer.request();
    answer.send(SSE_HEAD);
    assert_eq!(client.head().field("x-accel-buffering"), None);
    std::thread::park_timeout(Duration::from_millis(200));
    answer.chunk("data: 1\n\n");
    assert_eq!(next_of_upstream(&mut client).as_deref(), Some("data: 1\n\n"));
    // The stream has shown no id, so a chunk would have the wrong one.
    assert_eq!(piece(&mut client), ": keep-alive\n");
    answer.send(LAST_CHUNK);
    assert_eq!(next_of_upstream(&mut client), None);
}

#[test]
fn until_then_every_answer_keeps_its_true_status() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.max_attempts = 1);
    upstream.answer(429).answer(400);
    assert_eq!(sidecar.ask(stream("a")).status(), 429);
    assert_eq!(sidecar.ask(stream("a")).status(), 400);
}

#[test]
fn what_is_not_a_stream_or_may_not_be_kept_alive_gets_nothing_before_its_answer() {
    let jam = Jam::new(|_| {});
    let mut clients = [
        jam.sidecar.begin(crate::ask::chat("plain")),
        jam.sidecar.begin(stream("old").http_10()),
        jam.sidecar.begin(stream("off").field("X-Sidecar-Keepalive", "off")),
        jam.sidecar.begin(stream("later").field("X-Sidecar-Keepalive", "auto; after=60")),
    ];
    jam.sidecar.wait_for_queue(4);
    let mut kept = jam.sidecar.begin(stream("kept").field("X-Sidecar-Keepalive", "comment"));
    assert_eq!(early_200(&mut kept, 3), [": keep-alive\n"; 3]);
    assert!(clients.iter().all(|client| !client.has_input()));
    let (_upstream, _sidecar) = jam.let_go();
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
}

#[test]
fn after_an_early_200_every_other_answer_ends_with_one_error_frame_and_no_last_chunk() {
    let gzip = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc";
    let own = r#"{"error":{"message":"no such key","type":"auth","code":"bad_key","param":"p"}}"#;
    for (answer, message, status) in [
        (wire::json(401, &[], own), "no such key", 401),
        (wire::json(429, &[("retry-after", "7")], REFUSAL), "Too Many Requests; try again in 7 s", 429),
        (wire::json(500, &[], "{}"), "the upstream answered 500", 500),
        (wire::json(504, &[], r#"{"detail":"too slow"}"#), "too slow", 504),
        (wire::json(202, &[], "{}"), "the upstream answered 202", 502),
        (wire::json(200, &[], "{}"), "the upstream answered 200 (application/json)", 502),
        (gzip.to_vec(), "the upstream answered 200 (text/event-stream)", 502),
        (b"nonsense\r\n\r\n".to_vec(), "is not HTTP", 502),
    ] {
        let upstream = Upstream::start();
        let sidecar = impatient_sidecar(&upstream);
        let held = upstream.hold();
        let mut client = sidecar.begin(stream("a"));
        held.request();
        early_200(&mut client, 1);
        held.send(&answer);
        held.close();
        let frame = error_frame(&mut client);
        let error = &data(&frame)["error"];
        assert!(error["message"].as_str().unwrap().contains(message), "{error} for {message}");
        assert_eq!(error["status"], status, "{error}");
        assert!(error["type"].is_string() && frame.ends_with("\n\n"), "{frame}");
        assert_eq!(upstream.received().len(), 1, "the ticket is not spent twice");
    }
}

#[test]
fn an_upstream_that_never_answers_ends_an_early_200_with_a_504() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        impatient(c);
        silence_of_at_most(c, Duration::from_millis(400));
    });
    let held = upstream.hold();
    let mut client = sidecar.begin(stream("a"));
    held.request();
    early_200(&mut client, 1);
    assert_eq!(data(&error_frame(&mut client))["error"]["status"], 504);
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_refusal_is_still_absorbed_after_an_early_200() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, impatient);
    let (refused, answered) = (upstream.hold(), upstream.hold());
    let mut client = sidecar.begin(stream("a"));
    refused.request();
    early_200(&mut client, 1);
    refused.send(wire::json(429, &[("retry-after", "0.3")], REFUSAL));
    drop(refused);
    answered.request();
    answered.send([SSE_HEAD.as_bytes(), &wire::chunk("data: 1\n\n"), LAST_CHUNK.as_bytes()].concat());
    assert_eq!(next_of_upstream(&mut client).as_deref(), Some("data: 1\n\n"));
    assert_eq!(next_of_upstream(&mut client), None);
}

#[test]
fn a_stream_that_breaks_off_says_so_where_a_frame_may_stand() {
    let upstream = Upstream::start();
    let sidecar = impatient_sidecar(&upstream);
    for (sent, is_told) in [("data: 1\n\n", true), ("data: ha", false)] {
        let held = upstream.hold();
        let mut client = sidecar.begin(stream("a"));
        held.request();
        early_200(&mut client, 1);
        held.send([SSE_HEAD.as_bytes(), &wire::chunk(sent)].concat());
        assert_eq!(next_of_upstream(&mut client).as_deref(), Some(sent));
        held.close();
        let mut last = String::new();
        while let Ok(chunk) = client.chunk() {
            last = String::from_utf8(chunk.expect("it ends as if it were whole")).unwrap();
        }
        assert_eq!(last.contains(r#""status":502"#), is_told, "{last}");
    }
}

#[test]
fn each_endpoint_gets_the_signs_and_the_errors_that_its_clients_know() {
    let upstream = Upstream::start();
    let sidecar = impatient_sidecar(&upstream);
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    let codex = || stream_on("/v1/responses", "a").field("User-Agent", "codex_cli_rs/0.50");
    for (request, sign, error) in [
        (
            stream_on("/v1/messages", "a"),
            ping,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"m\"}}\n\n",
        ),
        (
            stream_on("/v1/responses", "a"),
            ": keep-alive\n",
            "event: error\ndata: {\"type\":\"error\",\"code\":null,\"message\":\"m\",\"param\":null,\"sequence_number\":0,\"error\":{\"message\":\"m\",\"type\":\"UpstreamError\",\"param\":null,\"code\":null,\"status\":500}}\n\n",
        ),
        (
            codex(),
            ping,
            "event: error\ndata: {\"type\":\"error\",\"code\":null,\"message\":\"m\",\"param\":null,\"sequence_number\":0,\"error\":{\"message\":\"m\",\"type\":\"UpstreamError\",\"param\":null,\"code\":null,\"status\":500}}\n\n",
        ),
        (
            stream_on("/v1/genai/a/b", "a"),
            ": keep-alive\n",
            "data: {\"error\":{\"message\":\"m\",\"type\":\"UpstreamError\",\"param\":null,\"code\":null,\"status\":500}}\n\n",
        ),
    ] {
        let held = upstream.hold();
        let mut client = sidecar.begin(request);
        held.request();
        assert_eq!(early_200(&mut client, 2), [sign; 2]);
        held.answer_with(500, r#"{"message":"m"}"#);
        assert_eq!(error_frame(&mut client), error);
    }
    let held = upstream.hold();
    let mut client = sidecar.begin(stream_on("/v1/completions", "a"));
    held.request();
    assert_eq!(data(&early_200(&mut client, 1)[0])["choices"][0]["text"], "");
}

#[test]
fn a_client_that_will_close_is_told_so_in_the_early_head_and_closed_after_its_answer() {
    let upstream = Upstream::start();
    let sidecar = impatient_sidecar(&upstream);
    let held = upstream.hold();
    let mut client = sidecar.begin(stream("a").field("Connection", "close"));
    held.request();
    assert_eq!(client.head().field("connection").as_deref(), Some("close"));
    held.send([SSE_HEAD.as_bytes(), &wire::chunk("data: 1\n\n"), LAST_CHUNK.as_bytes()].concat());
    assert_eq!(next_of_upstream(&mut client).as_deref(), Some("data: 1\n\n"));
    assert_eq!(next_of_upstream(&mut client), None);
    client.assert_closed();
}

#[test]
fn a_stream_with_a_length_or_without_an_end_continues_an_early_200() {
    let upstream = Upstream::start();
    let sidecar = impatient_sidecar(&upstream);
    let with_length =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\ndata: 1\n\n";
    let until_close = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
    let too_short =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: 1\n\n";
    for (answer, is_whole) in [(with_length, true), (until_close, true), (too_short, false)] {
        let held = upstream.hold();
        let mut client = sidecar.begin(stream("a"));
        held.request();
        early_200(&mut client, 1);
        held.send(answer);
        held.close();
        assert_eq!(next_of_upstream(&mut client).as_deref(), Some("data: 1\n\n"));
        if is_whole {
            assert_eq!(next_of_upstream(&mut client), None);
        } else {
            assert_eq!(data(&error_frame(&mut client))["error"]["status"], 502);
        }
    }
}

#[test]
fn a_client_that_does_not_read_costs_signs_and_nothing_else() {
    let jam = Jam::new(|c| c.keepalive.interval = Duration::from_millis(1));
    let mut lazy = jam.sidecar.connect();
    lazy.shrink_receive_buffer();
    lazy.send(Vec::from(stream("lazy")));
    let mut other = jam.sidecar.begin(stream("other"));
    // Enough of them to fill every buffer on the way to the one that does not read.
    early_200(&mut other, 2_000);
    let answer = jam.upstream.hold();
    let next = jam.upstream.hold();
    let (upstream, sidecar) = jam.let_go();
    answer.request();
    for held in [answer, next] {
        held.send(
            [SSE_HEAD.as_bytes(), &wire::chunk("data: {\"id\":\"1\"}\n\n"), LAST_CHUNK.as_bytes()].concat(),
        );
    }
    early_200(&mut lazy, 1);
    for client in [&mut lazy, &mut other] {
        // Every chunk is whole, whatever part of it the socket had taken at first.
        assert_eq!(next_of_upstream(client).as_deref(), Some("data: {\"id\":\"1\"}\n\n"));
        assert_eq!(next_of_upstream(client), None);
    }
    drop((sidecar, upstream));
}

#[test]
fn a_kept_client_that_hangs_up_leaves_the_queue_and_spends_no_ticket() {
    let jam = Jam::new(|_| {});
    let mut client = jam.sidecar.begin(stream("gone"));
    early_200(&mut client, 1);
    drop(client);
    jam.sidecar.wait_for_queue(0);
    let (upstream, sidecar) = jam.let_go();
    assert_eq!(sidecar.ask(models()).status(), 200);
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn those_who_are_kept_alive_are_told_the_truth_when_the_sidecar_stops() {
    let jam = Jam::new(|c| {
        c.drain_timeout = Duration::from_secs(2);
        c.limiter.max_in_flight = 3;
    });
    let speaking = jam.upstream.hold();
    let mut in_the_middle = jam.sidecar.begin(stream("in the middle"));
    speaking.request();
    speaking.send([SSE_HEAD.as_bytes(), &wire::chunk("data: 1\n\n")].concat());
    let thinking = jam.upstream.hold();
    let mut at_upstream = jam.sidecar.begin(stream("at the upstream"));
    thinking.request();
    let mut queued = jam.sidecar.begin(stream("queued"));
    early_200(&mut at_upstream, 1);
    early_200(&mut queued, 1);
    in_the_middle.head();
    let Jam { slot, first: _first, sidecar, upstream: _upstream } = jam;
    let stopping = std::thread::Builder::new().spawn(move || sidecar.stop()).unwrap();
    for client in [&mut queued, &mut at_upstream, &mut in_the_middle] {
        let error = &data(&error_frame(client))["error"];
        assert_eq!((&error["code"], &error["status"]), (&json!("shutting_down"), &json!(503)));
    }
    drop((slot, thinking, speaking));
    let _ = stopping.join();
}

#[test]
fn json_answers_get_blank_lines_in_front_where_that_is_configured() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        c.keepalive.json = Some(Duration::from_millis(50));
        c.upstream.max_attempts = 1;
    });
    for (status, body) in [(200, r#"{"object":"answer"}"#), (500, r#"{"error":{"message":"m"}}"#)] {
        let held = upstream.hold();
        let mut client = sidecar.begin(crate::ask::chat("a"));
        held.request();
        let head = client.head();
        assert_eq!(head.field("content-type").as_deref(), Some("application/json"));
        assert_eq!(piece(&mut client), "\n");
        held.answer_with(status, body);
        let mut text = String::new();
        let ended = loop {
            match client.chunk() {
                Ok(Some(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(ended, status == 200, "an error does not look whole");
        assert!(json["object"] == "answer" || json["error"]["status"] == 500, "{text}");
    }
}

#[test]
fn a_client_that_would_hang_up_before_its_turn_is_refused_at_once_when_it_cannot_be_kept_alive() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| scarce(c, 2));
    for _ in 0..2 {
        assert_eq!(sidecar.ask(crate::ask::chat("spends")).status(), 200);
    }
    let refused = sidecar.ask(crate::ask::chat("plain").field("X-Stainless-Read-Timeout", "6"));
    refused.assert_error(429, "RateLimitedError");
    let kept = sidecar.begin(stream("kept").field("X-Stainless-Read-Timeout", "6"));
    sidecar.wait_for_queue(1);
    drop(kept);
}

#[test]
fn the_metrics_count_what_was_sent_and_how_it_ended() {
    let upstream = Upstream::start();
    let sidecar = impatient_sidecar(&upstream);
    let held = upstream.hold();
    let mut client = sidecar.begin(stream("a"));
    held.request();
    early_200(&mut client, 2);
    let metrics = |line: &str| sidecar.ask(ask("GET", "/metrics")).text().lines().any(|other| other == line);
    assert!(metrics("sidecar_kept_alive_requests 1"));
    assert!(metrics("sidecar_keepalive_streams_total{kind=\"chunk\"} 1"));
    held.answer(500);
    error_frame(&mut client);
    until("its end is counted", || {
        (metrics("sidecar_kept_alive_requests 0")
            && metrics("sidecar_errors_after_200_total{code=\"500\"} 1")
            && metrics("sidecar_early_200_seconds_count 1"))
        .then_some(())
    });
}

#[test]
fn a_sidecar_that_is_killed_in_the_middle_of_a_stream_leaves_it_visibly_broken() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let text =
        format!("upstream_url: {}\nkeepalive_after: 0.1\nkeepalive_interval: 0.1", upstream.url("/v1"));
    let process = Process::start(&place.configure(&text));
    let held = upstream.hold();
    let mut client = process.begin(stream("a"));
    held.request();
    early_200(&mut client, 2);
    process.signal(Signal::KILL);
    let end = loop {
        match client.chunk() {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_ne!(end, Ok(None), "it looks whole");
}

#[test]
fn a_reset_of_the_upstream_after_an_early_200_is_told_in_an_error_frame() {
    let upstream = Upstream::start();
    let sidecar = impatient_sidecar(&upstream);
    let held = upstream.hold();
    let mut client = sidecar.begin(stream("a"));
    held.request();
    early_200(&mut client, 1);
    held.reset();
    let error = &data(&error_frame(&mut client))["error"];
    assert_eq!((&error["status"], &error["type"]), (&502.into(), &"UpstreamError".into()), "{error}");
    assert_eq!(upstream.received().len(), 1, "the ticket is not spent twice");
}

#[test]
fn what_is_refused_after_its_head_has_the_form_of_what_was_asked() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        c.front.max_body_bytes = 10;
        c.front.client_timeout = Duration::from_millis(300);
    });
    for (rest, status, kind) in [
        ("Content-Length: 100\r\n\r\n", 413, "request_too_large"),
        ("Transfer-Encoding: chunked\r\n\r\nff\r\n0123456789abcdef", 413, "request_too_large"),
        ("Content-Length: 5\r\n\r\n{", 408, "invalid_request_error"),
    ] {
        let mut client = sidecar.connect();
        client.send(format!("POST /v1/messages HTTP/1.1\r\nHost: h\r\n{rest}"));
        let answer = client.answer();
        assert_eq!(answer.status(), status, "{rest}");
        assert_eq!(answer.json()["type"], "error", "{rest}");
        assert_eq!(answer.json()["error"]["type"], kind, "{rest}");
    }
}
