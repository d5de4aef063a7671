//! The one ureq agent that all workers share, set up to pass bytes through as they are.

use crate::clock::Clock;
use crate::config::Config;
use crate::upstream::cancel::CancelConnector;
use crate::upstream::resolver::CachingResolver;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{Connector, RustlsConnector, TcpConnector};

/// ureq's own default of 128 KiB each costs 600 kB for every TLS call.
const BUFFER_BYTES: usize = 16 * 1024;

/// How long a connection may rest in the pool: less than the 60 to 75 s after which servers close theirs.
const MAX_IDLE: Duration = Duration::from_secs(50);

/// How long connecting may take, TLS included; `first_byte_timeout` where that is shorter.
const CONNECT: Duration = Duration::from_secs(10);

/// The largest head of an answer: ureq takes it from one buffer.
const MAX_ANSWER_HEAD: usize = BUFFER_BYTES;

/// Certificates in a file that cannot be used.
#[derive(Debug)]
pub struct CaFileError {
    path: PathBuf,
    problem: String,
}

impl fmt::Display for CaFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "upstream_ca_file {}: {}; give a file of PEM certificates",
            self.path.display(),
            self.problem
        )
    }
}

impl std::error::Error for CaFileError {}

/// An agent for the upstreams of this configuration.
///
/// # Errors
/// When the file of certificates cannot be used.
///
/// `timeout_global`, `timeout_per_call` and `timeout_resolve` stay unset: each would start a thread for every request.
pub fn agent(config: &Config, clock: Clock) -> Result<Agent, CaFileError> {
    let silence = config.upstream.first_byte_timeout.max(config.upstream.stream_idle_timeout);
    let idle = config.limiter.max_in_flight as usize + config.passthrough.max_in_flight;
    let roots = match &config.upstream.ca_file {
        Some(path) => trusted(path).map_err(|problem| CaFileError { path: path.clone(), problem })?,
        None => RootCerts::WebPki,
    };
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
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .max_response_header_size(MAX_ANSWER_HEAD)
        .max_idle_connections(idle)
        .max_idle_connections_per_host(idle)
        .max_idle_age(MAX_IDLE)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .timeout_connect(Some(CONNECT.min(config.upstream.first_byte_timeout)))
        // The wait for the head, and each read of the body.
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .build();
    let connector =
        CancelConnector::new(().chain(TcpConnector::default()).chain(RustlsConnector::default()), clock);
    Ok(Agent::with_parts(config, connector, CachingResolver::new(clock)))
}

fn trusted(path: &Path) -> Result<RootCerts, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err("there is no certificate in it".into());
    }
    Ok(RootCerts::from(certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_with_its_name() {
        let mut config = Config::default();
        config.upstream.ca_file = Some(PathBuf::from("Cargo.toml"));
        let error = agent(&config, Clock::start()).unwrap_err().to_string();
        assert!(error.contains("Cargo.toml") && error.contains("no certificate"), "{error}");
        config.upstream.ca_file = Some(PathBuf::from("/nonexistent/ca.pem"));
        assert!(agent(&config, Clock::start()).is_err());
    }
}
