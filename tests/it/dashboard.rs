//! The dashboard: its files, and the stream that its viewers are shown.

use crate::ask::{chat, model, page};
use crate::client::Client;
use crate::pages::{agent, jammed};
use crate::patience::until;
use crate::process::metric;
use crate::sidecar::Sidecar;
use crate::upstream::Upstream;
use serde_json::{Value, json};
use std::time::Duration;

/// A viewer of the stream, before the first snapshot.
pub(crate) fn viewer(sidecar: &Sidecar) -> Client {
    let mut viewer = sidecar.begin(page("/api/dashboard/stream"));
    let head = viewer.head();
    assert_eq!((head.status, head.field("content-type").as_deref()), (200, Some("text/event-stream")));
    assert_eq!(viewer.event(), "retry: 3000");
    viewer
}

/// The next snapshot that a viewer is shown.
pub(crate) fn snapshot(viewer: &mut Client) -> Value {
    let event = viewer.event();
    let data =
        event.strip_prefix("event: snapshot\ndata: ").unwrap_or_else(|| panic!("no snapshot: {event}"));
    serde_json::from_str(data).unwrap()
}

#[test]
fn the_page_is_all_the_sidecars_own_under_a_strict_policy() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let answer = sidecar.ask(page("/api/dashboard"));
    let policy = answer.head.field("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.head.field("x-content-type-options").as_deref(), Some("nosniff"));
    for file in ["style.css", "app.js", "charts.js", "settings.js", "texts.js", "history"] {
        assert_eq!(sidecar.ask(page(&format!("/api/dashboard/{file}"))).status(), 200, "{file}");
    }
    assert_eq!(sidecar.ask(page("/api/dashboard/other.js")).status(), 404);
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn all_viewers_are_shown_the_same_snapshot_with_every_figure_filled() {
    let (_upstream, sidecar, _slot, _first) = jammed(|c| {
        c.agents = vec![agent("planner", Duration::from_secs(600))];
    });
    let _waiting = sidecar.queue(chat("waits").priority("high").field("X-Agent-Id", "planner"), 1);
    let mut viewers = [(); 5].map(|()| viewer(&sidecar));
    let first = snapshot(&mut viewers[0]);
    // Whoever came before the tick sees the very same one; whoever came after it, the next.
    let others: Vec<Value> = viewers[1..].iter_mut().map(snapshot).collect();
    let second = snapshot(&mut viewers[0]);
    assert!(others.iter().all(|s| *s == first || *s == second), "each viewer has a snapshot of its own");
    let apart = second["at"].as_f64().unwrap() - first["at"].as_f64().unwrap();
    assert!((0.5..2.0).contains(&apart), "{apart} s between two snapshots");

    assert_eq!(second["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(second["draining"], false);
    assert_eq!(second["admin_token_required"], false);
    assert_eq!(second["health"]["ready"], true);
    assert_eq!(second["tokens"]["capacity"], 1_000_000.0);
    assert_eq!(second["tokens"]["window_used"], 1);
    assert_eq!(second["queue"]["current_size"], 1);
    assert_eq!(second["queue"]["depth_by_priority"], json!({"urgent": 0, "high": 1, "normal": 0, "low": 0}));
    assert!(
        second["queue"]["bytes"].as_u64() > Some(50)
            && second["queue"]["oldest_seconds"].as_f64() > Some(0.0)
    );
    assert_eq!((&second["in_flight"]["nvidia"], &second["in_flight"]["passthrough"]), (&json!(1), &json!(0)));
    assert!(second["connections"].as_u64() >= Some(7));
    assert!(second["connections_max"].as_u64() > Some(100));
    let row = &second["waiting"][0];
    assert_eq!(
        (&row["agent"], &row["priority"], &row["position"]),
        (&json!("planner"), &json!("high"), &json!(1))
    );
    assert_eq!(row["model"], "nvidia/test-model");
    assert!(row["waited_seconds"].as_f64() > Some(0.0) && row["estimate_seconds"].is_f64());
    assert_eq!(second["agents"].as_array().unwrap().len(), 2);
}

#[test]
fn the_history_knows_how_long_requests_waited_and_how_they_ended() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let columns = sidecar.ask(page("/api/dashboard/history")).json()["columns"].clone();
    let column = |name: &str| columns.as_array().unwrap().iter().position(|column| column == name).unwrap();
    let mut viewer = viewer(&sidecar);
    // Counting begins with the first sample.
    let _ = snapshot(&mut viewer);
    upstream.keep_probes_apart().answer(200).answer(500);
    for _ in 0..2 {
        sidecar.ask(chat("counts").priority("high"));
    }
    let (mut seen, mut waited) = (Vec::new(), None);
    until("both are in the history", || {
        let point = snapshot(&mut viewer)["point"].clone();
        if point.is_array() && !seen.contains(&point) {
            waited = waited.or(point[column("p95_high")].as_f64());
            assert_eq!(point[column("p95_low")], Value::Null);
            seen.push(point);
        }
        let sum = |name: &str| seen.iter().filter_map(|point| point[column(name)].as_u64()).sum::<u64>();
        ((sum("ok"), sum("failed")) == (1, 1)).then_some(())
    });
    assert!(waited.is_some_and(|seconds| seconds < 5.0), "{seen:?}");
    assert_eq!(
        sidecar.ask(page("/favicon.ico")).head.field("content-type").as_deref(),
        Some("image/svg+xml")
    );
}

#[test]
fn a_viewer_that_does_not_read_is_dropped() {
    let (_upstream, sidecar, _slot, _first) = jammed(|c| c.front.client_timeout = Duration::from_secs(1));
    // Long names make large snapshots: the kernel's buffers are full within seconds.
    let name = "m".repeat(120);
    let _waiting: Vec<Client> =
        (0..50).map(|_| sidecar.begin(model(&format!("nvidia/{name}"), "x"))).collect();
    sidecar.wait_for_queue(50);
    let mut lazy = sidecar.connect();
    lazy.shrink_receive_buffer();
    lazy.send(Vec::from(page("/api/dashboard/stream")));
    // With its head read it is counted, and it reads nothing from here on.
    assert_eq!(lazy.head().status, 200);
    let mut eager = viewer(&sidecar);
    let with_both = metric(&sidecar.scrape(), "sidecar_connections");
    for _ in 0..60 {
        let _ = snapshot(&mut eager);
        if metric(&sidecar.scrape(), "sidecar_connections") < with_both - 0.5 {
            return;
        }
    }
    panic!("the viewer that does not read is still there");
}
