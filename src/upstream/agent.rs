//! The one ureq agent that all workers share, set up to pass bytes through as they are.

use crate::clock::Clock;
use crate::config::{Config, Proxies};
use crate::upstream::buffers::MAX_ANSWER_HEAD;
use crate::upstream::connect::{LeftToConnector, UpstreamConnector};
use crate::upstream::trust::{CaFileError, Trusted};
use std::time::Duration;
use ureq::Agent;

/// How long a connection may rest in the pool: less than the 60 to 75 s after which servers close theirs.
const MAX_IDLE: Duration = Duration::from_secs(50);

/// How long connecting may take, the look-up of the name and TLS included; `request_timeout` where that is shorter.
const CONNECT: Duration = Duration::from_secs(10);

/// An agent for the upstreams of this configuration.
///
/// # Errors
/// When the file of certificates cannot be used.
///
/// `timeout_global`, `timeout_per_call` and `timeout_resolve` stay unset: each would start a thread for every request.
pub fn agent(config: &Config, clock: Clock) -> Result<Agent, CaFileError> {
    let silence = config.upstream.timeout;
    let idle = config.upstream.max_in_flight + config.passthrough.max_in_flight;
    let trusted = Trusted::read(config.upstream.ca_file.as_deref(), false)?;
    let config = Agent::config_builder()
        // Transparent: the status is an answer, not an error, redirects are the client's, and nothing is added.
        .http_status_as_error(false)
        .max_redirects(0)
        .accept("")
        .accept_encoding("")
        .user_agent("")
        .allow_non_standard_methods(true)
        // The connector knows of proxies; ureq would take the environment's for plain http upstreams too.
        .proxy(None)
        .max_response_header_size(MAX_ANSWER_HEAD)
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle)
        .max_idle_age(MAX_IDLE)
        .timeout_connect(Some(CONNECT.min(silence)))
        // The head in all, however it drips and whatever interim answers come before it; then each read of the content.
        .timeout_recv_response(Some(silence))
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .build();
    let connector = UpstreamConnector::new(Proxies::default(), trusted, silence, clock);
    Ok(Agent::with_parts(config, connector, LeftToConnector))
}
