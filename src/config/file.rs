//! The configuration file: flat YAML, every key optional, all its faults at once.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::notice::{Notice, Source};
use super::raw::{self, Given, Raw};
use super::{keys, spelling};

/// The largest configuration file in bytes; a real one has a few thousand.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the file at `path`.
pub(super) fn load(path: &Path) -> Result<Given, Vec<Notice>> {
    let one = |problem: String, remedy: &str| vec![Notice::of_file(path, 0, problem, remedy)];
    let bytes = read(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "name an existing file with --config or SIDECAR_CONFIG",
            io::ErrorKind::PermissionDenied => "let the sidecar's user read it",
            _ => "name a readable file with --config or SIDECAR_CONFIG",
        };
        one(format!("cannot be read: {error}"), remedy)
    })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(one(format!("is larger than {MAX_FILE_BYTES} bytes"), "name a configuration file"));
    }
    let text = String::from_utf8(bytes).map_err(|_| one("is not UTF-8 text".into(), "save it as UTF-8"))?;
    parse(&text, path)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file's text; `path` is for the notices.
pub(super) fn parse(text: &str, path: &Path) -> Result<Given, Vec<Notice>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let entries = entries(text, path).map_err(|fault| vec![fault])?;
    let path = Arc::new(path.to_path_buf());
    let mut given = Given::default();
    let mut faults = Vec::new();
    for (name, value) in entries {
        let Some(key) = keys::find(&name) else {
            faults.push(unknown(&name, Source::File(Arc::clone(&path), line_of(text, &name, 0))));
            continue;
        };
        if given.0.contains_key(key.name) {
            let source = Source::File(Arc::clone(&path), line_of(text, &name, 1));
            faults.push(Notice::new(source, "stands there twice", "keep one of them").about(key.name));
            continue;
        }
        given.0.insert(key.name, (value, Source::File(Arc::clone(&path), line_of(text, &name, 0))));
    }
    if faults.is_empty() { Ok(given) } else { Err(faults) }
}

fn entries(text: &str, path: &Path) -> Result<Vec<(String, Raw)>, Notice> {
    // A file of comments only is no document for the parser, and is a valid configuration for us.
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Vec::new());
    }
    match raw::read(serde_yaml::Deserializer::from_str(text)) {
        Ok(Raw::Map(entries)) => Ok(entries),
        Ok(Raw::Null) => Ok(Vec::new()),
        Ok(_) => {
            Err(Notice::of_file(path, 0, "holds no keys".into(), "write lines of the form `rate_rpm: 40`"))
        }
        Err(error) => {
            let line = error.location().map_or(0, |at| at.line());
            let problem = format!("is no valid YAML: {}", spelling::one_line(&error.to_string()));
            Err(Notice::of_file(path, line, problem, "correct this line or the one before it"))
        }
    }
}

fn unknown(name: &str, source: Source) -> Notice {
    let problem = format!("unknown key {}", spelling::shown_name(name));
    let remedy = match spelling::nearest(name, keys::KEYS.iter().map(|key| key.name)) {
        Some(near) => format!("did you mean `{near}`?"),
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
