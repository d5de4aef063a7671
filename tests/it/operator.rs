//! The operator's pages.

use crate::ask::{ask, chat, model, models};
use crate::client::Client;
use crate::patience::{PATIENCE, now, until};
use crate::sidecar::{Sidecar, scarce};
use crate::upstream::Upstream;
use nvidia_sidecar::app;
use nvidia_sidecar::config::Secret;
use std::time::Duration;

#[test]
fn health_says_ok_on_both_ports() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for address in [sidecar.address(), sidecar.app().metrics_address()] {
        let answer = Client::connect(address).send(Vec::from(ask("GET", "/health"))).answer();
        let health = answer.json();
        assert_eq!((answer.status(), &health["status"]), (200, &"ok".into()));
        assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
        assert!(health["uptime"].as_f64().is_some_and(|s| (0.0..60.0).contains(&s)), "{health}");
    }
    assert!(upstream.received().is_empty());
}

#[test]
fn health_answers_head_without_content() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.begin(ask("HEAD", "/health"));
    let answer = client.answer_to_head();
    assert!(answer.status() == 200 && answer.head.number("content-length") > 0);
    assert_eq!(client.send(Vec::from(models())).answer().status(), 200);
}

#[test]
fn the_metrics_port_forwards_nothing() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for request in [models(), chat("a"), ask("GET", "/status")] {
        let answer = Client::connect(sidecar.app().metrics_address()).send(Vec::from(request)).answer();
        assert_eq!(answer.status(), 404);
    }
    assert!(upstream.received().is_empty());
}

#[test]
fn the_sidecars_own_pages_carry_a_request_id_too() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let answer = sidecar.ask(ask("GET", "/health").field("X-Request-Id", "mine"));
    assert_eq!(answer.head.field("x-request-id").as_deref(), Some("mine"));
    assert!(sidecar.ask(ask("GET", "/status")).head.field("x-request-id").is_some());
}

#[test]
fn status_counts_what_happened() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        scarce(c, 3);
        c.upstream.max_attempts = 1;
    });
    upstream.answer(200).answer(429).answer(500);
    for _ in 0..3 {
        sidecar.ask(chat("a"));
    }
    for _ in 0..2 {
        sidecar.ask(model("openai/gpt", "b"));
    }
    // Held for its model's refusal or without a ticket: it waits.
    let waiting = sidecar.begin(chat("waits"));
    let status = until("it is queued", || {
        let status = sidecar.status();
        (status["queue"]["total_enqueued"] == 4 && status["queue"]["current_size"] == 1).then_some(status)
    });
    assert_eq!(status["requests"]["total"], 5);
    assert_eq!(status["requests"]["nvidia"], 3);
    assert_eq!(status["requests"]["passthrough"], 2);
    assert_eq!(status["requests"]["ratelimited"], 1);
    assert_eq!(status["errors"]["upstream_errors"], 2);
    let queue = &status["queue"];
    assert_eq!(queue["depth_by_priority"]["normal"], 1);
    assert_eq!((&queue["total_enqueued"], &queue["total_dequeued"]), (&4.into(), &3.into()));
    assert_eq!(status["window"], serde_json::json!({"used": 3, "limit": 3}));
    assert_eq!(status["token_bucket"]["capacity"], 3.0);
    assert_eq!(status["token_bucket"]["rate_per_minute"], 3.0);
    assert!(status["token_bucket"]["tokens"].as_f64() < Some(1.0), "{status}");
    assert_eq!(status["retreat"]["state"], "normal");
    assert_eq!(
        (&status["retreat"]["base_rpm"], &status["retreat"]["effective_rpm"]),
        (&3.0.into(), &3.0.into())
    );
    drop(waiting);
    until("the one that left is counted", || {
        let status = sidecar.status();
        (status["requests"]["total"] == 6 && status["in_flight"] == 0).then_some(())
    });
}

#[test]
fn readiness_follows_the_upstream() {
    let upstream = Upstream::start();
    let ready = |upstream: &Upstream| {
        // A sidecar of its own each time: what is known of an upstream counts for some seconds.
        let sidecar =
            Sidecar::with(upstream, |c| c.upstream.api_key = Some(Secret::new("nvapi-key".to_owned())));
        let answer = sidecar.ask(ask("GET", "/health/ready"));
        let json = answer.json();
        assert_eq!(json["ready"], answer.status() == 200, "{json}");
        (answer.status(), json["upstream_reachable"] == true)
    };
    assert_eq!(ready(&upstream), (200, true));
    let probe = &upstream.received()[0];
    assert_eq!(probe.line(), "GET /v1/models HTTP/1.1");
    assert_eq!(probe.field("authorization").as_deref(), Some("Bearer nvapi-key"));
    upstream.answer(401);
    assert_eq!(ready(&upstream), (200, true), "it is there, whatever it says");
    upstream.answer(500);
    assert_eq!(ready(&upstream), (503, false));
    upstream.hold().close();
    assert_eq!(ready(&upstream), (503, false));
}

#[test]
fn a_question_for_readiness_holds_up_nobody() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let probe = upstream.hold();
    let mut asks: Vec<Client> = (0..100).map(|_| sidecar.begin(ask("GET", "/health/ready"))).collect();
    probe.request();
    assert_eq!(sidecar.ask(ask("GET", "/health")).status(), 200);
    assert_eq!(sidecar.ask(chat("a")).status(), 200);
    probe.answer(200);
    for client in &mut asks {
        assert!(matches!(client.answer().status(), 200 | 503));
    }
    assert_eq!(upstream.received().len(), 2, "one probe for all of them");
}

#[test]
fn a_viewer_of_the_dashboard_does_not_hold_up_the_end() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.drain_timeout = PATIENCE);
    let mut viewer = sidecar.begin(ask("GET", "/api/dashboard/stream"));
    assert_eq!(viewer.head().field("content-type").as_deref(), Some("text/event-stream"));
    let began = now();
    assert_eq!(sidecar.stop(), app::End::Drained);
    assert!(now().since(began) < PATIENCE / 2);
    let (stream, _) = viewer.rest();
    assert!(stream.starts_with(b"retry: 3000\n\n"), "{}", String::from_utf8_lossy(&stream));
}

#[test]
fn a_probe_under_way_does_not_hold_up_the_end() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.drain_timeout = Duration::from_millis(400));
    let probe = upstream.hold();
    let mut asks = sidecar.begin(ask("GET", "/health/ready"));
    probe.request();
    let began = now();
    assert_ne!(sidecar.stop(), app::End::Failed);
    assert!(now().since(began) < Duration::from_secs(6));
    let _ = asks.try_answer();
}
