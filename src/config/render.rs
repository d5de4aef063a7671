//! The configuration as text: flat YAML that loads back, with secrets masked.

use std::fmt::{self, Display, Write};
use std::net::Ipv4Addr;

use super::Config;
use super::keys::{KEYS, Key};
use super::raw::Raw;

/// The effective configuration, a key a line, with secrets masked to their first four characters. Keys without a value
/// are `null`.
#[must_use]
pub fn render_effective(config: &Config) -> String {
    KEYS.iter().fold(String::new(), |mut text, key| {
        let _ = writeln!(text, "{}: {}", key.name, shown_value(config, key));
        text
    })
}

/// One key's value as [`render_effective`] writes it.
#[must_use]
pub fn shown_value(config: &Config, key: &Key) -> String {
    Yaml { value: &(key.value)(config), masked: true }.to_string()
}

/// One key's value as JSON, secrets masked.
#[must_use]
pub fn masked_value(config: &Config, key: &Key) -> serde_json::Value {
    json(&(key.value)(config))
}

fn json(value: &Raw) -> serde_json::Value {
    match value {
        Raw::Null => serde_json::Value::Null,
        Raw::Bool(flag) => (*flag).into(),
        Raw::Whole(number) => i64::try_from(*number).map_or_else(|_| number.to_string().into(), Into::into),
        Raw::Fraction(number) => (*number).into(),
        Raw::Text(text) | Raw::Untyped(text) => text.as_str().into(),
        Raw::Secret(secret) => secret.to_string().into(),
        Raw::List(items) => items.iter().map(json).collect(),
        Raw::Map(entries) => entries.iter().map(|(name, value)| (name.clone(), json(value))).collect(),
    }
}

#[cfg(test)]
pub(super) fn render_exposed(config: &Config) -> String {
    KEYS.iter()
        .map(|key| format!("{}: {}\n", key.name, Yaml { value: &(key.value)(config), masked: false }))
        .collect()
}

/// A value in YAML's flow style.
struct Yaml<'a> {
    value: &'a Raw,
    masked: bool,
}

impl Display for Yaml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |value| Yaml { value, masked: self.masked };
        match self.value {
            Raw::Null => f.write_str("null"),
            Raw::Bool(flag) => write!(f, "{flag}"),
            Raw::Whole(number) => write!(f, "{number}"),
            Raw::Fraction(number) => write!(f, "{number}"),
            Raw::Text(text) | Raw::Untyped(text) => write_text(f, text),
            Raw::Secret(secret) if self.masked => write_quoted(f, &secret.to_string()),
            Raw::Secret(secret) => write_quoted(f, secret.expose()),
            Raw::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { ", " } else { "" }, inner(item))?;
                }
                f.write_str("]")
            }
            Raw::Map(entries) => {
                f.write_str("{")?;
                for (i, (name, value)) in entries.iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    write_text(f, name)?;
                    write!(f, ": {}", inner(value))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Writes text without quotes where YAML reads it back as the same text, else with them.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b':');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with(':')
        && text.bytes().all(safe)
        && !word.iter().any(|word| text.eq_ignore_ascii_case(word));
    let address = text.parse::<Ipv4Addr>().is_ok();
    if plain || address { f.write_str(text) } else { write_quoted(f, text) }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            ' '..='~' | '\u{a1}'..='\u{d7ff}' if c != '\u{2028}' && c != '\u{2029}' => f.write_char(c)?,
            _ => write!(f, "\\U{:08X}", u32::from(c))?,
        }
    }
    f.write_str("\"")
}
