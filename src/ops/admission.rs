//! Who may see the operator's pages, and who may change the running sidecar.

use crate::clock::Moment;
use crate::config::Config;
use crate::downstream::access::{self, is_local_host, same};
use crate::downstream::identity::bearer;
use crate::downstream::source::Port;
use crate::http::Head;
use crate::ops::guesses::{Guess, Guesses};
use crate::ops::page::Page;
use crate::ops::paths::PageKind;
use parking_lot::Mutex;
use std::net::IpAddr;

/// Fields by which a proxy says that it stands between the sidecar and the client (RFC 7239, RFC 9110 §7.6.3, and the
/// ones that came before them): a peer on loopback is not this machine's user then.
const FORWARDED_BY: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// Names that no public name server gives out: RFC 6762, RFC 8375, RFC 6761, and those of ICANN's list for private use.
const PRIVATE_SUFFIXES: [&str; 5] = [".local", ".lan", ".internal", ".home.arpa", ".localhost"];

/// Lets requests for pages in. Wrong admin tokens are counted, logged and slowed down.
#[derive(Debug, Default)]
pub struct Admission {
    guesses: Mutex<Guesses>,
}

impl Admission {
    /// Lets a request for `kind` in, or says why not. Judged on the head alone, before any of its body is kept.
    ///
    /// # Errors
    /// The page that it is refused with.
    pub fn admit(
        &self,
        kind: PageKind,
        head: &Head,
        from: (IpAddr, Port),
        config: &Config,
        now: Moment,
    ) -> Result<(), Page> {
        let (peer, port) = from;
        match kind {
            PageKind::Health | PageKind::Ready | PageKind::Asset | PageKind::Root | PageKind::Unknown => {
                Ok(())
            }
            _ if port == Port::Metrics => Ok(()),
            PageKind::Admin => self.administer(head, peer, config, now),
            PageKind::Metrics
            | PageKind::Status
            | PageKind::Stream
            | PageKind::History
            | PageKind::Heartbeat
            | PageKind::Queue => self.see(head, peer, config, now),
        }
    }

    /// What the sidecar does may be read by its clients and operators, and where no tokens are configured by all who
    /// reach it, but never through a name that a foreign page may have bound to this address (DNS rebinding).
    fn see(&self, head: &Head, peer: IpAddr, config: &Config, now: Moment) -> Result<(), Page> {
        let host = text(head, "host");
        if !host.as_deref().is_none_or(|host| is_private_host(host, &config.clients.allowed_hosts)) {
            return Err(Page::refusal(
                403,
                "this Host could be a public name that leads a foreign page here; add it to allowed_hosts to allow it",
            ));
        }
        if config.clients.tokens.is_empty() {
            return Ok(());
        }
        match head.field("authorization").and_then(bearer) {
            Some(token) if access::owner(token, &config.clients).is_some() => Ok(()),
            Some(token) if config.admin_token.is_some() => self.compare(token, peer, config, now),
            Some(_) => Err(Page::refusal(403, "this bearer token is not one of client_tokens")),
            None => Err(unauthorized("a bearer token of client_tokens, or the admin_token, is required")),
        }
    }

    /// With an admin token configured, whoever has it. With none, this machine's own user: nobody stands between, the
    /// sidecar is for this machine alone, and no web page but its own can use the operator's browser.
    fn administer(&self, head: &Head, peer: IpAddr, config: &Config, now: Moment) -> Result<(), Page> {
        if config.admin_token.is_some() {
            return match head.field("authorization").and_then(bearer) {
                Some(token) => self.compare(token, peer, config, now),
                None => Err(unauthorized("the admin_token is required as a bearer token")),
            };
        }
        let host = text(head, "host");
        let reason = if !peer.to_canonical().is_loopback() || !host.as_deref().is_some_and(is_local_host) {
            "without an admin_token only this machine may do this; set one to allow others"
        } else if !config.listen.host.is_loopback() {
            "listen_host is beyond loopback, so this needs an admin_token; set one"
        } else if !config.clients.tokens.is_empty() {
            "client_tokens are set, so this needs an admin_token; set one"
        } else if FORWARDED_BY.iter().any(|name| head.field(name).is_some()) {
            "a proxy stands between, so this needs an admin_token; set one"
        } else if !text(head, "origin").is_none_or(|origin| is_own_page(&origin, host.as_deref())) {
            "without an admin_token only the sidecar's own page may do this; set one to allow others"
        } else {
            return Ok(());
        };
        Err(Page::refusal(403, reason))
    }

    fn compare(&self, token: &[u8], peer: IpAddr, config: &Config, now: Moment) -> Result<(), Page> {
        let Some(admin_token) = &config.admin_token else {
            return Err(Page::refusal(403, "there is no admin_token"));
        };
        let mut guesses = self.guesses.lock();
        if let Some(wait) = guesses.must_wait(peer, now) {
            return Err(
                Page::refusal(429, "too many wrong admin tokens came from this address").retry_after(wait)
            );
        }
        if bool::from(same(token, admin_token)) {
            return Ok(());
        }
        if let Guess::ToBeLogged { wrong } = guesses.wrong(peer, now) {
            let peer = peer.to_canonical().to_string();
            log::warn!(peer = peer.as_str(); "a wrong admin token came from {peer} ({wrong} since it was last logged)");
        }
        Err(Page::refusal(403, "this is not the admin_token"))
    }
}

fn text(head: &Head, name: &str) -> Option<String> {
    head.field(name).map(|value| String::from_utf8_lossy(value).into_owned())
}

fn unauthorized(message: &str) -> Page {
    Page::refusal(401, message).with("www-authenticate", "Bearer")
}

/// Whether an `Origin` (RFC 6454) is the page that the sidecar itself served under this `Host`.
fn is_own_page(origin: &str, host: Option<&str>) -> bool {
    origin.strip_prefix("http://").is_some_and(|own| host.is_some_and(|host| own.eq_ignore_ascii_case(host)))
}

/// Whether a `Host` value (RFC 9110 §7.2) cannot be a public name: an address, a name without a dot, a name under a
/// suffix for private networks, or one that is allowed.
fn is_private_host(host: &str, allowed: &[String]) -> bool {
    let name = access::host_name(host).to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || PRIVATE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
        || allowed.iter().any(|other| other == name.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::http::{Bounds, RequestReader, Step};

    fn head(host: &str, fields: &str) -> Head {
        let mut reader = RequestReader::default();
        reader.feed(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").as_bytes());
        match reader.step(&Bounds { max_body_bytes: 0 }).unwrap() {
            Step::Complete(request) => request.head,
            Step::NeedMore { .. } => unreachable!("the head is complete"),
        }
    }

    fn with(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    fn may(kind: PageKind, head: &Head, peer: &str, config: &Config) -> bool {
        Admission::default()
            .admit(kind, head, (peer.parse().unwrap(), Port::Api), config, Moment::ZERO)
            .is_ok()
    }

    #[test]
    fn without_a_token_only_this_machines_own_user_and_the_own_page_administer() {
        for (host, fields, peer, expected) in [
            ("localhost:9190", "", "127.0.0.1", true),
            ("[::1]:9190", "Origin: http://[::1]:9190\r\n", "::1", true),
            ("127.0.0.1", "", "::ffff:127.0.0.1", true),
            ("localhost", "", "192.168.1.7", false),
            ("sidecar.example", "", "127.0.0.1", false),
            ("localhost", "Origin: https://evil.example\r\n", "127.0.0.1", false),
            ("localhost:9190", "Origin: http://localhost:3000\r\n", "127.0.0.1", false),
            ("localhost", "Origin: null\r\n", "127.0.0.1", false),
            ("localhost", "X-Forwarded-For: 203.0.113.9\r\n", "127.0.0.1", false),
            ("localhost", "X-Real-IP: 203.0.113.9\r\n", "127.0.0.1", false),
            ("localhost", "Forwarded: for=203.0.113.9\r\n", "127.0.0.1", false),
            ("localhost", "Via: 1.1 caddy\r\n", "127.0.0.1", false),
        ] {
            let head = head(host, fields);
            assert_eq!(
                may(PageKind::Admin, &head, peer, &Config::default()),
                expected,
                "{host} {fields} {peer}"
            );
        }
        let local = head("localhost", "");
        let tokens = with(|config| {
            config.clients.tokens.insert("bob".into(), Secret::new("bob-token"));
        });
        assert!(!may(PageKind::Admin, &local, "127.0.0.1", &tokens), "client_tokens are set");
        let open = with(|config| config.listen.host = std::net::Ipv4Addr::UNSPECIFIED.into());
        assert!(!may(PageKind::Admin, &local, "127.0.0.1", &open), "listen_host is beyond loopback");
    }

    #[test]
    fn with_a_token_it_alone_decides() {
        let config = with(|config| config.admin_token = Some(Secret::new("right")));
        let given = |token: &str| head("sidecar.example", &format!("Authorization: Bearer {token}\r\n"));
        assert!(may(PageKind::Admin, &given("right"), "192.168.1.7", &config));
        for wrong in ["wrong", "righ", "rightt", "RIGHT"] {
            assert!(!may(PageKind::Admin, &given(wrong), "127.0.0.1", &config), "{wrong}");
        }
        assert!(
            !may(PageKind::Admin, &head("localhost", ""), "127.0.0.1", &config),
            "being local is not enough then"
        );
    }

    #[test]
    fn pages_are_not_shown_under_a_name_that_may_be_public() {
        let allowing = with(|config| config.clients.allowed_hosts = vec!["llm.example.org".into()]);
        for (host, expected) in [
            ("localhost:9190", true),
            ("192.168.1.7:9190", true),
            ("[fd00::7]:9190", true),
            ("nas", true),
            ("nas.local", true),
            ("NAS.fritz.home.arpa:9190", true),
            ("sidecar.internal", true),
            ("llm.example.org", true),
            ("LLM.example.org:443", true),
            ("evil.example", false),
            ("local.evil.example", false),
            ("evil.example.", false),
            ("127.0.0.1.evil.example", false),
        ] {
            for kind in [
                PageKind::Status,
                PageKind::Metrics,
                PageKind::Stream,
                PageKind::History,
                PageKind::Queue,
                PageKind::Heartbeat,
            ] {
                assert_eq!(may(kind, &head(host, ""), "127.0.0.1", &allowing), expected, "{host} {kind:?}");
            }
        }
        let elsewhere = head("evil.example", "");
        assert!(
            Admission::default()
                .admit(
                    PageKind::Metrics,
                    &elsewhere,
                    ([127, 0, 0, 1].into(), Port::Metrics),
                    &allowing,
                    Moment::ZERO
                )
                .is_ok()
        );
        assert!(may(PageKind::Health, &elsewhere, "127.0.0.1", &allowing));
    }

    #[test]
    fn where_clients_have_tokens_pages_need_one_too() {
        let config = with(|config| {
            config.clients.tokens.insert("bob".into(), Secret::new("bob-token"));
            config.admin_token = Some(Secret::new("admin-token"));
        });
        let given = |token: &str| head("localhost", &format!("Authorization: Bearer {token}\r\n"));
        for kind in [PageKind::Status, PageKind::Stream, PageKind::Queue, PageKind::Heartbeat] {
            assert!(!may(kind, &head("localhost", ""), "127.0.0.1", &config));
            assert!(!may(kind, &given("eve-token"), "127.0.0.1", &config));
            assert!(may(kind, &given("bob-token"), "127.0.0.1", &config));
            assert!(may(kind, &given("admin-token"), "127.0.0.1", &config));
        }
        assert!(
            !may(PageKind::Admin, &given("bob-token"), "127.0.0.1", &config),
            "a client is not an operator"
        );
    }

    #[test]
    fn guessing_is_slowed_down_and_does_not_slow_down_others() {
        let config = with(|config| config.admin_token = Some(Secret::new("right")));
        let given = |token: &str| head("localhost", &format!("Authorization: Bearer {token}\r\n"));
        let admission = Admission::default();
        let try_at = |token: &str, peer: [u8; 4], secs: f64| {
            let from = (IpAddr::from(peer), Port::Api);
            admission
                .admit(PageKind::Admin, &given(token), from, &config, Moment::from_secs_f64(secs))
                .is_ok()
        };
        for _ in 0..1000 {
            assert!(!try_at("wrong", [10, 0, 0, 9], 0.0));
        }
        assert!(
            !try_at("right", [10, 0, 0, 9], 0.0),
            "from where it was guessed, nothing is compared for a while"
        );
        assert!(try_at("right", [10, 0, 0, 7], 0.0), "others are not concerned");
        assert!(try_at("right", [10, 0, 0, 9], 60.0));
    }
}
