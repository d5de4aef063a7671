//! The operator's pages: which path is one, what it answers, and who answers it.

use crate::clock::{Clock, Moment};
use crate::config::LiveConfig;
use crate::downstream::source::Port;
use crate::downstream::source::Source;
use crate::http::{Head, Request};
use crate::ops::admin_thread::AdminThread;
use crate::ops::admission::Admission;
use crate::ops::assets::{self, CONTENT_SECURITY_POLICY};
use crate::ops::heartbeat;
use crate::ops::listing::Listing;
use crate::ops::overview::Overview;
use crate::ops::page::{Page, method_not_allowed, only};
use crate::ops::page_request::PageRequest;
use crate::ops::paths::PageKind;
use crate::ops::readiness::Readiness;
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

/// Answers the operator's pages. What an event loop answers itself never blocks.
pub struct Pages {
    /// The running configuration.
    pub live: Arc<LiveConfig>,
    /// What there is to see.
    pub overview: Arc<Overview>,
    /// Readiness and its probe.
    pub readiness: Arc<Readiness>,
    /// What waits.
    pub listing: Listing,
    /// Where operators' changes are made.
    pub admin: AdminThread,
    /// Who may see and change what.
    pub admission: Admission,
    /// The clock.
    pub clock: Clock,
}

/// The start of the dashboard's stream: it has no length and ends with the connection. The browser comes back three
/// seconds after it broke (HTML standard, server-sent events).
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
     x-accel-buffering: no\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\nretry: 3000\n\n";

impl Pages {
    /// Lets a request for a page in; judged on its head.
    ///
    /// # Errors
    /// The whole answer that refuses it. `keep_alive`: whether its connection persists after that.
    pub fn admit(
        &self,
        kind: PageKind,
        head: &Head,
        source: &Source<'_>,
        keep_alive: bool,
        now: Moment,
    ) -> Result<(), Vec<u8>> {
        let from = (source.peer, source.port);
        self.admission
            .admit(kind, head, from, &self.live.snapshot(), now)
            .map_err(|page| page.to_bytes(head, keep_alive, self.clock.wall()))
    }

    /// The answer to a request for a page that came from `source` and was let in.
    #[must_use]
    pub fn reply(&self, kind: PageKind, request: Request, source: &Source<'_>, now: Moment) -> Reply {
        let head = &request.head;
        let reads = matches!(head.method(), "GET" | "HEAD");
        let page: Arc<Page> = match kind {
            PageKind::Health => only(reads, || self.overview.health(now)),
            PageKind::Metrics => only(reads, || self.overview.metrics(now)),
            PageKind::Ready if reads => {
                return self.later(request, source, |request| self.readiness.ask(request));
            }
            PageKind::Stream if head.method() == "GET" => {
                if self.overview.may_watch() {
                    return Reply::Watch(STREAM_HEAD.into());
                }
                Page::refusal(503, "too many viewers").into()
            }
            PageKind::Ready | PageKind::Stream => method_not_allowed().into(),
            PageKind::Status => only(reads, || self.overview.status(now)),
            PageKind::History => only(reads, || self.overview.history()),
            PageKind::Asset => only(reads, || asset(head.path())),
            PageKind::Heartbeat => heartbeat::page(&request, &self.overview.sources().journal, now).into(),
            PageKind::Queue => return self.later(request, source, |request| self.listing.ask(request)),
            PageKind::Admin => {
                return self.later(request, source, |request| self.admin.take(request));
            }
            PageKind::Root => Page::new(302, "text/plain", "").with("location", "/api/dashboard").into(),
            PageKind::Unknown if source.port == Port::Metrics => {
                Page::refusal(404, "this port serves /metrics and /health").into()
            }
            PageKind::Unknown => Page::refusal(404, "there is no such page; the API is under /v1").into(),
        };
        let keep = request.head.keep_alive() && source.link.may_persist();
        Reply::Now(page.to_bytes(&request.head, keep, self.clock.wall()), keep)
    }

    fn later(&self, request: Request, source: &Source<'_>, to: impl FnOnce(PageRequest)) -> Reply {
        to(PageRequest::new(request, source, self.clock));
        Reply::Later
    }
}

fn asset(path: &str) -> Page {
    match assets::asset(path) {
        Some(asset) => Page::new(200, asset.content_type, asset.body)
            .with("content-security-policy", CONTENT_SECURITY_POLICY)
            .with("x-content-type-options", "nosniff")
            .with("referrer-policy", "no-referrer"),
        None => Page::refusal(404, "the dashboard has no such file"),
    }
}
