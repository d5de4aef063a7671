//! Reads what Alertmanager posts to a webhook, version 4 of its payload.
//!
//! Source: <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::alert::{Alert, AlertState, Severity};
use super::text::clean;

/// The one version of the payload that there is.
const VERSION: &str = "4";
/// Alertmanager's fingerprints are 16 hexadecimal digits; a longer one is replaced by its hash.
const MAX_FINGERPRINT: usize = 64;
/// How much of a payload its refusal repeats: serde's messages hold the value that they are about, whatever its length.
const MAX_REASON_BYTES: usize = 300;

/// Why a payload cannot be read; the sender's fault, so it displays to the sender.
#[derive(Debug)]
pub enum Unreadable {
    /// It is not JSON, or not of the documented shape.
    Json(serde_json::Error),
    /// It has another version than 4, or none.
    Version(Option<Value>),
    /// An alert is neither firing nor resolved.
    State(String),
}

impl Unreadable {
    fn reason(&self) -> String {
        match self {
            Unreadable::Json(error) => format!("not a webhook payload of Alertmanager: {error}"),
            Unreadable::Version(None) => {
                format!(
                    "the payload has no version; the bridge reads version \"{VERSION}\" of Alertmanager's"
                )
            }
            Unreadable::Version(Some(version)) => {
                format!("unknown payload version {version}; the bridge reads version \"{VERSION}\"")
            }
            Unreadable::State(state) => {
                format!("unknown alert status {state:?}; it is either \"firing\" or \"resolved\"")
            }
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clean(&self.reason(), MAX_REASON_BYTES))
    }
}

impl Error for Unreadable {}

#[derive(Deserialize)]
struct Envelope {
    version: Option<Value>,
}

#[derive(Deserialize)]
struct Payload {
    alerts: Vec<RawAlert>,
}

/// Go writes an empty map as `null`, hence the options.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAlert {
    status: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    fingerprint: Option<String>,
}

/// The alerts of a posted body, in its order.
///
/// # Errors
///
/// When the body is not a payload of version 4. An alert's times may be missing or odd: they are shown, not used.
pub fn read(body: &[u8]) -> Result<Vec<Alert>, Unreadable> {
    // The version first: the shape of another one would fail for reasons that mislead.
    let envelope: Envelope = serde_json::from_slice(body).map_err(Unreadable::Json)?;
    if envelope.version.as_ref().and_then(Value::as_str) != Some(VERSION) {
        return Err(Unreadable::Version(envelope.version));
    }
    let payload: Payload = serde_json::from_slice(body).map_err(Unreadable::Json)?;
    payload.alerts.into_iter().map(RawAlert::understood).collect()
}

impl RawAlert {
    fn understood(self) -> Result<Alert, Unreadable> {
        let state = match self.status.as_str() {
            "firing" => AlertState::Firing,
            "resolved" => AlertState::Resolved,
            _ => return Err(Unreadable::State(self.status)),
        };
        let labels = self.labels.unwrap_or_default();
        Ok(Alert {
            fingerprint: fingerprint(self.fingerprint, &labels),
            state,
            severity: Severity::of(labels.get("severity").map(String::as_str)),
            labels,
            annotations: self.annotations.unwrap_or_default(),
            starts_at: time(self.starts_at.as_deref()),
            ends_at: time(self.ends_at.as_deref()),
        })
    }
}

/// The fingerprint that was sent; else, as Alertmanager's own is, one of the labels.
fn fingerprint(sent: Option<String>, labels: &BTreeMap<String, String>) -> String {
    match sent {
        Some(sent) if (1..=MAX_FINGERPRINT).contains(&sent.len()) => sent,
        Some(sent) if !sent.is_empty() => hash(sent.as_bytes()),
        _ => hash(&serde_json::to_vec(labels).unwrap_or_default()),
    }
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Go's zero time, the year 1, says that there is none.
fn time(text: Option<&str>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text?, &Rfc3339).ok().filter(|time| time.year() > 1)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A payload as Alertmanager 0.25 posts it.
    pub(crate) fn payload(alerts: &[Value]) -> Value {
        json!({
            "receiver": "critical", "status": "firing", "alerts": alerts,
            "groupLabels": {"alertname": "SidecarUpstreamDown"}, "commonLabels": {}, "commonAnnotations": {},
            "externalURL": "http://alertmanager:9093", "version": "4", "truncatedAlerts": 0,
            "groupKey": "{}/{severity=\"critical\"}:{alertname=\"SidecarUpstreamDown\"}",
        })
    }

    pub(crate) fn alert(fingerprint: &str, status: &str, severity: &str) -> Value {
        json!({
            "status": status,
            "labels": {"alertname": "SidecarUpstreamDown", "instance": "sidecar:9191", "severity": severity},
            "annotations": {
                "summary": "The NVIDIA API does not answer",
                "description": "sidecar:9191 has not reached its upstream for a minute.",
                "runbook_url": "https://wiki.example.org/OPERATIONS.md#sidecarupstreamdown",
            },
            "startsAt": "2026-02-06T21:08:45.828+08:00",
            "endsAt": if status == "firing" { "0001-01-01T00:00:00Z" } else { "2026-02-06T13:12:55Z" },
            "generatorURL": "http://prometheus:9090/graph", "fingerprint": fingerprint,
        })
    }

    fn read_value(value: &Value) -> Result<Vec<Alert>, Unreadable> {
        read(value.to_string().as_bytes())
    }

    #[test]
    fn an_alertmanagers_payload_becomes_its_alerts() {
        let value =
            payload(&[alert("1a30ba71cca2921f", "firing", "critical"), alert("b", "resolved", "info")]);
        let alerts = read_value(&value).expect("a payload");
        assert_eq!(alerts.len(), 2);
        let [first, second] = &alerts[..] else { panic!("two") };
        assert_eq!((first.state, first.severity), (AlertState::Firing, Severity::Critical));
        assert_eq!((second.state, second.severity), (AlertState::Resolved, Severity::Warning));
        assert_eq!(first.fingerprint, "1a30ba71cca2921f");
        assert_eq!(first.name(), "SidecarUpstreamDown");
        assert_eq!(first.annotation("summary"), Some("The NVIDIA API does not answer"));
        assert_eq!(first.starts_at.map(OffsetDateTime::unix_timestamp), Some(1_770_383_325));
        assert_eq!(first.ends_at, None, "Go's zero time is none");
        assert!(second.ends_at.is_some());
    }

    #[test]
    fn maps_that_are_null_and_times_that_are_odd_do_no_harm() {
        let value = payload(&[json!({"status": "firing", "labels": null, "startsAt": "yesterday"})]);
        let alerts = read_value(&value).expect("a payload");
        assert_eq!((alerts[0].name(), alerts[0].starts_at), ("alert", None));
        assert_eq!(alerts[0].severity, Severity::Warning);
    }

    #[test]
    fn an_alert_without_a_fingerprint_is_told_by_its_labels() {
        let print = |name: &str, fingerprint: &str| {
            let one = json!({"status": "firing", "labels": {"alertname": name}, "fingerprint": fingerprint});
            read_value(&payload(&[one])).expect("a payload").remove(0).fingerprint
        };
        assert_eq!(print("A", ""), print("A", ""));
        assert_ne!(print("A", ""), print("B", ""));
        assert_eq!(print("A", &"f".repeat(10_000)).len(), MAX_FINGERPRINT);
    }

    #[test]
    fn what_is_not_a_payload_of_version_4_is_refused_with_its_reason() {
        for (body, reason) in [
            ("", "not a webhook payload"),
            ("[]", "not a webhook payload"),
            ("{\"version\":\"4\"}", "missing field `alerts`"),
            ("{\"alerts\":[]}", "has no version"),
            ("{\"version\":\"5\",\"alerts\":7}", "unknown payload version \"5\""),
            ("{\"version\":4,\"alerts\":[]}", "unknown payload version 4"),
            ("{\"version\":\"4\",\"alerts\":[{}]}", "missing field `status`"),
            ("{\"version\":\"4\",\"alerts\":[{\"status\":\"pending\"}]}", "unknown alert status \"pending\""),
            ("{\"version\":\"4\",\"alerts\":[{\"status\":\"firing\",\"labels\":{\"a\":1}}]}", "invalid type"),
        ] {
            let refused = read(body.as_bytes()).expect_err(body).to_string();
            assert!(refused.contains(reason), "{body}: {refused}");
            assert_eq!(refused.lines().count(), 1);
        }
        assert!(read(&[b'['; 100_000]).is_err(), "nested without end");
        let long = "x\u{202e}\n".repeat(100_000);
        for payload in [
            json!({"version": long, "alerts": []}),
            json!({"version": "4", "alerts": long}),
            json!({"version": "4", "alerts": [{"status": long}]}),
            json!({"version": "4", "alerts": [{"status": "firing", "labels": long}]}),
        ] {
            let refused = read_value(&payload).expect_err("a refusal").to_string();
            assert!(refused.len() <= MAX_REASON_BYTES && refused.lines().count() == 1, "{refused}");
            assert!(!refused.contains('\u{202e}'), "{refused}");
        }
    }
}
