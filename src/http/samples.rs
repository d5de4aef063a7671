//! Requests for tests, made by the framing itself.

use crate::http::{Bounds, Head, Request, RequestReader, Step};

/// A request with these parts; `fields` end in CRLF each.
pub(crate) fn request(method: &str, path: &str, fields: &str, body: &str) -> Request {
    let mut reader = RequestReader::default();
    let length = body.len();
    let text =
        format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
    reader.feed(text.as_bytes());
    match reader.step(&Bounds { max_body_bytes: 1 << 20 }) {
        Ok(Step::Complete(request)) => request,
        other => panic!("no complete request: {other:?}"),
    }
}

/// The head of a request for `/` with these fields.
pub(crate) fn head(fields: &str) -> Head {
    request("GET", "/", fields, "").head
}
