//! The tokens that a request cost, read out of its answer as it passes: the `usage` object of OpenAI's chat completions,
//! completions, embeddings and responses, and of Anthropic's messages.
//!
//! The bytes are looked at and never changed, in any split, and nothing of them is kept but the object itself. A quote
//! within a JSON string is written with a backslash, so `"usage"` in a model's words is never taken for the key. An answer
//! may hold several objects (Anthropic's stream has one at its start and one at its end): the last word on each figure
//! counts.

use serde::{Deserialize, Serialize};

/// The key, as it stands in JSON.
const KEY: &[u8] = b"\"usage\"";

/// An object longer than this is not a usage.
const MAX_OBJECT: usize = 4096;

/// Tokens of one request or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// What was asked.
    pub prompt: u64,
    /// What was answered.
    pub completion: u64,
}

impl Tokens {
    /// The sum, as far as 64 bits reach.
    #[must_use]
    pub fn plus(self, other: Tokens) -> Tokens {
        Tokens {
            prompt: self.prompt.saturating_add(other.prompt),
            completion: self.completion.saturating_add(other.completion),
        }
    }
}

/// The object under OpenAI's names or Anthropic's, which its Responses API shares.
#[derive(Debug, Deserialize)]
struct Object {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(alias = "output_tokens")]
    completion_tokens: Option<u64>,
}

/// Reads an answer's usage off its pieces.
#[derive(Debug, Default)]
pub struct UsageReader {
    place: Place,
    tokens: Option<Tokens>,
}

#[derive(Debug)]
enum Place {
    /// So many bytes of the key have come.
    Key(usize),
    /// Behind the key; white space and a colon may follow.
    Colon { seen: bool },
    /// Within the object.
    Object { bytes: Vec<u8>, depth: usize, string: Within },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Within {
    Structure,
    Text,
    /// Behind a backslash of a text.
    Escape,
}

impl Default for Place {
    fn default() -> Place {
        Place::Key(0)
    }
}

impl UsageReader {
    /// Looks at the next piece of the answer.
    pub fn read(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some((&byte, after)) = rest.split_first() {
            match &mut self.place {
                Place::Key(0) => match memchr::memchr(KEY[0], rest) {
                    Some(at) => {
                        self.place = Place::Key(1);
                        rest = &rest[at + 1..];
                        continue;
                    }
                    None => return,
                },
                Place::Key(known) if byte == KEY[*known] => {
                    *known += 1;
                    if *known == KEY.len() {
                        self.place = Place::Colon { seen: false };
                    }
                }
                // This byte may begin the key itself.
                Place::Key(_) => self.place = Place::Key(usize::from(byte == KEY[0])),
                Place::Colon { .. } if byte.is_ascii_whitespace() => {}
                Place::Colon { seen } if byte == b':' && !*seen => *seen = true,
                Place::Colon { seen: true } if byte == b'{' => {
                    self.place = Place::Object { bytes: vec![byte], depth: 1, string: Within::Structure };
                }
                Place::Colon { .. } => self.place = Place::Key(usize::from(byte == KEY[0])),
                Place::Object { bytes, depth, string } => {
                    bytes.push(byte);
                    *string = match (*string, byte) {
                        (Within::Escape, _) => Within::Text,
                        (Within::Text, b'\\') => Within::Escape,
                        (Within::Text, b'"') => Within::Structure,
                        (Within::Structure, b'"') => Within::Text,
                        (same, _) => same,
                    };
                    if *string == Within::Structure {
                        match byte {
                            b'{' => *depth += 1,
                            b'}' => *depth -= 1,
                            _ => {}
                        }
                    }
                    if *depth == 0 {
                        let object = std::mem::take(bytes);
                        self.place = Place::Key(0);
                        self.take(&object);
                    } else if bytes.len() >= MAX_OBJECT {
                        self.place = Place::Key(0);
                    }
                }
            }
            rest = after;
        }
    }

    /// What the answer said so far; `None` when it said nothing.
    #[must_use]
    pub fn tokens(&self) -> Option<Tokens> {
        self.tokens
    }

    fn take(&mut self, object: &[u8]) {
        let Ok(object) = serde_json::from_slice::<Object>(object) else { return };
        if object.prompt_tokens.is_none() && object.completion_tokens.is_none() {
            return;
        }
        let known = self.tokens.unwrap_or_default();
        self.tokens = Some(Tokens {
            prompt: object.prompt_tokens.unwrap_or(known.prompt),
            completion: object.completion_tokens.unwrap_or(known.completion),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPENAI: &str = r#"{"id":"1","choices":[{"message":{"content":"the \"usage\":{\"prompt_tokens\":1} of it"}}],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46,"prompt_tokens_details":{"cached_tokens":3,"note":"}\"{"}}}"#;
    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\" : { \"prompt_tokens\" : 12 , \"completion_tokens\" : 34 }}\n\ndata: [DONE]\n\n";
    const ANTHROPIC: &str = "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"delta\":{},\"usage\":{\"output_tokens\":34}}\n\n";
    const EMBEDDINGS: &str = r#"{"data":[],"usage":{"prompt_tokens":12,"total_tokens":12}}"#;

    fn read(pieces: &[&[u8]]) -> Option<Tokens> {
        let mut reader = UsageReader::default();
        pieces.iter().for_each(|piece| reader.read(piece));
        reader.tokens()
    }

    #[test]
    fn each_api_says_it_in_its_way() {
        let both = Some(Tokens { prompt: 12, completion: 34 });
        assert_eq!(read(&[OPENAI.as_bytes()]), both);
        assert_eq!(read(&[STREAM.as_bytes()]), both);
        assert_eq!(read(&[ANTHROPIC.as_bytes()]), both);
        assert_eq!(read(&[EMBEDDINGS.as_bytes()]), Some(Tokens { prompt: 12, completion: 0 }));
    }

    #[test]
    fn what_is_not_a_usage_counts_nothing() {
        for text in [
            "",
            r#"{"usage":null}"#,
            r#"{"usage":"12"}"#,
            r#"{"usage":{}}"#,
            r#"{"usage":{"prompt_tokens":-1}}"#,
            r#"{"usage":{"prompt_tokens":1e99}}"#,
            r#"{"usage":{"prompt_tokens":12"#,
            r#"{"\"usage\"":{"prompt_tokens":12}}"#,
            r#"{"usage"::{"prompt_tokens":12}}"#,
            r#"{"usage"{"prompt_tokens":12}}"#,
        ] {
            assert_eq!(read(&[text.as_bytes()]), None, "{text}");
        }
        let long = format!("{{\"usage\":{{\"a\":\"{}\",\"prompt_tokens\":1}}}}", "x".repeat(MAX_OBJECT));
        assert_eq!(read(&[long.as_bytes()]), None);
        assert_eq!(read(&[b"\"usage\"\"usage\":{\"prompt_tokens\":5}"]).map(|t| t.prompt), Some(5));
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn any_split_says_the_same(
            cuts in prop::collection::vec(0..400_usize, 0..12),
            text in prop::sample::select(vec![OPENAI, STREAM, ANTHROPIC, EMBEDDINGS]),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % bytes.len()).collect();
            cuts.sort_unstable();
            cuts.insert(0, 0);
            cuts.push(bytes.len());
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[bytes]));
        }

        #[test]
        fn any_bytes_make_no_panic_and_keep_no_more_than_an_object(bytes in "(\"usage\"|[:{}\"\\\\ a1,])*") {
            let mut reader = UsageReader::default();
            reader.read(bytes.as_bytes());
            if let Place::Object { bytes, .. } = &reader.place {
                prop_assert!(bytes.len() <= MAX_OBJECT);
            }
        }
    }
}
