//! The safety net under "no secret in any log": what looks like a key is masked before a line is written.
//!
//! The rule itself is kept elsewhere, by never handing a header, a query or a body to the log. This catches what a
//! client puts where no key belongs (a path, a model's name, an agent's name) and an upstream's message that quotes it.

/// What a key follows. Compared without regard to case.
const MARKERS: [&[u8]; 3] = [b"nvapi-", b"bearer ", b"sk-"];
/// Shorter runs after a marker are words, not keys.
const KEY_LEN: usize = 8;
const MASK: &[u8] = b"***";

/// Replaces the rest of everything in `line` that starts like a key with `***`.
pub(super) fn mask(line: &mut Vec<u8>) {
    let mut from = 0;
    while let Some(key) = next_key(line, from) {
        from = key.start + MASK.len();
        line.splice(key, MASK.iter().copied());
    }
}

/// Where the next key's secret part lies.
fn next_key(line: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
    (from..line.len()).find_map(|at| {
        let marker = MARKERS.iter().find(|m| starts_with(&line[at..], m) && starts_word(line, at))?;
        let start = at + marker.len();
        let len = line[start..].iter().take_while(|b| is_key_byte(**b)).count();
        (len >= KEY_LEN).then_some(start..start + len)
    })
}

fn starts_with(bytes: &[u8], marker: &[u8]) -> bool {
    bytes.get(..marker.len()).is_some_and(|head| head.eq_ignore_ascii_case(marker))
}

/// Whether a word starts at `at`, so that `task-runner-eleven` is not taken for an `sk-` key.
fn starts_word(line: &[u8], at: usize) -> bool {
    at == 0 || !line[at - 1].is_ascii_alphanumeric()
}

/// The characters of a bearer token (RFC 6750 §2.1).
fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &str) -> String {
        let mut bytes = line.as_bytes().to_vec();
        mask(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn keys_are_masked_wherever_they_stand() {
        assert_eq!(masked(r#"{"path":"/nvapi-0123456789/x y"}"#), r#"{"path":"/nvapi-*** y"}"#);
        assert_eq!(
            masked("Authorization: Bearer abcdefgh1234 and more"),
            "Authorization: Bearer *** and more"
        );
        assert_eq!(masked("sk-proj-abcdefghij sk-zyxwvutsrq"), "sk-*** sk-***");
    }

    #[test]
    fn words_are_left_alone() {
        for line in ["task-runner-eleven", "a bearer of news", "nvapi-short", ""] {
            assert_eq!(masked(line), line);
        }
    }
}
