//! Where the sidecar listens.

use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::key::Reload::Restart;
use super::key::Variable::{Own, Short};
use super::key::{Keys, Row, Section};
use super::kind::{Kind, Misfit, as_text};
use super::number::Whole;
use super::raw::Raw;

/// Addresses of the two listeners. Port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `listen_host`, of both listeners.
    pub host: ListenHost,
    /// `listen_port`: proxy and operator's pages.
    pub port: u16,
    /// `metrics_port`: Prometheus' scrapes.
    pub metrics_port: u16,
}

/// Where both listeners listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenHost {
    /// 127.0.0.1 and, where there is one, `[::1]`: both are what `localhost` means to a client (RFC 6761 section 6.3).
    Localhost,
    /// One address; `[::]` takes IPv4 along.
    Address(IpAddr),
}

impl ListenHost {
    /// Whether only this host reaches it.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        match self {
            ListenHost::Localhost => true,
            ListenHost::Address(address) => address.is_loopback(),
        }
    }

    /// What to bind for this port; the first has to be there.
    #[must_use]
    pub fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        match *self {
            ListenHost::Localhost => vec![
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port),
            ],
            ListenHost::Address(address) => vec![SocketAddr::new(address, port)],
        }
    }
}

impl fmt::Display for ListenHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenHost::Localhost => f.write_str("localhost"),
            ListenHost::Address(address) => write!(f, "{address}"),
        }
    }
}

impl<A: Into<IpAddr>> From<A> for ListenHost {
    fn from(address: A) -> ListenHost {
        ListenHost::Address(address.into())
    }
}

impl FromStr for ListenHost {
    type Err = AddrParseError;

    /// Reads `localhost` or an IP address, an IPv6 one with or without brackets.
    fn from_str(text: &str) -> Result<ListenHost, AddrParseError> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(ListenHost::Localhost);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(ListenHost::Address)
    }
}

/// `localhost` or an IP address.
struct Host;

impl Kind for Host {
    type Value = ListenHost;

    fn read(&self, given: &Raw) -> Result<ListenHost, Misfit> {
        let text = as_text(given).unwrap_or_default();
        let needs = "localhost or an IP address, such as 127.0.0.1 or 0.0.0.0";
        text.parse().map_err(|_| Misfit::wrong_type(given, needs))
    }

    fn show(&self, value: &ListenHost) -> Raw {
        Raw::Text(value.to_string())
    }
}

impl Section for Listen {
    fn build(keys: &mut impl Keys<Listen>) -> Listen {
        Listen {
            host: keys.key(&Row {
                name: "listen_host",
                variable: Short("SIDECAR_HOST"),
                reload: Restart,
                kind: Host,
                default: ListenHost::Localhost,
                of: |c| &c.host,
                text: "Where both listeners listen: an IP address, or `localhost`, which is 127.0.0.1 and, where there is one, [::1]. Beyond loopback, set `client_tokens` too.",
            }),
            port: keys.key(&Row {
                name: "listen_port",
                variable: Short("SIDECAR_PORT"),
                reload: Restart,
                kind: Whole(0..=u16::MAX),
                default: 9190,
                of: |c| &c.port,
                text: "The port of the proxy and of the operator's pages; 0 lets the system choose.",
            }),
            metrics_port: keys.key(&Row {
                name: "metrics_port",
                variable: Own,
                reload: Restart,
                kind: Whole(0..=u16::MAX),
                default: 9191,
                of: |c| &c.metrics_port,
                text: "The port that Prometheus scrapes, which must differ from `listen_port`; 0 lets the system choose.",
            }),
        }
    }
}

impl Listen {
    /// The URL at which a process on this host finds `/health`.
    #[must_use]
    pub fn health_url(&self) -> String {
        let host = match self.host {
            ListenHost::Localhost => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ListenHost::Address(IpAddr::V4(v4)) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ListenHost::Address(IpAddr::V6(v6)) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ListenHost::Address(address) => address,
        };
        format!("http://{}/health", SocketAddr::new(host, self.port))
    }
}
