//! The signature of a message to a Feishu custom bot.
//!
//! Feishu makes the timestamp and the secret the *key* of the HMAC and signs an empty message with it, unlike others who
//! sign the one with the other. It refuses a timestamp that is more than an hour off.
//! Source: <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>, "signature verification".

use ring::hmac::{HMAC_SHA256, Key, sign as hmac};

use crate::config::Secret;

/// The value of the field `sign` beside the field `timestamp`, in seconds since the Unix epoch.
#[must_use]
pub fn sign(unix_secs: u64, secret: &Secret) -> String {
    let key = format!("{unix_secs}\n{}", secret.expose());
    base64(hmac(&Key::new(HMAC_SHA256, key.as_bytes()), b"").as_ref())
}

/// Base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i) & 0x3f) as usize;
            text.push(if i <= group.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648_section_10() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    /// The inputs of Feishu's example, signed with its Python code.
    #[test]
    fn the_signature_is_the_one_of_feishus_example() {
        assert_eq!(sign(1_599_360_473, &Secret::new("demo")), "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=");
    }
}
