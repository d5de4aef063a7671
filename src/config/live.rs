//! What a reload changes while the sidecar runs, and the cell through which all parts see it.

use std::sync::Arc;

use parking_lot::RwLock;

use super::keys::{KEYS, Reload};
use super::render::shown_value;
use super::{Config, Listen, Log};

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
pub fn reload(running: &Config, loaded: Config) -> Reloaded {
    let held = KEYS
        .iter()
        .filter(|key| key.reload == Reload::Restart && key.differs(running, &loaded))
        .map(|key| Held {
            key: key.name,
            running: shown_value(running, key),
            loaded: shown_value(&loaded, key),
        })
        .collect();
    let config = Config {
        listen: Listen { ..running.listen },
        state_file: running.state_file.clone(),
        log: Log { format: running.log.format, ..loaded.log },
        ..loaded
    };
    let changed = KEYS.iter().filter(|key| key.differs(running, &config)).map(|key| key.name).collect();
    Reloaded { config, changed, held }
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

    /// Puts what `change` makes of the running configuration in place, or nothing when it fails. No other change comes
    /// between.
    ///
    /// # Errors
    ///
    /// What `change` returns.
    pub fn try_update<E>(&self, change: impl FnOnce(&Config) -> Result<Config, E>) -> Result<Arc<Config>, E> {
        let mut cell = self.0.write();
        *cell = Arc::new(change(&cell)?);
        Ok(Arc::clone(&cell))
    }

    /// Puts the live keys of `loaded` in place.
    pub fn reload(&self, loaded: Config) -> Reloaded {
        let mut cell = self.0.write();
        let reloaded = reload(&cell, loaded);
        *cell = Arc::new(reloaded.config.clone());
        reloaded
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
        let reloaded = live.reload(with(|config| {
            config.rate.rpm = 20;
            config.listen.port = 8000;
        }));
        let held = Held { key: "listen_port", running: "9190".into(), loaded: "8000".into() };
        assert_eq!((reloaded.changed, reloaded.held), (vec!["rate_rpm"], vec![held]));
        assert_eq!(*live.snapshot(), with(|config| config.rate.rpm = 20));
        assert_eq!(*before, Config::default(), "a snapshot stays as it was");
    }

    #[test]
    fn the_same_configuration_again_changes_nothing() {
        let reloaded = reload(&Config::default(), Config::default());
        assert_eq!(reloaded, Reloaded { config: Config::default(), changed: vec![], held: vec![] });
    }

    #[test]
    fn an_update_that_fails_changes_nothing() {
        let live = LiveConfig::new(Config::default());
        assert_eq!(live.try_update(|_| Err("no")), Err("no"));
        assert_eq!(*live.snapshot(), Config::default());
        let updated = live.try_update(|_| Ok::<_, ()>(with(|config| config.queue.max_size = 9)));
        assert_eq!(updated.expect("valid").queue.max_size, 9);
        assert_eq!(live.snapshot().queue.max_size, 9);
    }
}
