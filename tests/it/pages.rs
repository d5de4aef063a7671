//! The operator's pages: status, queue, admin, heartbeats, metrics, and who may see them.

use crate::ask::{Ask, ask, chat, model, models, page};
use crate::client::Client;
use crate::dashboard::{snapshot, viewer};
use crate::patience::{now, until};
use crate::process::metric;
use crate::sidecar::{Sidecar, scarce};
use crate::upstream::Upstream;
use nvidia_sidecar::config::limiter::QueueFullPolicy;
use nvidia_sidecar::config::{Agent, Config, Secret};
use serde_json::{Value, json};
use std::time::Duration;

const TOKEN: &str = "the-operators-token";

fn with_token(config: &mut Config) {
    config.admin_token = Some(Secret::new(TOKEN));
}

/// A call from this machine's own browser or shell.
fn local(method: &str, path: &str) -> Ask {
    ask(method, path).host("127.0.0.1:9190")
}

fn admin(method: &str, path: &str) -> Ask {
    ask(method, path).field("Authorization", &format!("Bearer {TOKEN}"))
}

pub(crate) fn agent(name: &str, heartbeat: Duration) -> Agent {
    Agent::new(name, &format!("the {name}"), heartbeat)
}

/// The same, once so many requests are counted: the books are closed when the answer is out.
fn counted(sidecar: &Sidecar, requests: u64) -> String {
    until("the requests are counted", || (sidecar.status()["requests"]["total"] == requests).then_some(()));
    sidecar.scrape()
}

/// A sidecar whose only slot is taken until the test lets go, so that everything else waits.
pub(crate) fn jammed(
    configure: impl FnOnce(&mut Config),
) -> (Upstream, Sidecar, crate::upstream::Held, Client) {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        c.limiter.max_in_flight = 1;
        configure(c);
    });
    let slot = upstream.hold();
    let first = sidecar.begin(chat("in flight"));
    slot.request();
    (upstream, sidecar, slot, first)
}

#[test]
fn a_nearly_full_queue_is_not_ready_and_an_empty_bucket_is() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        scarce(c, 2);
        c.limiter.queue.max_size = 10;
        c.limiter.queue.full_policy = QueueFullPolicy::Reject;
    });
    for _ in 0..2 {
        assert_eq!(sidecar.ask(chat("takes a token")).status(), 200);
    }
    let ready = sidecar.ask(page("/health/ready")).json();
    assert_eq!((&ready["ready"], &ready["token_bucket_healthy"]), (&json!(true), &json!(true)), "{ready}");
    let _waiting: Vec<Client> = (1..=9).map(|depth| sidecar.queue(chat("waits"), depth)).collect();
    let answer = sidecar.ask(page("/health/ready"));
    assert_eq!(answer.status(), 503);
    assert_eq!(
        answer.json()["problems"][0]["detail"].as_str().unwrap().split(" places").next(),
        Some("9 of 10")
    );
}

#[test]
fn status_has_every_figure() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        scarce(c, 40);
        c.agents = vec![agent("planner", Duration::from_secs(600))];
    });
    for request in [chat("one").field("X-Agent-Id", "planner"), chat("two").priority("low"), models()] {
        assert_eq!(sidecar.ask(request).status(), 200);
    }
    let status = until("all is counted", || {
        let status = sidecar.status();
        (status["requests"]["total"] == 3 && status["queue"]["total_dequeued"] == 2).then_some(status)
    });
    assert_eq!(
        status["requests"],
        json!({"total": 3, "nvidia": 2, "passthrough": 1, "ratelimited": 0, "kept_alive": 0})
    );
    assert_eq!(status["errors"], json!({"queue_full_rejects": 0, "upstream_errors": 0}));
    let queue = &status["queue"];
    for (key, value) in [
        ("max_size", json!(500)),
        ("depth_by_priority", json!({"urgent": 0, "high": 0, "normal": 0, "low": 0})),
        ("total_enqueued", json!(2)),
        ("total_dequeued", json!(2)),
        ("total_dropped", json!(0)),
        ("full_policy", json!("passthrough")),
        ("utilization", json!(0.0)),
    ] {
        assert_eq!(queue[key], value, "{key} in {queue}");
    }
    let bucket = &status["token_bucket"];
    assert!(bucket["tokens"].as_f64().is_some_and(|t| (38.0..40.0).contains(&t)), "{bucket}");
    assert_eq!((&bucket["capacity"], &bucket["rate_per_minute"]), (&json!(40.0), &json!(40.0)));
    assert!(bucket["utilization"].is_f64());
    let retreat = &status["retreat"];
    assert_eq!(
        (&retreat["state"], &retreat["effective_rpm"], &retreat["base_rpm"]),
        (&json!("normal"), &json!(40.0), &json!(40.0))
    );
    assert_eq!(retreat["upstream_429_rate"], 0.0);
    assert_eq!(status["agents"][0]["name"], "planner");
    assert!(status["uptime_seconds"].is_f64());
}

#[test]
fn the_queue_lists_what_waits_in_order_and_an_operator_removes_by_id() {
    let (_upstream, sidecar, _slot, _first) = jammed(|_| {});
    let _normal = sidecar.queue(chat("waits").field("X-Agent-Id", "writer"), 1);
    let mut urgent = sidecar.queue(model("nvidia/urgent-model", "waits").priority("urgent"), 2);
    let listed = sidecar.ask(page("/api/queue")).json();
    let waiting = listed["waiting"].as_array().unwrap();
    assert_eq!(waiting.len(), 2, "{listed}");
    assert_eq!((&waiting[0]["priority"], &waiting[0]["position"]), (&json!("urgent"), &json!(1)));
    assert_eq!((&waiting[1]["agent"], &waiting[1]["model"]), (&json!("writer"), &json!("nvidia/test-model")));
    for row in waiting {
        assert!(row["waited_seconds"].is_f64() && row["estimate_seconds"].is_f64(), "{row}");
    }
    let id = waiting[0]["id"].as_str().unwrap().to_owned();
    // The dashboard names the same job.
    let shown = snapshot(&mut viewer(&sidecar));
    assert_eq!(shown["waiting"][0]["id"], id, "{shown}");

    let path = format!("/api/queue/{id}");
    assert_eq!(sidecar.ask(local("DELETE", &path)).json(), json!({"removed": id}));
    let removed = urgent.answer();
    removed.assert_error(403, "RemovedByOperator");
    assert_eq!(removed.head.field("x-should-retry").as_deref(), Some("false"));
    assert_eq!(removed.head.field("retry-after"), None);
    assert_eq!(sidecar.ask(local("DELETE", &path)).status(), 404);
    assert_eq!(sidecar.ask(local("DELETE", "/api/queue/none")).status(), 400);
    assert_eq!(sidecar.ask(local("POST", "/api/queue")).status(), 405);
    sidecar.wait_for_queue(1);
}

#[test]
fn pollers_of_the_queue_keep_no_operator_out() {
    let (_upstream, sidecar, _slot, _first) = jammed(|_| {});
    let _waiting = sidecar.queue(chat("waits"), 1);
    let mut pollers: Vec<Client> = (0..400).map(|_| sidecar.begin(page("/api/queue"))).collect();
    assert_eq!(sidecar.ask(local("POST", "/api/admin/reset")).status(), 200);
    let answers: Vec<u16> = pollers.iter_mut().map(|poller| poller.answer().status()).collect();
    assert!(
        answers.contains(&200) && answers.iter().all(|status| matches!(status, 200 | 503)),
        "{answers:?}"
    );
}

#[test]
fn with_a_token_admin_needs_it_and_without_one_only_this_machine_may() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, with_token);
    for (method, path) in [
        ("GET", "/api/admin/config"),
        ("POST", "/api/admin/config"),
        ("POST", "/api/admin/reset"),
        ("DELETE", "/api/queue/1"),
    ] {
        let answer = sidecar.ask(ask(method, path).body("{}"));
        answer.assert_error(401, "InvalidRequest");
        assert_eq!(answer.head.field("www-authenticate").as_deref(), Some("Bearer"));
        sidecar
            .ask(ask(method, path).field("Authorization", "Bearer wrong"))
            .assert_error(403, "InvalidRequest");
    }
    assert_eq!(sidecar.ask(admin("GET", "/api/admin/config")).status(), 200);

    let open = Sidecar::before(&upstream);
    assert_eq!(open.ask(local("GET", "/api/admin/config")).status(), 200);
    assert_eq!(
        open.ask(local("GET", "/api/admin/config").field("Origin", "https://evil.example")).status(),
        403
    );
    let mut rebound = open.connect();
    rebound.send("GET /api/admin/config HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    rebound.answer().assert_error(403, "InvalidRequest");
}

#[test]
fn cors_never_applies_to_admin() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        with_token(c);
        c.clients.cors_origins = vec!["*".into()];
    });
    let preflight = ask("OPTIONS", "/api/admin/config")
        .field("Origin", "https://app.example")
        .field("Access-Control-Request-Method", "POST")
        .field("Access-Control-Request-Headers", "authorization");
    let call = admin("GET", "/api/admin/config").field("Origin", "https://app.example");
    for request in [preflight, call] {
        let answer = sidecar.ask(request);
        let allows: Vec<_> =
            answer.head.fields.iter().filter(|(name, _)| name.starts_with("access-control")).collect();
        assert!(allows.is_empty(), "{allows:?}");
    }
}

#[test]
fn settings_are_shown_masked_and_changed_all_or_none() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        with_token(c);
        c.upstream.api_key = Some(Secret::new("nvapi-very-secret"));
    });
    let shown = sidecar.ask(admin("GET", "/api/admin/config")).json();
    assert_eq!(shown["queue_max_size"], 500);
    for secret in ["upstream_api_key", "admin_token"] {
        let text = shown[secret].as_str().unwrap();
        assert!(
            text.chars().count() <= 5 && !text.contains("secret") && !text.contains("operator"),
            "{text}"
        );
    }
    let post = |body: Value| sidecar.ask(admin("POST", "/api/admin/config").body(body.to_string()));
    let changed = post(
        json!({"rate_rpm": 30, "queue_max_size": 20, "queue_full_policy": "reject", "fallback_enabled_passthrough": false}),
    );
    assert_eq!(changed.status(), 200, "{}", changed.text());
    let status = sidecar.status();
    assert_eq!((&status["retreat"]["base_rpm"], &status["queue"]["max_size"]), (&json!(30.0), &json!(20)));
    assert_eq!(status["queue"]["full_policy"], "reject");

    for (body, reason) in [
        (json!({"rate_rpm": 50, "queue_max_size": 0}), "queue_max_size"),
        (json!({"rate_rpm": 50, "queue_full_policy": "sometimes"}), "queue_full_policy"),
        (json!({"rate_rpm": 50, "upstream_url": "http://elsewhere"}), "upstream_url"),
        (json!({"rate_rpm": "many"}), "rate_rpm"),
        (json!({}), "nothing to change"),
    ] {
        let refused = post(body);
        assert_eq!(refused.status(), 400);
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(reason), "{reason} is not in {message}");
    }
    assert_eq!(sidecar.ask(admin("POST", "/api/admin/config").body("not json")).status(), 400);
    assert_eq!(sidecar.status()["retreat"]["base_rpm"], 30.0, "a refused change changes nothing");
}

#[test]
fn a_bound_below_the_present_depth_is_refused_with_both_numbers() {
    let (_upstream, sidecar, _slot, _first) = jammed(|_| {});
    let _waiting: Vec<Client> = (1..=3).map(|depth| sidecar.queue(chat("waits"), depth)).collect();
    let refused =
        sidecar.ask(local("POST", "/api/admin/config").body(r#"{"queue_max_size": 2, "rate_rpm": 7}"#));
    assert_eq!(refused.status(), 409);
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("queue_max_size 2") && message.contains("3 jobs"), "{message}");
    let status = sidecar.status();
    assert_eq!(
        (&status["queue"]["max_size"], &status["retreat"]["base_rpm"]),
        (&json!(500), &json!(1_000_000.0))
    );
}

#[test]
fn a_retreat_is_counted_and_reset_brings_the_rate_back() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.max_attempts = 1);
    // Many models at once: it is the key that is refused, and not one of them. All are on their way before the first
    // refusal, since the pause that follows would keep the rest back.
    let held: Vec<_> = (0..30).map(|_| upstream.hold()).collect();
    let mut asked: Vec<Client> =
        (0..30).map(|i| sidecar.begin(model(&format!("nvidia/model-{i}"), "refused"))).collect();
    held.iter().for_each(|answer| drop(answer.request()));
    held.into_iter().for_each(|answer| answer.answer(429));
    assert!(asked.iter_mut().all(|client| client.answer().status() == 429));
    until("the rate is lowered", || {
        (metric(&sidecar.scrape(), "sidecar_retreats_total") > 0.5).then_some(())
    });
    let text = sidecar.scrape();
    assert!(metric(&text, "sidecar_effective_rate_rpm") < metric(&text, "sidecar_base_rate_rpm"));
    assert!(metric(&text, "sidecar_retreat_state") > 0.5);
    assert!((metric(&text, "sidecar_floor_rate_rpm") - 5.0).abs() < 0.1);
    assert_eq!(sidecar.ask(local("GET", "/api/admin/reset")).status(), 405);
    assert_eq!(sidecar.ask(local("POST", "/api/admin/reset")).json(), json!({"reset": true}));
    let retreat = &sidecar.status()["retreat"];
    assert_eq!((&retreat["state"], &retreat["effective_rpm"]), (&json!("normal"), &retreat["base_rpm"]));
    assert_eq!(retreat["held_models"], json!([]));
}

#[test]
fn client_tokens_open_the_proxy_name_the_client_and_go_no_further() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        c.clients.tokens = [("alice".to_owned(), Secret::new("token-of-alice"))].into();
        c.agents = vec![agent("alice", Duration::from_secs(600))];
    });
    for request in [chat("no token"), chat("wrong").field("Authorization", "Bearer token-of-bob")] {
        let refused = sidecar.ask(request);
        refused.assert_error(401, "InvalidRequest");
        assert_eq!(refused.head.field("www-authenticate").as_deref(), Some("Bearer"));
    }
    assert_eq!(sidecar.ask(models()).status(), 401, "pass-through needs one too");
    assert_eq!(upstream.received().len(), 0);
    let asked =
        chat("mine").field("Authorization", "Bearer token-of-alice").field("X-Agent-Id", "somebody-else");
    assert_eq!(sidecar.ask(asked).status(), 200);
    assert_eq!(upstream.received()[0].field("authorization"), None);
    until("the request counts as hers", || {
        let status = ask("GET", "/status").field("Authorization", "Bearer token-of-alice");
        let agent = &sidecar.ask(status).json()["agents"][0];
        (agent["name"] == "alice" && agent["requests"] == 1).then_some(())
    });
}

#[test]
fn foreign_pages_are_refused_with_the_keys_name_and_allowed_ones_get_their_fields() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let refused = sidecar.ask(chat("foreign").field("Origin", "https://evil.example"));
    assert!(refused.assert_error(403, "InvalidRequest").text().contains("cors_origins"));
    assert_eq!(refused.head.field("access-control-allow-origin"), None);
    let answer = sidecar.ask(chat("local").field("Origin", "http://localhost:3000"));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.field("access-control-allow-origin").as_deref(), Some("http://localhost:3000"));

    let listed = Sidecar::with(&upstream, |c| {
        c.clients.cors_origins = vec!["https://app.example".into()];
        c.clients.tokens = [("app".to_owned(), Secret::new("token-of-app"))].into();
    });
    let preflight = |origin: &str| {
        ask("OPTIONS", "/v1/chat/completions")
            .field("Origin", origin)
            .field("Access-Control-Request-Method", "POST")
            .field("Access-Control-Request-Headers", "authorization, content-type")
    };
    assert_eq!(listed.ask(preflight("http://localhost")).status(), 403);
    // A page must be able to read that its token is wrong.
    let refused = listed.ask(chat("x").field("Origin", "https://app.example"));
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.head.field("access-control-allow-origin").as_deref(), Some("https://app.example"));
    // Preflights carry no credentials (Fetch standard).
    let granted = listed.ask(preflight("https://app.example"));
    assert_eq!(granted.status(), 204, "{}", granted.text());
    for (field, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "authorization, content-type"),
    ] {
        assert_eq!(granted.head.field(field).as_deref(), Some(value));
    }
}

#[test]
fn an_agent_is_fresh_by_heartbeat_or_traffic_and_stale_after_its_interval_and_a_half() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        c.agents = vec![agent("fast", Duration::from_secs(1)), agent("slow", Duration::from_secs(600))];
    });
    let status_of = |name: &str| {
        metric(
            &sidecar.scrape(),
            &format!("agent_heartbeat_status{{agent_label=\"the {name}\",agent_name=\"{name}\"}}"),
        )
    };
    assert!(!sidecar.scrape().contains("agent_heartbeat_status{"), "never heard of is neither well nor ill");
    let stale = "agent_heartbeat_status{agent_label=\"the fast\",agent_name=\"fast\"} 0\n";
    until("the silent one is stale", || sidecar.scrape().contains(stale).then_some(()));
    assert!(!sidecar.scrape().contains("agent_heartbeat_status{agent_label=\"the slow\""));
    let beat = |name: &str, body: &str| {
        sidecar.ask(ask("POST", &format!("/api/agents/{name}/heartbeat")).body(body)).status()
    };
    assert_eq!(beat("fast", ""), 204);
    assert!(status_of("fast") > 0.5);
    until("it is stale again", || (status_of("fast") < 0.5).then_some(()));
    assert_eq!(sidecar.ask(chat("traffic").field("X-Agent-Id", "fast")).status(), 200);
    until("it is fresh by its traffic", || (status_of("fast") > 0.5).then_some(()));

    assert_eq!(beat("slow", r#"{"pending": 7, "stagnation_seconds": 90}"#), 204);
    let text = sidecar.scrape();
    let labels = "{agent_label=\"the slow\",agent_name=\"slow\"}";
    assert!((metric(&text, &format!("agent_workboard_pending{labels}")) - 7.0).abs() < 0.1);
    assert!(metric(&text, &format!("agent_task_stagnation_seconds{labels}")) >= 90.0);
    for (name, body, status) in [
        ("nobody", "", 404),
        ("slow", "{", 400),
        ("slow", r#"{"pending": -1}"#, 400),
        ("slow", r#"{"stagnation_seconds": -1}"#, 400),
        ("slow", r#"{"unknown": 1}"#, 400),
    ] {
        assert_eq!(beat(name, body), status, "{name} {body}");
    }
    assert_eq!(sidecar.ask(ask("GET", "/api/agents/slow/heartbeat")).status(), 405);
    let foreign = ask("POST", "/api/agents/slow/heartbeat").field("Origin", "https://evil.example");
    assert_eq!(sidecar.ask(foreign).status(), 403);
}

#[test]
fn absurd_figures_in_a_heartbeat_hurt_no_page() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.agents = vec![agent("wild", Duration::from_secs(600))]);
    let mut viewer = viewer(&sidecar);
    for body in [
        r#"{"stagnation_seconds": 18446744073709549568}"#,
        r#"{"stagnation_seconds": 1.7976931348623157e308}"#,
        r#"{"stagnation_seconds": 0.0000000000000000000001}"#,
        r#"{"pending": 18446744073709551615}"#,
    ] {
        assert_eq!(sidecar.ask(ask("POST", "/api/agents/wild/heartbeat").body(body)).status(), 204, "{body}");
        assert_eq!(sidecar.ask(page("/status")).status(), 200, "{body}");
        assert!(sidecar.scrape().contains("agent_workboard_pending"), "{body}");
        let _ = snapshot(&mut viewer);
    }
}

#[test]
fn an_agents_requests_waits_and_tokens_are_counted_for_it_and_for_the_busiest() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.agents = vec![agent("planner", Duration::from_secs(600))]);
    let body = r#"{"choices":[],"usage":{"prompt_tokens":120,"completion_tokens":34,"total_tokens":154}}"#;
    let told = |extra: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{extra}\r\n{body}", body.len()).into_bytes()
    };
    // A compressed one says nothing, whatever its bytes look like.
    upstream
        .keep_probes_apart()
        .answer_with(&told(""))
        .answer_with(&told("content-encoding: gzip\r\n"))
        .answer(400);
    for _ in 0..3 {
        sidecar.ask(chat("spends").field("X-Agent-Id", "planner"));
    }
    sidecar.ask(chat("spends too"));
    until("all are in the books", || (sidecar.status()["requests"]["total"] == 4).then_some(()));
    let text = sidecar.scrape();
    let planner = "agent_label=\"the planner\",agent_name=\"planner\"";
    for (series, value) in [
        (format!("agent_requests_total{{{planner},status=\"success\"}}"), 2.0),
        (format!("agent_requests_total{{{planner},status=\"error\"}}"), 1.0),
        (format!("agent_tokens_total{{{planner},kind=\"prompt\"}}"), 120.0),
        (format!("agent_tokens_total{{{planner},kind=\"completion\"}}"), 34.0),
    ] {
        assert!((metric(&text, &series) - value).abs() < 0.1, "{series}");
    }
    let status = sidecar.status();
    let busiest = &status["clients"][0];
    assert_eq!(
        (&busiest["client"], &busiest["requests"], &busiest["failed"]),
        (&json!("planner"), &json!(3), &json!(1))
    );
    assert_eq!(busiest["tokens"], json!({"prompt": 120, "completion": 34}));
    assert_eq!(status["clients"].as_array().unwrap().len(), 2);
}

#[test]
fn a_refused_key_is_seen_everywhere_until_a_request_succeeds_again() {
    let upstream = Upstream::start();
    let sidecar =
        Sidecar::with(&upstream, |c| c.upstream.api_key = Some(Secret::new("nvapi-wrong".to_owned())));
    let problems = || sidecar.status()["health"]["problems"].clone();
    assert_eq!(problems(), json!([]));
    upstream.keep_probes_apart().answer(401).answer(403);
    for _ in 0..2 {
        sidecar.ask(chat("refused"));
    }
    let found = problems();
    assert_eq!(
        (&found[0]["check"], &found[0]["not_ready"]),
        (&json!("key_accepted"), &json!(true)),
        "{found}"
    );
    assert!((metric(&sidecar.scrape(), "sidecar_upstream_key_refused") - 1.0).abs() < 0.1);
    assert_eq!(snapshot(&mut viewer(&sidecar))["health"]["problems"][0]["check"], "key_accepted");
    let ready = sidecar.ask(page("/health/ready"));
    assert_eq!((ready.status(), &ready.json()["key_accepted"]), (503, &json!(false)));
    assert_eq!(sidecar.ask(chat("accepted")).status(), 200);
    until("the problem is gone", || (problems() == json!([])).then_some(()));
    assert_eq!(sidecar.ask(page("/health/ready")).status(), 200);
}

// ---- metrics ----

#[test]
fn metrics_are_on_both_ports_and_nothing_but_health_is_on_the_second() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let on_metrics_port = |request: Ask| {
        let mut client = Client::connect(sidecar.app().metrics_address());
        client.send(Vec::from(request)).answer()
    };
    for answer in [sidecar.ask(page("/metrics")), on_metrics_port(page("/metrics"))] {
        assert_eq!(answer.head.field("content-type").as_deref(), Some("text/plain; version=0.0.4"));
        assert!(answer.text().contains("# TYPE sidecar_requests_total counter"));
    }
    assert_eq!(on_metrics_port(page("/health")).status(), 200);
    for request in
        [page("/status"), page("/api/dashboard"), local("POST", "/api/admin/reset"), chat("proxied?")]
    {
        assert_eq!(on_metrics_port(request).status(), 404);
    }
    assert!(
        upstream.received().iter().all(|r| r.line().starts_with("GET /v1/models ")),
        "only the probe went out"
    );
}

#[test]
fn a_429_counts_as_one_and_queue_latency_is_queue_time_only() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.upstream.max_attempts = 1);
    upstream.answer(429);
    assert_eq!(sidecar.ask(chat("refused")).status(), 429);
    let text = counted(&sidecar, 1);
    for (series, value) in [
        ("sidecar_requests_total{priority=\"normal\",status=\"ratelimited\"}", 1.0),
        ("sidecar_upstream_errors_total{provider=\"nvidia\",status_code=\"429\"}", 1.0),
        ("sidecar_requests_total{priority=\"normal\",status=\"error\"}", 0.0),
    ] {
        assert!((metric(&text, series) - value).abs() < 0.1, "{series}");
    }
    // An upstream that takes its time adds nothing to the time in the queue.
    let slow = upstream.hold();
    let mut client = sidecar.begin(model("nvidia/slow-model", "slow").priority("high"));
    slow.request();
    let asked_at = now();
    until("the upstream is slow", || (now().since(asked_at) > Duration::from_millis(300)).then_some(()));
    slow.answer(200);
    assert_eq!(client.answer().status(), 200);
    let text = counted(&sidecar, 2);
    assert!((metric(&text, "sidecar_queue_latency_seconds_count{priority=\"high\"}") - 1.0).abs() < 0.1);
    assert!(metric(&text, "sidecar_queue_latency_seconds_sum{priority=\"high\"}") < 0.1);
    assert!(metric(&text, "sidecar_upstream_latency_seconds_sum{provider=\"nvidia\"}") > 0.3);
}

#[test]
fn three_thousand_models_and_agents_leave_the_number_of_series_as_it_was() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let series = || sidecar.scrape().lines().filter(|line| !line.starts_with('#')).count();
    let mut client = sidecar.connect();
    let mut ask = |i: u32| {
        let request = model(&format!("nvidia/model-{i}"), "x").field("X-Agent-Id", &format!("agent-{i}"));
        client.send(Vec::from(request)).answer().status()
    };
    assert_eq!(ask(0), 200);
    let before = series();
    for i in 1..=3000 {
        assert_eq!(ask(i), 200);
    }
    assert_eq!(series(), before);
    let text = sidecar.scrape();
    assert!(!text.contains("model-") && !text.contains("agent-"));
    assert_eq!(sidecar.status()["agents"].as_array().unwrap().len(), 1, "all of them are one row");
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
    upstream.keep_probes_apart().answer(200).answer(429).answer(500);
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
