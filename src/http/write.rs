//! Answers as bytes: how the content is delimited, the head, chunks, and whole answers of the sidecar's own.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime};

use ureq::http::StatusCode;

use super::request::Head;

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// What ends a chunked answer. Left out when the upstream broke off, so that the client sees it.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Memory set aside for a head; the usual one fits.
const HEAD_BYTES: usize = 512;

/// How an answer's content is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// Exactly so many bytes follow the head.
    Length(u64),
    /// Chunks follow ([`chunk_into`]), then [`LAST_CHUNK`].
    Chunked,
    /// Bytes follow until the connection is closed: an HTTP/1.0 client knows no chunks.
    UntilClose,
    /// Nothing follows the head.
    None,
}

/// How an answer goes to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// How the content is delimited.
    pub framing: BodyFraming,
    /// Whether the connection can carry another request afterwards.
    pub persists: bool,
    content_length: Option<u64>,
}

/// What decides about the delivery on the request's side.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The method is HEAD, whose answer has no content.
    pub is_head: bool,
    /// The client speaks HTTP/1.0.
    pub is_http_10: bool,
    /// The connection may be kept: the client allows it, and the sidecar wants it.
    pub keep_alive: bool,
}

impl Asked {
    /// What a request's head says.
    #[must_use]
    pub fn by(head: &Head) -> Asked {
        Asked {
            is_head: head.method() == "HEAD",
            is_http_10: head.is_http_10(),
            keep_alive: head.keep_alive(),
        }
    }
}

impl Delivery {
    /// Decides how to pass on an answer with this status and `Content-Length`, if the upstream sent one.
    #[must_use]
    pub fn decide(asked: Asked, status: u16, content_length: Option<u64>) -> Delivery {
        let has_no_content = asked.is_head || matches!(status, 100..=199 | 204 | 304);
        let framing = match content_length {
            _ if has_no_content => BodyFraming::None,
            Some(length) => BodyFraming::Length(length),
            None if asked.is_http_10 => BodyFraming::UntilClose,
            None => BodyFraming::Chunked,
        };
        Delivery {
            framing,
            persists: asked.keep_alive && framing != BodyFraming::UntilClose,
            // For HEAD and 304 it tells the length that GET would have had; 1xx and 204 must not have it (RFC 9110 §8.6).
            content_length: content_length.filter(|_| !matches!(status, 100..=199 | 204)),
        }
    }
}

/// Appends a relayed answer's head; `fields` have neither hop-by-hop fields nor a `Content-Length`.
///
/// Values are not looked at: they are those of a parsed message, which has no line end in them, or the caller's own.
pub fn answer_head<'f>(
    out: &mut Vec<u8>,
    status: u16,
    fields: impl IntoIterator<Item = (&'f str, &'f [u8])>,
    delivery: Delivery,
) {
    out.reserve(HEAD_BYTES);
    status_line(out, status);
    for (name, value) in fields {
        field_into(out, name, value);
    }
    if let Some(length) = delivery.content_length {
        number_field_into(out, "content-length", length);
    }
    if delivery.framing == BodyFraming::Chunked {
        field_into(out, "transfer-encoding", b"chunked");
    }
    connection_field(out, delivery.persists);
    out.extend_from_slice(b"\r\n");
}

/// Appends `piece` as one chunk; nothing for an empty piece, which would end the answer.
pub fn chunk_into(out: &mut Vec<u8>, piece: &[u8]) {
    if piece.is_empty() {
        return;
    }
    out.reserve(piece.len() + "ffffffffffffffff\r\n\r\n".len());
    text_into(out, format_args!("{:x}\r\n", piece.len()));
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
}

/// A whole answer of the sidecar's own; `head_only` for a request with HEAD, which is told the length but not sent the body.
#[must_use]
pub fn local_answer(
    status: u16,
    content_type: &str,
    extra_fields: &[(&str, &str)],
    body: &[u8],
    keep_alive: bool,
    head_only: bool,
    date: SystemTime,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + body.len());
    status_line(&mut out, status);
    field_into(&mut out, "date", http_date(date).as_bytes());
    for (name, value) in extra_fields {
        field_into(&mut out, name, without_line_ends(value).as_bytes());
    }
    let may_have_content = !matches!(status, 100..=199 | 204 | 304);
    if may_have_content {
        field_into(&mut out, "content-type", content_type.as_bytes());
        number_field_into(&mut out, "content-length", body.len() as u64);
    }
    connection_field(&mut out, keep_alive);
    out.extend_from_slice(b"\r\n");
    if may_have_content && !head_only {
        out.extend_from_slice(body);
    }
    out
}

fn status_line(out: &mut Vec<u8>, status: u16) {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = status.canonical_reason().unwrap_or_default();
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// `keep-alive` is said although HTTP/1.1 clients take it for granted, because HTTP/1.0 ones do not.
fn connection_field(out: &mut Vec<u8>, persists: bool) {
    field_into(out, "connection", if persists { b"keep-alive" } else { b"close" });
}

fn field_into(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// The form of `Date` (RFC 9110 §5.6.7). It has four digits for the year, and a system clock may say anything.
#[must_use]
pub fn http_date(date: SystemTime) -> String {
    const END_OF_9999: Duration = Duration::from_secs(253_402_300_799);
    let first = SystemTime::UNIX_EPOCH;
    httpdate::fmt_http_date(date.clamp(first, first + END_OF_9999))
}

/// No value may end its line early and begin another field (RFC 9110 §5.5).
fn without_line_ends(value: &str) -> Cow<'_, str> {
    const LINE_ENDS: [char; 3] = ['\r', '\n', '\0'];
    if value.contains(LINE_ENDS) { Cow::Owned(value.replace(LINE_ENDS, " ")) } else { Cow::Borrowed(value) }
}

fn number_field_into(out: &mut Vec<u8>, name: &str, value: u64) {
    text_into(out, format_args!("{name}: {value}\r\n"));
}

fn text_into(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ASKED: Asked = Asked { is_head: false, is_http_10: false, keep_alive: true };

    fn head(asked: Asked, status: u16, content_length: Option<u64>) -> (BodyFraming, String) {
        let delivery = Delivery::decide(asked, status, content_length);
        let mut out = Vec::new();
        answer_head(&mut out, status, [("server", &b"nim"[..])], delivery);
        (delivery.framing, String::from_utf8(out).expect("ASCII"))
    }

    #[test]
    fn a_known_length_is_kept() {
        let (framing, text) = head(ASKED, 200, Some(5));
        assert_eq!(framing, BodyFraming::Length(5));
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nserver: nim\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn an_unknown_length_is_chunked_or_for_an_old_client_ended_by_closing() {
        let (framing, text) = head(ASKED, 200, None);
        assert!(
            framing == BodyFraming::Chunked
                && text.contains("transfer-encoding: chunked\r\nconnection: keep-alive")
        );
        let (framing, text) = head(Asked { is_http_10: true, ..ASKED }, 200, None);
        assert!(framing == BodyFraming::UntilClose && text.contains("connection: close"));
        assert!(!text.contains("transfer-encoding") && !text.contains("content-length"));
    }

    #[test]
    fn answers_without_content_say_so_in_the_way_that_their_status_allows() {
        for (is_head, status, told) in
            [(true, 200, true), (false, 304, true), (false, 204, false), (false, 102, false)]
        {
            let (framing, text) = head(Asked { is_head, ..ASKED }, status, Some(5));
            assert_eq!((framing, text.contains("content-length: 5")), (BodyFraming::None, told), "{status}");
            let (framing, text) = head(Asked { is_head, ..ASKED }, status, None);
            assert_eq!((framing, text.contains("content-length")), (BodyFraming::None, false), "{status}");
            assert!(text.contains("keep-alive") && !text.contains("transfer-encoding"));
        }
    }

    #[test]
    fn a_connection_persists_only_if_the_client_lets_it() {
        let (_, text) = head(Asked { keep_alive: false, ..ASKED }, 200, Some(5));
        assert!(text.contains("connection: close"));
        let (_, text) = head(Asked { is_http_10: true, ..ASKED }, 200, Some(5));
        assert!(text.contains("connection: keep-alive"));
    }

    #[test]
    fn an_unknown_status_has_no_reason() {
        assert!(head(ASKED, 599, Some(0)).1.starts_with("HTTP/1.1 599 \r\n"));
    }

    #[test]
    fn a_local_answer_is_complete_and_no_value_can_add_a_field() {
        let answer = |status, head_only| {
            let fields = [("x-request-id", "a\r\nset-cookie: b")];
            let bytes = local_answer(
                status,
                "text/plain",
                &fields,
                b"hello",
                false,
                head_only,
                SystemTime::UNIX_EPOCH,
            );
            String::from_utf8(bytes).expect("ASCII")
        };
        let head = "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nx-request-id: a  set-cookie: b\r\n\
                    content-type: text/plain\r\ncontent-length: 5\r\nconnection: close\r\n\r\n";
        assert_eq!(answer(200, true), head);
        assert_eq!(answer(200, false), format!("{head}hello"));
        let empty = answer(204, false);
        assert!(empty.ends_with("\r\n\r\n") && !empty.contains("content-"));
    }

    #[test]
    fn a_clock_that_is_far_off_still_gives_a_date() {
        let century = Duration::from_secs(100 * 365 * 86_400);
        assert_eq!(http_date(SystemTime::UNIX_EPOCH - century), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(SystemTime::UNIX_EPOCH + 100 * century), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    /// The plainest decoder there is: splits at line ends and believes every size.
    fn decode(mut chunks: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        loop {
            let line = chunks.windows(2).position(|two| two == b"\r\n").expect("a size line");
            let text = std::str::from_utf8(&chunks[..line]).expect("digits");
            let size = usize::from_str_radix(text, 16).expect("a size");
            content.extend_from_slice(&chunks[line + 2..line + 2 + size]);
            assert_eq!(&chunks[line + 2 + size..][..2], b"\r\n");
            chunks = &chunks[line + 2 + size + 2..];
            if size == 0 {
                assert!(chunks.is_empty());
                return content;
            }
        }
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn chunks_carry_the_content_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        ) {
            let mut out = Vec::new();
            for piece in &pieces {
                chunk_into(&mut out, piece);
            }
            out.extend_from_slice(LAST_CHUNK);
            prop_assert_eq!(decode(&out), pieces.concat());
        }
    }
}
