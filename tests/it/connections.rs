//! Client connections: kept, pipelined, closed, slow, too many.

use crate::ask::{ask, chat, models};
use crate::client::Client;
use crate::patience::{PATIENCE, now, until};
use crate::sidecar::Sidecar;
use crate::upstream::Upstream;
use crate::wire;
use nvidia_sidecar::config::ListenHost;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

#[test]
fn one_connection_carries_request_after_request() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    for i in 0..20 {
        // Limited ones, others and the sidecar's own pages in turn: they come back in different ways.
        let request = match i % 4 {
            0 => chat("a"),
            1 => models(),
            2 => ask("GET", "/health"),
            _ => ask("POST", "/v1/files").body("x".repeat(100_000)),
        };
        let answer = client.send(Vec::from(request)).answer();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.head.field("connection").as_deref(), Some("keep-alive"));
    }
    assert_eq!(upstream.received().len(), 15);
}

#[test]
fn localhost_answers_in_every_family_that_this_host_has() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.listen.host = ListenHost::Localhost);
    let port = sidecar.address().port();
    let loopbacks: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let there = loopbacks.into_iter().filter(|address| TcpListener::bind((*address, 0)).is_ok());
    for address in there {
        let answer = Client::connect((address, port).into()).send(Vec::from(ask("GET", "/health"))).answer();
        assert_eq!(answer.status(), 200, "{address}");
    }
}

#[test]
fn the_upstreams_connection_is_kept_for_the_next_client() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for _ in 0..5 {
        assert_eq!(sidecar.ask(chat("a")).status(), 200);
    }
    assert!(upstream.received().iter().all(|r| r.connection == 0));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    let mut bytes = Vec::new();
    for i in 0..10 {
        upstream.answer_with(&wire::json(200, &[], &format!("\"{i}\"")));
        let request = if i % 2 == 0 { chat("a") } else { models() };
        bytes.extend(Vec::from(request));
    }
    client.send(&bytes);
    for i in 0..10 {
        assert_eq!(client.answer().text(), format!("\"{i}\""));
    }
}

#[test]
fn a_request_cut_into_single_bytes_is_the_same_request() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    for byte in Vec::from(chat("cut")) {
        client.send([byte]);
    }
    assert_eq!(client.answer().status(), 200);
    assert!(upstream.received()[0].text().contains("cut"));
}

#[test]
fn connection_close_is_obeyed_and_told() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for request in [chat("a"), models(), ask("GET", "/health")] {
        let mut client = sidecar.begin(request.field("Connection", "close"));
        let answer = client.answer();
        assert_eq!((answer.status(), answer.head.field("connection").as_deref()), (200, Some("close")));
        client.assert_closed();
    }
}

#[test]
fn an_http_10_client_gets_its_answer_and_the_end_of_the_connection() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.begin(models().http_10());
    assert_eq!(client.answer().status(), 200);
    client.assert_closed();
}

#[test]
fn an_http_10_client_that_asks_for_it_keeps_its_connection() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    for _ in 0..3 {
        let answer = client.send(Vec::from(models().http_10().field("Connection", "keep-alive"))).answer();
        assert_eq!(answer.head.field("connection").as_deref(), Some("keep-alive"));
    }
}

#[test]
fn an_http_10_client_gets_a_stream_without_chunks() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_with(&[wire::SSE_HEAD.as_bytes(), &wire::chunk("data: 1\n\n"), b"0\r\n\r\n"].concat());
    let answer = sidecar.ask(chat("a").http_10());
    assert_eq!(answer.head.field("transfer-encoding"), None);
    assert_eq!(answer.text(), "data: 1\n\n");
}

#[test]
fn expect_100_continue_is_met_before_the_body_and_stops_here() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let bytes = Vec::from(chat("expected").field("Expect", "100-continue"));
    let (head, body) = bytes.split_at(wire::head_end(&bytes).unwrap());
    let mut client = sidecar.connect();
    client.send(head);
    assert_eq!(client.head().status, 100);
    assert_eq!(client.send(body).answer().status(), 200);
    assert_eq!(upstream.received()[0].field("expect"), None);
}

#[test]
fn a_client_that_expects_but_does_not_wait_is_served_too() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.begin(chat("at once").field("Expect", "100-continue"));
    let mut head = client.head();
    if head.status == 100 {
        head = client.head();
    }
    assert_eq!(head.status, 200);
}

#[test]
fn a_chunked_body_goes_upstream_whole_and_with_its_length() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    client.send("POST /v1/files HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
    for piece in ["one ", "two ", "three"] {
        client.send(wire::chunk(piece));
    }
    client.send("0\r\nX-Sum: 1\r\n\r\n");
    assert_eq!(client.answer().status(), 200);
    let received = &upstream.received()[0];
    assert_eq!(received.text(), "one two three");
    assert_eq!(received.field("content-length").as_deref(), Some("13"));
    assert_eq!((received.field("trailer"), received.field("x-sum")), (None, None));
}

#[test]
fn a_hundred_fields_and_32_kib_of_head_pass() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let many = (0..100).fold(models(), |ask, i| ask.field(&format!("X-Field-{i}"), &"v".repeat(320)));
    assert!(Vec::from(many.clone()).len() > 32 * 1024);
    assert_eq!(sidecar.ask(many).status(), 200);
    let received = &upstream.received()[0];
    assert!((0..100).all(|i| received.field(&format!("x-field-{i}")).is_some()));
}

#[test]
fn a_large_body_passes_both_ways() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let big = "z".repeat(8 << 20);
    upstream.answer_with(&wire::json(200, &[], &big));
    let answer = sidecar.ask(ask("POST", "/v1/files").body(big.clone()));
    assert!(answer.text() == big && upstream.received()[0].text() == big);
}

#[test]
fn a_slow_head_and_a_slow_body_are_refused_and_never_reach_the_upstream() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.front.client_timeout = Duration::from_millis(150));
    let whole = Vec::from(chat("slow"));
    for cut in [10, whole.len() - 1] {
        let mut client = sidecar.connect();
        let answer = client.send(&whole[..cut]).answer();
        answer.assert_error(408, "InvalidRequest");
        client.assert_closed();
    }
    let mut chunked = sidecar.connect();
    chunked.send("POST /v1/files HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
    chunked.answer().assert_error(408, "InvalidRequest");
    assert!(upstream.received().is_empty() && upstream.partial().is_empty());
}

#[test]
fn a_client_that_drips_a_head_for_ever_is_refused_all_the_same() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.front.client_timeout = Duration::from_millis(200));
    let mut client = sidecar.connect();
    client.send("GET /v1/models HTTP/1.1\r\nHost: s\r\n");
    let began = now();
    until("the dripping client is refused", || {
        client.send("X-Drip: 1\r\n");
        client.has_input().then_some(())
    });
    assert!(now().since(began) < PATIENCE / 2, "each drop bought it more time");
    client.answer().assert_error(408, "InvalidRequest");
}

#[test]
fn the_connection_beyond_the_bound_is_told_so_and_the_others_go_on() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.front.max_connections = 3);
    let mut clients: Vec<Client> = (0..3).map(|_| sidecar.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.send(Vec::from(models())).answer().status(), 200);
    }
    let mut refused = sidecar.connect();
    let answer = refused.answer();
    answer.assert_error(503, "QueueFullError");
    assert!(answer.head.number("retry-after") >= 1);
    refused.assert_closed();
    drop(refused);
    for client in &mut clients {
        assert_eq!(client.send(Vec::from(chat("a"))).answer().status(), 200);
    }
    drop(clients);
    until("a place is free again", || {
        let answer = sidecar.begin(models()).try_answer();
        answer.is_ok_and(|a| a.status() == 200).then_some(())
    });
}

#[test]
fn many_clients_at_once_get_each_their_own_answer() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (sidecar, upstream) = (&sidecar, &upstream);
            scope.spawn(move || {
                let mut client = sidecar.connect();
                for i in 0..25 {
                    let mark = format!("<{thread}-{i}>");
                    upstream.always(&mark, &wire::json(200, &[], &mark));
                    assert_eq!(client.send(Vec::from(chat(&mark))).answer().text(), mark);
                }
            });
        }
    });
    assert_eq!(upstream.received().len(), 200);
}
