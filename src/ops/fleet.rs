//! The fleet as `/status` and the dashboard show it: how this sidecar stands, and one line a sidecar.

use crate::clock::Moment;
use crate::dispatch::fleet::protocol::Peer;
use crate::dispatch::fleet::thread::FleetView;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// One that is silent for longer is only shown as long as a share is left for it.
const SHOWN_SILENT: f64 = 120.0;

/// The fleet at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct FleetStatus {
    replica_id: String,
    standing: &'static str,
    limit: u32,
    used: u32,
    /// Silent sidecars for which a share of the rate is left.
    absent: u32,
    /// Since Redis last answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    calls: u64,
    failures: u64,
    replicas: Vec<Replica>,
}

#[derive(Clone, Debug, Serialize)]
struct Replica {
    id: String,
    /// `live`, `silent` or `left`.
    state: &'static str,
    silent_seconds: f64,
    /// What it says of itself.
    #[serde(flatten)]
    about: Value,
}

impl FleetStatus {
    /// The fleet at `now`; `None` for a sidecar without one.
    #[must_use]
    pub fn new(view: &FleetView, now: Moment) -> Option<FleetStatus> {
        if view.id.is_empty() {
            return None;
        }
        let since = |moment: Option<Moment>| moment.map(|moment| tenths(now.since(moment)));
        let listed = view.listed.map(|at| now.since(at)).unwrap_or_default();
        let mut replicas: Vec<_> = view.replicas.iter().map(|peer| replica(peer, listed)).collect();
        replicas.retain(|replica| {
            replica.silent_seconds < SHOWN_SILENT || (view.absent > 0 && replica.state == "silent")
        });
        replicas.sort_by(|a, b| a.id.cmp(&b.id));
        Some(FleetStatus {
            replica_id: view.id.clone(),
            standing: view.sight.standing.as_str(),
            limit: view.sight.limit,
            used: view.sight.used,
            absent: view.absent,
            heard_seconds: since(view.heard),
            error: view.error.clone(),
            calls: view.calls,
            failures: view.failures,
            replicas,
        })
    }
}

fn replica(peer: &Peer, listed: Duration) -> Replica {
    let silent = Duration::from_millis(peer.silent.unsigned_abs());
    let state = match peer.left {
        true => "left",
        false if peer.is_live() => "live",
        false => "silent",
    };
    let about = peer.about.as_deref().and_then(|about| serde_json::from_str(about).ok());
    Replica {
        id: peer.id.clone(),
        state,
        silent_seconds: tenths(silent + listed),
        about: about.filter(Value::is_object).unwrap_or_else(|| Value::Object(serde_json::Map::new())),
    }
}

fn tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
