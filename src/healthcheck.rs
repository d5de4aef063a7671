//! `nvidia-sidecar healthcheck`: asks a running sidecar whether it is alive, for containers without curl.

use crate::cli::{EXIT_USAGE, Healthcheck};
use crate::config::{self, Environment};
use std::process::ExitCode;
use std::time::Duration;
use ureq::Agent;

/// How long the answer may take; a container's own health check gives up after a few seconds more.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Status 0 when the sidecar answers its `/health` with 200, else 1 and one line that says why; 2 when the
/// configuration that names its address is wrong.
#[must_use]
pub fn run(asked: &Healthcheck, environment: &Environment) -> ExitCode {
    let url = match &asked.url {
        Some(url) => url.clone(),
        None => match config::load(asked.config.as_deref(), environment) {
            Ok(loaded) => loaded.config.listen.health_url(),
            Err(faults) => {
                eprintln!("{faults}");
                return ExitCode::from(EXIT_USAGE);
            }
        },
    };
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    match agent.get(&url).call() {
        Ok(answer) if answer.status() == 200 => ExitCode::SUCCESS,
        Ok(answer) => {
            eprintln!("{url} answered {}", answer.status().as_u16());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{url} does not answer: {error}");
            ExitCode::FAILURE
        }
    }
}
