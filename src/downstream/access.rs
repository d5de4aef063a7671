//! Who may use the sidecar: client tokens, browsers' origins, and what counts as local.

use crate::config::{Clients, Secret};
use crate::downstream::identity::{bearer, cut};
use crate::http::Head;
use std::net::IpAddr;
use subtle::{Choice, ConstantTimeEq};

/// What a proxied request was let in as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// The name of the client token that it came with.
    pub client: Option<String>,
    /// The browser's origin that may read the answer.
    pub origin: Option<String>,
}

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// 401 or 403.
    pub status: u16,
    /// For the person who reads the client's log.
    pub message: String,
    /// The origin that may read even this refusal.
    pub origin: Option<String>,
}

/// Bytes of an origin that a refusal repeats.
const MAX_SHOWN_ORIGIN: usize = 200;

/// Schemes of pages that lie on the user's own machine, as desktop programs and editors open them.
const LOCAL_SCHEMES: [&str; 4] = ["app://", "file://", "tauri://", "vscode-webview://"];

/// What a foreign page's script may read of an answer's fields.
const EXPOSED: &str = "X-Request-Id, X-Sidecar-Queue-Ms, X-Sidecar-Attempts, X-Sidecar-Queue-Position, \
     X-Sidecar-Queue-Eta, Retry-After";

/// Lets a request in, or says why not. A browser's foreign page must not spend the quota, and where tokens are
/// configured nobody does without one of them.
///
/// # Errors
/// [`Denied`] for an origin that is not allowed and for a missing or wrong token.
pub fn admit(head: &Head, clients: &Clients) -> Result<Admitted, Denied> {
    let origin = admitted_origin(head, clients)?;
    // A browser sends its preflights without credentials (Fetch standard §3.3.5); they go no further than here.
    if clients.tokens.is_empty() || origin.is_some() && is_preflight(head) {
        return Ok(Admitted { client: None, origin });
    }
    let token = head.field("authorization").and_then(bearer);
    match token.and_then(|token| owner(token, clients)) {
        Some(name) => Ok(Admitted { client: Some(name.to_owned()), origin }),
        None => {
            let message = match token {
                Some(_) => "this bearer token is not one of client_tokens",
                None => "a bearer token of client_tokens is required",
            };
            Err(Denied { status: 401, message: message.into(), origin })
        }
    }
}

/// The name whose token this is. All tokens are compared, each in constant time, so that the time tells nothing.
pub(crate) fn owner<'a>(token: &[u8], clients: &'a Clients) -> Option<&'a str> {
    let mut found = None;
    for (name, secret) in &clients.tokens {
        if bool::from(same(token, secret)) {
            found = Some(name.as_str());
        }
    }
    found
}

/// Compares a token with a secret in a time that depends on their lengths alone.
#[must_use]
pub fn same(token: &[u8], secret: &Secret) -> Choice {
    token.ct_eq(secret.expose().as_bytes())
}

fn admitted_origin(head: &Head, clients: &Clients) -> Result<Option<String>, Denied> {
    let Some(value) = head.field("origin") else { return Ok(None) };
    let origin = String::from_utf8_lossy(value).to_ascii_lowercase();
    let allowed = match clients.cors_origins.as_slice() {
        [] => is_local_origin(&origin),
        listed => listed.iter().any(|entry| entry == "*" || *entry == origin),
    };
    if allowed {
        return Ok(Some(origin));
    }
    let shown = cut(origin.chars().filter(|c| !c.is_control()).collect(), MAX_SHOWN_ORIGIN);
    let message =
        format!("pages of the origin {shown} may not use the sidecar; add it to cors_origins to allow them");
    Err(Denied { status: 403, message, origin: None })
}

/// Whether an `Origin` (RFC 6454) is a page of this machine.
#[must_use]
pub fn is_local_origin(origin: &str) -> bool {
    if LOCAL_SCHEMES.iter().any(|scheme| origin.starts_with(scheme)) {
        return true;
    }
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_local_host)
}

/// Whether a `Host` value (RFC 9110 §7.2) names this machine: a page that a foreign name resolves to this machine for
/// (DNS rebinding) carries that foreign name.
#[must_use]
pub fn is_local_host(host: &str) -> bool {
    let name = host_name(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A `Host` value without its port and without the brackets of an IPv6 address.
#[must_use]
pub(crate) fn host_name(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name)
}

/// The fields that let a page of `origin` read an answer (Fetch standard, CORS protocol).
#[must_use]
pub fn cors_fields(origin: &str) -> [(&'static str, String); 3] {
    [
        ("access-control-allow-origin", origin.to_owned()),
        ("access-control-expose-headers", EXPOSED.to_owned()),
        ("vary", "Origin".to_owned()),
    ]
}

/// Whether a request asks to go on as a WebSocket (RFC 6455 §4.1). Other protocols may be ignored (RFC 9110 §7.8): some
/// clients offer HTTP/2 with each request.
#[must_use]
pub fn asks_for_websocket(head: &Head) -> bool {
    head.fields_named("upgrade").any(|value| {
        let mut protocols = value.split(|byte| *byte == b',');
        protocols.any(|protocol| protocol.trim_ascii().to_ascii_lowercase().starts_with(b"websocket"))
    })
}

/// Whether this is a browser's preflight.
#[must_use]
pub fn is_preflight(head: &Head) -> bool {
    head.method() == "OPTIONS"
        && head.field("origin").is_some()
        && head.field("access-control-request-method").is_some()
}

/// The fields that answer a preflight of an allowed origin: what it asks for is granted.
#[must_use]
pub fn preflight_fields(head: &Head, origin: &str) -> Vec<(&'static str, String)> {
    let asked = |name| head.field(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let mut fields = vec![
        ("access-control-allow-origin", origin.to_owned()),
        ("access-control-max-age", "600".to_owned()),
        ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers".to_owned()),
    ];
    fields.extend(asked("access-control-request-method").map(|m| ("access-control-allow-methods", m)));
    fields.extend(asked("access-control-request-headers").map(|h| ("access-control-allow-headers", h)));
    if head.field("access-control-request-private-network").is_some() {
        fields.push(("access-control-allow-private-network", "true".to_owned()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::samples::head;

    fn clients(tokens: &[(&str, &str)], origins: &[&str]) -> Clients {
        Clients {
            tokens: tokens.iter().map(|(n, t)| ((*n).to_owned(), Secret::new(*t))).collect(),
            cors_origins: origins.iter().map(|o| (*o).to_owned()).collect(),
            ..Clients::default()
        }
    }

    #[test]
    fn without_tokens_everybody_is_let_in_and_with_them_only_who_has_one() {
        assert_eq!(admit(&head(""), &clients(&[], &[])), Ok(Admitted::default()));
        let some = clients(&[("alice", "token-of-alice"), ("bob", "token-of-bob")], &[]);
        let alice = admit(&head("Authorization: Bearer token-of-alice\r\n"), &some).unwrap();
        assert_eq!(alice.client.as_deref(), Some("alice"));
        for fields in ["", "Authorization: Bearer other\r\n", "Authorization: Basic token-of-bob\r\n"] {
            assert_eq!(admit(&head(fields), &some).unwrap_err().status, 401, "{fields}");
        }
    }

    #[test]
    fn pages_of_this_machine_are_let_in_by_default_and_foreign_ones_are_not() {
        let default = clients(&[], &[]);
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:8080",
            "vscode-webview://abc",
            "tauri://localhost",
            "HTTP://LOCALHOST",
        ] {
            assert!(admit(&head(&format!("Origin: {origin}\r\n")), &default).is_ok(), "{origin}");
        }
        for origin in [
            "https://evil.example",
            "http://localhost.evil.example",
            "null",
            "http://10.0.0.1",
            "http://127.0.0.1.nip.io",
        ] {
            assert_eq!(
                admit(&head(&format!("Origin: {origin}\r\n")), &default).unwrap_err().status,
                403,
                "{origin}"
            );
        }
    }

    #[test]
    fn listed_origins_take_the_place_of_the_local_ones_and_a_star_allows_all() {
        let listed = clients(&[], &["https://app.example"]);
        assert!(admit(&head("Origin: https://app.example\r\n"), &listed).is_ok());
        assert!(admit(&head("Origin: http://localhost\r\n"), &listed).is_err());
        assert!(admit(&head("Origin: https://any.example\r\n"), &clients(&[], &["*"])).is_ok());
    }

    #[test]
    fn a_host_is_local_by_its_whole_name() {
        for host in ["localhost", "LOCALHOST:9190", "127.0.0.1:9190", "[::1]:9190", "[::1]", "127.8.8.8"] {
            assert!(is_local_host(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:80", "192.168.1.2", "", "::1x"]
        {
            assert!(!is_local_host(host), "{host}");
        }
    }
}
