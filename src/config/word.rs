//! Values that are words: flags, and choices among a few.

use std::marker::PhantomData;

use ::log::LevelFilter;

use super::kind::{Kind, Misfit, as_text};
use super::raw::Raw;

/// True or false.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(&self, given: &Raw) -> Result<bool, Misfit> {
        let word = match given {
            Raw::Bool(flag) => return Ok(*flag),
            Raw::Untyped(text) => text.to_ascii_lowercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(Misfit::wrong_type(given, "true or false")),
        }
    }

    fn show(&self, value: &bool) -> Raw {
        Raw::Bool(*value)
    }
}

/// A type whose values are chosen by a word.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// The words and what they mean, first the one by which a value is shown.
    const WORDS: &'static [(&'static str, Self)];

    /// The word by which the value is shown.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }

    /// The value that a word means, in any case.
    fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, value)| *value)
    }
}

impl Words for LevelFilter {
    const WORDS: &'static [(&'static str, LevelFilter)] = &[
        ("ERROR", LevelFilter::Error),
        ("WARN", LevelFilter::Warn),
        // Python's word for it, which many configurations carry over.
        ("WARNING", LevelFilter::Warn),
        ("INFO", LevelFilter::Info),
        ("DEBUG", LevelFilter::Debug),
        ("TRACE", LevelFilter::Trace),
        ("OFF", LevelFilter::Off),
    ];
}

/// One of a type's [`Words`].
pub(super) struct Choice<T>(PhantomData<T>);

/// A choice among the words of `T`.
pub(super) const fn choice<T: Words>() -> Choice<T> {
    Choice(PhantomData)
}

impl<T: Words> Kind for Choice<T> {
    type Value = T;

    fn read(&self, given: &Raw) -> Result<T, Misfit> {
        as_text(given).and_then(T::of_word).ok_or_else(|| {
            let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
            Misfit::wrong_type(given, &format!("one of {}", words.join(", ")))
        })
    }

    fn show(&self, value: &T) -> Raw {
        Raw::Text(value.word().to_owned())
    }
}
