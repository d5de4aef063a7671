//! The dashboard: its files, and the snapshot that its page draws once a second.
//!
//! The page (`dashboard/page.html` with its scripts and style) asks this server and no other:
//!
//! - `GET /api/dashboard/stream`: server-sent events; `event: snapshot` with a [`DashboardSnapshot`] as `data`, in
//!   one line, once a second;
//! - `GET /api/dashboard/history`: the last hour, see [`crate::ops::history`]; each snapshot then brings the newest
//!   point;
//! - `GET /api/admin/config`: a JSON object with `rate_rpm`, `queue_max_size`, `queue_full_policy` and
//!   `fallback_enabled_passthrough` at its top (others are not looked at);
//! - `POST /api/admin/config`: an object with those of them that changed; answered by the object as it is then, or by
//!   `{"error": {"message"}}` with the reason of the refusal.

use serde::Serialize;

use crate::ops::history::{LastMinute, Point};
use crate::priority::Priority;
use crate::telemetry::agents::AgentView;
use crate::telemetry::metrics::Totals;

/// Waiting requests that a snapshot lists; more do not help whoever looks, and cost every viewer.
pub const WAITING_LISTED: usize = 50;

/// The policy under which the page runs: its own files, its own server, nothing inline, no frame around it.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the dashboard.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// The path at which it is served.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: &'static str,
}

/// All files of the dashboard, the page first.
pub const ASSETS: [Asset; 7] = [
    Asset {
        path: "/api/dashboard",
        content_type: "text/html; charset=utf-8",
        body: include_str!("dashboard/page.html"),
    },
    Asset { path: "/api/dashboard/style.css", content_type: CSS, body: include_str!("dashboard/style.css") },
    Asset { path: "/api/dashboard/app.js", content_type: JS, body: include_str!("dashboard/app.js") },
    Asset { path: "/api/dashboard/charts.js", content_type: JS, body: include_str!("dashboard/charts.js") },
    Asset {
        path: "/api/dashboard/settings.js",
        content_type: JS,
        body: include_str!("dashboard/settings.js"),
    },
    Asset { path: "/api/dashboard/stream.js", content_type: JS, body: include_str!("dashboard/stream.js") },
    Asset { path: "/api/dashboard/texts.js", content_type: JS, body: include_str!("dashboard/texts.js") },
];

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// The file at a path.
#[must_use]
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

/// Everything that the page shows, at one moment. Shares go from 0 to 1, times are in seconds, rates per minute.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DashboardSnapshot {
    /// The sidecar's version.
    pub version: &'static str,
    /// The server's time, Unix seconds.
    pub at: f64,
    /// Time since the start.
    pub uptime_seconds: f64,
    /// Whether it is ending: no new connections, the queue runs dry.
    pub draining: bool,
    /// Whether the admin calls need a token, so that the page does not ask without one.
    pub admin_token_required: bool,
    /// Whether the readiness probe succeeds, and if not, why.
    pub health: HealthView,
    /// Bucket and window.
    pub tokens: TokensView,
    /// The queue.
    pub queue: QueueView,
    /// The rate and its retreat.
    pub retreat: RetreatView,
    /// Requests at the upstream now.
    pub in_flight: InFlightView,
    /// Open client connections.
    pub connections: u64,
    /// Bound on client connections.
    pub connections_max: u64,
    /// Sums since the start.
    pub totals: Totals,
    /// What finished within the last minute.
    pub last_minute: LastMinute,
    /// The first [`WAITING_LISTED`] waiting requests, in the order in which they are expected to go.
    pub waiting: Vec<WaitingView>,
    /// The configured agents and the rest.
    pub agents: Vec<AgentView>,
    /// The newest complete point of the history.
    pub point: Option<Point>,
}

/// Ready or not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HealthView {
    /// Whether the readiness probe succeeds.
    pub ready: bool,
    /// What is wrong; empty when nothing is.
    pub problems: Vec<ProblemView>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct ProblemView {
    /// The readiness probe's name for it, as `upstream_reachable`.
    pub check: &'static str,
    /// For how long.
    pub since_seconds: f64,
}

/// Bucket and window.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TokensView {
    /// Tokens in the bucket.
    pub available: f64,
    /// Its size.
    pub capacity: f64,
    /// Tokens that flow in per minute.
    pub rate_per_minute: f64,
    /// Requests sent within the last 60 s.
    pub window_used: u64,
    /// How many the window allows.
    pub window_limit: u64,
}

/// The queue.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct QueueView {
    /// Waiting requests.
    pub current_size: u64,
    /// Their bound.
    pub max_size: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bound on their bytes.
    pub max_bytes: u64,
    /// Waiting requests of each priority.
    pub depth_by_priority: Depths,
    /// What happens when it is full: `passthrough`, `reject` or `drop_lowest`.
    pub full_policy: &'static str,
    /// How long the one that waits longest has waited; zero when none does.
    pub oldest_seconds: f64,
}

/// One figure a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Depths {
    /// Of [`Priority::Urgent`].
    pub urgent: u64,
    /// Of [`Priority::High`].
    pub high: u64,
    /// Of [`Priority::Normal`].
    pub normal: u64,
    /// Of [`Priority::Low`].
    pub low: u64,
}

impl From<[u64; Priority::ALL.len()]> for Depths {
    /// From a table in the order of [`Priority::ALL`].
    fn from([urgent, high, normal, low]: [u64; Priority::ALL.len()]) -> Depths {
        Depths { urgent, high, normal, low }
    }
}

/// The rate and its retreat.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RetreatView {
    /// `normal`, `retreat` or `recover`.
    pub state: &'static str,
    /// The rate in force.
    pub effective_rpm: f64,
    /// The configured rate.
    pub base_rpm: f64,
    /// Share of the upstream's answers in the last 60 s that refused the key.
    pub upstream_429_rate: f64,
    /// Models whose requests wait because the upstream refused that model.
    pub held_models: Vec<HeldModelView>,
}

/// A model on hold.
#[derive(Clone, Debug, Serialize)]
pub struct HeldModelView {
    /// Its name, as a client sent it.
    pub model: String,
    /// For how much longer.
    pub seconds: f64,
}

/// Requests at the upstream now.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct InFlightView {
    /// Limited ones.
    pub nvidia: u64,
    /// The others.
    pub passthrough: u64,
}

/// A request that waits.
#[derive(Clone, Debug, Serialize)]
pub struct WaitingView {
    /// Its request id.
    pub id: String,
    /// Its client.
    pub agent: String,
    /// The priority it came with.
    pub priority: &'static str,
    /// The model it asks for.
    pub model: Option<String>,
    /// How long it has waited.
    pub waited_seconds: f64,
    /// Its place in the order of service, from 1.
    pub position: u64,
    /// How much longer it is expected to wait; `None` when that cannot be said, as for a model on hold.
    pub estimate_seconds: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_no_other_host_and_runs_nothing_inline() {
        for asset in ASSETS {
            let foreign = asset
                .body
                .replace("http://www.w3.org/2000/svg", "")
                .replace("http%3A//www.w3.org/2000/svg", "");
            for scheme in ["http:", "https:", "//cdn", "@import"] {
                assert!(!foreign.contains(scheme), "{} holds {scheme}", asset.path);
            }
        }
        let page = asset("/api/dashboard").unwrap().body;
        for inline in ["<style", " style=", " onclick=", "<script>"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }

    #[test]
    fn scripts_write_text_and_never_markup() {
        for asset in ASSETS.iter().filter(|asset| asset.content_type == JS) {
            for hazard in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!asset.body.contains(hazard), "{} holds {hazard}", asset.path);
            }
        }
    }

    #[test]
    fn every_file_that_the_page_and_its_scripts_load_is_served() {
        for asset in ASSETS {
            let loads =
                asset.body.split(['"', '\'']).filter(|word| word.ends_with(".js") || word.ends_with(".css"));
            for file in loads {
                let name = file.rsplit('/').next().unwrap();
                assert!(
                    super::asset(&format!("/api/dashboard/{name}")).is_some(),
                    "{file} of {}",
                    asset.path
                );
            }
        }
    }

    #[test]
    fn a_snapshot_is_one_line_with_the_names_that_the_page_reads() {
        let snapshot = DashboardSnapshot {
            queue: QueueView { depth_by_priority: [1, 2, 3, 4].into(), ..QueueView::default() },
            ..DashboardSnapshot::default()
        };
        let json = serde_json::to_string(&snapshot).unwrap();
        assert!(!json.contains('\n'));
        assert!(json.contains(r#""depth_by_priority":{"urgent":1,"high":2,"normal":3,"low":4}"#), "{json}");
    }
}
