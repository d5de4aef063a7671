//! Who sent a request, and by which id it is known: bounded and printable, since both go into the log.

use crate::http::Head;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// The longest agent name that is kept, in bytes; the rest is cut.
const MAX_CLIENT_NAME: usize = 64;

/// Who sent the request: `X-Agent-Id`, else its alias `X-Gateway-Fairness-Id`, else a hash of the client's own bearer
/// token, else its address. Bounded in length and printable, since it goes into the log.
#[must_use]
pub fn client(head: &Head, peer: IpAddr) -> String {
    let named = head.field("x-agent-id").or_else(|| head.field("x-gateway-fairness-id"));
    if let Some(name) = named.map(printable).filter(|n| !n.is_empty()) {
        return name;
    }
    match head.field("authorization").and_then(bearer) {
        Some(token) => {
            let digest = ring::digest::digest(&ring::digest::SHA256, token);
            let mut name = String::from("key-");
            for byte in &digest.as_ref()[..6] {
                name.push_str(&format!("{byte:02x}"));
            }
            name
        }
        None => peer.to_canonical().to_string(),
    }
}

/// Identifies requests: the same client, method, target and body have the same number.
///
/// Keyed by chance, so that no client can make one that another's has; 64 bits because only a few thousand are compared
/// at a time, and what a coincidence costs is a place in the queue.
#[derive(Debug, Default)]
pub struct Fingerprints(RandomState);

impl Fingerprints {
    /// The number of this request.
    #[must_use]
    pub fn of(&self, client: &str, head: &Head, body: &[u8]) -> u64 {
        self.0.hash_one((client, head.method(), head.target(), body))
    }
}

/// The token of a `Bearer` credential (RFC 6750 §2.1; the scheme's name in any case, RFC 9110 §11.1).
#[must_use]
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.trim_ascii().split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.trim_ascii().is_empty()).then(|| token.trim_ascii())
}

fn printable(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value.trim_ascii());
    let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    cut(clean, MAX_CLIENT_NAME)
}

/// The request id to answer with when the upstream sends none: the client's `X-Request-Id` if it is short and plain,
/// else a new one.
#[must_use]
pub fn request_id(head: &Head) -> String {
    head.field("x-request-id")
        .filter(|v| !v.is_empty() && v.len() <= 128 && v.iter().all(u8::is_ascii_graphic))
        .map_or_else(new_request_id, |v| String::from_utf8_lossy(v).into_owned())
}

/// A request id of the sidecar's own.
#[must_use]
pub fn new_request_id() -> String {
    format!("req_{:032x}", fastrand::u128(..))
}

/// At most `max` bytes of a text, whole characters.
#[must_use]
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::samples::request;

    #[test]
    fn a_client_is_named_by_its_id_else_its_key_else_its_address() {
        let peer: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        let of = |fields: &str| client(&request("GET", "/", fields, "").head, peer);
        assert_eq!(of("X-Agent-Id: researcher\r\n"), "researcher");
        assert_eq!(of("X-Gateway-Fairness-Id: team-a\r\n"), "team-a");
        assert_eq!(of(""), "10.0.0.7");
        let key = of("Authorization: Bearer nvapi-secret\r\n");
        assert!(key.starts_with("key-") && key.len() == 16 && !key.contains("secret"), "{key}");
        assert_ne!(key, of("Authorization: Bearer nvapi-other\r\n"));
        let long = of(&format!("X-Agent-Id: {}\r\n", "é".repeat(500)));
        assert!(long.len() <= MAX_CLIENT_NAME, "{}", long.len());
    }

    #[test]
    fn a_request_is_the_same_by_its_client_method_target_and_body() {
        let (of, other) = (Fingerprints::default(), Fingerprints::default());
        let number = |client, target, fields, body| {
            of.of(client, &request("POST", target, fields, body).head, body.as_bytes())
        };
        let first = number("a", "/v1/x?q", "", "{}");
        assert_eq!(first, number("a", "/v1/x?q", "x-stainless-retry-count: 1\r\n", "{}"));
        for different in [
            number("b", "/v1/x?q", "", "{}"),
            number("a", "/v1/x", "", "{}"),
            number("a", "/v1/x?q", "", "{ }"),
        ] {
            assert_ne!(first, different);
        }
        assert_ne!(first, other.of("a", &request("POST", "/v1/x?q", "", "{}").head, b"{}"), "keyed");
    }

    #[test]
    fn a_request_id_of_the_client_is_kept_when_it_is_short_and_plain() {
        let of =
            |value: &str| request_id(&request("GET", "/", &format!("X-Request-Id: {value}\r\n"), "").head);
        assert_eq!(of("abc-123"), "abc-123");
        assert!(of(&"x".repeat(129)).starts_with("req_"));
        assert!(of("with blank").starts_with("req_"));
        assert_ne!(new_request_id(), new_request_id());
    }
}
