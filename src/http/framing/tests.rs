//! What is refused and how, what is accepted, and that neither depends on how the bytes are cut into pieces.

use super::*;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { max_body_bytes: 1024 };

/// Everything that the reader makes of `pieces`: whole requests, then the refusal if there is one.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Request>, Option<Malformed>) {
    let mut reader = RequestReader::default();
    let mut requests = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.step(&BOUNDS) {
                Ok(Step::Complete(request)) => requests.push(request),
                Ok(Step::NeedMore { .. }) => break,
                Err(refusal) => return (requests, Some(refusal)),
            }
        }
    }
    (requests, None)
}

/// The status with which `bytes` are refused; 0 when they are not.
fn refused(bytes: impl AsRef<[u8]>) -> u16 {
    read([bytes.as_ref()]).1.map_or(0, |refusal| refusal.status)
}

/// The one request in `bytes`.
fn accepted(bytes: impl AsRef<[u8]>) -> Request {
    let (mut requests, refusal) = read([bytes.as_ref()]);
    assert_eq!((requests.len(), refusal), (1, None));
    requests.remove(0)
}

fn with_field(field: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: nim\r\n{field}\r\n\r\n")
}

#[test]
fn framing_that_two_parsers_could_read_differently_is_refused() {
    for (fields, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 6", 400),
        ("Content-Length: 5, 6", 400),
        ("Content-Length: five", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: -5", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length: 5 5", 400),
        ("Content-Length:", 400),
        ("Content-Length: 5,", 400),
        ("Content-Length: 18446744073709551616", 400),
        ("Transfer-Encoding: gzip", 501),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding: chunked, chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding:", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding: chunked\r\n gzip", 400),
        ("Transfer-Encoding: \x0bchunked", 400),
    ] {
        assert_eq!(refused(with_field(fields)), status, "{fields}");
    }
    assert_eq!(refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

#[test]
fn a_malformed_head_is_refused() {
    for (fields, status) in [
        ("X-Folded: a\r\n b", 400),
        ("X-Spaced : a", 400),
        ("no colon", 400),
        (": no name", 400),
        ("X-(: a", 400),
        ("X-Null: \0", 400),
        ("X-Bell: \x07", 400),
        ("X-Delete: \x7f", 400),
        ("X-Bare-CR: a\rb", 400),
        ("X-Bare-LF: a\nX-Smuggled: b", 400),
        ("Host: other", 400),
        ("Expect: 200-ok", 417),
        ("Expect: 100-continue, 200-ok", 417),
    ] {
        assert_eq!(refused(with_field(fields)), status, "{fields:?}");
    }
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: me@nim\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: nim/v1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: nim\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: nim\r\n\n", 400),
        ("GET / HTTP/1.1\r\n Host: nim\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: nim\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: nim\r\n\r\n", 400),
        ("GET / HTTPS/1.1\r\nHost: nim\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: nim\r\n\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: nim\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: nim\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nHost: nim\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("CONNECT nim:443 HTTP/1.1\r\nHost: nim\r\n\r\n", 501),
        ("G@T / HTTP/1.1\r\nHost: nim\r\n\r\n", 400),
        ("GET /<script> HTTP/1.1\r\nHost: nim\r\n\r\n", 400),
        ("GET /`id` HTTP/1.1\r\nHost: nim\r\n\r\n", 400),
        ("GET nim HTTP/1.1\r\nHost: nim\r\n\r\n", 400),
        ("\x16\x03\x01\x02", 400),
        ("\r\n\r\n\r\n\r\n\r\n\r\n", 400),
        ("\n", 400),
    ] {
        assert_eq!(refused(head), status, "{head:?}");
    }
}

#[test]
fn a_malformed_chunk_is_refused() {
    for (chunks, status) in [
        ("x\r\n", 400),
        ("\r\n", 400),
        (" 5\r\n", 400),
        ("0x5\r\n", 400),
        ("+5\r\n", 400),
        ("5 5\r\n", 400),
        ("5 \r\n", 400),
        ("5\n", 400),
        ("5\rhello", 400),
        ("fffffffffffffffff\r\n", 413),
        ("3\r\nhello\r\n0\r\n\r\n", 400),
        ("5\r\nhello\n0\r\n\r\n", 400),
        ("5;a=\x01\r\n", 400),
        ("0\r\nX-Spaced : a\r\n\r\n", 400),
        ("0\r\n X-Folded: a\r\n\r\n", 400),
        ("0\r\nX-Null: \0\r\n\r\n", 400),
        ("0\r\nno colon\r\n\r\n", 400),
        ("0\r\nA: b\n\r\n", 400),
        ("0\r\n\n", 400),
        ("401\r\n", 413),
    ] {
        assert_eq!(refused(with_field("Transfer-Encoding: chunked") + chunks), status, "{chunks:?}");
    }
}

#[test]
fn what_would_cost_too_much_is_refused() {
    let fields = |count: usize| (0..count).map(|i| format!("X-{i}: v\r\n")).collect::<String>();
    let head = |fields: String| format!("GET / HTTP/1.1\r\nHost: nim\r\n{fields}\r\n");
    assert_eq!(refused(head(fields(127))), 0);
    assert_eq!(refused(head(fields(128))), 431);
    assert_eq!(refused(head(format!("X-Long: {}\r\n", "v".repeat(32 * 1024)))), 0);
    assert_eq!(refused(head(format!("X-Long: {}\r\n", "v".repeat(64 * 1024)))), 431);
    assert_eq!(refused("GET /".to_owned() + &"v".repeat(64 * 1024)), 431);
    assert_eq!(refused(head(format!("Connection: {}\r\n", "x,".repeat(64)))), 400);

    assert_eq!(refused(with_field("Content-Length: 1025")), 413);
    assert_eq!(refused(with_field("Content-Length: 18446744073709551615")), 413);
    let chunked = |rest: String| refused(with_field("Transfer-Encoding: chunked") + &rest);
    assert_eq!(chunked("200\r\n".to_owned() + &"v".repeat(512) + "\r\n201\r\n"), 413);
    assert_eq!(chunked("1;a=b\r\nv\r\n".repeat(1024) + "0\r\n\r\n"), 0);
    assert_eq!(chunked("1;a=bc\r\nv\r\n".repeat(1024) + "0\r\n\r\n"), 400);
    assert_eq!(chunked("0\r\nX: ".to_owned() + &"v".repeat(8 * 1024)), 431);
    assert_eq!(chunked("0\r\n".to_owned() + &"X: v\r\n".repeat(4 * 1024)), 431);
}

#[test]
fn a_refusal_is_final_and_frees_what_was_held() {
    let mut reader = RequestReader::default();
    reader.feed(with_field("Content-Length: 1025").as_bytes());
    let refusal = reader.step(&BOUNDS).expect_err("too large");
    assert!(refusal.message.contains("max_body_bytes, 1024"), "{}", refusal.message);
    reader.feed(b"GET / HTTP/1.1\r\nHost: nim\r\n\r\n");
    assert_eq!(reader.step(&BOUNDS).expect_err("final"), refusal);
    assert_eq!((reader.held_bytes(), reader.progress()), (0, Progress::Idle));
}

#[test]
fn a_head_says_what_the_client_sent() {
    let request = accepted(
        "POST /v1/chat/completions?a=1?2 HTTP/1.1\r\nhOsT: nim:80\r\nX-A: 1\r\nx-a:\t2 \r\nEmpty:\r\nContent-Length: 5, 5\r\n\
         Content-Length: 5\r\n\r\nhello",
    );
    let head = &request.head;
    assert_eq!((head.method(), head.target()), ("POST", "/v1/chat/completions?a=1?2"));
    assert_eq!((head.path(), head.query()), ("/v1/chat/completions", Some("a=1?2")));
    assert_eq!(head.field("HOST"), Some(&b"nim:80"[..]));
    assert_eq!(head.fields_named("X-a").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(head.field("empty"), Some(&b""[..]));
    assert_eq!(head.field("absent"), None);
    assert_eq!(head.fields().count(), 6);
    assert_eq!(request.body, b"hello");
}

#[test]
fn latin_1_values_are_kept_byte_for_byte() {
    let request = accepted(b"GET / HTTP/1.1\r\nHost: nim\r\nX-Name: M\xfcller\r\n\r\n");
    assert_eq!(request.head.field("x-name"), Some(&b"M\xfcller"[..]));
}

#[test]
fn debug_output_has_no_secrets() {
    let request =
        accepted("GET /v1?key=nvapi-1 HTTP/1.1\r\nHost: nim\r\nAuthorization: Bearer nvapi-2\r\n\r\n");
    let text = format!("{request:?}");
    assert!(text.contains("/v1") && !text.contains("nvapi"), "{text}");
}

#[test]
fn an_absolute_target_is_reduced_and_its_authority_is_the_host() {
    for (target, reduced) in [
        ("http://nim:80/v1/models?a=1", "/v1/models?a=1"),
        ("http://nim:80", "/"),
        ("HTTPS://nim:80/", "/"),
        ("http://nim:80?a=1", "/?a=1"),
    ] {
        let head = accepted(format!("GET {target} HTTP/1.1\r\nHost: other\r\nX-A: b\r\n\r\n")).head;
        assert_eq!((head.target(), head.field("host")), (reduced, Some(&b"nim:80"[..])), "{target}");
        assert_eq!(head.field("x-a"), Some(&b"b"[..]));
    }
}

#[test]
fn the_client_says_whether_its_connection_may_be_kept() {
    let allows =
        |version: &str, field: &str| accepted(format!("GET / {version}\r\nHost: n\r\n{field}\r\n\r\n")).head;
    assert!(allows("HTTP/1.1", "X: y").keep_alive());
    assert!(!allows("HTTP/1.1", "Connection: x, CLOSE").keep_alive());
    assert!(!allows("HTTP/1.0", "X: y").keep_alive() && allows("HTTP/1.0", "X: y").is_http_10());
    assert!(allows("HTTP/1.0", "Connection: Keep-Alive").keep_alive());
    assert!(!allows("HTTP/1.0", "Connection: keep-alive, close").keep_alive());
    assert!(accepted("GET / HTTP/1.0\r\n\r\n").head.field("host").is_none());
}

#[test]
fn a_client_that_waits_to_continue_is_told_once() {
    let sends = |head: &str, body: &str| {
        let mut reader = RequestReader::default();
        reader.feed(head.as_bytes());
        reader.feed(body.as_bytes());
        let mut step = || matches!(reader.step(&BOUNDS), Ok(Step::NeedMore { send_continue: true }));
        (step(), step())
    };
    let expecting = |fields: &str| with_field(&format!("Expect: 100-Continue\r\n{fields}"));
    assert_eq!(sends(&expecting("Content-Length: 5"), ""), (true, false));
    assert_eq!(sends(&expecting("Content-Length: 5"), "hell"), (true, false));
    assert_eq!(sends(&expecting("Transfer-Encoding: chunked"), ""), (true, false));
    assert_eq!(sends(&expecting("Content-Length: 5"), "hello"), (false, false));
    assert_eq!(sends(&expecting("Content-Length: 0"), ""), (false, false));
    assert_eq!(sends(&with_field("Content-Length: 5"), ""), (false, false));
    assert_eq!(
        sends("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", ""),
        (false, false)
    );
}

#[test]
fn progress_tells_which_deadline_applies() {
    let mut reader = RequestReader::default();
    let mut after = |bytes: &str| {
        reader.feed(bytes.as_bytes());
        let complete = matches!(reader.step(&BOUNDS), Ok(Step::Complete(_)));
        (complete, reader.progress(), reader.body_received(), reader.has_leftover())
    };
    assert_eq!(after(""), (false, Progress::Idle, 0, false));
    assert_eq!(after("\r\n"), (false, Progress::Idle, 0, false));
    assert_eq!(after("POST / HTTP/1.1\r\n"), (false, Progress::Head, 0, true));
    assert_eq!(after("Host: nim\r\nContent-Length: 4\r\n\r\nab"), (false, Progress::Body, 2, false));
    assert_eq!(after("cdGET"), (true, Progress::Head, 0, true));
    assert_eq!(after(" / HTTP/1.0\r\n\r\n"), (true, Progress::Idle, 0, false));
}

#[test]
fn a_declared_length_costs_no_memory_and_a_finished_body_has_none_to_spare() {
    const BODY: usize = 8 * 1024 * 1024;
    let bounds = Bounds { max_body_bytes: usize::MAX };
    let mut reader = RequestReader::default();
    reader.feed(with_field(&format!("Content-Length: {BODY}")).as_bytes());
    assert!(matches!(reader.step(&bounds), Ok(Step::NeedMore { .. })));
    reader.feed(&[b'v'; 1000]);
    assert!(reader.held_bytes() < 80 * 1024, "{}", reader.held_bytes());
    let piece = [b'v'; 1000];
    let mut left = BODY - 1000;
    while left > 0 {
        reader.feed(&piece[..left.min(1000)]);
        left = left.saturating_sub(1000);
    }
    let Ok(Step::Complete(request)) = reader.step(&bounds) else { panic!("the body is complete") };
    assert_eq!((request.body.len(), request.body.capacity()), (BODY, BODY));
    reader.shrink();
    assert_eq!(reader.held_bytes(), 0);
}

/// A request as a client might write it, and what must be read from it.
#[derive(Clone, Debug)]
struct Sent {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// The sizes of its chunks; none sends it with a `Content-Length`.
    chunks: Option<Vec<usize>>,
}

impl Sent {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in self.all_fields() {
            out.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
        }
        out.extend(b"\r\n");
        let Some(sizes) = &self.chunks else {
            out.extend(&self.body);
            return out;
        };
        let mut rest = &self.body[..];
        for size in sizes {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            if !piece.is_empty() {
                out.extend(format!("{:X} ;x=\"y\"\r\n", piece.len()).as_bytes());
                out.extend([piece, b"\r\n"].concat());
            }
            rest = after;
        }
        out.extend(format!("{:04x}\r\n", rest.len()).as_bytes());
        if !rest.is_empty() {
            out.extend([rest, b"\r\n0\r\n"].concat());
        }
        out.extend(b"X-Trailer: dropped\r\n\r\n");
        out
    }

    fn all_fields(&self) -> Vec<(String, Vec<u8>)> {
        let framing = match self.chunks {
            Some(_) => ("Transfer-Encoding".to_owned(), b"chunked".to_vec()),
            None => ("Content-Length".to_owned(), self.body.len().to_string().into_bytes()),
        };
        let host = ("Host".to_owned(), b"nim".to_vec());
        [vec![host], self.fields.clone(), vec![framing]].concat()
    }

    fn assert_read_as(&self, request: &Request) {
        assert_eq!(request.head.method(), self.method);
        assert_eq!(request.head.target(), self.target);
        let fields = request.head.fields().map(|(name, value)| (name.to_owned(), value.to_vec()));
        assert_eq!(fields.collect::<Vec<_>>(), self.all_fields());
        assert_eq!(request.body, self.body);
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let value =
        prop_oneof!["[!-~]([ -~]{0,30}[!-~])?".prop_map(String::into_bytes), Just(b"M\xfcller".to_vec())];
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    let chunks = proptest::option::of(proptest::collection::vec(0..100_usize, 0..6));
    let fields = proptest::collection::vec(("X-[A-Za-z0-9!#$%&'*+.^_`|~-]{0,20}", value), 0..8);
    let target = "/[a-zA-Z0-9/._~%?&=-]{0,40}".prop_filter("a path that is refused", |target| {
        crate::http::path::check(target.split('?').next().unwrap_or_default()).is_ok()
    });
    ("[A-Z]{3,7}X", target, fields, body, chunks).prop_map(|(method, target, fields, body, chunks)| Sent {
        method,
        target,
        fields,
        body,
        chunks,
    })
}

/// `bytes` cut at each of `cuts`, taken modulo the length.
fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| &bytes[start..*end]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    proptest::collection::vec(any::<prop::sample::Index>(), 0..12)
}

/// Bytes that come near to being requests, so that errors lie everywhere in the grammar.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let token = proptest::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /v1 HTTP/1.0\r\n",
        "Host: n\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "\r\n",
        "\n",
        "\r",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "3;x\r\n",
        " ",
        ":",
        "X: y\r\n",
        "\0",
        "http://h?",
        "ffffffffffffffff",
        "Connection: close\r\n",
        "GET http://h?x HTTP/1.1\r\nHost: n\r\n\r\n",
    ]);
    proptest::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat().into_bytes())
}

proptest! {
    #![proptest_config(crate::properties())]
    #[test]
    fn requests_are_read_as_they_were_sent_however_they_are_cut(
        sent in proptest::collection::vec(sent(), 1..4),
        cuts in cuts(),
    ) {
        let bytes = sent.iter().flat_map(Sent::to_bytes).collect::<Vec<_>>();
        let (requests, refusal) = read(cut(&bytes, &cuts));
        prop_assert_eq!(refusal, None);
        prop_assert_eq!(requests.len(), sent.len());
        for (sent, request) in sent.iter().zip(&requests) {
            sent.assert_read_as(request);
            prop_assert_eq!(request.body.len(), request.body.capacity());
        }
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        bytes in prop_oneof![nearly_requests(), proptest::collection::vec(any::<u8>(), 0..200)],
        cuts in cuts(),
    ) {
        let (whole, refusal) = read([&bytes[..]]);
        let (single, refusal_of_single) = read(bytes.chunks(1));
        let (pieces, refusal_of_pieces) = read(cut(&bytes, &cuts));
        let status = |refusal: Option<Malformed>| refusal.map(|refusal| refusal.status);
        let status_of_whole = status(refusal);
        prop_assert_eq!(status_of_whole, status(refusal_of_single));
        prop_assert_eq!(status_of_whole, status(refusal_of_pieces));
        for others in [single, pieces] {
            prop_assert_eq!(whole.len(), others.len());
            for (one, other) in whole.iter().zip(&others) {
                prop_assert_eq!(&one.head.raw, &other.head.raw);
                prop_assert_eq!(&one.body, &other.body);
            }
        }
    }
}
