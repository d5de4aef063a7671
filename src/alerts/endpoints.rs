//! What the bridge answers over HTTP: the webhook and the pages of its operator.

use std::sync::Arc;

use serde_json::json;

use super::alert::{Alert, Severity};
use super::card::{Card, Style};
use super::metrics::{BridgeMetrics, WebhookCall};
use super::outbox::Outbox;
use super::queue::Offer;
use super::webhook;
use crate::clock::Clock;
use crate::config::Secret;
use crate::downstream::access::same;
use crate::downstream::identity::bearer;
use crate::http::{Head, Request};

/// Answers requests. It never waits for a receiver.
pub(super) struct Endpoints {
    pub(super) outboxes: Vec<Arc<Outbox>>,
    pub(super) style: Style,
    pub(super) token: Option<Secret>,
    pub(super) metrics: Arc<BridgeMetrics>,
    pub(super) clock: Clock,
}

/// An answer, to be sent as it is.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) fields: &'static [(&'static str, &'static str)],
    pub(super) body: Vec<u8>,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

impl Endpoints {
    /// The answer to a request.
    pub(super) fn answer(&self, request: &Request) -> Answer {
        match (request.head.method(), request.head.path()) {
            ("POST", "/webhook") => self.webhook(request),
            ("GET" | "HEAD", "/health") => self.health(),
            ("GET" | "HEAD", "/metrics") => self.metrics(),
            (_, "/webhook") => refusal(405, &[("allow", "POST")], "the webhook takes POST"),
            (_, "/health" | "/metrics") => refusal(405, &[("allow", "GET, HEAD")], "this page takes GET"),
            _ => refusal(404, &[], "there are POST /webhook, GET /health and GET /metrics"),
        }
    }

    fn webhook(&self, request: &Request) -> Answer {
        // A web page that is open on this host can post here, too; its browser says so.
        if request.head.field("origin").is_some() {
            self.metrics.called(WebhookCall::Invalid);
            return refusal(403, &[], "the webhook is not for browsers");
        }
        if !self.admits(&request.head) {
            self.metrics.called(WebhookCall::Unauthorized);
            log::warn!("refused a webhook without the token of WEBHOOK_TOKEN");
            return refusal(
                401,
                &[("www-authenticate", "Bearer")],
                "the webhook takes the bearer token of WEBHOOK_TOKEN",
            );
        }
        let alerts = match webhook::read(&request.body) {
            Ok(alerts) => alerts,
            Err(error) => {
                self.metrics.called(WebhookCall::Invalid);
                log::warn!("refused a webhook: {error}");
                return refusal(400, &[], &error.to_string());
            }
        };
        let count = |wanted: Offer, offers: &[Offer]| offers.iter().filter(|offer| **offer == wanted).count();
        let offers: Vec<Offer> = alerts.iter().map(|alert| self.offer(alert)).collect();
        let full = count(Offer::Full, &offers);
        if full > 0 {
            self.metrics.called(WebhookCall::Full);
            log::error!("no room for {full} of {} alerts; Alertmanager will send them again", offers.len());
            return refusal(503, &[], "the queue is full; send it again");
        }
        self.metrics.called(WebhookCall::Accepted);
        let counts =
            json!({"queued": count(Offer::Queued, &offers), "duplicates": count(Offer::Duplicate, &offers)});
        Answer { status: 200, content_type: JSON, fields: &[], body: counts.to_string().into_bytes() }
    }

    fn admits(&self, head: &Head) -> bool {
        let Some(token) = &self.token else { return true };
        let given = head.field("authorization").and_then(bearer);
        given.is_some_and(|given| same(given, token).into())
    }

    /// Offers an alert to every way of its severity. One that has no room is offered it again with the whole webhook;
    /// to the others it is a duplicate then.
    fn offer(&self, alert: &Alert) -> Offer {
        let card = Arc::new(Card::new(alert, &self.style, self.clock.wall()));
        let offers: Vec<Offer> = self.ways(alert.severity).map(|outbox| outbox.offer(alert, &card)).collect();
        let first = [Offer::Full, Offer::Queued].into_iter().find(|offer| offers.contains(offer));
        let offer = first.unwrap_or(Offer::Duplicate);
        self.metrics.received(alert.severity, alert.state, offer);
        offer
    }

    /// The ways of a severity; the other severity's when it has none, so that no alert is lost.
    fn ways(&self, severity: Severity) -> impl Iterator<Item = &Arc<Outbox>> {
        let own = self.outboxes.iter().any(|outbox| outbox.label().severity == severity);
        self.outboxes.iter().filter(move |outbox| !own || outbox.label().severity == severity)
    }

    fn health(&self) -> Answer {
        let uptime = self.clock.now().as_secs_f64();
        let waiting: usize = self.outboxes.iter().map(|outbox| outbox.len()).sum();
        let version = env!("CARGO_PKG_VERSION");
        let health = json!({"status": "ok", "uptime": uptime, "version": version, "waiting": waiting});
        Answer { status: 200, content_type: JSON, fields: &[], body: health.to_string().into_bytes() }
    }

    fn metrics(&self) -> Answer {
        for outbox in &self.outboxes {
            outbox.measure();
        }
        match self.metrics.render() {
            Ok(body) => Answer { status: 200, content_type: prometheus::TEXT_FORMAT, fields: &[], body },
            Err(error) => refusal(500, &[], &error.to_string()),
        }
    }
}

fn refusal(status: u16, fields: &'static [(&'static str, &'static str)], message: &str) -> Answer {
    Answer { status, content_type: TEXT, fields, body: format!("{message}\n").into_bytes() }
}
