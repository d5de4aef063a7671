//! Where a request came from.

use crate::downstream::link::Link;
use std::net::IpAddr;
use std::sync::Arc;

/// Which of the two ports a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// `listen_port`: requests and the operator's pages.
    Api,
    /// `metrics_port`: metrics and health alone.
    Metrics,
}

/// Where a request came from.
pub struct Source<'a> {
    /// The client's connection.
    pub link: &'a Arc<Link>,
    /// Its address.
    pub peer: IpAddr,
    /// The port that it came in by.
    pub port: Port,
    /// The loop has not read all that came.
    pub unread: bool,
}
