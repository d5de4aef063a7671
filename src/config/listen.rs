//! Where the sidecar listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::key::Reload::Restart;
use super::key::Variable::{Own, Short};
use super::key::{Keys, Row, Section};
use super::number::Whole;
use super::text::Address;

/// Addresses of the two listeners. Port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `listen_host`, of both listeners.
    pub host: IpAddr,
    /// `listen_port`: proxy and operator's pages.
    pub port: u16,
    /// `metrics_port`: Prometheus' scrapes.
    pub metrics_port: u16,
}

impl Section for Listen {
    fn build(keys: &mut impl Keys<Listen>) -> Listen {
        Listen {
            host: keys.key(&Row {
                name: "listen_host",
                variable: Short("SIDECAR_HOST"),
                reload: Restart,
                kind: Address,
                default: IpAddr::V4(Ipv4Addr::LOCALHOST),
                of: |c| &c.host,
                text: "The address of both listeners. Beyond loopback, set `client_tokens` too.",
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
                text: "The port that Prometheus scrapes, another than `listen_port`; 0 lets the system choose.",
            }),
        }
    }
}

impl Listen {
    /// The main listener's address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// The metrics listener's address.
    #[must_use]
    pub const fn metrics_address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.metrics_port)
    }

    /// The URL at which a process on this host finds `/health`.
    #[must_use]
    pub fn health_url(&self) -> String {
        let host = match self.host {
            IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            host => host,
        };
        format!("http://{}/health", SocketAddr::new(host, self.port))
    }
}
