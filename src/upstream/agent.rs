//! The one ureq agent that all workers share, set up to pass bytes through as they are.

use crate::clock::Clock;
use crate::config::{Config, OutboundProxy};
use crate::upstream::buffers::MAX_ANSWER_HEAD;
use crate::upstream::connect::{LeftToConnector, UpstreamConnector};
use crate::upstream::trust::{CaFileError, Trusted};
use std::path::PathBuf;
use std::time::Duration;
use ureq::Agent;

/// How long a connection may rest in the pool: less than the 60 to 75 s after which servers close theirs.
const MAX_IDLE: Duration = Duration::from_secs(50);

/// How long connecting may take, the look-up of the name and TLS included; `first_byte_timeout` where that is shorter.
const CONNECT: Duration = Duration::from_secs(10);

/// What an agent is made from; another one is needed where it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    first_byte: Duration,
    stream_idle: Duration,
    ca_file: Option<PathBuf>,
    ca_only: bool,
    proxy: OutboundProxy,
    connections: usize,
}

impl AgentSettings {
    /// Those of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> AgentSettings {
        let upstream = &config.upstream;
        AgentSettings {
            first_byte: upstream.first_byte_timeout,
            stream_idle: upstream.stream_idle_timeout,
            ca_file: upstream.ca_file.clone(),
            ca_only: upstream.ca_only,
            proxy: upstream.outbound_proxy.clone(),
            connections: config.limiter.max_in_flight as usize + config.passthrough.max_in_flight,
        }
    }

    /// Whether an agent that was made from the same settings may differ all the same: a file of certificates may have been
    /// renewed in place.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.ca_file.is_some()
    }
}

/// An agent for upstreams.
///
/// # Errors
/// When the file of certificates cannot be used.
///
/// `timeout_global`, `timeout_per_call` and `timeout_resolve` stay unset: each would start a thread for every request.
pub fn agent(settings: &AgentSettings, clock: Clock) -> Result<Agent, CaFileError> {
    let AgentSettings { first_byte, stream_idle, ca_file, ca_only, proxy, connections } = settings;
    let trusted = Trusted::read(ca_file.as_deref(), *ca_only)?;
    let silence = *first_byte.min(stream_idle);
    let connector = UpstreamConnector::new(proxy.clone(), trusted, silence, clock);
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
        .max_idle_connections(*connections)
        .max_idle_connections_per_host(*connections)
        .max_idle_age(MAX_IDLE)
        .timeout_connect(Some(CONNECT.min(*first_byte)))
        // The head in all, however it drips and whatever interim answers come before it; then each read of the content.
        .timeout_recv_response(Some(*first_byte))
        .timeout_per_read(Some(*stream_idle))
        .timeout_per_write(Some(*stream_idle))
        .build();
    Ok(Agent::with_parts(config, connector, LeftToConnector))
}
