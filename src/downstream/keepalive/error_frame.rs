//! The frame that ends an early 200 whose request came to nothing: the error that a status would have told.

use super::form::Form;
use crate::http::anthropic;
use crate::outcome::Outcome;
use serde::Serialize;
use serde_json::Value;

/// The longest message that is repeated, in bytes.
const MAX_MESSAGE: usize = 2048;

/// What an error frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFrame {
    /// For the person who reads the client's log.
    pub message: String,
    /// `error.type` in OpenAI's form.
    pub error_type: String,
    /// `error.param` in OpenAI's form.
    pub param: Option<String>,
    /// `error.code` in OpenAI's form.
    pub code: Option<String>,
    /// The HTTP status that the client would have got.
    pub status: u16,
}

#[derive(Serialize)]
struct OpenAi<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    error_type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
    status: u16,
}

#[derive(Serialize)]
struct Envelope<T> {
    error: T,
}

#[derive(Serialize)]
struct Responses<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: Option<&'a str>,
    message: &'a str,
    param: Option<&'a str>,
    sequence_number: u64,
    /// The SDKs raise for this one alone.
    error: OpenAi<'a>,
}

impl ErrorFrame {
    /// An error of the sidecar's own.
    #[must_use]
    pub fn own(outcome: Outcome, message: &str) -> ErrorFrame {
        let (meaning, fallback) = (outcome.meaning(), Outcome::Internal.meaning());
        ErrorFrame {
            message: message.to_owned(),
            error_type: meaning.error_type.or(fallback.error_type).unwrap_or_default().to_owned(),
            param: None,
            code: meaning.code.or(fallback.code).map(str::to_owned),
            status: if meaning.error_type.is_some() { meaning.status } else { fallback.status },
        }
    }

    /// Adds when to try again, in words: no field can say so any more.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: Option<u64>) -> ErrorFrame {
        if let Some(seconds) = seconds {
            self.message = format!("{}; try again in {seconds} s", self.message.trim_end_matches('.'));
        }
        self
    }

    /// The frame for a stream of this form.
    ///
    /// `data: {"error": …}` raises in every client that was tried, when the end without a last chunk follows. Anthropic's
    /// and the responses endpoint's clients know an `error` event.
    #[must_use]
    pub fn to_event(&self, form: Form) -> Vec<u8> {
        let (event, json) = match form {
            Form::Messages => ("event: error\n", self.anthropic()),
            Form::Responses { .. } => (
                "event: error\n",
                text(&Responses {
                    kind: "error",
                    code: self.code.as_deref(),
                    message: &self.message,
                    param: self.param.as_deref(),
                    sequence_number: 0,
                    error: self.body(),
                }),
            ),
            Form::Chat { .. } | Form::Completions | Form::Other => ("", self.open_ai()),
        };
        format!("{event}data: {json}\n\n").into_bytes()
    }

    /// The JSON text for an answer that is not a stream.
    #[must_use]
    pub fn to_json(&self, form: Form) -> Vec<u8> {
        match form {
            Form::Messages => self.anthropic(),
            _ => self.open_ai(),
        }
        .into_bytes()
    }

    fn open_ai(&self) -> String {
        text(&Envelope { error: self.body() })
    }

    fn body(&self) -> OpenAi<'_> {
        OpenAi {
            message: &self.message,
            error_type: &self.error_type,
            param: self.param.as_deref(),
            code: self.code.as_deref(),
            status: self.status,
        }
    }

    fn anthropic(&self) -> String {
        text(&anthropic::Envelope::new(self.status, &self.message, None))
    }
}

fn text(json: &impl Serialize) -> String {
    serde_json::to_string(json).unwrap_or_default()
}

/// The error in an upstream's answer that is not a stream, read from as much of its content as is there. Its own words are
/// kept; where it has none, or where its status would pass for success, the frame says what came.
#[must_use]
pub fn upstream_error(status: u16, content_type: Option<&str>, content: &[u8]) -> ErrorFrame {
    if status < 400 {
        let content_type = content_type.unwrap_or("no content type");
        return ErrorFrame {
            message: format!("the upstream answered {status} ({content_type}) where a stream was asked for"),
            error_type: "UpstreamError".into(),
            param: None,
            code: Some("upstream_error".into()),
            status: 502,
        };
    }
    let json: Value = serde_json::from_slice(content).unwrap_or_default();
    let error = if json["error"].is_object() { &json["error"] } else { &json };
    let word = |name: &str| match &error[name] {
        Value::String(text) if !text.is_empty() => Some(cut(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let message = ["message", "detail", "error", "title"].into_iter().find_map(word);
    let message = message
        .unwrap_or_else(|| plain(content).unwrap_or_else(|| format!("the upstream answered {status}")));
    ErrorFrame {
        message,
        error_type: word("type").unwrap_or_else(|| "UpstreamError".into()),
        param: word("param"),
        code: word("code").or_else(|| (status == 429).then(|| "rate_limit_exceeded".into())),
        status,
    }
}

/// Content that is a short text without markup.
fn plain(content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content).ok()?.trim();
    let is_text =
        !text.is_empty() && !text.starts_with(['<', '{', '[']) && !text.chars().any(char::is_control);
    is_text.then(|| cut(text))
}

fn cut(text: &str) -> String {
    crate::downstream::identity::cut(text.to_owned(), MAX_MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(error: &ErrorFrame, form: Form) -> String {
        String::from_utf8(error.to_event(form)).unwrap()
    }

    fn refused() -> ErrorFrame {
        upstream_error(429, None, br#"{"status":429,"title":"Too Many Requests"}"#)
    }

    #[test]
    fn each_form_has_its_own_error_frame() {
        let error = refused().with_retry_after(Some(12));
        assert_eq!(
            event(&error, Form::Chat { needs_roles: false }),
            "data: {\"error\":{\"message\":\"Too Many Requests; try again in 12 s\",\"type\":\"UpstreamError\",\"param\":null,\"code\":\"rate_limit_exceeded\",\"status\":429}}\n\n"
        );
        assert_eq!(
            event(&error, Form::Messages),
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Too Many Requests; try again in 12 s\"}}\n\n"
        );
        assert_eq!(
            event(&error, Form::Responses { counts_events: false }),
            "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"Too Many Requests; try again in 12 s\",\"param\":null,\"sequence_number\":0,\"error\":{\"message\":\"Too Many Requests; try again in 12 s\",\"type\":\"UpstreamError\",\"param\":null,\"code\":\"rate_limit_exceeded\",\"status\":429}}\n\n"
        );
    }

    #[test]
    fn the_upstreams_own_words_are_kept_wherever_it_puts_them() {
        let message = |content: &[u8]| upstream_error(400, None, content).message;
        assert_eq!(
            message(br#"{"error":{"message":"max_tokens too large","type":"t","code":7}}"#),
            "max_tokens too large"
        );
        assert_eq!(message(br#"{"detail":"no such model"}"#), "no such model");
        assert_eq!(message(br#"{"error":"bad"}"#), "bad");
        assert_eq!(message(b"upstream connect error\n"), "upstream connect error");
        for nothing in [&b""[..], b"<html>", b"{}", b"[1]", b"\xff\x00", br#"{"error":{"message":7.5}"#] {
            assert_eq!(message(nothing), "the upstream answered 400");
        }
        let error =
            upstream_error(401, None, br#"{"error":{"message":"m","type":"t","param":"p","code":"c"}}"#);
        assert_eq!(
            (&*error.error_type, error.param.as_deref(), error.code.as_deref()),
            ("t", Some("p"), Some("c"))
        );
        assert!(upstream_error(500, None, "é".repeat(5000).as_bytes()).message.len() <= MAX_MESSAGE);
    }

    #[test]
    fn what_would_pass_for_success_is_told_as_an_error() {
        for status in [200, 202, 204, 302] {
            let error = upstream_error(status, Some("application/json"), b"{}");
            assert_eq!(error.status, 502);
            assert!(
                error.message.contains(&status.to_string()) && error.message.contains("application/json")
            );
        }
    }
}
