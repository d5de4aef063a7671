//! What is refused before it is a request: clearly, with time to read the answer, and without a trace at the upstream.

use crate::ask::{ask, chat, models};
use crate::client::{Client, End};
use crate::sidecar::Sidecar;
use crate::upstream::Upstream;

/// Sends bytes followed by more than a refused connection reads, and checks the refusal.
fn assert_refused(bytes: impl AsRef<[u8]>, status: u16) {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    client.send(bytes.as_ref());
    // Unread input would make a careless close send a reset that destroys the answer.
    client.send(vec![b'x'; 200_000]);
    let answer = client.answer();
    answer.assert_error(status, "InvalidRequest");
    assert_eq!(answer.head.field("connection").as_deref(), Some("close"));
    client.half_close();
    let (more, end) = client.rest();
    assert_eq!((more.len(), end), (0, End::Closed), "{}", String::from_utf8_lossy(&more));
    assert!(upstream.received().is_empty(), "it reached the upstream");
    assert!(upstream.partial().is_empty(), "a part of it reached the upstream");
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\n{fields}\r\n{body}")
}

#[test]
fn content_length_beside_transfer_encoding_is_refused() {
    assert_refused(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400);
    assert_refused(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400);
}

#[test]
fn two_different_content_lengths_are_refused() {
    assert_refused(post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400);
    assert_refused(post("Content-Length: 5, 6\r\n", "hello"), 400);
}

#[test]
fn a_content_length_that_is_no_number_is_refused() {
    for length in ["abc", "-1", "+5", "0x5", "5 5", "", "99999999999999999999999"] {
        assert_refused(post(&format!("Content-Length: {length}\r\n"), "hello"), 400);
    }
}

#[test]
fn a_transfer_coding_other_than_chunked_is_refused() {
    for coding in ["gzip", "gzip, chunked", "identity", "xchunked"] {
        assert_refused(post(&format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n"), 501);
    }
    assert_refused(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400);
}

#[test]
fn a_folded_field_is_refused() {
    assert_refused("GET / HTTP/1.1\r\nHost: s\r\nX-A: one\r\n two\r\n\r\n", 400);
}

#[test]
fn white_space_before_the_colon_is_refused() {
    assert_refused("POST / HTTP/1.1\r\nHost: s\r\nContent-Length : 5\r\n\r\nhello", 400);
}

#[test]
fn a_missing_or_doubled_host_is_refused() {
    assert_refused("GET /v1/models HTTP/1.1\r\n\r\n", 400);
    assert_refused("GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400);
}

#[test]
fn a_line_that_is_no_request_is_refused() {
    for line in ["GET", "GET /", "GET / HTTP/9", "\x16\x03\x01\x02\x00", "GET  / HTTP/1.1", "G@T / HTTP/1.1"]
    {
        assert_refused(format!("{line}\r\nHost: s\r\n\r\n"), 400);
    }
    assert_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
}

#[test]
fn a_malformed_chunk_is_refused_however_much_came_before() {
    for rest in ["zz\r\n", "5\r\nhello!!", "-1\r\n", "5\nhello\r\n0\r\n\r\n", "5;\x01\r\n"] {
        assert_refused(post("Transfer-Encoding: chunked\r\n", &format!("5\r\nhello\r\n{rest}")), 400);
    }
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let many = (0..200).fold(models(), |ask, i| ask.field(&format!("X-{i}"), "v"));
    assert_refused(Vec::from(many), 431);
    assert_refused(Vec::from(models().field("X-Big", &"v".repeat(1 << 20))), 431);
}

#[test]
fn an_expectation_that_cannot_be_met_is_refused() {
    assert_refused(post("Expect: miracles\r\nContent-Length: 5\r\n", "hello"), 417);
}

#[test]
fn a_body_above_the_bound_is_refused_at_its_announcement() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.front.max_body_bytes = 1000);
    let refused = |head: &str| {
        let mut client = sidecar.connect();
        let answer = client.send(post(head, "")).answer();
        answer.assert_error(413, "InvalidRequest");
        assert!(answer.text().contains("1000"), "the bound is named: {}", answer.text());
    };
    refused("Content-Length: 1001\r\n");
    let mut chunked = sidecar.connect();
    chunked.send(post("Transfer-Encoding: chunked\r\n", &format!("3e8\r\n{}\r\n1\r\n", "x".repeat(1000))));
    chunked.answer().assert_error(413, "InvalidRequest");
    assert!(upstream.received().is_empty() && upstream.partial().is_empty());
    assert_eq!(sidecar.ask(ask("POST", "/v1/files").body("x".repeat(1000))).status(), 200);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_request_leaves_nothing_at_the_upstream() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let whole = Vec::from(chat("left"));
    for cut in [1, 30, whole.len() / 2, whole.len() - 1] {
        let mut client = sidecar.connect();
        client.send(&whole[..cut]).half_close();
        // Nothing to answer: it never was a request.
        let (_, end) = client.rest();
        assert_eq!(end, End::Closed);
    }
    assert!(upstream.received().is_empty() && upstream.partial().is_empty());
}

#[test]
fn what_follows_a_refused_request_is_never_run_as_the_next_one() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client: Client = sidecar.connect();
    let smuggled = Vec::from(models());
    client.send(post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")).send(smuggled);
    client.answer().assert_error(400, "InvalidRequest");
    client.half_close();
    client.assert_closed();
    assert!(upstream.received().is_empty());
}

#[test]
fn a_good_request_before_a_bad_one_is_answered_first() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.begin(models());
    client.send("NONSENSE\r\n\r\n");
    assert_eq!(client.answer().status(), 200);
    client.answer().assert_error(400, "InvalidRequest");
}
