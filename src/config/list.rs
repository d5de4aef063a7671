//! Values that are lists and maps, and the maps within a list.

use super::kind::{Kind, Misfit, as_text};
use super::raw::{self, Raw};
use super::spelling;

/// Items of a list of words.
pub(super) const MAX_WORDS: usize = 64;

/// A list of at most so many items. A variable's is separated by commas, with or without brackets.
pub(super) struct List<K> {
    pub(super) most: usize,
    pub(super) item: K,
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, given: &Raw) -> Result<Self::Value, Misfit> {
        let items = match given {
            Raw::List(items) => items.clone(),
            // A list of maps is written in YAML's flow style in a variable too.
            Raw::Untyped(text) if text.contains('{') => match raw::parse(text) {
                Ok(Raw::List(items)) => items,
                _ => return Err(Misfit::wrong_type(given, "a list, such as [{name: a}, {name: b}]")),
            },
            Raw::Untyped(text) => split(text).map(|part| Raw::Untyped(part.to_owned())).collect(),
            other => return Err(Misfit::wrong_type(other, "a list, such as [a, b]")),
        };
        if items.len() > self.most {
            let problem = format!("has {} items", items.len());
            return Err(Misfit::new(problem, format!("give at most {}", self.most)));
        }
        items.iter().map(|item| self.item.read(item)).collect()
    }

    fn show(&self, value: &Self::Value) -> Raw {
        Raw::List(value.iter().map(|item| self.item.show(item)).collect())
    }
}

/// The parts of a variable's list; `[]` is how a variable says "none", since an empty one is not set.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A map within a list, whose fields are read by their kinds.
pub(super) struct Fields<'a> {
    given: Vec<(&'static str, &'a Raw)>,
    remedy: &'static str,
}

impl<'a> Fields<'a> {
    /// The fields of `item`, each of which is one of `known`.
    pub(super) fn of(
        item: &'a Raw,
        known: &[&'static str],
        remedy: &'static str,
    ) -> Result<Fields<'a>, Misfit> {
        let Raw::Map(entries) = item else {
            return Err(Misfit::new("lists something that is not a map", remedy));
        };
        let mut given: Vec<(&'static str, &Raw)> = Vec::new();
        for (name, value) in entries {
            let Some(known) = known.iter().find(|known| *known == name) else {
                let problem = format!("has an entry with the unknown key {}", spelling::shown_name(name));
                return Err(Misfit::new(problem, remedy));
            };
            if given.iter().any(|(other, _)| other == known) {
                return Err(Misfit::new(format!("has an entry with two `{known}`"), remedy));
            }
            given.push((known, value));
        }
        Ok(Fields { given, remedy })
    }

    /// The field's value, when it is given.
    pub(super) fn optional<K: Kind>(&self, name: &str, kind: &K) -> Result<Option<K::Value>, Misfit> {
        let value = self.given.iter().find(|(known, value)| *known == name && **value != Raw::Null);
        value.map(|(_, value)| kind.read(value)).transpose().map_err(|misfit| {
            Misfit::new(format!("has an entry whose {name} {}", misfit.problem), misfit.remedy)
        })
    }

    /// The field's value, which has to be given.
    pub(super) fn required<K: Kind>(&self, name: &str, kind: &K) -> Result<K::Value, Misfit> {
        self.optional(name, kind)?
            .ok_or_else(|| Misfit::new(format!("has an entry without a {name}"), self.remedy))
    }
}

/// A name that a header, a log and a metric can carry.
pub(super) struct Name;

/// Characters of a name, a label or a gateway.
pub(super) const MAX_NAME: usize = 64;

impl Kind for Name {
    type Value = String;

    fn read(&self, given: &Raw) -> Result<String, Misfit> {
        let text = as_text(given).unwrap_or_default();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'@');
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(plain) {
            let problem = format!("holds the name {}", spelling::shown_text(text));
            return Err(Misfit::new(problem, "use 1 to 64 of the characters A-Z a-z 0-9 . - _ : @"));
        }
        Ok(text.to_owned())
    }

    fn show(&self, value: &String) -> Raw {
        Raw::Text(value.clone())
    }
}
