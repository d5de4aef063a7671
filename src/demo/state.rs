//! The sidecar's state as the demo sees it: its own `GET /status`, read like anybody else would.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;
use ureq::Agent;

use crate::priority::Priority;

/// The part of `/status` that the picture shows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// The queue.
    pub(super) queue: Queue,
    /// The tickets.
    pub(super) token_bucket: Tokens,
    /// The last 60 s.
    pub(super) window: Window,
    /// The retreat.
    pub(super) retreat: Retreat,
    /// Requests on their way.
    pub(super) in_flight: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) depth_by_priority: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    pub(super) tokens: f64,
    pub(super) capacity: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Window {
    pub(super) used: usize,
    pub(super) limit: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Retreat {
    pub(super) state: String,
    pub(super) effective_rpm: f64,
    pub(super) base_rpm: f64,
}

impl State {
    /// Asks the sidecar; `None` when it does not answer.
    pub(super) fn of(http: &Agent, sidecar: SocketAddr) -> Option<State> {
        let mut answer = http.get(format!("http://{sidecar}/status")).call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Requests of `priority` that wait.
    pub(super) fn depth(&self, priority: Priority) -> usize {
        self.queue.depth_by_priority.get(priority.as_str()).copied().unwrap_or_default()
    }
}
