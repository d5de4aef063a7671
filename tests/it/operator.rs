//! The operator's pages.

use crate::ask::{ask, chat, model, models};
use crate::client::Client;
use crate::patience::until;
use crate::sidecar::{Sidecar, scarce};
use crate::upstream::Upstream;

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
