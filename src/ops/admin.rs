//! Who may change the running sidecar.

use crate::config::Secret;
use crate::downstream::access::{is_local_host, is_local_origin, same};
use crate::downstream::identity::bearer;
use crate::http::Head;
use crate::ops::page::Page;
use std::net::IpAddr;

/// Whether an operator's call is let in.
#[derive(Debug)]
pub enum Admission {
    /// It is.
    Granted,
    /// It is not, and this is what it is told.
    Refused(Page),
}

/// With a token configured, who has it. With none, this machine's own user: a peer on loopback whose `Host` and `Origin`
/// are local too, so that no web page can use the operator's browser (DNS rebinding, cross-site requests).
#[must_use]
pub fn admit(head: &Head, peer: IpAddr, token: Option<&Secret>) -> Admission {
    let Some(token) = token else {
        let text = |name| head.field(name).map(String::from_utf8_lossy);
        let local = peer.to_canonical().is_loopback()
            && text("host").is_some_and(|host| is_local_host(&host))
            && text("origin").is_none_or(|origin| is_local_origin(&origin));
        return if local {
            Admission::Granted
        } else {
            refused(403, "without an admin_token only this machine may do this; set one to allow others")
        };
    };
    match head.field("authorization").and_then(bearer) {
        Some(given) if bool::from(same(given, token)) => Admission::Granted,
        Some(_) => refused(403, "this is not the admin_token"),
        None => match refused(401, "the admin_token is required as a bearer token") {
            Admission::Refused(page) => Admission::Refused(page.with("www-authenticate", "Bearer")),
            granted @ Admission::Granted => granted,
        },
    }
}

fn refused(status: u16, message: &str) -> Admission {
    Admission::Refused(Page::refusal(status, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Bounds, RequestReader, Step};

    fn head(host: &str, fields: &str) -> Head {
        let mut reader = RequestReader::default();
        reader.feed(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").as_bytes());
        match reader.step(&Bounds { max_body_bytes: 0 }).unwrap() {
            Step::Complete(request) => request.head,
            Step::NeedMore { .. } => unreachable!("the head is complete"),
        }
    }

    fn is_let_in(head: &Head, peer: &str, token: Option<&str>) -> bool {
        let token = token.map(Secret::new);
        matches!(admit(head, peer.parse().unwrap(), token.as_ref()), Admission::Granted)
    }

    #[test]
    fn without_a_token_peer_host_and_origin_must_all_be_local() {
        for (host, fields, peer, expected) in [
            ("localhost:9190", "", "127.0.0.1", true),
            ("[::1]:9190", "Origin: http://localhost:9190\r\n", "::1", true),
            ("127.0.0.1", "", "::ffff:127.0.0.1", true),
            ("localhost", "", "192.168.1.7", false),
            ("sidecar.example", "", "127.0.0.1", false),
            ("localhost", "Origin: https://evil.example\r\n", "127.0.0.1", false),
            ("localhost", "Origin: null\r\n", "127.0.0.1", false),
        ] {
            assert_eq!(is_let_in(&head(host, fields), peer, None), expected, "{host} {fields} {peer}");
        }
    }

    #[test]
    fn with_a_token_it_alone_decides() {
        let given = |token: &str| head("sidecar.example", &format!("Authorization: Bearer {token}\r\n"));
        assert!(is_let_in(&given("right"), "192.168.1.7", Some("right")));
        for wrong in ["wrong", "righ", "rightt", "RIGHT"] {
            assert!(!is_let_in(&given(wrong), "127.0.0.1", Some("right")), "{wrong}");
        }
        assert!(
            !is_let_in(&head("localhost", ""), "127.0.0.1", Some("right")),
            "being local is not enough then"
        );
    }
}
