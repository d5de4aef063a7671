//! Configuration: defaults, then the file, then the environment, become one valid [`Config`].
//!
//! ```text
//! file  ─ file.rs ─▶ Raw ┐
//!                        ├─ resolve.rs ─▶ Config + warnings, or all faults at once
//! environment ─ env.rs ──┘
//! ```
//!
//! What can fail happens on that way; a [`Config`] that exists is valid. `keys.rs` holds the one table of keys that the
//! documentation, the example file and `--check` are compared with.

mod choices;
mod env;
mod file;
mod keys;
mod lists;
mod live;
mod notice;
mod outbound;
mod placeholder;
mod raw;
mod reader;
mod render;
mod resolve;
mod secret;
mod spelling;
#[cfg(test)]
mod tests;
mod tree;
mod url;
mod values;

use std::path::{Path, PathBuf};

pub use env::{CONFIG_VARIABLE, Environment};
pub use keys::{KEYS, Key, Reload};
pub use live::{Held, LiveConfig, Reloaded, reload};
pub use notice::{Faults, Notice};
pub use outbound::{NoProxy, Proxies, Proxy};
pub(crate) use placeholder::is_placeholder;
pub use render::{masked_value, render_effective, shown_value};
pub use resolve::patch;
pub use secret::Secret;
pub use tree::{
    Adaptive, Agent, Clients, Config, Front, FullPolicy, LimitUnmatched, Listen, Log, LogFormat, Passthrough,
    Queue, Rate, Retreat, RetryOn, Routing, Upstream,
};
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
    let resolved = resolve::resolve(&Config::default(), given);
    warnings.extend(resolved.warnings);
    faults.extend(resolved.faults);
    if faults.is_empty() {
        Ok(Loaded { config: resolved.config, warnings, file: path })
    } else {
        Err(Faults(faults))
    }
}
