//! Builds a configuration from given values, and notes every one that does not fit instead of stopping at the first.

use std::collections::BTreeMap;

use super::key::{Keys, Row, Section};
use super::kind::{Kind, Misfit, as_text};
use super::notice::{Notice, Source};
use super::raw::{Given, Raw};
use super::yaml::masked;

/// The given values of one load, and what was found about them.
#[derive(Debug)]
pub(super) struct Input {
    values: BTreeMap<&'static str, (Raw, Source)>,
    /// Whether a value out of range is a fault even where a file's would give way to another.
    strict: bool,
    pub(super) faults: Vec<Notice>,
    pub(super) warnings: Vec<Notice>,
}

impl Input {
    pub(super) fn new(given: Given, strict: bool) -> Input {
        // `key:` with nothing behind it is how a file says "not set".
        let values = given.0.into_iter().filter(|(_, (value, _))| *value != Raw::Null).collect();
        Input { values, strict, faults: Vec::new(), warnings: Vec::new() }
    }

    /// Whether the key is given at all.
    pub(super) fn gives(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Notes a fault of a key, at the place where it was given.
    pub(super) fn fault(&mut self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        let notice = self.notice(key, problem, remedy);
        self.faults.push(notice);
    }

    /// Notes a warning about a key, at the place where it was given.
    pub(super) fn warn(&mut self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        let notice = self.notice(key, problem, remedy);
        self.warnings.push(notice);
    }

    fn notice(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Notice {
        let source = self.values.get(key).map_or(Source::Default, |(_, source)| source.clone());
        Notice::new(source, problem, remedy).about(key)
    }

    /// What is given for a key; `None` where nothing is, or nothing that fits.
    fn value<S, K: Kind>(&mut self, row: &Row<S, K>) -> Option<K::Value> {
        let (given, _) = self.values.get(row.name)?;
        let misfit = match unquoted(given).and_then(|()| row.kind.read(given)) {
            Ok(value) => return Some(value),
            Err(misfit) => misfit,
        };
        let cut = if self.strict { None } else { row.kind.cut(given) };
        if let Some((value, warning)) = cut {
            self.warn(row.name, misfit.problem, warning);
            return Some(value);
        }
        if misfit.out_of_range && row.kind.falls_back() && !self.strict {
            let applies = match row.kind.show(&row.default) {
                Raw::Null => "it counts as not set".to_owned(),
                default => format!("the default, {}, applies", masked(&default)),
            };
            self.warn(row.name, misfit.problem, format!("{}, and {applies}", misfit.remedy));
            return Some(row.default.clone());
        }
        self.fault(row.name, misfit.problem, misfit.remedy);
        None
    }
}

/// Quotes around a value are what a shell or YAML takes off; left on, they would become part of it.
fn unquoted(given: &Raw) -> Result<(), Misfit> {
    let text = as_text(given).unwrap_or_default();
    let quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return Err(Misfit::new("has quotes around its value, which would become part of it", "remove them"));
    }
    Ok(())
}

/// Builds a section: the given values over those of `base`, or over the defaults.
pub(super) fn read<S: Section>(base: Option<&S>, input: &mut Input) -> S {
    S::build(&mut Reading { base, input })
}

struct Reading<'a, S> {
    base: Option<&'a S>,
    input: &'a mut Input,
}

impl<S> Keys<S> for Reading<'_, S> {
    fn key<K: Kind>(&mut self, row: &Row<S, K>) -> K::Value {
        let given = self.input.value(row);
        given.unwrap_or_else(|| self.base.map_or(&row.default, row.of).clone())
    }

    fn section<T: Section>(&mut self, of: fn(&S) -> &T) -> T {
        read(self.base.map(of), self.input)
    }
}
