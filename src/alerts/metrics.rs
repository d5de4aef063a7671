//! The bridge's metrics, in a registry of their own.

use prometheus::{Encoder, Error, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::alert::{AlertState, Severity};
use super::queue::{GivenUp, Offer};
use crate::alerts::answer::SendOutcome;

/// Handles of all metrics. Labels take their values from closed sets only.
pub(super) struct BridgeMetrics {
    registry: Registry,
    webhooks: IntCounterVec,
    alerts: IntCounterVec,
    deliveries: IntCounterVec,
    dropped: IntCounterVec,
    waiting: IntGaugeVec,
    capacity: IntGaugeVec,
    oldest: GaugeVec,
    failing: IntGaugeVec,
}

/// How a webhook call was answered.
#[derive(Clone, Copy)]
pub(super) enum WebhookCall {
    /// Everything in it is queued, or was.
    Accepted,
    /// It cannot be read.
    Invalid,
    /// It came without the token.
    Unauthorized,
    /// There was no room for all of it.
    Full,
}

const CALLS: [WebhookCall; 4] =
    [WebhookCall::Accepted, WebhookCall::Invalid, WebhookCall::Unauthorized, WebhookCall::Full];

impl WebhookCall {
    const fn as_str(self) -> &'static str {
        match self {
            WebhookCall::Accepted => "accepted",
            WebhookCall::Invalid => "invalid",
            WebhookCall::Unauthorized => "unauthorized",
            WebhookCall::Full => "full",
        }
    }
}

/// Where a message goes, as labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteLabel {
    pub(super) severity: Severity,
    pub(super) way: &'static str,
}

impl RouteLabel {
    fn values(self) -> [&'static str; 2] {
        [self.severity.as_str(), self.way]
    }
}

const ROUTE: [&str; 2] = ["severity", "way"];
const OFFERS: [Offer; 3] = [Offer::Queued, Offer::Duplicate, Offer::Full];

impl BridgeMetrics {
    /// Makes all metrics, with every series that the routes can have, so that `rate()` sees the first event.
    pub(super) fn new(routes: &[RouteLabel]) -> Result<BridgeMetrics, Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, Error>(family)
        };
        let gauges = |name: &str, help: &str| {
            let family = IntGaugeVec::new(Opts::new(name, help), &ROUTE)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, Error>(family)
        };
        let oldest = GaugeVec::new(
            Opts::new(
                "alert_bridge_oldest_message_seconds",
                "How long the first message of the queue has waited.",
            ),
            &ROUTE,
        )?;
        registry.register(Box::new(oldest.clone()))?;
        let build = IntGaugeVec::new(
            Opts::new("alert_bridge_build_info", "Always 1; the label says which version runs."),
            &["version"],
        )?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = BridgeMetrics {
            webhooks: counters(
                "alert_bridge_webhooks_total",
                "Calls of the webhook by how they were answered.",
                &["result"],
            )?,
            alerts: counters(
                "alert_bridge_alerts_total",
                "Alerts in webhook calls by what became of them.",
                &["severity", "state", "result"],
            )?,
            deliveries: counters(
                "alert_bridge_deliveries_total",
                "Attempts to send a message by how they ended.",
                &["severity", "way", "result"],
            )?,
            dropped: counters(
                "alert_bridge_dropped_total",
                "Messages that were given up.",
                &["severity", "way", "reason"],
            )?,
            waiting: gauges("alert_bridge_queue_depth", "Messages that wait to be sent.")?,
            capacity: gauges("alert_bridge_queue_capacity", "Bound on the messages that wait to be sent.")?,
            failing: gauges("alert_bridge_failing", "1 when the last attempt to send failed, 0 when not.")?,
            oldest,
            registry,
        };
        metrics.begin(routes);
        Ok(metrics)
    }

    fn begin(&self, routes: &[RouteLabel]) {
        for call in CALLS {
            self.webhooks.with_label_values(&[call.as_str()]);
        }
        for severity in Severity::ALL {
            for state in [AlertState::Firing, AlertState::Resolved] {
                for offer in OFFERS {
                    self.alerts.with_label_values(&[severity.as_str(), state.as_str(), offered(offer)]);
                }
            }
        }
        for [severity, way] in routes.iter().map(|route| route.values()) {
            for result in ["delivered", "rate_limited", "failed", "refused"] {
                self.deliveries.with_label_values(&[severity, way, result]);
            }
            for reason in [GivenUp::Refused, GivenUp::Expired] {
                self.dropped.with_label_values(&[severity, way, given_up(reason)]);
            }
            self.failing.with_label_values(&[severity, way]);
        }
    }

    pub(super) fn called(&self, call: WebhookCall) {
        self.webhooks.with_label_values(&[call.as_str()]).inc();
    }

    pub(super) fn received(&self, severity: Severity, state: AlertState, offer: Offer) {
        self.alerts.with_label_values(&[severity.as_str(), state.as_str(), offered(offer)]).inc();
    }

    pub(super) fn attempted(&self, route: RouteLabel, verdict: &SendOutcome) {
        let [severity, way] = route.values();
        self.deliveries.with_label_values(&[severity, way, verdict.as_str()]).inc();
        self.failing.with_label_values(&[severity, way]).set(i64::from(*verdict != SendOutcome::Delivered));
    }

    pub(super) fn dropped(&self, route: RouteLabel, reason: GivenUp) {
        let [severity, way] = route.values();
        self.dropped.with_label_values(&[severity, way, given_up(reason)]).inc();
    }

    /// Sets a queue's gauges, when they are scraped.
    pub(super) fn queue(&self, route: RouteLabel, depth: usize, capacity: usize, oldest_secs: f64) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.waiting.with_label_values(&route.values()).set(count(depth));
        self.capacity.with_label_values(&route.values()).set(count(capacity));
        self.oldest.with_label_values(&route.values()).set(oldest_secs);
    }

    /// The text that Prometheus scrapes.
    pub(super) fn render(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

const fn offered(offer: Offer) -> &'static str {
    match offer {
        Offer::Queued => "queued",
        Offer::Duplicate => "duplicate",
        Offer::Full => "full",
    }
}

const fn given_up(reason: GivenUp) -> &'static str {
    match reason {
        GivenUp::Refused => "refused",
        GivenUp::Expired => "expired",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start_and_names_follow_the_rule() {
        let route = RouteLabel { severity: Severity::Critical, way: "feishu" };
        let metrics = BridgeMetrics::new(&[route]).expect("metrics");
        metrics.queue(route, 0, 500, 0.0);
        let text = String::from_utf8(metrics.render().expect("rendered")).expect("text");
        for series in [
            "alert_bridge_webhooks_total{result=\"full\"} 0",
            "alert_bridge_alerts_total{result=\"queued\",severity=\"warning\",state=\"resolved\"} 0",
            "alert_bridge_deliveries_total{result=\"rate_limited\",severity=\"critical\",way=\"feishu\"} 0",
            "alert_bridge_dropped_total{reason=\"expired\",severity=\"critical\",way=\"feishu\"} 0",
            "alert_bridge_queue_depth{severity=\"critical\",way=\"feishu\"} 0",
            "alert_bridge_queue_capacity{severity=\"critical\",way=\"feishu\"} 500",
            "alert_bridge_failing{severity=\"critical\",way=\"feishu\"} 0",
        ] {
            assert!(text.lines().any(|line| line == series), "{series} is missing in\n{text}");
        }
        for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
            let words: Vec<_> = line.split(' ').collect();
            assert!(words[2].starts_with("alert_bridge_"), "{line}");
            assert_eq!(words[2].ends_with("_total"), words[3] == "counter", "{line}");
        }
    }
}
