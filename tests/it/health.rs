//! Liveness and readiness.

use crate::ask::{ask, chat, models, page};
use crate::client::Client;
use crate::patience::until;
use crate::process::metric;
use crate::sidecar::{Sidecar, base};
use crate::upstream::Upstream;
use nvidia_sidecar::config::Secret;
use serde_json::json;
use std::net::TcpListener;

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
fn readiness_says_what_is_checked() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let ready = sidecar.ask(page("/health/ready"));
    assert_eq!(ready.status(), 200);
    let ready = ready.json();
    for check in ["ready", "upstream_reachable", "queue_healthy", "token_bucket_healthy"] {
        assert_eq!(ready[check], true, "{check} in {ready}");
    }
    assert_eq!(upstream.received()[0].line(), "GET /v1/models HTTP/1.1");
}

#[test]
fn an_unreachable_upstream_is_told_with_its_time_and_health_recovers() {
    let upstream = Upstream::start();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.url = base(&format!("http://{nobody}/v1")));
    let answer = sidecar.ask(page("/health/ready"));
    assert_eq!(answer.status(), 503);
    let ready = answer.json();
    assert_eq!(
        (&ready["ready"], &ready["upstream_reachable"], &ready["queue_healthy"]),
        (&json!(false), &json!(false), &json!(true))
    );
    assert_eq!(ready["problems"][0]["check"], "upstream_reachable");
    let since = ready["problems"][0]["since_seconds"].as_f64().unwrap();
    until("time passes", || {
        let again = sidecar.ask(page("/health/ready")).json();
        again["problems"][0]["since_seconds"].as_f64().filter(|s| *s > since)
    });
    assert!(metric(&sidecar.scrape(), "sidecar_health_status") < 0.5);
    sidecar.reload(|c| c.upstream.url = base(&upstream.url("/v1")));
    assert_eq!(sidecar.ask(chat("it is back")).status(), 200);
    assert_eq!(sidecar.ask(page("/health/ready")).status(), 200);
    assert!(metric(&sidecar.scrape(), "sidecar_health_status") > 0.5);
}
