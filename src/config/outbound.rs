//! The way out to the upstream: straight, or through a proxy, and which hosts go straight all the same.

use crate::config::Secret;
use std::fmt;
use std::net::IpAddr;

/// An HTTP proxy that is asked for a tunnel with CONNECT (RFC 9110 §9.3.6).
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `USER:PASSWORD`, where the URL has them.
    pub credentials: Option<Secret>,
}

impl fmt::Display for Proxy {
    /// Host and port, never the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Proxy {
    /// Reads `http://[USER:PASSWORD@]HOST[:PORT]`; the scheme may be missing, the port is 80 then and otherwise too.
    ///
    /// # Errors
    /// Says what is wrong without quoting the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Proxy, String> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => {
                let scheme: String = scheme.chars().filter(char::is_ascii_alphanumeric).take(10).collect();
                return Err(format!(
                    "a proxy of the kind {scheme}:// is not supported: give http://HOST:PORT"
                ));
            }
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let (host, port) =
            split_port(place).ok_or("the port of the proxy is not a number from 1 to 65535")?;
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:%".contains(&b)) {
            return Err("the proxy has no host: give http://HOST:PORT".into());
        }
        let credentials = credentials.map(decode).transpose()?;
        Ok(Proxy { host: host.to_ascii_lowercase(), port: port.unwrap_or(80), credentials })
    }
}

fn decode(credentials: &str) -> Result<Secret, String> {
    let decoded = percent_encoding::percent_decode_str(credentials).decode_utf8();
    let decoded = decoded.map_err(|_| "the user or the password of the proxy is not UTF-8")?;
    if decoded.chars().any(char::is_control) {
        return Err("the user or the password of the proxy holds a control character".into());
    }
    let with_colon = if decoded.contains(':') { decoded.into_owned() } else { format!("{decoded}:") };
    Ok(Secret::new(with_colon))
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT` or a bare IPv6 address; `None` for a port that is none.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match place.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => (place, None),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    match port {
        None | Some("") => Some((host, None)),
        Some(port) => Some((host, Some(port.parse().ok().filter(|port| *port > 0)?))),
    }
}

/// Which proxy stands before which upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxies {
    /// Before `https://` upstreams.
    pub https: Option<Proxy>,
    /// Before `http://` upstreams.
    pub http: Option<Proxy>,
    /// Hosts that are reached without one.
    pub except: NoProxy,
}

impl Proxies {
    /// One proxy before every upstream that is not on this host.
    #[must_use]
    pub fn all(proxy: Proxy, except: NoProxy) -> Proxies {
        Proxies { https: Some(proxy.clone()), http: Some(proxy), except }
    }

    /// What the environment says, as curl and Python's requests read it: `HTTPS_PROXY`, `https_proxy` and then `ALL_PROXY`,
    /// `all_proxy` for `https://`; `http_proxy` and then the latter for `http://`. `HTTP_PROXY` is left alone, since a CGI
    /// program's client can set it. Also says which variables cannot be used, and why.
    #[must_use]
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> (Proxies, Vec<String>) {
        let mut problems = Vec::new();
        let mut first = |names: &[&str]| {
            let set =
                names.iter().find_map(|name| Some((name, variable(name).filter(|v| !v.trim().is_empty())?)));
            let (name, value) = set?;
            match Proxy::parse(value.trim()) {
                Ok(proxy) => Some(proxy),
                Err(problem) => {
                    let told = format!("{name} is not used: {problem}");
                    if !problems.contains(&told) {
                        problems.push(told);
                    }
                    None
                }
            }
        };
        let https = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let http = first(&["http_proxy", "ALL_PROXY", "all_proxy"]);
        let except = NoProxy::from_environment(variable);
        (Proxies { https, http, except }, problems)
    }

    /// The proxy before `host`, if there is one. What is on this host is reached without.
    #[must_use]
    pub fn before(&self, is_https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if is_https { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !is_loopback(host) && !self.except.matches(host, port))
    }
}

fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

/// The hosts of `NO_PROXY`: names with all that is below them, addresses, networks, each with a port or without; `*` is
/// all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoProxy(Vec<Exception>);

#[derive(Clone, Debug, PartialEq)]
enum Exception {
    All,
    Name { name: String, port: Option<u16> },
    Network { address: IpAddr, bits: u32, port: Option<u16> },
}

impl NoProxy {
    /// Reads `NO_PROXY`, else `no_proxy`.
    #[must_use]
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> NoProxy {
        NoProxy::parse(&variable("NO_PROXY").or_else(|| variable("no_proxy")).unwrap_or_default())
    }

    /// Reads entries that are separated by commas or blanks. What cannot be read matches nothing.
    #[must_use]
    pub fn parse(list: &str) -> NoProxy {
        NoProxy(list.split([',', ' ', '\t', '\n']).filter(|e| !e.is_empty()).filter_map(exception).collect())
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        let host = bare(host);
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let is_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        self.0.iter().any(|exception| match exception {
            Exception::All => true,
            Exception::Name { name, port } => {
                let below =
                    host.strip_suffix(name.as_str()).is_some_and(|b| b.is_empty() || b.ends_with('.'));
                is_port(port) && below && address.is_none()
            }
            Exception::Network { address: network, bits, port } => {
                is_port(port) && address.is_some_and(|address| shares(address, *network, *bits))
            }
        })
    }
}

fn exception(entry: &str) -> Option<Exception> {
    if entry == "*" {
        return Some(Exception::All);
    }
    let (host, port) = split_port(entry)?;
    if let Some((network, bits)) = host.split_once('/') {
        let address = network.parse::<IpAddr>().ok()?;
        let bits = bits.parse().ok().filter(|bits| *bits <= width(address))?;
        return Some(Exception::Network { address, bits, port });
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Exception::Network { address, bits: width(address), port });
    }
    let name = bare(host.trim_start_matches('*').trim_start_matches('.'));
    (!name.is_empty()).then_some(Exception::Name { name, port })
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether two addresses have the first `bits` in common.
fn shares(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(list: &str, host: &str, port: u16) -> bool {
        NoProxy::parse(list).matches(host, port)
    }

    #[test]
    fn a_proxy_has_a_host_a_port_and_perhaps_a_user() {
        let proxy = Proxy::parse("http://user:p%40ss@Proxy.corp:3128/").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.corp", 3128));
        assert_eq!(proxy.credentials.as_ref().unwrap().expose(), "user:p@ss");
        assert_eq!(proxy.to_string(), "proxy.corp:3128");
        assert!(!format!("{proxy:?}").contains("p@ss"));
        assert_eq!(Proxy::parse("proxy:8080").unwrap().port, 8080);
        assert_eq!(Proxy::parse("http://proxy").unwrap().port, 80);
        assert_eq!(Proxy::parse("http://[::1]:3128").unwrap().to_string(), "[::1]:3128");
        for wrong in ["socks5://p:1", "http://", "http://p:0", "http://p:x", "http://a b:1", "http://u:%ff@p"]
        {
            assert!(Proxy::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!Proxy::parse("https://user:secret@p").unwrap_err().contains("secret"));
    }

    #[test]
    fn the_environment_names_a_proxy_for_each_scheme() {
        let environment = |pairs: &'static [(&str, &str)]| {
            Proxies::from_environment(move |name| {
                pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let (proxies, problems) = environment(&[("https_proxy", "http://a:1"), ("ALL_PROXY", "http://b:2")]);
        assert!(problems.is_empty());
        assert_eq!(proxies.before(true, "h.example", 443).unwrap().host, "a");
        assert_eq!(proxies.before(false, "h.example", 80).unwrap().host, "b");
        let (proxies, _) = environment(&[("HTTP_PROXY", "http://a:1")]);
        assert_eq!(proxies, Proxies::default());
        let (proxies, problems) = environment(&[("ALL_PROXY", "socks5://u:secret@s:1")]);
        assert_eq!((proxies, problems.len()), (Proxies::default(), 1));
        assert!(
            problems[0].starts_with("ALL_PROXY is not used") && !problems[0].contains("secret"),
            "{problems:?}"
        );
        let (proxies, _) = environment(&[("HTTPS_PROXY", "a:1"), ("no_proxy", "nvidia.com")]);
        assert!(proxies.before(true, "integrate.api.nvidia.com", 443).is_none());
    }

    #[test]
    fn what_is_on_this_host_never_goes_through_a_proxy() {
        let proxies = Proxies::all(Proxy::parse("p:1").unwrap(), NoProxy::default());
        for host in
            ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert!(proxies.before(false, host, 80).is_none(), "{host}");
        }
        assert!(proxies.before(false, "192.168.1.1", 80).is_some());
        assert!(proxies.before(true, "notlocalhost", 443).is_some());
    }

    #[test]
    fn no_proxy_knows_names_suffixes_ports_networks_and_all() {
        for list in ["nvidia.com", ".nvidia.com", "*.nvidia.com", "a, NVIDIA.com.", "x nvidia.com:443"] {
            assert!(matches(list, "integrate.api.nvidia.com", 443), "{list}");
            assert!(matches(list, "nvidia.com", 443), "{list}");
            assert!(!matches(list, "notnvidia.com", 443), "{list}");
        }
        assert!(!matches("nvidia.com:80", "nvidia.com", 443));
        assert!(matches("*", "anything", 1));
        assert!(matches("10.0.0.0/8", "10.200.3.4", 80));
        assert!(!matches("10.0.0.0/8", "11.0.0.1", 80));
        assert!(matches("0.0.0.0/0", "9.9.9.9", 80));
        assert!(matches("fd00::/8", "[fd12::1]", 80));
        assert!(matches("192.168.1.5", "192.168.1.5", 80));
        assert!(matches("[fd00::1]:8000", "fd00::1", 8000));
        assert!(!matches("[fd00::1]:8000", "fd00::1", 8001));
        assert!(!matches("1.5", "192.168.1.5", 80), "a suffix of an address is not a network");
        assert!(!matches("10.0.0.0/33, /, :, ,,", "10.0.0.1", 80));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_no_secret_is_quoted(text in "\\PC{0,40}", host in "\\PC{0,20}") {
            let _ = NoProxy::parse(&text).matches(&host, 443);
            if let Err(problem) = Proxy::parse(&format!("http://u:hunter2{text}@:x")) {
                prop_assert!(!problem.contains("hunter2"));
            }
        }
    }
}
