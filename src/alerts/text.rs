//! Text of an alert, made fit to be shown: bounded, and without characters that hide or reorder it.

use ureq::http::Uri;

/// A longer link is not shown; a cut one would lead nowhere.
pub(super) const MAX_LINK_BYTES: usize = 500;

/// Whether a button can lead there. ASCII alone (RFC 3986 §2), so that a link looks like what it is.
pub(super) fn is_link(url: &str) -> bool {
    let web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let whole = |uri: Uri| uri.host().is_some_and(|host| !host.is_empty());
    let plain = url.len() <= MAX_LINK_BYTES && url.bytes().all(|byte| byte.is_ascii_graphic());
    web && plain && url.parse().is_ok_and(whole)
}

/// `text` as one line of at most `max` bytes.
pub(super) fn clean(text: &str, max: usize) -> String {
    cut(text.chars().filter_map(|c| if c == '\n' { Some(' ') } else { visible(c) }), max)
}

/// `text` with its lines, at most `max` bytes.
pub(super) fn clean_lines(text: &str, max: usize) -> String {
    cut(text.chars().filter_map(visible), max)
}

/// A space for a control character or a separator of lines that is not `\n`. Nothing for one of those that turn the
/// direction of what follows (Unicode's property `Bidi_Control`, UAX #9): with them a text reads as something else.
fn visible(c: char) -> Option<char> {
    match c {
        '\n' => Some(c),
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        '\u{2028}' | '\u{2029}' => Some(' '),
        _ if c.is_control() => Some(' '),
        _ => Some(c),
    }
}

fn cut(chars: impl Iterator<Item = char>, max: usize) -> String {
    const MARK: char = '…';
    let mut text = String::new();
    let mut kept = 0;
    for c in chars {
        if text.len() + c.len_utf8() > max {
            text.truncate(kept);
            text.push(MARK);
            return text;
        }
        text.push(c);
        if text.len() + MARK.len_utf8() <= max {
            kept = text.len();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn characters_that_hide_or_reorder_a_text_are_taken_out() {
        for c in ['\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'] {
            assert_eq!(clean(&format!("exe{c}.txt"), 100), "exe.txt", "{c:?}");
            assert_eq!(clean_lines(&format!("exe{c}.txt"), 100), "exe.txt", "{c:?}");
        }
        assert_eq!(clean("a\nb\u{2028}c\u{85}d\te", 100), "a b c d e");
        assert_eq!(clean_lines("a\nb\u{2029}c\u{0}d", 100), "a\nb c d");
        assert_eq!(
            clean("磁盘 \u{1f468}\u{200d}\u{1f469}", 100),
            "磁盘 \u{1f468}\u{200d}\u{1f469}",
            "joined emoji stay"
        );
    }

    #[test]
    fn a_link_is_short_whole_and_ascii() {
        assert!(is_link("https://grafana.example.org/d/nvidia-sidecar?var=a#b"));
        let long = format!("https://example.org/{}", "a".repeat(MAX_LINK_BYTES));
        for url in [
            "",
            "grafana",
            "javascript:alert(1)",
            "https://",
            "http://a b/",
            "https://a.b/\u{202e}gpj",
            &long,
        ] {
            assert!(!is_link(url), "{url:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn cutting_keeps_the_bound_and_what_fits(text in "[^\\p{C}\\p{Zl}\\p{Zp}]{0,40}", max in 3_usize..60) {
            let short = clean(&text, max);
            prop_assert!(short.len() <= max);
            prop_assert!(text.len() > max || short == text);
        }
    }
}
