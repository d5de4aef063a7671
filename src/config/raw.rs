//! Values as they were given, before anything is known about their meaning.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Secret;
use super::notice::Source;

/// A value as a file, a variable or a request gave it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    Null,
    Bool(bool),
    Whole(i128),
    Fraction(f64),
    Text(String),
    /// A variable's text, whose type is whatever its key needs.
    Untyped(String),
    List(Vec<Raw>),
    /// Only on the way out, in what `--check` shows.
    Secret {
        shown: String,
        exposed: Secret,
    },
    /// In the order given, duplicates included.
    Map(Vec<(String, Raw)>),
}

/// All values that were given, by key.
#[derive(Debug, Default)]
pub(super) struct Given(pub(super) BTreeMap<&'static str, (Raw, Source)>);

impl Given {
    /// Lets the values of `above` win.
    pub(super) fn overlay(&mut self, above: Given) {
        self.0.extend(above.0);
    }
}

/// The largest number of nodes in a document. Aliases count each time, so that a few lines cannot become a gigabyte.
const MAX_NODES: usize = 100_000;

/// Reads a whole document.
pub(super) fn read<'de, D: Deserializer<'de>>(document: D) -> Result<Raw, D::Error> {
    Node { left: &Cell::new(MAX_NODES) }.deserialize(document)
}

/// Reads YAML text that holds one value.
pub(super) fn parse(text: &str) -> Result<Raw, serde_yaml::Error> {
    read(serde_yaml::Deserializer::from_str(text))
}

/// One node of a document, and how many more the document may have.
#[derive(Clone, Copy)]
struct Node<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, node: D) -> Result<Raw, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| D::Error::custom("too many values"))?);
        node.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Whole(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Whole(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Whole(value.try_into().unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some((name, value)) = entries.next_entry_seed(self, self)? {
            let name = match name {
                Raw::Text(name) => name,
                Raw::Whole(number) => number.to_string(),
                Raw::Bool(flag) => flag.to_string(),
                _ => return Err(A::Error::custom("a key is not plain text")),
            };
            map.push((name, value));
        }
        Ok(Raw::Map(map))
    }
}
