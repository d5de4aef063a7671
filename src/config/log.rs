//! What is logged, and how it looks.

use ::log::LevelFilter;

use super::key::Reload::{Live, Restart};
use super::key::Variable::Own;
use super::key::{Keys, Row, Section};
use super::word::{Words, choice};

/// What is logged, and how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// `log_level`.
    pub level: LevelFilter,
    /// `log_format`.
    pub format: LogFormat,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, LogFormat)] =
        &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
}

impl Section for Log {
    fn build(keys: &mut impl Keys<Log>) -> Log {
        Log {
            level: keys.key(&Row {
                name: "log_level",
                variable: Own,
                reload: Live,
                kind: choice(),
                default: LevelFilter::Info,
                of: |c| &c.level,
                text: "`ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE` or `OFF`, in any case.",
            }),
            format: keys.key(&Row {
                name: "log_format",
                variable: Own,
                reload: Restart,
                kind: choice(),
                default: LogFormat::Auto,
                of: |c| &c.format,
                text: "`text`, `json`, or `auto`, which is text on a terminal and JSON otherwise.",
            }),
        }
    }
}
