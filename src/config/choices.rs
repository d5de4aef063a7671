//! The words of keys that choose among a few, first the name by which a value is shown.

use log::LevelFilter;

use super::{Adaptive, FullPolicy, LimitUnmatched, LogFormat};

/// Words and what they mean; a value's first word is its name.
pub(super) type Choices<T> = &'static [(&'static str, T)];

pub(super) const LIMIT_UNMATCHED: Choices<LimitUnmatched> =
    &[("auto", LimitUnmatched::Auto), ("always", LimitUnmatched::Always), ("never", LimitUnmatched::Never)];

pub(super) const FULL_POLICIES: Choices<FullPolicy> = &[
    ("passthrough", FullPolicy::Passthrough),
    ("reject", FullPolicy::Reject),
    ("drop_lowest", FullPolicy::DropLowest),
];

pub(super) const ADAPTIVE: Choices<Adaptive> =
    &[("specified", Adaptive::Specified), ("learned", Adaptive::Learned)];

pub(super) const LOG_LEVELS: Choices<LevelFilter> = &[
    ("ERROR", LevelFilter::Error),
    ("WARN", LevelFilter::Warn),
    // Python's word for it, which many configurations carry over.
    ("WARNING", LevelFilter::Warn),
    ("INFO", LevelFilter::Info),
    ("DEBUG", LevelFilter::Debug),
    ("TRACE", LevelFilter::Trace),
    ("OFF", LevelFilter::Off),
];

pub(super) const LOG_FORMATS: Choices<LogFormat> =
    &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The value that a word means, in any case.
pub(super) fn find<T: Copy>(choices: Choices<T>, word: &str) -> Option<T> {
    choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, value)| *value)
}

/// The name of a value.
pub(super) fn name<T: PartialEq + Copy>(choices: Choices<T>, value: T) -> &'static str {
    choices.iter().find(|(_, choice)| *choice == value).map_or("", |(name, _)| name)
}
