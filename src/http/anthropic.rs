//! Errors in the form that Anthropic's clients expect: `{"type": "error", "error": {"type", "message"}, "request_id"}`
//! (<https://docs.anthropic.com/en/api/errors>).

use super::path;
use serde::Serialize;

/// Whether clients of this path expect Anthropic's form.
#[must_use]
pub fn is_spoken_on(path: &str) -> bool {
    path::segments(path).into_iter().find(|segment| segment != "v1").is_some_and(|first| first == "messages")
}

/// What Anthropic calls an error with this status.
#[must_use]
pub const fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// A whole error.
#[derive(Debug, Serialize)]
pub struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Error<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Error<'a> {
    #[serde(rename = "type")]
    error_type: &'static str,
    message: &'a str,
}

impl<'a> Envelope<'a> {
    /// The error that this status and message mean.
    #[must_use]
    pub fn new(status: u16, message: &'a str, request_id: Option<&'a str>) -> Envelope<'a> {
        Envelope { kind: "error", error: Error { error_type: error_type(status), message }, request_id }
    }
}
