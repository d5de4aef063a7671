//! The operator's pages: which path is one, what it answers, and who answers it.

use crate::clock::{Clock, Moment};
use crate::config::LiveConfig;
use crate::front::identity;
use crate::front::intake::Source;
use crate::front::listen::Door;
use crate::http::write::local_answer;
use crate::http::{Head, Request};
use crate::ops::admin::{self, Admission};
use crate::ops::dashboard::{self, CONTENT_SECURITY_POLICY};
use crate::ops::desk::Desk;
use crate::ops::errand::Errand;
use crate::ops::heartbeat;
use crate::ops::metrics::CONTENT_TYPE;
use crate::ops::overview::Overview;
use crate::ops::readiness::Readiness;
use crate::outcome::Outcome;
use serde::Serialize;
use std::sync::Arc;
use std::time::SystemTime;

/// What a page answers.
#[derive(Debug)]
pub struct Page {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    fields: Vec<(&'static str, &'static str)>,
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
        Page { status, content_type, body: body.into(), fields: vec![("cache-control", "no-store")] }
    }

    /// With one field more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Page {
        self.fields.push((name, value));
        self
    }

    /// The whole answer to the request with this head.
    #[must_use]
    pub fn to_bytes(&self, head: &Head, keep_alive: bool, date: SystemTime) -> Vec<u8> {
        let request_id = identity::request_id(head);
        let fields: Vec<_> =
            [("x-request-id", request_id.as_str())].into_iter().chain(self.fields.iter().copied()).collect();
        let head_only = head.method() == "HEAD";
        local_answer(self.status, self.content_type, &fields, &self.body, keep_alive, head_only, date)
    }
}

/// What becomes of a request for a page.
pub enum Reply {
    /// It is answered by these bytes; whether the connection persists.
    Now(Vec<u8>, bool),
    /// Its connection is lent to whoever answers it.
    Later,
    /// Its connection shows the dashboard's stream from now on, beginning with these bytes.
    Watch(Vec<u8>),
    /// It is no page: it is to be proxied.
    Proxy(Request),
}

/// Answers the operator's pages. What an event loop answers itself never waits for anybody.
pub struct Pages {
    /// The running configuration.
    pub live: Arc<LiveConfig>,
    /// What there is to see.
    pub overview: Arc<Overview>,
    /// Readiness and its probe.
    pub readiness: Arc<Readiness>,
    /// Where operators' changes are made.
    pub desk: Desk,
    /// The clock.
    pub clock: Clock,
}

/// The start of the dashboard's stream: it has no length and ends with the connection. The browser comes back three
/// seconds after it broke (HTML standard, server-sent events).
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
     x-accel-buffering: no\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\nretry: 3000\n\n";

impl Pages {
    /// What becomes of a request that came from `source`.
    #[must_use]
    pub fn reply(&self, request: Request, source: &Source<'_>, now: Moment) -> Reply {
        let head = &request.head;
        let reads = matches!(head.method(), "GET" | "HEAD");
        let page = match head.path() {
            "/health" => only(reads, || self.overview.health(now)),
            "/metrics" => only(reads, || self.metrics(now)),
            "/health/ready" if reads => {
                return self.errand(request, source, |errand| self.readiness.ask(errand));
            }
            "/health/ready" => method_not_allowed(),
            _ if source.door == Door::Metrics => Page::refusal(404, "this port serves /metrics and /health"),
            "/status" => only(reads, || self.overview.status(now)),
            "/api/dashboard/stream" if head.method() == "GET" => {
                if self.overview.may_watch() {
                    return Reply::Watch(STREAM_HEAD.into());
                }
                Page::refusal(503, "too many viewers")
            }
            "/api/dashboard/history" => only(reads, || self.overview.history()),
            path if path == "/api/dashboard" || path.starts_with("/api/dashboard/") => {
                only(reads, || asset(path))
            }
            path if path.starts_with("/api/agents/") => {
                heartbeat::page(&request, self.overview.journal(), now)
            }
            path if path == "/api/queue"
                || path.starts_with("/api/queue/")
                || path.starts_with("/api/admin/") =>
            {
                match self.admission(&request, source) {
                    Admission::Granted => {
                        return self.errand(request, source, |errand| self.desk.take(errand));
                    }
                    Admission::Refused(page) => page,
                }
            }
            _ => return Reply::Proxy(request),
        };
        let keep = request.head.keep_alive() && source.link.may_persist();
        Reply::Now(page.to_bytes(&request.head, keep, self.clock.wall()), keep)
    }

    fn errand(&self, request: Request, source: &Source<'_>, to: impl FnOnce(Errand)) -> Reply {
        to(Errand::new(request, source, self.clock));
        Reply::Later
    }

    /// What waits may be read like the rest of the status; changes are for those who may make them.
    fn admission(&self, request: &Request, source: &Source<'_>) -> Admission {
        let head: &Head = &request.head;
        if head.path() == "/api/queue" && matches!(head.method(), "GET" | "HEAD") {
            return Admission::Granted;
        }
        admin::admit(head, source.peer, self.live.snapshot().admin_token.as_ref())
    }

    fn metrics(&self, now: Moment) -> Page {
        match self.overview.metrics(now) {
            Ok(text) => Page::new(200, CONTENT_TYPE, text),
            Err(error) => {
                log::error!("the metrics cannot be written: {error}");
                Page::refusal(500, "the metrics cannot be written")
            }
        }
    }
}

fn only(allowed: bool, page: impl FnOnce() -> Page) -> Page {
    if allowed { page() } else { method_not_allowed() }
}

/// The answer to a method that a page does not have.
#[must_use]
pub fn method_not_allowed() -> Page {
    Page::refusal(405, "this page does not have this method")
}

fn asset(path: &str) -> Page {
    match dashboard::asset(path) {
        Some(asset) => Page::new(200, asset.content_type, asset.body)
            .with("content-security-policy", CONTENT_SECURITY_POLICY)
            .with("x-content-type-options", "nosniff")
            .with("referrer-policy", "no-referrer"),
        None => Page::refusal(404, "the dashboard has no such file"),
    }
}
