//! The way from a URL to a connection: look the name up, dial, through the proxy where there is one, and shake hands.

use crate::clock::{Clock, Moment};
use crate::config::{OutboundProxy, ProxyUrl};
use crate::upstream::cancel;
use crate::upstream::dial::{Dialling, dial};
use crate::upstream::names::Names;
use crate::upstream::reason::{Kind, Reason};
use crate::upstream::tcp::Tcp;
use crate::upstream::tls::Tls;
use crate::upstream::transport::Connection;
use crate::upstream::trust::Trusted;
use crate::upstream::tunnel;
use crate::upstream::wire::Wire;
use rustls::ClientConfig;
use std::fmt;
use std::net::TcpStream;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, ShutdownHandle};

/// Makes connections for ureq.
pub(super) struct UpstreamConnector {
    names: Names,
    proxy: OutboundProxy,
    trusted: Trusted,
    /// Made with the first TLS connection: reading the system's certificates takes time that a start does not have.
    tls: OnceLock<Arc<ClientConfig>>,
    /// The shortest time-out of requests.
    silence: Duration,
    clock: Clock,
}

impl UpstreamConnector {
    /// A connector with an empty memory of names.
    pub(super) fn new(
        proxy: OutboundProxy,
        trusted: Trusted,
        silence: Duration,
        clock: Clock,
    ) -> UpstreamConnector {
        UpstreamConnector { names: Names::new(clock), proxy, trusted, tls: OnceLock::new(), silence, clock }
    }

    fn tls_config(&self) -> Result<Arc<ClientConfig>, Reason> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let made = self.trusted.client_config();
        let made =
            made.map_err(|error| Reason::new(Kind::Untrusted, format!("TLS cannot be set up: {error}")))?;
        Ok(self.tls.get_or_init(|| Arc::new(made)).clone())
    }

    /// A connection to `host`, or to the proxy before it.
    fn reach(&self, host: &str, port: u16, until: Moment, dialling: &Dialling) -> Result<TcpStream, Reason> {
        let addresses = self.names.addresses(host, port, until)?;
        match dial(&addresses, until, self.clock, dialling) {
            Ok((stream, address)) => {
                self.names.worked(host, port, address);
                Ok(stream)
            }
            Err(reason) => {
                if !dialling.is_cancelled() {
                    self.names.forget(host, port);
                }
                Err(reason)
            }
        }
    }
}

impl fmt::Debug for UpstreamConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamConnector")
    }
}

impl Connector<()> for UpstreamConnector {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let until = self.clock.now() + *details.timeout.after;
        let watch = |handle: Weak<dyn ShutdownHandle>| {
            cancel::attach(handle.clone())?;
            (details.register_shutdown)(handle)
        };
        let is_tls = details.needs_tls();
        let host = details.uri.host().unwrap_or_default();
        let port = details.uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let proxy = self.proxy.before(is_tls, host, port);

        let dialling = Arc::new(Dialling::default());
        let handle: Arc<dyn ShutdownHandle> = dialling.clone();
        watch(Arc::downgrade(&handle))?;
        let stream = match proxy {
            None => self.reach(host, port, until, &dialling),
            Some(proxy) => self.reach(proxy.base().host(), proxy.base().port(), until, &dialling),
        };
        let stream = stream.map_err(|reason| in_context(&reason, host, port, proxy))?;
        let is_plain = !is_tls && proxy.is_none_or(|proxy| !proxy.base().is_https());
        let mut tcp = Tcp::new(stream, is_plain, self.silence, self.clock)?;
        let socket: Arc<dyn ShutdownHandle> = tcp.socket().clone();
        watch(Arc::downgrade(&socket))?;
        tcp.until(until);
        let mut wire: Box<dyn Wire> = Box::new(tcp);
        if let Some(proxy) = proxy {
            if proxy.base().is_https() {
                wire = Box::new(Tls::connect(self.tls_config()?, proxy.base().host(), wire)?);
            }
            tunnel::open(&mut wire, proxy, host, port)?;
        }
        if is_tls {
            wire = Box::new(Tls::connect(self.tls_config()?, host, wire)?);
        }
        Ok(Some(Connection::new(wire, is_tls, self.clock)))
    }
}

fn in_context(reason: &Reason, host: &str, port: u16, proxy: Option<&ProxyUrl>) -> Reason {
    let text = match proxy {
        Some(proxy) => format!("no connection to the proxy {proxy}: {}", reason.text),
        None => format!("no connection to {host}:{port}: {}", reason.text),
    };
    Reason { kind: reason.kind, text }
}

/// ureq asks for addresses before it looks into its pool; only the connector knows whether any are needed.
#[derive(Debug)]
pub(super) struct LeftToConnector;

impl Resolver for LeftToConnector {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}
