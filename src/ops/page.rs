//! One page's answer.

use crate::downstream::identity;
use crate::http::Head;
use crate::http::retry_after;
use crate::http::write::local_answer;
use crate::outcome::Outcome;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a page answers.
#[derive(Debug)]
pub struct Page {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    fields: Vec<(&'static str, &'static str)>,
    retry_after: Option<u64>,
}

impl Page {
    /// A page of JSON.
    #[must_use]
    pub fn json(status: u16, value: &impl Serialize) -> Page {
        Page::new(status, "application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    /// A refusal in OpenAI's form.
    #[must_use]
    pub fn refusal(status: u16, message: &str) -> Page {
        let meaning = Outcome::Invalid(status).meaning();
        let error = serde_json::json!({"message": message, "type": meaning.error_type, "param": null, "code": meaning.code});
        Page::json(status, &serde_json::json!({ "error": error }))
    }

    /// A page of any type.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Page {
        Page {
            status,
            content_type,
            body: body.into(),
            fields: vec![("cache-control", "no-store")],
            retry_after: None,
        }
    }

    /// With one field more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Page {
        self.fields.push((name, value));
        self
    }

    /// With the time to wait before it is asked for again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Page {
        self.retry_after = Some(retry_after::seconds(wait));
        self
    }

    /// The whole answer to the request with this head.
    #[must_use]
    pub fn to_bytes(&self, head: &Head, keep_alive: bool, date: SystemTime) -> Vec<u8> {
        let request_id = identity::request_id(head);
        let retry_after = self.retry_after.map(|seconds| seconds.to_string());
        let fields: Vec<_> = [("x-request-id", request_id.as_str())]
            .into_iter()
            .chain(retry_after.as_deref().map(|seconds| ("retry-after", seconds)))
            .chain(self.fields.iter().copied())
            .collect();
        let head_only = head.method() == "HEAD";
        local_answer(self.status, self.content_type, &fields, &self.body, keep_alive, head_only, date)
    }
}

/// `page`, where the method is one that it has.
pub fn only<P: Into<Arc<Page>>>(allowed: bool, page: impl FnOnce() -> P) -> Arc<Page> {
    if allowed { page().into() } else { method_not_allowed().into() }
}

/// The answer to a method that a page does not have.
#[must_use]
pub fn method_not_allowed() -> Page {
    Page::refusal(405, "this page does not have this method")
}
