//! The hosts that are reached without a proxy: `NO_PROXY` as curl and others read it, and this host.

use std::net::IpAddr;

/// Whether a name or an address is this host's own.
pub(super) fn is_loopback(host: &str) -> bool {
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Whether what is reached at this host and port is among them.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(list: &str, host: &str, port: u16) -> bool {
        NoProxy::parse(list).matches(host, port)
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
        #![proptest_config(crate::properties())]
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,40}", host in "\\PC{0,20}") {
            let _ = NoProxy::parse(&text).matches(&host, 443);
        }
    }
}
