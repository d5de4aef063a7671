//! What a row of the key table says, and what walks through the rows.
//!
//! A key is one [`Row`], written where the struct that holds its value is built. A [`Section`] is such a struct: its one
//! function builds it key by key, so that a field without a row does not compile. The walk that builds it decides what a
//! row gives: its default, what was given for it ([`reading`](super::reading)), or the running and the loaded value merged
//! ([`live`](super::live)); the table of names ([`table`](super::table)) and `--check` ([`render`](super::render)) follow
//! from the same walk.

use super::kind::Kind;

/// One key of a section `S`: everything that is said about it.
pub(super) struct Row<S, K: Kind> {
    /// Its name in the file.
    pub(super) name: &'static str,
    /// The variable that overrides the file.
    pub(super) variable: Variable,
    /// What a reload does with it.
    pub(super) reload: Reload,
    /// The type and the range of its value.
    pub(super) kind: K,
    /// The value when none is given.
    pub(super) default: K::Value,
    /// Where the value is kept.
    pub(super) of: fn(&S) -> &K::Value,
    /// What it means, in Markdown. `{range}` stands for the kind's range.
    pub(super) text: &'static str,
}

/// The variable of a key; `SIDECAR_` and the key's own name in capitals is accepted for every key.
#[derive(Clone, Copy)]
pub(super) enum Variable {
    /// Only that one.
    Own,
    /// A shorter one beside it, which the documentation names.
    Short(&'static str),
}

/// What a reload does with a changed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It applies at once.
    Live,
    /// It is named in the log, and applies after a restart.
    Restart,
}

/// A part of the configuration.
pub(super) trait Section: Sized {
    /// Builds it, each field from its row.
    fn build(keys: &mut impl Keys<Self>) -> Self;
}

/// A walk through the rows of a section, which decides what each row gives.
pub(super) trait Keys<S> {
    /// The value of one key.
    fn key<K: Kind>(&mut self, row: &Row<S, K>) -> K::Value;

    /// A section within this one.
    fn section<T: Section>(&mut self, of: fn(&S) -> &T) -> T;
}

/// A section with every key at its default.
pub(super) fn defaults<S: Section>() -> S {
    S::build(&mut Defaults)
}

struct Defaults;

impl<S> Keys<S> for Defaults {
    fn key<K: Kind>(&mut self, row: &Row<S, K>) -> K::Value {
        row.default.clone()
    }

    fn section<T: Section>(&mut self, _of: fn(&S) -> &T) -> T {
        T::build(self)
    }
}
