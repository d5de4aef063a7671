//! The forms that a sign of life takes, by what the client's parser expects on that path.

use super::boundary::{LineEnd, Seen};
use crate::http::{Head, path};
use crate::telemetry::metrics::SignKind;
use serde::Serialize;

/// What is spoken on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenAI's chat completions.
    Chat {
        /// The client is LangChain for JavaScript, which takes a first chunk without a role for another kind of message
        /// and loses its tool calls; it counts bytes, so comments do.
        needs_roles: bool,
    },
    /// OpenAI's text completions.
    Completions,
    /// Anthropic's messages.
    Messages,
    /// OpenAI's responses.
    Responses {
        /// The client is Codex, which counts events and not bytes; the SDKs' helpers break on an event they do not know.
        counts_events: bool,
    },
    /// Any other stream.
    Other,
}

impl Form {
    /// What is spoken on the path of this request.
    #[must_use]
    pub fn of(head: &Head) -> Form {
        let begins = |name, start: &[u8]| {
            head.field(name)
                .and_then(|value| value.get(..start.len()))
                .is_some_and(|value| value.eq_ignore_ascii_case(start))
        };
        let segments = path::segments(head.path());
        let segments: Vec<&str> = segments.iter().map(String::as_str).skip_while(|s| *s == "v1").collect();
        match segments.as_slice() {
            ["chat", "completions"] => Form::Chat { needs_roles: begins("user-agent", b"langchainjs") },
            ["completions"] => Form::Completions,
            ["messages"] => Form::Messages,
            ["responses"] => {
                let is_codex = |name| begins(name, b"codex");
                Form::Responses { counts_events: is_codex("user-agent") || is_codex("originator") }
            }
            _ => Form::Other,
        }
    }

    /// The sign and its kind, `seen` being what the upstream has called itself in this stream so far.
    ///
    /// `created` is seconds since the Unix epoch. `started`: bytes of the upstream's have been passed on, so a chunk must
    /// carry their id (openai-go rejects a stream whose id changes); where it is not known a comment has to do.
    pub(super) fn sign(
        self,
        model: &str,
        seen: Option<&Seen>,
        started: bool,
        created: u64,
        line_end: LineEnd,
    ) -> (SignKind, Vec<u8>) {
        let id = match seen {
            Some(seen) => seen.id.as_str(),
            None => "",
        };
        let model = seen.and_then(|seen| seen.model.as_deref()).unwrap_or(model);
        let end = line_end.as_str();
        let chunk = |json: Vec<u8>| {
            (SignKind::Chunk, [b"data: ", &json[..], end.as_bytes(), end.as_bytes()].concat())
        };
        match self {
            Form::Chat { needs_roles: true } => comment(line_end),
            Form::Chat { .. } | Form::Completions if started && seen.is_none() => comment(line_end),
            Form::Chat { .. } => chunk(json(&Chunk {
                id,
                object: "chat.completion.chunk",
                created,
                model,
                choices: [ChatChoice { index: 0, delta: Empty {}, finish_reason: None }],
            })),
            Form::Completions => chunk(json(&Chunk {
                id,
                object: "text_completion",
                created,
                model,
                choices: [TextChoice { index: 0, text: "", logprobs: None, finish_reason: None }],
            })),
            Form::Messages | Form::Responses { counts_events: true } => (
                SignKind::Ping,
                format!("event: ping{end}data: {{\"type\": \"ping\"}}{end}{end}").into_bytes(),
            ),
            Form::Responses { counts_events: false } | Form::Other => comment(line_end),
        }
    }
}

/// A comment line: every parser skips it, and some count only what is not skipped as progress.
pub(super) fn comment(line_end: LineEnd) -> (SignKind, Vec<u8>) {
    (SignKind::Comment, format!(": keep-alive{}", line_end.as_str()).into_bytes())
}

fn json(chunk: &impl Serialize) -> Vec<u8> {
    // Strings and numbers always can be written.
    serde_json::to_vec(chunk).unwrap_or_default()
}

#[derive(Serialize)]
struct Chunk<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [C; 1],
}

#[derive(Serialize)]
struct ChatChoice {
    index: u8,
    delta: Empty,
    finish_reason: Option<()>,
}

#[derive(Serialize)]
struct TextChoice {
    index: u8,
    text: &'static str,
    logprobs: Option<()>,
    finish_reason: Option<()>,
}

#[derive(Serialize)]
struct Empty {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::samples::request;

    const CHAT: Form = Form::Chat { needs_roles: false };

    fn form(path: &str, fields: &str) -> Form {
        Form::of(&request("POST", path, fields, "{}").head)
    }

    fn text(form: Form, seen: Option<&Seen>, started: bool) -> String {
        String::from_utf8(form.sign("a \"b\"", seen, started, 1_780_000_000, LineEnd::Lf).1).unwrap()
    }

    #[test]
    fn the_path_says_what_is_spoken() {
        assert_eq!(form("/v1/chat/completions?x", ""), CHAT);
        assert_eq!(form("/chat/completions/", ""), CHAT);
        assert_eq!(
            form("/v1/chat/completions", "User-Agent: langchainjs-openai/1.0.0 ((node/v24; linux; x64))\r\n"),
            Form::Chat { needs_roles: true }
        );
        assert_eq!(form("/v1/completions", ""), Form::Completions);
        assert_eq!(form("/v1/messages", ""), Form::Messages);
        assert_eq!(form("/v1/messages/batches", ""), Form::Other);
        assert_eq!(form("/v1/responses", ""), Form::Responses { counts_events: false });
        for fields in ["User-Agent: codex_cli_rs/0.42\r\n", "originator: Codex_vscode\r\n"] {
            assert_eq!(form("/v1/responses", fields), Form::Responses { counts_events: true });
        }
        assert_eq!(form("/v1/genai/x/y", ""), Form::Other);
    }

    #[test]
    fn each_form_gets_the_frame_that_was_measured() {
        let chat = r#"data: {"id":"","object":"chat.completion.chunk","created":1780000000,"model":"a \"b\"","choices":[{"index":0,"delta":{},"finish_reason":null}]}"#;
        assert_eq!(text(CHAT, None, false), format!("{chat}\n\n"));
        let completions = r#"data: {"id":"","object":"text_completion","created":1780000000,"model":"a \"b\"","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":null}]}"#;
        assert_eq!(text(Form::Completions, None, false), format!("{completions}\n\n"));
        let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
        assert_eq!(text(Form::Messages, None, true), ping);
        assert_eq!(text(Form::Responses { counts_events: true }, None, true), ping);
        assert_eq!(text(Form::Responses { counts_events: false }, None, true), ": keep-alive\n");
        assert_eq!(text(Form::Other, None, false), ": keep-alive\n");
        assert_eq!(text(Form::Chat { needs_roles: true }, None, false), ": keep-alive\n");
    }

    #[test]
    fn within_a_stream_a_chunk_has_the_streams_id_and_model_or_is_a_comment() {
        let seen = Seen { id: "chatcmpl-7".into(), model: Some("m".into()) };
        let chunk = text(CHAT, Some(&seen), true);
        assert!(chunk.contains(r#""id":"chatcmpl-7""#) && chunk.contains(r#""model":"m""#), "{chunk}");
        assert_eq!(text(CHAT, None, true), ": keep-alive\n");
    }
}
