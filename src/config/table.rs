//! The table of keys as the documentation, the example file and notices use it; it follows from the rows.

use std::sync::LazyLock;

use super::Config;
use super::key::{Keys, Reload, Row, Section, Variable};
use super::kind::Kind;
use super::raw::Raw;
use super::spelling;
use super::yaml::masked;

/// One key of the configuration.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// The variable that overrides the file, as the documentation names it.
    pub variable: String,
    /// The default as the file would write it; empty where there is none.
    pub default: String,
    /// What a reload does with it.
    pub reload: Reload,
    /// What it means, in Markdown.
    pub doc: String,
    /// The range of its values in words; empty where there is none.
    pub range: String,
}

/// What every variable of the sidecar begins with.
pub(super) const PREFIX: &str = "SIDECAR_";

/// All keys, in the order of the example file and of the documentation.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut table = Table(Vec::new());
    let _ = Config::build(&mut table);
    table.0
});

struct Table(Vec<Key>);

impl<S> Keys<S> for Table {
    fn key<K: Kind>(&mut self, row: &Row<S, K>) -> K::Value {
        let default = match row.kind.show(&row.default) {
            Raw::Null => String::new(),
            value => masked(&value),
        };
        let range = row.kind.range();
        self.0.push(Key {
            name: row.name,
            variable: match row.variable {
                Variable::Own => own_variable(row.name),
                Variable::Short(name) => name.to_owned(),
            },
            default,
            reload: row.reload,
            doc: row.text.replace("{range}", &range),
            range,
        });
        row.default.clone()
    }

    fn section<T: Section>(&mut self, _of: fn(&S) -> &T) -> T {
        T::build(self)
    }
}

fn own_variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key that this variable gives, by its short name or by the key's own.
pub(super) fn find_by_variable(variable: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.variable == variable || own_variable(key.name) == variable)
}

/// The key that an unknown key or variable was probably meant for.
pub(super) fn suggest(name: &str) -> Option<&'static Key> {
    let name = spelling::cut(name).to_ascii_lowercase().replace('-', "_");
    let name = name.strip_prefix("sidecar_").unwrap_or(&name);
    let short = |key: &Key| key.variable.to_ascii_lowercase().replacen("sidecar_", "", 1);
    // What the variable is called is how people call the key: `port`, `api_key`, `queue_max`.
    if let Some(key) = KEYS.iter().find(|key| short(key) == name) {
        return Some(key);
    }
    let names: Vec<(String, &Key)> =
        KEYS.iter().flat_map(|key| [(key.name.to_owned(), key), (short(key), key)]).collect();
    if let Some(near) = spelling::nearest(name, names.iter().map(|(name, _)| name.as_str())) {
        return names.iter().find(|(name, _)| name == near).map(|(_, key)| *key);
    }
    // A part of a name, in whole words: `rpm`.
    let part = |key: &&Key| !name.is_empty() && format!("_{}_", key.name).contains(&format!("_{name}_"));
    KEYS.iter().filter(part).min_by_key(|key| key.name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_call_a_key_finds_it() {
        for (name, key) in [
            ("queue_max", "queue_max_size"),
            ("timeout", "request_timeout"),
            ("host", "listen_host"),
            ("port", "listen_port"),
            ("api_key", "upstream_api_key"),
            ("API-Key", "upstream_api_key"),
            ("rpm", "rate_rpm"),
            ("upstream", "upstream_url"),
            ("rate_rmp", "rate_rpm"),
            ("SIDECAR_RATE_RMP", "rate_rpm"),
            ("SIDECAR_LISTEN_PROT", "listen_port"),
            ("level", "log_level"),
        ] {
            assert_eq!(suggest(name).map(|key| key.name), Some(key), "{name}");
        }
        for name in ["", "_", "colour", "SIDECAR_PORT_9190_TCP", "SIDECAR_"] {
            assert!(suggest(name).is_none(), "{name}");
        }
    }
}
