//! What a key's value can be: how it is read, how it is shown, and which range it has.

use super::raw::Raw;
use super::spelling::shown_text;

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

    /// What applies in place of a value beyond the range, and the end of the warning about it.
    fn cut(&self, _given: &Raw) -> Option<(Self::Value, String)> {
        None
    }

    /// Whether a value out of range gives way to the default, with a warning, instead of being a fault.
    fn falls_back(&self) -> bool {
        false
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

    fn cut(&self, given: &Raw) -> Option<(Self::Value, String)> {
        self.0.cut(given).map(|(value, warning)| (Some(value), warning))
    }
}

/// A value that the word `off` turns off.
pub(super) struct OrOff<K>(pub(super) K);

impl<K: Kind> Kind for OrOff<K> {
    type Value = Option<K::Value>;

    fn read(&self, given: &Raw) -> Result<Self::Value, Misfit> {
        match given {
            Raw::Bool(false) => Ok(None),
            given if as_text(given).is_some_and(|text| text.eq_ignore_ascii_case("off")) => Ok(None),
            given => self
                .0
                .read(given)
                .map(Some)
                .map_err(|misfit| Misfit { remedy: format!("{}, or off", misfit.remedy), ..misfit }),
        }
    }

    fn show(&self, value: &Self::Value) -> Raw {
        value.as_ref().map_or_else(|| Raw::Text("off".into()), |value| self.0.show(value))
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

    fn cut(&self, given: &Raw) -> Option<(Self::Value, String)> {
        self.0.cut(given)
    }

    fn falls_back(&self) -> bool {
        true
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
        Raw::Secret { shown, .. } => format!("`{shown}`"),
    }
}
