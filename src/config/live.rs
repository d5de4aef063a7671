//! What a reload changes while the sidecar runs, and the cell through which all parts see it.

use std::sync::Arc;

use parking_lot::RwLock;

use super::Config;
use super::key::{Keys, Reload, Row, Section};
use super::kind::Kind;
use super::yaml::masked;

/// A key whose new value waits for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The key.
    pub key: &'static str,
    /// The value with which the sidecar runs, as `--check` shows it.
    pub running: String,
    /// The value with which it would start now.
    pub loaded: String,
}

/// The outcome of a reload.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloaded {
    /// What runs from now on: the new values of live keys and the old ones of the rest.
    pub config: Config,
    /// The live keys that changed.
    pub changed: Vec<&'static str>,
    /// The keys that changed and need a restart.
    pub held: Vec<Held>,
}

/// Merges a newly loaded configuration into the running one.
#[must_use]
pub fn reload(running: &Config, loaded: &Config) -> Reloaded {
    let mut differences = Differences::default();
    let config = Config::build(&mut Merge { running, loaded, differences: &mut differences });
    Reloaded { config, changed: differences.changed, held: differences.held }
}

#[derive(Default)]
struct Differences {
    changed: Vec<&'static str>,
    held: Vec<Held>,
}

/// Takes the loaded value of live keys and the running one of the rest.
struct Merge<'a, S> {
    running: &'a S,
    loaded: &'a S,
    differences: &'a mut Differences,
}

impl<S> Keys<S> for Merge<'_, S> {
    fn key<K: Kind>(&mut self, row: &Row<S, K>) -> K::Value {
        let (running, loaded) = ((row.of)(self.running), (row.of)(self.loaded));
        match row.reload {
            _ if running == loaded => {}
            Reload::Live => self.differences.changed.push(row.name),
            Reload::Restart => self.differences.held.push(Held {
                key: row.name,
                running: masked(&row.kind.show(running)),
                loaded: masked(&row.kind.show(loaded)),
            }),
        }
        match row.reload {
            Reload::Live => loaded.clone(),
            Reload::Restart => running.clone(),
        }
    }

    fn section<T: Section>(&mut self, of: fn(&S) -> &T) -> T {
        T::build(&mut Merge {
            running: of(self.running),
            loaded: of(self.loaded),
            differences: self.differences,
        })
    }
}

/// The running configuration, shared by all parts.
#[derive(Debug)]
pub struct LiveConfig(RwLock<Arc<Config>>);

impl LiveConfig {
    /// A cell that holds `config`.
    #[must_use]
    pub fn new(config: Config) -> LiveConfig {
        LiveConfig(RwLock::new(Arc::new(config)))
    }

    /// The configuration at this moment, which stays the same for as long as the caller holds it.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Config> {
        Arc::clone(&self.0.read())
    }

    /// Puts `config` in place, as it is.
    pub fn replace(&self, config: Config) {
        *self.0.write() = Arc::new(config);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    #[test]
    fn a_reload_applies_live_keys_and_names_those_that_need_a_restart() {
        let live = LiveConfig::new(Config::default());
        let before = live.snapshot();
        let loaded = with(|config| {
            config.limiter.rate_rpm = 20;
            config.listen.port = 8000;
        });
        let reloaded = reload(&before, &loaded);
        live.replace(reloaded.config.clone());
        let held = Held { key: "listen_port", running: "9190".into(), loaded: "8000".into() };
        assert_eq!((reloaded.changed, reloaded.held), (vec!["rate_rpm"], vec![held]));
        assert_eq!(*live.snapshot(), with(|config| config.limiter.rate_rpm = 20));
        assert_eq!(*before, Config::default(), "a snapshot stays as it was");
    }

    #[test]
    fn the_same_configuration_again_changes_nothing() {
        let reloaded = reload(&Config::default(), &Config::default());
        assert_eq!(reloaded, Reloaded { config: Config::default(), changed: vec![], held: vec![] });
    }
}
