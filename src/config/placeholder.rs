//! Recognises what examples write where a secret belongs, so that the sidecar does not start with it.

/// Whether the text is an example's stand-in for a secret.
pub(crate) fn is_placeholder(text: &str) -> bool {
    let letters: String = text
        .to_ascii_lowercase()
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | ' ' | '.' | '…' | '*'))
        .collect();
    let stand_ins =
        ["replaceme", "replacewith", "changeme", "placeholder", "insertyour", "yourkey", "yourtoken"];
    let body = letters.strip_prefix("nvapi").unwrap_or(&letters);
    stand_ins.iter().any(|stand_in| letters.contains(stand_in))
        || (letters.contains("your") && (letters.ends_with("key") || letters.ends_with("token")))
        || text.starts_with('<')
        || text.starts_with("${")
        || text.starts_with("{{")
        || (!text.is_empty() && body.chars().all(|c| c == 'x'))
}

#[cfg(test)]
mod tests {
    use super::is_placeholder;

    #[test]
    fn what_examples_write_is_a_placeholder() {
        for text in [
            "nvapi-REPLACE_ME",
            "<your key>",
            "CHANGE_ME",
            "changeme",
            "your-api-key",
            "YOUR_NVIDIA_API_KEY",
            "nvapi-xxxxxxxx",
            "nvapi-...",
            "nvapi-",
            "***",
            "${NVIDIA_API_KEY}",
            "{{ key }}",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn a_real_secret_is_none() {
        for text in ["nvapi-4Xz0_yx-Tq", "sk-0123", "hunter2", "x1", ""] {
            assert!(!is_placeholder(text), "{text}");
        }
    }
}
