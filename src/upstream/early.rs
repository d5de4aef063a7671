//! What becomes of an early 200 when the upstream's answer is there.

use crate::downstream::keepalive::{Begun, Early, Form, FrameScanner};
use ureq::http::response::Parts;
use ureq::http::{HeaderMap, HeaderName, StatusCode, header};

/// Whether the upstream's answer is what the early 200 promised, so that its content can follow as it is.
#[must_use]
pub fn continues(early: Early, answer: &Parts) -> bool {
    let kind = media_type(&answer.headers);
    let is_promised = if early.is_stream {
        kind == "text/event-stream"
    } else {
        kind == "application/json" || kind.ends_with("+json")
    };
    answer.status == StatusCode::OK && is_promised && is_plain(&answer.headers)
}

/// An event stream for a client that is kept alive, followed so that frames of the sidecar's own may stand in it.
pub struct EventStream {
    /// Where it stands.
    pub scanner: FrameScanner,
    /// What is spoken in it.
    pub form: Form,
}

/// How an answer is followed; `None` for one that is not an event stream.
#[must_use]
pub fn follow(begun: Begun, answer: &Parts) -> Option<EventStream> {
    let is_stream = answer.status == StatusCode::OK
        && media_type(&answer.headers) == "text/event-stream"
        && is_plain(&answer.headers);
    is_stream.then(|| EventStream { scanner: FrameScanner::new(begun.repeats_id), form: begun.form })
}

/// The value of `Content-Type`.
#[must_use]
pub fn content_type(headers: &HeaderMap) -> Option<&str> {
    text(headers, &header::CONTENT_TYPE)
}

fn media_type(headers: &HeaderMap) -> String {
    let value = content_type(headers).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether the content is not compressed.
fn is_plain(headers: &HeaderMap) -> bool {
    text(headers, &header::CONTENT_ENCODING)
        .is_none_or(|coding| coding.trim().eq_ignore_ascii_case("identity"))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use ureq::http::Response;

    fn answer(status: u16, fields: &[(&str, &str)]) -> Parts {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    const STREAM: (&str, &str) = ("content-type", "Text/Event-Stream; charset=utf-8");

    fn early(is_stream: bool) -> Early {
        Early { at: Moment::ZERO, form: Form::Chat { needs_roles: false }, is_stream, persists: true }
    }

    #[test]
    fn only_a_plain_event_stream_continues_a_promised_one() {
        assert!(continues(early(true), &answer(200, &[STREAM])));
        assert!(continues(early(true), &answer(200, &[STREAM, ("content-encoding", "identity")])));
        for other in [
            answer(200, &[STREAM, ("content-encoding", "gzip")]),
            answer(202, &[STREAM]),
            answer(500, &[STREAM]),
            answer(200, &[("content-type", "application/json")]),
            answer(200, &[]),
        ] {
            assert!(!continues(early(true), &other), "{other:?}");
        }
    }

    #[test]
    fn only_plain_json_continues_a_promised_json_text() {
        assert!(continues(
            early(false),
            &answer(200, &[("content-type", "application/json; charset=utf-8")])
        ));
        assert!(!continues(early(false), &answer(200, &[STREAM])));
        assert!(!continues(early(false), &answer(400, &[("content-type", "application/json")])));
    }
}
