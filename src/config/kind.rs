//! What a key's value can be: how it is read, how it is shown, and which range it has.

use super::raw::Raw;
use super::spelling::shown_text;
use super::yaml::masked;

/// The kind of a key's value. A row of the key table names one.
pub(super) trait Kind {
    /// What the program works with.
    type Value: Clone + PartialEq;

    /// Reads what a file, a variable or a request gave.
    fn read(&self, given: &Raw) -> Result<Self::Value, Misfit>;

    /// The value as a file would write it.
    fn show(&self, value: &Self::Value) -> Raw;

    /// The range in words, for the documentation; empty where there is none.
    fn range(&self) -> String {
        String::new()
    }

    /// What applies in place of a value that does not fit, and what the warning about it says; else the misfit is a
    /// fault.
    fn instead(
        &self,
        _given: &Raw,
        misfit: Misfit,
        _default: &Self::Value,
    ) -> Result<(Self::Value, Misfit), Misfit> {
        Err(misfit)
    }
}

/// Why a value does not fit its key.
#[derive(Debug)]
pub(super) struct Misfit {
    /// What the value is, as the end of a sentence that begins with the key.
    pub(super) problem: String,
    pub(super) remedy: String,
    /// Whether it is of the right type and only too large or too small.
    pub(super) out_of_range: bool,
}

impl Misfit {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Misfit {
        Misfit { problem: problem.into(), remedy: remedy.into(), out_of_range: false }
    }

    pub(super) fn wrong_type(value: &Raw, needs: &str) -> Misfit {
        Misfit::new(format!("is {}", shown(value)), format!("it has to be {needs}"))
    }

    pub(super) fn out_of_range(value: &Raw, needs: &str) -> Misfit {
        Misfit {
            problem: format!("is {}, out of range", shown(value)),
            remedy: format!("it has to be {needs}"),
            out_of_range: true,
        }
    }
}

/// A value that need not be there: empty text reads as none.
pub(super) struct Optional<K>(pub(super) K);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    fn read(&self, given: &Raw) -> Result<Self::Value, Misfit> {
        if as_text(given).is_some_and(str::is_empty) { Ok(None) } else { self.0.read(given).map(Some) }
    }

    fn show(&self, value: &Self::Value) -> Raw {
        value.as_ref().map_or(Raw::Null, |value| self.0.show(value))
    }

    fn range(&self) -> String {
        self.0.range()
    }
}

/// A value that falls back to its default with a warning when it is out of range.
pub(super) struct OrDefault<K>(pub(super) K);

impl<K: Kind> Kind for OrDefault<K> {
    type Value = K::Value;

    fn read(&self, given: &Raw) -> Result<Self::Value, Misfit> {
        self.0.read(given)
    }

    fn show(&self, value: &Self::Value) -> Raw {
        self.0.show(value)
    }

    fn range(&self) -> String {
        self.0.range()
    }

    fn instead(
        &self,
        given: &Raw,
        misfit: Misfit,
        default: &Self::Value,
    ) -> Result<(Self::Value, Misfit), Misfit> {
        if !misfit.out_of_range {
            return self.0.instead(given, misfit, default);
        }
        let default_shown = masked(&self.0.show(default));
        let remedy = format!("{}, and the default, {default_shown}, applies", misfit.remedy);
        Ok((default.clone(), Misfit { remedy, ..misfit }))
    }
}

/// Text from a file or a variable, without blanks around it.
pub(super) fn as_text(value: &Raw) -> Option<&str> {
    match value {
        Raw::Text(text) | Raw::Untyped(text) => Some(text.trim()),
        _ => None,
    }
}

/// A value as a notice repeats it.
pub(super) fn shown(value: &Raw) -> String {
    match value {
        Raw::Null => "empty".into(),
        Raw::Bool(flag) => format!("`{flag}`"),
        Raw::Whole(number) => format!("`{number}`"),
        Raw::Fraction(number) => format!("`{number}`"),
        Raw::Text(text) | Raw::Untyped(text) if text.trim().is_empty() => "empty".into(),
        Raw::Text(text) => format!("the text {}", shown_text(text)),
        Raw::Untyped(text) => shown_text(text),
        Raw::List(_) => "a list".into(),
        Raw::Map(_) => "a map".into(),
        Raw::Secret(secret) => format!("`{secret}`"),
    }
}
