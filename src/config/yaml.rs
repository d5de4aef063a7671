//! A value in YAML's flow style, as a line of `--check` has it.

use std::fmt::{self, Display, Write};
use std::net::Ipv4Addr;

use super::raw::Raw;

/// The value, secrets masked.
pub(super) fn masked(value: &Raw) -> String {
    Yaml { value, masked: true }.to_string()
}

/// The value as it loads back, secrets and all.
#[cfg(test)]
pub(super) fn exposed(value: &Raw) -> String {
    Yaml { value, masked: false }.to_string()
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
            Raw::Secret { shown, .. } if self.masked => write_quoted(f, shown),
            Raw::Secret { exposed, .. } => write_quoted(f, exposed.expose()),
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
