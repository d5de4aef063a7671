//! The configuration file: flat YAML, every key optional, all its faults at once.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::notice::{Notice, Source};
use super::raw::{self, Given, Raw};
use super::{spelling, table};

/// The largest configuration file in bytes. A real one has a few thousand; the parser's time grows with the square of
/// the nesting, so that a megabyte of brackets would take it half a minute.
const MAX_FILE_BYTES: u64 = 256 << 10;

/// The most top-level keys, so that a file of another kind is one fault and not thousands.
const MAX_KEYS: usize = 200;

/// Reads the file at `path`; what is wrong goes to `faults`, and the rest is given.
pub(super) fn load(path: &Path, faults: &mut Vec<Notice>) -> Given {
    match read(path) {
        Ok(text) => parse(&text, path, faults),
        Err(fault) => {
            faults.push(fault);
            Given::default()
        }
    }
}

fn read(path: &Path) -> Result<String, Notice> {
    let fault = |problem: String, remedy: &str| Notice::of_file(path, 0, problem, remedy);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "let the sidecar's user read it",
            _ => "name a readable file with --config or SIDECAR_CONFIG",
        };
        fault(format!("cannot be read: {error}"), remedy)
    })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(fault(format!("is larger than {MAX_FILE_BYTES} bytes"), "name a configuration file"));
    }
    String::from_utf8(bytes).map_err(|_| fault("is not UTF-8 text".into(), "save it as UTF-8"))
}

/// Reads a file's text; `path` is for the notices.
pub(super) fn parse(text: &str, path: &Path, faults: &mut Vec<Notice>) -> Given {
    // Windows editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut given = Given::default();
    let entries = match entries(text, path) {
        Ok(entries) => entries,
        Err(fault) => {
            faults.push(fault);
            return given;
        }
    };
    let path = Arc::new(path.to_path_buf());
    let source = |name: &str, nth| Source::File(Arc::clone(&path), line_of(text, name, nth));
    for (name, value) in entries {
        match table::find(&name) {
            None => faults.push(unknown(&name, source(&name, 0))),
            Some(key) if given.0.contains_key(key.name) => {
                faults
                    .push(Notice::new(source(&name, 1), "is set twice", "keep one of them").about(key.name));
            }
            Some(key) => drop(given.0.insert(key.name, (value, source(&name, 0)))),
        }
    }
    given
}

fn entries(text: &str, path: &Path) -> Result<Vec<(String, Raw)>, Notice> {
    // A file of comments only is not a document to the parser, and is a valid configuration for us.
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Vec::new());
    }
    match raw::parse(text) {
        Ok(Raw::Map(entries)) if entries.len() > MAX_KEYS => {
            let problem = format!("holds {} keys", entries.len());
            Err(Notice::of_file(path, 0, problem, "docs/CONFIGURATION.md lists those there are"))
        }
        Ok(Raw::Map(entries)) => Ok(entries),
        Ok(Raw::Null) => Ok(Vec::new()),
        Ok(_) => {
            Err(Notice::of_file(path, 0, "holds no keys".into(), "write lines of the form `rate_rpm: 40`"))
        }
        Err(error) => {
            let line = error.location().map_or(0, |at| at.line());
            let problem = format!("is not valid YAML: {}", spelling::shown_text(&error.to_string()));
            Err(Notice::of_file(path, line, problem, "correct this line or the one before it"))
        }
    }
}

fn unknown(name: &str, source: Source) -> Notice {
    let problem = format!("unknown key {}", spelling::shown_name(name));
    let remedy = match table::suggest(name) {
        Some(key) => format!("did you mean `{}`?", key.name),
        None => "docs/CONFIGURATION.md lists the keys".into(),
    };
    Notice::new(source, problem, remedy)
}

/// The line of the `nth` mention of a top-level key, counted from 1; 0 when it is written in a way that hides it.
fn line_of(text: &str, name: &str, nth: usize) -> usize {
    let mentions = |line: &str| {
        let line = line.trim_start_matches(['"', '\'']);
        let rest = line.strip_prefix(name).map(|rest| rest.trim_start_matches(['"', '\'']).trim_start());
        rest.is_some_and(|rest| rest.starts_with(':'))
    };
    text.lines().enumerate().filter(|(_, line)| mentions(line)).nth(nth).map_or(0, |(index, _)| index + 1)
}
