//! Names and values in notices: the nearest known name for a misspelt one, and text that is safe to show.

use super::secret::mask;

/// The longest text that a notice repeats, in characters.
const MAX_SHOWN: usize = 80;

/// The candidate that differs from `name` in the fewest letters, if those are few for its length. Both in lower case, with underscores.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, near) = candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= near.len()).then_some(near)
}

/// Levenshtein's distance: the insertions, deletions and replacements that turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            left = replaced.min(diagonal + 1).min(left + 1);
            row[j + 1] = left;
        }
    }
    row[b.len()]
}

/// `text` in one line, in full or up to a bound, with control characters escaped.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == MAX_SHOWN {
            line.push('…');
            break;
        }
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// The start of `text`, long enough for every real name.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// A name that was written where a key belongs; masked when it does not look like a name, for it may be a secret.
pub(super) fn shown_name(name: &str) -> String {
    let looks_like_one = name.len() <= 64
        && !looks_secret(name)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if looks_like_one { format!("`{name}`") } else { format!("`{}`", mask(name)) }
}

/// A value that was written; masked when it looks like a key that strayed into the wrong place.
pub(super) fn shown_text(text: &str) -> String {
    if looks_secret(text) { format!("`{}`", mask(text)) } else { format!("`{}`", one_line(text)) }
}

fn looks_secret(text: &str) -> bool {
    ["nvapi-", "sk-", "Bearer "].iter().any(|mark| text.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour_and_a_foreign_one_none() {
        let keys = || ["rate_rpm", "queue_max_size", "listen_port"].into_iter();
        assert_eq!(nearest("rate_rmp", keys()), Some("rate_rpm"));
        assert_eq!(nearest("queue_max", keys()), None);
        assert_eq!(nearest("queue_maxsize", keys()), Some("queue_max_size"));
        assert_eq!(nearest("", keys()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }

    #[test]
    fn what_is_shown_is_one_bounded_line_without_stray_keys() {
        assert_eq!(shown_text("a\nb\u{1b}[0m"), "`a\\nb\\u{1b}[0m`");
        assert_eq!(shown_text(&"x".repeat(200)).chars().count(), MAX_SHOWN + 3);
        assert_eq!(shown_text("nvapi-0123456789"), "`nvap…`");
        assert_eq!(shown_name("rate rpm: 0123456789"), "`rate…`");
    }
}
