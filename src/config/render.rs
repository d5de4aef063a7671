//! The configuration as text: flat YAML that loads back, with secrets masked.

use std::fmt::Write;

use super::Config;
use super::key::{Keys, Row, Section};
use super::kind::Kind;
use super::raw::Raw;
use super::yaml::masked;

/// The effective configuration, a key a line, with secrets masked to their first four characters. Keys without a value
/// are `null`.
#[must_use]
pub fn render_effective(config: &Config) -> String {
    values(config).iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name}: {}", masked(value));
        text
    })
}

/// The effective configuration as JSON: each key with its value, secrets masked.
#[must_use]
pub fn effective_json(config: &Config) -> serde_json::Map<String, serde_json::Value> {
    values(config).iter().map(|(name, value)| ((*name).to_owned(), json(value))).collect()
}

/// Every key with its value as a file would give it.
pub(super) fn values(config: &Config) -> Vec<(&'static str, Raw)> {
    let mut values = Vec::new();
    let _ = Config::build(&mut Show { section: config, values: &mut values });
    values
}

struct Show<'a, S> {
    section: &'a S,
    values: &'a mut Vec<(&'static str, Raw)>,
}

impl<S> Keys<S> for Show<'_, S> {
    fn key<K: Kind>(&mut self, row: &Row<S, K>) -> K::Value {
        let value = (row.of)(self.section);
        self.values.push((row.name, row.kind.show(value)));
        value.clone()
    }

    fn section<T: Section>(&mut self, of: fn(&S) -> &T) -> T {
        T::build(&mut Show { section: of(self.section), values: self.values })
    }
}

fn json(value: &Raw) -> serde_json::Value {
    match value {
        Raw::Null => serde_json::Value::Null,
        Raw::Bool(flag) => (*flag).into(),
        Raw::Whole(number) => i64::try_from(*number).map_or_else(|_| number.to_string().into(), Into::into),
        Raw::Fraction(number) => (*number).into(),
        Raw::Text(text) | Raw::Untyped(text) => text.as_str().into(),
        Raw::Secret { shown, .. } => shown.as_str().into(),
        Raw::List(items) => items.iter().map(json).collect(),
        Raw::Map(entries) => entries.iter().map(|(name, value)| (name.clone(), json(value))).collect(),
    }
}

#[cfg(test)]
pub(super) fn render_exposed(config: &Config) -> String {
    values(config).iter().map(|(name, value)| format!("{name}: {}\n", super::yaml::exposed(value))).collect()
}
