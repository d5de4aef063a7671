//! Which of the operator's pages a path is.

use crate::downstream::source::Port;
use crate::http::path;

/// One of the operator's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// `/` on the listener: a browser is sent to the dashboard.
    Root,
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
    /// What waits.
    Queue,
    /// What only an operator may do.
    Admin,
    /// A path that is reserved for pages and is none of them.
    Unknown,
}

/// First segments of paths that are never forwarded: what stands behind them belongs to the sidecar, and a request for it
/// may carry the admin token.
const RESERVED: [&str; 4] = ["api", "status", "metrics", "health"];

impl PageKind {
    /// The page that a request of `method` for `path` at `port` asks for; `None` where it is to be proxied.
    #[must_use]
    pub fn of(method: &str, path: &str, port: Port) -> Option<PageKind> {
        Some(match path {
            "/health" => PageKind::Health,
            "/health/ready" => PageKind::Ready,
            "/metrics" => PageKind::Metrics,
            _ if port == Port::Metrics => PageKind::Unknown,
            "/" if matches!(method, "GET" | "HEAD") => PageKind::Root,
            "/status" => PageKind::Status,
            "/api/dashboard/stream" => PageKind::Stream,
            "/api/dashboard/history" => PageKind::History,
            "/api/dashboard" => PageKind::Asset,
            "/favicon.ico" if matches!(method, "GET" | "HEAD") => PageKind::Asset,
            "/api/queue" if matches!(method, "GET" | "HEAD") => PageKind::Queue,
            path if path.starts_with("/api/dashboard/") => PageKind::Asset,
            path if path.starts_with("/api/agents/") => PageKind::Heartbeat,
            path if path.starts_with("/api/admin/") || is_at_or_below(path, "/api/queue") => PageKind::Admin,
            path if is_reserved(path) => PageKind::Unknown,
            _ => return None,
        })
    }
}

fn is_at_or_below(path: &str, page: &str) -> bool {
    path.strip_prefix(page).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether some server would read this spelling as a path that belongs to the sidecar.
fn is_reserved(path: &str) -> bool {
    path::segments(path).first().is_some_and(|first| RESERVED.contains(&first.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Option<PageKind> {
        PageKind::of("GET", path, Port::Api)
    }

    #[test]
    fn no_spelling_of_a_page_is_proxied() {
        for path in [
            "/api",
            "/api/",
            "/api/chat",
            "/API/admin/config",
            "//api/admin/config",
            "/%61pi/admin/config",
            "/api%2Fadmin",
            "/api;x/admin",
            "/Status",
            "/status/",
            "/%6detrics",
            "/metrics/x",
            "/health/live",
        ] {
            assert_eq!(get(path), Some(PageKind::Unknown), "{path}");
        }
        for path in ["/v1/models", "/v1/api/x", "/apis", "/v1/status/abc", "/healthz"] {
            assert_eq!(get(path), None, "{path}");
        }
    }

    #[test]
    fn what_changes_something_is_for_operators() {
        assert_eq!(get("/api/queue"), Some(PageKind::Queue));
        assert_eq!(PageKind::of("DELETE", "/api/queue/7", Port::Api), Some(PageKind::Admin));
        assert_eq!(PageKind::of("POST", "/api/queue", Port::Api), Some(PageKind::Admin));
        assert_eq!(get("/api/admin/config"), Some(PageKind::Admin));
    }

    #[test]
    fn the_metrics_port_serves_metrics_and_health_alone() {
        assert_eq!(PageKind::of("GET", "/metrics", Port::Metrics), Some(PageKind::Metrics));
        assert_eq!(PageKind::of("GET", "/v1/models", Port::Metrics), Some(PageKind::Unknown));
        assert_eq!(PageKind::of("POST", "/", Port::Api), None);
        assert_eq!(get("/"), Some(PageKind::Root));
    }
}
