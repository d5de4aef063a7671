//! The one ureq agent that all workers share, set up to pass bytes through as they are.

use crate::clock::Clock;
use crate::upstream::cancel::CancelConnector;
use crate::upstream::resolver::CachingResolver;
use std::time::Duration;
use ureq::Agent;
use ureq::unversioned::transport::{Connector, RustlsConnector, TcpConnector};

/// ureq's own default of 128 KiB each costs 600 kB for every TLS call.
const BUFFER_BYTES: usize = 16 * 1024;

/// How long a connection may rest in the pool: less than the 60 to 75 s after which servers close theirs.
const MAX_IDLE: Duration = Duration::from_secs(50);

/// How long connecting may take, TLS included; `request_timeout` where that is shorter.
const CONNECT: Duration = Duration::from_secs(10);

/// The largest head of an answer.
const MAX_ANSWER_HEAD: usize = 64 * 1024;

/// An agent whose upstream may be silent for `silence` at a time and that keeps up to `idle` connections.
///
/// `timeout_global`, `timeout_per_call` and `timeout_resolve` stay unset: each would start a thread for every request.
#[must_use]
pub fn agent(silence: Duration, idle: usize, clock: Clock) -> Agent {
    let config = Agent::config_builder()
        // Transparent: the status is an answer, not an error, redirects are the client's, and nothing is added.
        .http_status_as_error(false)
        .max_redirects(0)
        .accept("")
        .accept_encoding("")
        .user_agent("")
        .allow_non_standard_methods(true)
        // The environment's proxy would apply to plain http upstreams too.
        .proxy(None)
        .max_response_header_size(MAX_ANSWER_HEAD)
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle)
        .max_idle_age(MAX_IDLE)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .timeout_connect(Some(CONNECT.min(silence)))
        // The wait for the head, and each read of the body.
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .build();
    let connector =
        CancelConnector::new(().chain(TcpConnector::default()).chain(RustlsConnector::default()), clock);
    Agent::with_parts(config, connector, CachingResolver::new(clock))
}
