//! The sidecar's own errors, as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}`.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::anthropic;
use super::retry_after;
use super::write::local_answer;
use crate::outcome::Outcome;

/// One error answer.
#[derive(Clone, Copy, Debug)]
pub struct ErrorAnswer<'a> {
    /// What happened; its [`meaning`](Outcome::meaning) gives status, type and code.
    pub outcome: Outcome,
    /// For the person who reads the client's log: what is wrong and what to do about it.
    pub message: &'a str,
    /// The request's path, empty where none is known: on Anthropic's the error has Anthropic's form.
    pub path: &'a str,
    /// When to try again, told as [`retry_after::seconds`] says. Without it, outcomes that time can mend say 1 s.
    pub retry_after: Option<Duration>,
    /// Told as `X-Request-Id`.
    pub request_id: &'a str,
    /// Further fields, such as those of CORS.
    pub extra_fields: &'a [(&'a str, &'a str)],
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
    /// Whether the request's method was HEAD.
    pub head_only: bool,
}

impl ErrorAnswer<'_> {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.outcome.meaning() {
            meaning if meaning.error_type.is_some() => meaning.status,
            _ => Outcome::Internal.meaning().status,
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn to_bytes(&self, date: SystemTime) -> Vec<u8> {
        let seconds = self.retry_after_secs().map(|seconds| seconds.to_string());
        let mut fields = Vec::with_capacity(self.extra_fields.len() + 2);
        fields.push(("x-request-id", self.request_id));
        if let Some(seconds) = &seconds {
            fields.push(("retry-after", seconds.as_str()));
        }
        fields.extend_from_slice(self.extra_fields);
        local_answer(
            self.status(),
            "application/json",
            &fields,
            &self.body(),
            self.keep_alive,
            self.head_only,
            date,
        )
    }

    /// The content alone.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        if anthropic::is_spoken_on(self.path) {
            let error = anthropic::Envelope::new(self.status(), self.message, Some(self.request_id));
            return serde_json::to_vec(&error).unwrap_or_default();
        }
        let (meaning, fallback) = (self.outcome.meaning(), Outcome::Internal.meaning());
        let error = Error {
            message: self.message,
            error_type: meaning.error_type.or(fallback.error_type),
            param: None,
            code: meaning.code.or(fallback.code),
        };
        serde_json::to_vec(&Envelope { error }).unwrap_or_default()
    }

    fn retry_after_secs(&self) -> Option<u64> {
        let shortest = self.outcome.meaning().retry_after.then_some(Duration::ZERO);
        let wait = self.retry_after.or(shortest)?;
        Some(retry_after::seconds(wait))
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    error_type: Option<&'static str>,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(outcome: Outcome, retry_after: Option<Duration>) -> ErrorAnswer<'static> {
        ErrorAnswer {
            outcome,
            message: "say \"please\"",
            path: "/v1/chat/completions",
            retry_after,
            request_id: "r-1",
            extra_fields: &[("vary", "origin")],
            keep_alive: true,
            head_only: false,
        }
    }

    fn text(error: ErrorAnswer<'_>) -> String {
        String::from_utf8(error.to_bytes(SystemTime::UNIX_EPOCH)).expect("UTF-8")
    }

    #[test]
    fn an_error_has_the_form_that_openai_clients_expect() {
        let text = text(error(Outcome::Invalid(413), None));
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert_eq!(
            body,
            r#"{"error":{"message":"say \"please\"","type":"InvalidRequest","param":null,"code":"body_too_large"}}"#
        );
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        for field in
            ["x-request-id: r-1", "vary: origin", "content-type: application/json", "connection: keep-alive"]
        {
            assert!(head.lines().any(|line| line == field), "{field} in {head}");
        }
        assert!(!head.contains("retry-after"));
    }

    #[test]
    fn on_anthropics_path_it_has_the_form_that_its_clients_expect() {
        for (outcome, error_type) in [
            (Outcome::NoTicket, "rate_limit_error"),
            (Outcome::QueueFull, "overloaded_error"),
            (Outcome::UpstreamTimeout, "timeout_error"),
            (Outcome::UpstreamBroken, "api_error"),
            (Outcome::Invalid(400), "invalid_request_error"),
            (Outcome::Invalid(401), "authentication_error"),
            (Outcome::Removed, "permission_error"),
        ] {
            let body = ErrorAnswer { path: "/v1/messages", ..error(outcome, None) }.body();
            let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let expected = serde_json::json!({
                "type": "error",
                "error": { "type": error_type, "message": "say \"please\"" },
                "request_id": "r-1",
            });
            assert_eq!(json, expected, "{outcome:?}");
        }
    }

    #[test]
    fn the_time_to_wait_is_told_in_whole_seconds_and_is_never_zero() {
        let told = |outcome, wait| {
            let text = text(error(outcome, wait));
            text.lines().find_map(|line| line.strip_prefix("retry-after: ").map(str::to_owned))
        };
        assert_eq!(told(Outcome::NoTicket, Some(Duration::from_millis(1500))).as_deref(), Some("2"));
        assert_eq!(told(Outcome::NoTicket, Some(Duration::ZERO)).as_deref(), Some("1"));
        assert_eq!(told(Outcome::QueueFull, None).as_deref(), Some("1"));
        assert_eq!(told(Outcome::NoTicket, Some(Duration::MAX)).as_deref(), Some("60"));
        assert_eq!(told(Outcome::UpstreamBroken, None), None);
    }

    #[test]
    fn an_outcome_that_is_no_error_of_the_sidecars_is_told_as_its_bug() {
        for outcome in [Outcome::ClientGone, Outcome::Answered(200)] {
            assert_eq!(error(outcome, None).status(), 500);
            assert!(text(error(outcome, None)).contains("internal_error"));
        }
    }
}
