//! The head of an upstream's answer, as it is passed on: it parses again, has no field of the hop before, and no value ends
//! its line early.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvidia_sidecar::http::headers::client_fields;
use nvidia_sidecar::http::write::{Asked, Delivery, answer_head};
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

fn fields(bytes: &[u8]) -> Option<(u16, HeaderMap)> {
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let mut answer = httparse::Response::new(&mut lines);
    answer.parse(bytes).ok()?.is_complete().then_some(())?;
    let mut map = HeaderMap::new();
    for line in &*answer.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    Some((answer.code?, map))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((status, map)) = fields(bytes) else { return };
    // Two fields are added, and this parser has its bound as well.
    if map.len() > 100 {
        return;
    }
    let asked = Asked { is_head: false, is_http_10: false, keep_alive: true };
    let mut out = Vec::new();
    answer_head(&mut out, status, client_fields(&map), Delivery::decide(asked, status, None));
    let (_, passed) = fields(&out).expect("what is passed on is a head");
    for name in ["keep-alive", "proxy-connection", "te", "trailer", "upgrade"] {
        assert!(!passed.contains_key(name), "{name} is of the hop before");
    }
});
