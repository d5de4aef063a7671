//! The operator's pages: which path is one, what it answers, and who answers it.

use crate::clock::{Clock, Moment};
use crate::config::LiveConfig;
use crate::downstream::source::Port;
use crate::downstream::source::Source;
use crate::http::{Head, Request};
use crate::ops::admin::{self, Admission};
use crate::ops::admin_thread::AdminThread;
use crate::ops::dashboard::{self, CONTENT_SECURITY_POLICY};
use crate::ops::heartbeat;
use crate::ops::overview::Overview;
use crate::ops::page::{Page, method_not_allowed, only};
use crate::ops::page_request::PageRequest;
use crate::ops::readiness::Readiness;
use crate::telemetry::metrics::CONTENT_TYPE;
use std::sync::Arc;

/// What becomes of a request for a page.
pub enum Reply {
    /// It is answered by these bytes; whether the connection persists.
    Now(Vec<u8>, bool),
    /// Its connection is lent to the thread that answers it.
    Later,
    /// Its connection shows the dashboard's stream from now on, beginning with these bytes.
    Watch(Vec<u8>),
}

/// Which of the operator's pages a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Liveness.
    Health,
    /// Readiness.
    Ready,
    /// Prometheus' metrics.
    Metrics,
    /// `/status`.
    Status,
    /// The dashboard's stream of snapshots.
    Stream,
    /// The dashboard's last hour.
    History,
    /// The dashboard's page and what belongs to it.
    Asset,
    /// An agent's heartbeat.
    Heartbeat,
    /// What waits, and what only an operator may do.
    Admin,
    /// The metrics port has no such page.
    Unknown,
}

impl PageKind {
    /// The page at `path` of `port`; `None` where the path is not a page and its request is to be proxied.
    #[must_use]
    pub fn of(path: &str, port: Port) -> Option<PageKind> {
        Some(match path {
            "/health" => PageKind::Health,
            "/health/ready" => PageKind::Ready,
            "/metrics" => PageKind::Metrics,
            _ if port == Port::Metrics => PageKind::Unknown,
            "/status" => PageKind::Status,
            "/api/dashboard/stream" => PageKind::Stream,
            "/api/dashboard/history" => PageKind::History,
            "/api/dashboard" => PageKind::Asset,
            "/api/queue" => PageKind::Admin,
            path if path.starts_with("/api/dashboard/") => PageKind::Asset,
            path if path.starts_with("/api/agents/") => PageKind::Heartbeat,
            path if path.starts_with("/api/queue/") || path.starts_with("/api/admin/") => PageKind::Admin,
            _ => return None,
        })
    }
}

/// Answers the operator's pages. What an event loop answers itself never blocks.
pub struct Pages {
    /// The running configuration.
    pub live: Arc<LiveConfig>,
    /// What there is to see.
    pub overview: Arc<Overview>,
    /// Readiness and its probe.
    pub readiness: Arc<Readiness>,
    /// Where operators' changes are made.
    pub admin: AdminThread,
    /// The clock.
    pub clock: Clock,
}

/// The start of the dashboard's stream: it has no length and ends with the connection. The browser comes back three
/// seconds after it broke (HTML standard, server-sent events).
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
     x-accel-buffering: no\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\nretry: 3000\n\n";

impl Pages {
    /// The answer to a request for a page that came from `source`.
    #[must_use]
    pub fn reply(&self, kind: PageKind, request: Request, source: &Source<'_>, now: Moment) -> Reply {
        let head = &request.head;
        let reads = matches!(head.method(), "GET" | "HEAD");
        let page = match kind {
            PageKind::Health => only(reads, || self.overview.health(now)),
            PageKind::Metrics => only(reads, || self.metrics(now)),
            PageKind::Ready if reads => {
                return self.later(request, source, |request| self.readiness.ask(request));
            }
            PageKind::Stream if head.method() == "GET" => {
                if self.overview.may_watch() {
                    return Reply::Watch(STREAM_HEAD.into());
                }
                Page::refusal(503, "too many viewers")
            }
            PageKind::Ready | PageKind::Stream => method_not_allowed(),
            PageKind::Status => only(reads, || self.overview.status(now)),
            PageKind::History => only(reads, || self.overview.history()),
            PageKind::Asset => only(reads, || asset(head.path())),
            PageKind::Heartbeat => heartbeat::page(&request, self.overview.journal(), now),
            PageKind::Admin => match self.admission(&request, source) {
                Admission::Granted => {
                    return self.later(request, source, |request| self.admin.take(request));
                }
                Admission::Refused(page) => page,
            },
            PageKind::Unknown => Page::refusal(404, "this port serves /metrics and /health"),
        };
        let keep = request.head.keep_alive() && source.link.may_persist();
        Reply::Now(page.to_bytes(&request.head, keep, self.clock.wall()), keep)
    }

    fn later(&self, request: Request, source: &Source<'_>, to: impl FnOnce(PageRequest)) -> Reply {
        to(PageRequest::new(request, source, self.clock));
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

fn asset(path: &str) -> Page {
    match dashboard::asset(path) {
        Some(asset) => Page::new(200, asset.content_type, asset.body)
            .with("content-security-policy", CONTENT_SECURITY_POLICY)
            .with("x-content-type-options", "nosniff")
            .with("referrer-policy", "no-referrer"),
        None => Page::refusal(404, "the dashboard has no such file"),
    }
}
