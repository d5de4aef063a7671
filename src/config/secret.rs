//! A secret string that shows itself only to those who ask for it by name.

use std::fmt;

/// A key or a token. `Debug` and `Display` mask it: the first four characters, or nothing of a short one.
///
/// Equality is for comparing configurations. A client's token is compared in constant time, on
/// [`expose`](Secret::expose)d bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// From this length on, the first four characters may be shown; of less they would be half of the secret.
const MASKABLE: usize = 8;

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for the header that carries it and the comparison that checks it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `text` as a masked secret shows itself.
pub(super) fn mask(text: &str) -> String {
    let shown = if text.chars().count() < MASKABLE { 0 } else { 4 };
    text.chars().take(shown).filter(|c| !c.is_control()).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_four_characters_and_a_short_one_none() {
        assert_eq!(format!("{}", Secret::new("nvapi-0123456789")), "nvap…");
        assert_eq!(format!("{:?}", Secret::new("nvapi-0123456789")), "nvap…");
        assert_eq!(format!("{:?}", Secret::new("1234567")), "…");
        assert_eq!(format!("{}", Secret::new("")), "…");
        assert_eq!(Secret::new("nvapi-0123456789").expose(), "nvapi-0123456789");
    }
}
