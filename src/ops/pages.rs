//! The operator's pages on the sidecar's own ports: which path is one, and what it answers.

use crate::clock::{Clock, Moment};
use crate::config::LiveConfig;
use crate::front::event_loop::OpenConnections;
use crate::front::intake::Source;
use crate::front::listen::Door;
use crate::http::Request;
use crate::http::write::local_answer;
use crate::limiter::board::Board;
use crate::ops::journal::Journal;
use crate::ops::status::Status;
use serde::Serialize;
use std::sync::Arc;

/// Answers the operator's pages. No page blocks: each reads what others have published.
pub struct Pages {
    /// The running configuration.
    pub live: Arc<LiveConfig>,
    /// The limiter's state.
    pub board: Arc<Board>,
    /// The books.
    pub journal: Arc<Journal>,
    /// The client connections.
    pub open: OpenConnections,
    /// The clock.
    pub clock: Clock,
}

struct Page {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    uptime: f64,
    version: &'static str,
}

impl Pages {
    /// The answer to a request for a page; `None` when the request is to be proxied.
    #[must_use]
    pub fn answer(&self, request: &Request, source: &Source<'_>, now: Moment) -> Option<Vec<u8>> {
        let head = &request.head;
        let page = match (head.method(), head.path()) {
            ("GET" | "HEAD", "/health") => json(200, &self.health(now)),
            ("GET" | "HEAD", "/status") if source.door == Door::Api => json(200, &self.status(now)),
            _ if source.door == Door::Metrics => not_found(),
            _ => return None,
        };
        let keep = head.keep_alive() && source.link.may_persist();
        let fields = [("cache-control", "no-store")];
        let head_only = head.method() == "HEAD";
        Some(local_answer(
            page.status,
            page.content_type,
            &fields,
            &page.body,
            keep,
            head_only,
            self.clock.wall(),
        ))
    }

    fn health(&self, now: Moment) -> Health {
        let uptime = now.since(Moment::ZERO).as_secs_f64();
        Health { status: "ok", uptime, version: env!("CARGO_PKG_VERSION") }
    }

    fn status(&self, now: Moment) -> Status {
        Status::new(&self.board.read(), &self.journal, now, now.since(Moment::ZERO))
    }
}

fn json(status: u16, value: &impl Serialize) -> Page {
    Page { status, content_type: "application/json", body: serde_json::to_vec(value).unwrap_or_default() }
}

fn not_found() -> Page {
    json(
        404,
        &serde_json::json!({"error": {"message": "this port serves /metrics and /health", "type": "InvalidRequest", "code": "not_found"}}),
    )
}
