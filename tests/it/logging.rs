//! What the log says, and what it may not say.

use crate::ask::{Ask, ask, chat, model};
use crate::process::{ConfigFile, Process, ended, yaml};
use crate::upstream::Upstream;
use crate::wire;
use rustix::process::Signal;
use serde_json::Value;
use std::process::Stdio;

#[test]
fn each_request_is_one_json_line_with_its_id_and_its_figures() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, ""));
    let process = file.start();
    upstream.answer_with(&wire::json(200, &[("x-request-id", "of-the-upstream")], "{}"));
    process.ask(
        chat("one").field("X-Agent-Id", "planner").field("X-Request-Id", "of-the-client").priority("high"),
    );
    process.ask(chat("two").field("X-Request-Id", "second"));
    process.ask(model("other/model", "three"));
    process.signal(Signal::TERM);
    let (_, log) = ended(process);
    let requests: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .filter(|line| line["target"] == "nvidia_sidecar::request")
        .collect();
    assert_eq!(requests.len(), 3, "{log:#?}");
    let first = requests.iter().find(|line| line["agent"] == "planner").expect("the first one's line");
    for (field, value) in [
        ("request_id", "of-the-upstream".into()),
        ("agent", "planner".into()),
        ("priority", "high".into()),
        ("model", "nvidia/test-model".into()),
        ("status", Value::from(200)),
        ("attempts", Value::from(1)),
        ("retreat_state", "normal".into()),
        ("effective_rpm", Value::from(40)),
    ] {
        assert_eq!(first[field], value, "{field} in {first}");
    }
    assert!(
        first["timestamp"].is_string() && first["queue_ms"].is_u64() && first["upstream_ms"].is_u64(),
        "{first}"
    );
    // The books of a request are closed once its answer is out, so a later one may be quicker.
    assert!(requests.iter().any(|line| line["request_id"] == "second"), "{requests:#?}");
    assert!(requests.iter().any(|line| line["provider"] == "passthrough"), "{requests:#?}");
}

#[test]
fn the_text_form_reads_like_a_sentence() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "log_format: text"));
    let mut process = file.start();
    process.ask(chat("one").field("X-Agent-Id", "planner").field("X-Request-Id", "mine"));
    let line = process.await_line("request: ");
    assert!(line.contains(" INFO  request: answered request_id=mine agent=planner"), "{line}");
    assert!(!line.contains('\u{1b}'), "no colours in a file: {line}");
}

#[test]
fn no_secret_reaches_the_log_a_page_or_a_metric_at_any_level() {
    const SECRETS: [&str; 6] = [
        "nvapi-UPSTREAMKEY-0123456789abcdef",
        "sk-PASSTHROUGHKEY-0123456789abcdef",
        "ADMINTOKEN-0123456789abcdef",
        "CLIENTTOKEN-ONE-0123456789abcdef",
        "CLIENTTOKEN-TWO-0123456789abcdef",
        "WRONGTOKEN-0123456789abcdef",
    ];
    let [upstream_key, passthrough_key, admin, one, two, wrong] = SECRETS;
    for format in ["json", "text"] {
        let (upstream, other) = (Upstream::start(), Upstream::start());
        let yaml = yaml(
            &upstream,
            &format!(
                "log_level: TRACE\nlog_format: {format}\nupstream_api_key: {upstream_key}\n\
                 passthrough_url: {}\npassthrough_api_key: {passthrough_key}\nretry_on: [429, connect, 503]\n\
                 client_tokens:\n  one: {one}\n  two: {two}\ndrain_timeout: 1",
                other.url("/v1")
            ),
        );
        let file = ConfigFile::new(&yaml);
        let mut command = file.command();
        let mut process = Process::of(command.env("SIDECAR_ADMIN_TOKEN", admin).stderr(Stdio::piped()));
        let bearer = |ask: Ask, token: &str| ask.field("Authorization", &format!("Bearer {token}"));
        let mut pages = String::new();

        upstream.answer(429).answer(503).answer(200);
        assert_eq!(process.ask(bearer(chat("retried"), one)).status(), 200);
        assert_eq!(upstream.received()[0].field("authorization"), Some(format!("Bearer {upstream_key}")));
        assert_eq!(process.ask(bearer(model("other/model", "passed"), two)).status(), 200);
        assert_eq!(other.received()[0].field("authorization"), Some(format!("Bearer {passthrough_key}")));
        let query = format!("/v1/models?api_key={one}");
        assert_eq!(process.ask(bearer(ask("GET", &query), one)).status(), 200);
        // Refusals: by the sidecar, by a broken upstream, of a malformed request.
        pages += &process.ask(bearer(chat("refused"), wrong)).assert_error(401, "InvalidRequest").text();
        upstream.answer_and_close(b"no HTTP at all\r\n\r\n");
        pages += &process.ask(bearer(chat("broken"), one)).text();
        let mut malformed = process.connect();
        malformed.send(format!("GET / HTTP/1.1\r\nAuthorization Bearer {one}\r\n\r\n"));
        pages += &malformed.answer().text();
        // The operator's pages.
        for (token, status) in [(wrong, 403), (admin, 200)] {
            let answer = process.ask(bearer(ask("GET", "/api/admin/config"), token));
            assert_eq!(answer.status(), status);
            pages += &answer.text();
        }
        let change =
            format!(r#"{{"rate_rpm": 50, "admin_token": "{wrong}", "upstream_api_key": "{upstream_key}"}}"#);
        let refused = process.ask(bearer(ask("POST", "/api/admin/config"), admin).body(change));
        assert_eq!(refused.status(), 400);
        pages += &refused.text();
        process.ask(bearer(ask("POST", "/api/admin/config"), admin).body(r#"{"rate_rpm": 50}"#));
        process.await_line("admin: changed");
        for page in ["/status", "/metrics", "/health/ready", "/api/queue"] {
            pages += &process.ask(ask("GET", page)).text();
        }
        // A reload that fails over secrets, one that changes them, and the stop.
        file.write(&format!(
            "{yaml}\nupstream_url: {upstream_key}\nadmin_token: [{wrong}]\nclient_tokens: {two}"
        ));
        process.signal(Signal::HUP);
        process.await_line("nothing was changed");
        file.write(&yaml.replace(one, two).replacen(two, wrong, 1));
        process.signal(Signal::HUP);
        process.await_line("reload: ");
        process.signal(Signal::TERM);
        let (_, log) = ended(process);
        let said = log.join("\n") + &pages;
        assert!(log.len() > 10, "{log:#?}");
        for secret in SECRETS {
            // A masked one shows four characters; six in a row of what follows them is a leak.
            let tail = &secret[secret.len() - 12..];
            for leak in [secret, &secret[4..]] {
                assert!(!said.contains(leak), "{leak} is in\n{said}");
            }
            assert!(!said.contains(tail), "{tail} is in\n{said}");
        }
    }
}
