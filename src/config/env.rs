//! The environment: the only place that reads it, and what its `SIDECAR_*` variables mean.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use super::notice::{Notice, Source};
use super::outbound::Proxies;
use super::raw::{Given, Raw};
use super::spelling;
use super::table::{self, PREFIX};

/// The variable that names the configuration file when `--config` does not.
pub const CONFIG_VARIABLE: &str = "SIDECAR_CONFIG";

/// The variables of a process, or those that a test hands in. Its `Debug` shows no value.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Environment {
        Environment(std::env::vars_os().collect())
    }

    /// The variable's value; an empty one counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The variable's value as a path.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// The proxies that it names.
    pub(super) fn proxies(&self, warnings: &mut Vec<Notice>) -> Proxies {
        let (proxies, unusable) =
            Proxies::from_environment(|name| self.get(name)?.to_str().map(ToOwned::to_owned));
        warnings.extend(unusable.into_iter().map(|unusable| {
            let remedy = "give http://HOST:PORT, or set outbound_proxy";
            let problem = format!("names no proxy that can be used: it {}", unusable.problem);
            Notice::new(Source::Variable(unusable.name.into()), problem, remedy)
        }));
        proxies
    }

    /// The keys' values that variables give.
    pub(super) fn values(&self, faults: &mut Vec<Notice>, warnings: &mut Vec<Notice>) -> Given {
        let mut given = Given::default();
        for (name, value) in self.0.iter().filter(|(_, value)| !value.is_empty()) {
            let Some(name) =
                name.to_str().filter(|name| name.starts_with(PREFIX) && *name != CONFIG_VARIABLE)
            else {
                continue;
            };
            let source = Source::Variable(spelling::cut(name));
            let Some(key) = table::find_by_variable(name) else {
                warnings.push(unknown(name, source));
                continue;
            };
            let fault =
                |source, problem: String, remedy| Notice::new(source, problem, remedy).about(key.name);
            let Some(text) = value.to_str() else {
                faults.push(fault(source, "is not UTF-8 text".into(), "set it to plain text"));
                continue;
            };
            let value = Raw::Untyped(text.trim().to_owned());
            match given.0.get(key.name) {
                // A key has a short variable and one of its own name.
                Some((other, Source::Variable(first))) if *other != value => {
                    let problem = format!("is given another value by {first}");
                    faults.push(fault(source, problem, "keep one of the two variables"));
                }
                _ => drop(given.0.insert(key.name, (value, source))),
            }
        }
        given
    }
}

/// Not a fault: a container's platform sets variables that no operator wrote.
fn unknown(name: &str, source: Source) -> Notice {
    let remedy = match table::suggest(name) {
        Some(key) => format!("did you mean {}?", key.variable),
        None => "docs/CONFIGURATION.md lists the variables".into(),
    };
    Notice::new(source, "is not a variable that the sidecar knows, and is ignored", remedy)
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Environment {
        Environment(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}
