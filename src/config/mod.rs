//! Configuration: defaults, then the file, then the environment, become one valid [`Config`].
//!
//! ```text
//! file  ─ file.rs ─▶ Raw ┐
//!                        ├─ resolve.rs ─▶ Config + warnings, or all faults at once
//! environment ─ env.rs ──┘
//! ```
//!
//! What can fail happens on that way; a [`Config`] that exists is valid. Each key is one row, in the file of the section
//! that holds its value (`listen.rs`, `upstream.rs`, …, `tree.rs` for the rest): name, variable, reload, kind, range,
//! default and text. Reading, `--check`, the merge of a reload and the documentation follow from it.
//!
//! Adding a key: a field and a row in its section, and its lines in `docs/CONFIGURATION.md` and
//! `conf/nvidia-sidecar.yaml`, which a test compares with the row.

mod agents;
mod clients;
mod env;
mod file;
mod fleet;
mod front;
mod keepalive;
mod key;
mod kind;
pub mod limiter;
mod list;
mod listen;
mod live;
mod log;
mod model_rate;
mod no_proxy;
mod notice;
mod number;
mod outbound;
mod passthrough;
mod placeholder;
mod proxy;
mod queue;
mod raw;
mod reading;
mod render;
mod resolve;
mod retreat;
mod retry_on;
mod routing;
mod secret;
mod spelling;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod upstream;
mod url;
mod word;
mod yaml;

use std::path::{Path, PathBuf};

pub use agents::{Agent, Class, Expected, Figures};
pub use clients::Clients;
pub use env::{CONFIG_VARIABLE, Environment};
pub use fleet::{Fleet, RedisAway};
pub use front::Front;
pub use keepalive::{Keepalive, KeepaliveMode};
pub use key::Reload;
pub use listen::{Listen, ListenHost};
pub use live::{Held, LiveConfig, Reloaded, reload};
pub use log::{Log, LogFormat};
pub use no_proxy::NoProxy;
pub use notice::{Faults, Notice};
pub use outbound::{OutboundProxy, Proxies};
pub use passthrough::Passthrough;
pub(crate) use placeholder::is_placeholder;
pub use proxy::ProxyUrl;
pub use render::{effective_json, render_effective};
pub use resolve::patch;
pub use retry_on::RetryOn;
pub use routing::{LimitUnmatched, NvidiaHosts, Routing};
pub use secret::Secret;
pub use table::{KEYS, Key};
pub use tree::Config;
pub use upstream::Upstream;
pub use url::BaseUrl;

/// A configuration that was loaded, and what its operator should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The valid configuration.
    pub config: Config,
    /// What is allowed but deserves a look; one log line each.
    pub warnings: Vec<Notice>,
    /// The file that was read, if one was named.
    pub file: Option<PathBuf>,
}

/// Loads the configuration: defaults, then the file at `path` (else the one that `SIDECAR_CONFIG` names, else none),
/// then the environment.
///
/// # Errors
///
/// Everything that is wrong, in one go: a file that cannot be read or does not parse, unknown keys, wrong types and
/// values, contradictions. The caller prints the faults and either exits with status 2 or keeps what runs.
pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Loaded, Faults> {
    let path = path.map(Path::to_path_buf).or_else(|| environment.path(CONFIG_VARIABLE));
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    let mut given = path.as_deref().map(|path| file::load(path, &mut faults)).unwrap_or_default();
    given.overlay(environment.values(&mut faults, &mut warnings));
    let mut resolved = resolve::resolve(given);
    warnings.extend(resolved.warnings);
    if let OutboundProxy::Env(proxies) = &mut resolved.config.upstream.outbound_proxy {
        *proxies = environment.proxies(&mut warnings);
    }
    faults.extend(resolved.faults);
    if faults.is_empty() {
        Ok(Loaded { config: resolved.config, warnings, file: path })
    } else {
        Err(Faults(faults))
    }
}
