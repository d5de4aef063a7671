//! How an event becomes one line: JSON for collectors, text for people.
//!
//! Messages and values may hold what a client sent, so nothing in them can end the line, start a field or reach a
//! terminal as a control sequence.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use time::OffsetDateTime;

use super::LogFormat;

/// Characters of a value that are kept. A path or a model's name is shorter; what is longer is somebody's mischief.
const VALUE_CHARS: usize = 512;
/// Characters of a message that are kept.
const MESSAGE_CHARS: usize = 2048;

/// The line for an event, with its line end.
pub(super) fn line(format: LogFormat, at: SystemTime, event: &log::Record<'_>) -> Vec<u8> {
    let mut out = String::with_capacity(512);
    match format {
        LogFormat::Json => json(&mut out, at, event),
        LogFormat::Text => text(&mut out, at, event),
    }
    out.push('\n');
    out.into_bytes()
}

fn json(out: &mut String, at: SystemTime, event: &log::Record<'_>) {
    out.push_str("{\"timestamp\":\"");
    timestamp(out, at);
    out.push_str("\",\"level\":\"");
    out.push_str(event.level().as_str());
    out.push_str("\",\"target\":");
    json_str(out, event.target(), VALUE_CHARS);
    out.push_str(",\"message\":");
    json_str(out, &message(event), MESSAGE_CHARS);
    visit_fields(event, &mut JsonFields { out });
    out.push('}');
}

fn text(out: &mut String, at: SystemTime, event: &log::Record<'_>) {
    timestamp(out, at);
    let target = event.target().strip_prefix("nvidia_sidecar::").unwrap_or(event.target());
    let _ = write!(out, " {:<5} {target}: ", event.level());
    plain_str(out, &message(event), MESSAGE_CHARS);
    visit_fields(event, &mut TextFields { out });
}

fn message<'a>(event: &log::Record<'a>) -> Cow<'a, str> {
    event.args().as_str().map_or_else(|| event.args().to_string().into(), Cow::Borrowed)
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(out: &mut String, at: SystemTime) {
    let t = OffsetDateTime::from(at);
    let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
    let (hour, minute, second, ms) = (t.hour(), t.minute(), t.second(), t.millisecond());
    // Writing to a String does not fail; the same holds for the other `write!`s of this file.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
}

fn visit_fields<'a>(event: &'a log::Record<'a>, visitor: &mut dyn VisitSource<'a>) {
    // The visitors below do not fail.
    let _ = event.key_values().visit(visitor);
}

struct JsonFields<'o> {
    out: &'o mut String,
}

impl<'kvs> VisitSource<'kvs> for JsonFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if is_null(&value) {
            return Ok(());
        }
        self.out.push(',');
        json_str(self.out, key.as_str(), VALUE_CHARS);
        self.out.push(':');
        value.visit(JsonValue { out: self.out })
    }
}

struct JsonValue<'o> {
    out: &'o mut String,
}

impl<'v> VisitValue<'v> for JsonValue<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        json_str(self.out, &value.to_string(), VALUE_CHARS);
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        json_str(self.out, value, VALUE_CHARS);
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        let _ = write!(self.out, "{value}");
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        let _ = write!(self.out, "{value}");
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        // JSON has no name for infinity.
        let _ = if value.is_finite() { write!(self.out, "{value}") } else { write!(self.out, "null") };
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        let _ = write!(self.out, "{value}");
        Ok(())
    }
}

struct TextFields<'o> {
    out: &'o mut String,
}

impl<'kvs> VisitSource<'kvs> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if is_null(&value) {
            return Ok(());
        }
        self.out.push(' ');
        self.out.push_str(key.as_str());
        self.out.push('=');
        let value = value.to_string();
        if value.is_empty() || value.contains([' ', '"', '=', '\\']) || !value.chars().all(is_visible) {
            self.out.push('"');
            for c in value.chars().take(VALUE_CHARS) {
                match c {
                    '"' | '\\' => self.out.extend(['\\', c]),
                    c => push_visible(self.out, c),
                }
            }
            self.out.push('"');
        } else {
            plain_str(self.out, &value, VALUE_CHARS);
        }
        Ok(())
    }
}

fn is_null(value: &Value<'_>) -> bool {
    struct Null(bool);
    impl<'v> VisitValue<'v> for Null {
        fn visit_any(&mut self, _: Value<'_>) -> Result<(), Error> {
            Ok(())
        }
        fn visit_null(&mut self) -> Result<(), Error> {
            self.0 = true;
            Ok(())
        }
    }
    let mut null = Null(false);
    let _ = value.visit(&mut null);
    null.0
}

fn plain_str(out: &mut String, value: &str, limit: usize) {
    for c in value.chars().take(limit) {
        push_visible(out, c);
    }
    if value.chars().nth(limit).is_some() {
        out.push('…');
    }
}

fn push_visible(out: &mut String, c: char) {
    if is_visible(c) {
        out.push(c);
    } else {
        out.extend(c.escape_default());
    }
}

/// Stands for itself in JSON and on a terminal. Nearly every value has nothing else, and is copied whole.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Not a control character, a line separator or a mark that reverses the writing direction.
fn is_visible(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn json_str(out: &mut String, value: &str, limit: usize) {
    out.push('"');
    if value.len() <= limit && value.bytes().all(is_plain) {
        out.push_str(value);
        out.push('"');
        return;
    }
    for c in value.chars().take(limit) {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if is_visible(c) => out.push(c),
            // All of these lie below U+10000: no surrogate pairs.
            c => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
        }
    }
    if value.chars().nth(limit).is_some() {
        out.push('…');
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use log::Level;
    use serde_json::Value as Json;

    use super::*;

    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_780_000_000_042)
    }

    fn line_of(format: LogFormat, message: &str, value: &str) -> String {
        let fields = [("agent", Value::from(value)), ("status", Value::from(200))];
        let bytes = line(
            format,
            at(),
            &log::Record::builder()
                .level(Level::Info)
                .target("nvidia_sidecar::request")
                .args(format_args!("{message}"))
                .key_values(&fields)
                .build(),
        );
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_has_the_fixed_fields_first_and_the_events_own_after_them() {
        assert_eq!(
            line_of(LogFormat::Json, "answered", "a"),
            "{\"timestamp\":\"2026-05-28T20:26:40.042Z\",\"level\":\"INFO\",\"target\":\"nvidia_sidecar::request\",\
             \"message\":\"answered\",\"agent\":\"a\",\"status\":200}\n"
        );
    }

    #[test]
    fn text_shows_the_fields_and_quotes_only_where_it_must() {
        assert_eq!(
            line_of(LogFormat::Text, "answered", "a"),
            "2026-05-28T20:26:40.042Z INFO  request: answered agent=a status=200\n"
        );
        assert!(line_of(LogFormat::Text, "answered", "a b=\"c\"").contains(r#"agent="a b=\"c\"" status"#));
    }

    #[test]
    fn nothing_that_a_client_sends_ends_the_line_or_moves_the_cursor() {
        let evil = "x\n{\"level\":\"ERROR\"}\r\u{1b}[2J\u{7f}\u{85}\u{9b}\u{202e}\u{2028}\0\"";
        for format in [LogFormat::Json, LogFormat::Text] {
            let line = line_of(format, evil, evil);
            let body = line.strip_suffix('\n').unwrap();
            assert!(body.chars().all(is_visible), "{body:?}");
        }
        let parsed: Json = serde_json::from_str(&line_of(LogFormat::Json, evil, evil)).unwrap();
        assert_eq!(parsed["agent"], evil);
        assert_eq!(parsed["level"], "INFO");
    }

    #[test]
    fn a_value_is_cut_at_its_bound() {
        let long = "ä".repeat(100_000);
        for format in [LogFormat::Json, LogFormat::Text] {
            assert!(line_of(format, &long, &long).len() < 2 * (MESSAGE_CHARS + VALUE_CHARS) + 200);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_json_line_is_one_line_that_parses_back(message in ".*", value in ".*") {
            let line = line_of(LogFormat::Json, &message, &value);
            proptest::prop_assert_eq!(line.lines().count(), 1);
            let parsed: Json = serde_json::from_str(&line).unwrap();
            proptest::prop_assert_eq!(parsed["agent"].as_str(), Some(value.as_str()));
        }
    }
}
