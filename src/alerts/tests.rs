//! What an operator relies on, against a scripted Feishu.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use serde_json::{Value, json};
use ureq::Agent;

use super::alert::Severity;
use super::bridge::{Bridge, Tuning};
use super::card::Style;
use super::queue::SendPace;
use super::settings::{AlertRoute, BridgeSettings, Way};
use super::sign::sign;
use super::webhook::tests::{alert, payload};
use crate::clock::Clock;
use crate::config::{Log, LogFormat, Secret};
use crate::http::server::{Limits, Server};

const PATIENCE: Duration = Duration::from_secs(20);
const TUNING: Tuning = Tuning {
    capacity: 10,
    pace: SendPace { apart: Duration::ZERO, backoff: Duration::from_millis(5) },
    timeout: PATIENCE,
    flush: PATIENCE,
};
const SUCCESS: Reply = Reply::Code(200, r#"{"code":0,"msg":"success","data":{}}"#);
const RATE_LIMIT: Reply = Reply::Code(200, r#"{"code":11232,"msg":"frequency limited"}"#);
const BAD_CARD: Reply = Reply::Code(200, r#"{"code":11246,"msg":"parse card json err"}"#);

enum Reply {
    Code(u16, &'static str),
    /// None, until the test ends.
    Silence,
}

/// A Feishu that answers what the test says, and then success.
struct Feishu {
    /// Dropped first, so that silent handlers end before the server waits for them.
    _hold: Sender<()>,
    script: Arc<Mutex<VecDeque<Reply>>>,
    posts: Receiver<(String, Value)>,
    server: Server,
}

impl Feishu {
    fn start() -> Feishu {
        let (hold, held) = bounded::<()>(0);
        let (post, posts) = unbounded();
        let script = Arc::new(Mutex::new(VecDeque::new()));
        let replies = Arc::clone(&script);
        let limits =
            Limits { max_connections: 8, max_body_bytes: 20_000, idle: PATIENCE, transfer: PATIENCE };
        let server = Server::start("feishu", listener(), limits, Clock::start(), move |request, reply| {
            let body = serde_json::from_slice(&request.body).unwrap_or_default();
            let answer = replies.lock().pop_front().unwrap_or(SUCCESS);
            let _ = post.send((request.head.path().to_owned(), body));
            match answer {
                Reply::Code(status, body) => reply.send(status, "application/json", &[], body.as_bytes()),
                Reply::Silence => {
                    let _ = held.recv();
                    Err(std::io::ErrorKind::ConnectionAborted.into())
                }
            }
        });
        Feishu { _hold: hold, script, posts, server: server.expect("a server") }
    }

    fn answers(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().extend(replies);
    }

    /// A bot at this Feishu.
    fn bot(&self, name: &str, secret: Option<&str>) -> Way {
        let webhook = Secret::new(format!("http://{}/open-apis/bot/v2/hook/{name}", self.server.address()));
        Way::Feishu { webhook, secret: secret.map(Secret::new) }
    }

    fn next_post(&self) -> (String, Value) {
        self.posts.recv_timeout(PATIENCE).expect("a message")
    }

    /// The next card's title.
    fn next_title(&self) -> String {
        let (_, message) = self.next_post();
        message["card"]["header"]["title"]["content"].as_str().unwrap_or_default().to_owned()
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn settings(ways: impl IntoIterator<Item = (Severity, Way)>) -> BridgeSettings {
    BridgeSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        token: None,
        style: Style { dashboard: Some("http://127.0.0.1:3000/d/nvidia-sidecar".into()), ..Style::default() },
        command_environment: vec![("PATH", "/usr/bin:/bin".into())],
        routes: ways.into_iter().map(|(severity, way)| AlertRoute { severity, way }).collect(),
        log: Log { level: log::LevelFilter::Off, format: LogFormat::Json },
        warnings: Vec::new(),
    }
}

fn bridge(ways: impl IntoIterator<Item = (Severity, Way)>, tuning: Tuning) -> Bridge {
    Bridge::start(settings(ways), listener(), tuning, Clock::start()).expect("a bridge")
}

fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).proxy(None);
    config.timeout_global(Some(PATIENCE)).build().into()
}

/// Posts to the webhook as Alertmanager does.
fn post(address: SocketAddr, body: &str) -> (u16, String) {
    let request =
        agent().post(format!("http://{address}/webhook")).header("content-type", "application/json");
    let mut answer = request.send(body).expect("an answer");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
}

fn notify(bridge: &Bridge, alerts: &[Value]) -> (u16, String) {
    post(bridge.address(), &payload(alerts).to_string())
}

fn get(bridge: &Bridge, path: &str) -> (u16, String) {
    let mut answer = agent().get(format!("http://{}{path}", bridge.address())).call().expect("an answer");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
}

/// The value of a series in the bridge's metrics.
fn series(bridge: &Bridge, name: &str) -> f64 {
    let (_, text) = get(bridge, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(name);
    line.parse().expect("a number")
}

#[test]
fn an_alert_arrives_as_one_signed_card_and_its_end_as_another() {
    let feishu = Feishu::start();
    let bridge = bridge([(Severity::Critical, feishu.bot("critical", Some("s3cret")))], TUNING);
    let (status, answer) = notify(&bridge, &[alert("a", "firing", "critical")]);
    assert_eq!((status, answer.as_str()), (200, r#"{"duplicates":0,"queued":1}"#));

    let (path, message) = feishu.next_post();
    assert_eq!(path, "/open-apis/bot/v2/hook/critical");
    assert_eq!(message["msg_type"], "interactive");
    assert_eq!(message["card"]["header"]["template"], "red");
    let timestamp = message["timestamp"].as_str().expect("a timestamp as text").parse().expect("seconds");
    assert_eq!(message["sign"], sign(timestamp, &Secret::new("s3cret")));

    notify(&bridge, &[alert("a", "resolved", "critical")]);
    let (_, message) = feishu.next_post();
    assert_eq!(message["card"]["header"]["template"], "green");
    assert_eq!(bridge.stop(), 0);
}

#[test]
fn without_a_secret_nothing_is_signed() {
    let feishu = Feishu::start();
    let bridge = bridge([(Severity::Warning, feishu.bot("w", None))], TUNING);
    notify(&bridge, &[alert("a", "firing", "warning")]);
    let (_, message) = feishu.next_post();
    assert_eq!((message.get("sign"), message.get("timestamp")), (None, None));
}

#[test]
fn what_feishu_does_not_take_is_sent_again_in_its_order() {
    let feishu = Feishu::start();
    let bridge = bridge([(Severity::Critical, feishu.bot("c", None))], TUNING);
    feishu.answers([
        Reply::Code(200, r#"{"code":19021,"msg":"sign match fail"}"#),
        RATE_LIMIT,
        Reply::Code(502, "<html>"),
        Reply::Code(200, r#"{"StatusCode":1,"StatusMessage":"no"}"#),
    ]);
    let mut second = alert("b", "firing", "critical");
    second["annotations"]["summary"] = "second".into();
    notify(&bridge, &[alert("a", "firing", "critical"), second]);
    for _ in 0..5 {
        assert_eq!(feishu.next_title(), "[CRITICAL] Firing: The NVIDIA API does not answer · sidecar:9191");
    }
    assert_eq!(feishu.next_title(), "[CRITICAL] Firing: second · sidecar:9191");
    assert_eq!(bridge.stop(), 0);
    assert!(feishu.posts.is_empty(), "and nothing twice");
}

#[test]
fn a_silent_feishu_is_given_up_in_time_and_asked_again() {
    let feishu = Feishu::start();
    let tuning = Tuning { timeout: Duration::from_millis(100), ..TUNING };
    let bridge = bridge([(Severity::Critical, feishu.bot("c", None))], tuning);
    feishu.answers([Reply::Silence]);
    notify(&bridge, &[alert("a", "firing", "critical")]);
    assert_eq!(feishu.next_post(), feishu.next_post());
}

#[test]
fn a_word_that_was_said_is_not_said_again() {
    let feishu = Feishu::start();
    let bridge = bridge([(Severity::Critical, feishu.bot("c", None))], TUNING);
    notify(&bridge, &[alert("a", "firing", "critical")]);
    feishu.next_post();
    // The group again, because one alert has joined it.
    let (_, answer) = notify(&bridge, &[alert("a", "firing", "critical"), alert("b", "firing", "critical")]);
    assert_eq!(answer, r#"{"duplicates":1,"queued":1}"#);
    feishu.next_post();
    assert_eq!(bridge.stop(), 0);
    assert!(feishu.posts.is_empty());
}

#[test]
fn a_full_queue_answers_503_and_loses_nothing() {
    let feishu = Feishu::start();
    let tuning = Tuning { capacity: 1, timeout: Duration::from_millis(300), ..TUNING };
    let bridge = bridge([(Severity::Critical, feishu.bot("c", None))], tuning);
    feishu.answers([Reply::Silence]);
    let group = [alert("a", "firing", "critical"), alert("b", "firing", "critical")];
    assert_eq!(notify(&bridge, &group).0, 503);
    assert_eq!(series(&bridge, r#"alert_bridge_webhooks_total{result="full"}"#), 1.0);
    let (first, again) = (feishu.next_post(), feishu.next_post());
    assert_eq!(first, again, "the one that had room");
    // Alertmanager sends the group again until there is room for the other.
    while notify(&bridge, &group).0 == 503 {
        std::thread::yield_now();
    }
    feishu.next_post();
    assert_eq!(bridge.stop(), 0);
    assert!(feishu.posts.is_empty(), "each of the two has arrived once");
}

#[test]
fn a_card_that_feishu_cannot_read_arrives_as_text() {
    let feishu = Feishu::start();
    let bridge = bridge([(Severity::Critical, feishu.bot("c", None))], TUNING);
    feishu.answers([BAD_CARD]);
    notify(&bridge, &[alert("a", "firing", "critical")]);
    assert_eq!(feishu.next_post().1["msg_type"], "interactive");
    let (_, message) = feishu.next_post();
    assert_eq!(message["msg_type"], "text");
    assert!(message["content"]["text"].as_str().is_some_and(|text| text.starts_with("[CRITICAL] Firing")));
}

#[test]
fn severities_go_their_ways_and_one_without_a_way_goes_the_others() {
    let feishu = Feishu::start();
    let ways = [(Severity::Critical, feishu.bot("c", None)), (Severity::Warning, feishu.bot("w", None))];
    let bridge = bridge(ways, TUNING);
    for (severity, bot) in [("warning", "w"), ("critical", "c"), ("info", "w")] {
        notify(&bridge, &[alert(severity, "firing", severity)]);
        assert!(feishu.next_post().0.ends_with(bot), "{severity}");
    }
    assert_eq!(bridge.stop(), 0);
    let only_critical = self::bridge([(Severity::Critical, feishu.bot("c", None))], TUNING);
    notify(&only_critical, &[alert("a", "firing", "warning")]);
    let (path, message) = feishu.next_post();
    assert!(path.ends_with("/c"), "{path}");
    assert_eq!(message["card"]["header"]["template"], "orange");
}

#[test]
fn a_bot_that_fails_delays_no_other() {
    let feishu = Feishu::start();
    let dead = Way::Feishu { webhook: Secret::new("http://127.0.0.1:1/hook"), secret: None };
    let bridge = bridge([(Severity::Critical, dead), (Severity::Warning, feishu.bot("w", None))], TUNING);
    notify(&bridge, &[alert("a", "firing", "critical"), alert("b", "firing", "warning")]);
    assert_eq!(feishu.next_title(), "[WARNING] Firing: The NVIDIA API does not answer · sidecar:9191");
}

#[test]
fn a_command_gets_the_text_beside_feishu() {
    let feishu = Feishu::start();
    let file = std::env::temp_dir().join(format!("alert-command-{}", std::process::id()));
    let words = ["sh", "-c", "cat > \"$1\"", "page", &file.to_string_lossy()].map(str::to_owned);
    let ways =
        [(Severity::Critical, feishu.bot("c", None)), (Severity::Critical, Way::Command(words.to_vec()))];
    let bridge = bridge(ways, TUNING);
    notify(&bridge, &[alert("a", "firing", "critical")]);
    feishu.next_post();
    assert_eq!(bridge.stop(), 0);
    let text = std::fs::read_to_string(&file).expect("the command's file");
    std::fs::remove_file(&file).expect("removed");
    assert!(text.starts_with("[CRITICAL] Firing: The NVIDIA API does not answer · sidecar:9191\n"), "{text}");
}

#[test]
fn a_stop_sends_what_is_queued_whatever_failed_before() {
    let feishu = Feishu::start();
    let slow = SendPace { apart: Duration::ZERO, backoff: PATIENCE * 10 };
    let bridge = bridge([(Severity::Critical, feishu.bot("c", None))], Tuning { pace: slow, ..TUNING });
    feishu.answers([RATE_LIMIT]);
    notify(&bridge, &[alert("a", "firing", "critical")]);
    let first = feishu.next_post();
    let refused = r#"alert_bridge_deliveries_total{result="rate_limited",severity="critical",way="feishu"}"#;
    while series(&bridge, refused) == 0.0 {
        std::thread::yield_now();
    }
    assert_eq!(bridge.stop(), 0);
    assert_eq!(first, feishu.next_post());
}

#[test]
fn a_stop_is_bounded_and_counts_what_is_lost() {
    let dead = Way::Feishu { webhook: Secret::new("http://127.0.0.1:1/hook"), secret: None };
    let tuning = Tuning { flush: Duration::from_millis(50), ..TUNING };
    let bridge = bridge([(Severity::Critical, dead)], tuning);
    notify(&bridge, &[alert("a", "firing", "critical"), alert("b", "firing", "critical")]);
    assert_eq!(bridge.stop(), 2);
}

#[test]
fn what_is_not_a_webhook_call_is_refused_clearly() {
    let feishu = Feishu::start();
    let bridge = bridge([(Severity::Critical, feishu.bot("c", None))], TUNING);
    let mut version_5 = payload(&[]);
    version_5["version"] = json!("5");
    let deep = format!("{{\"version\":{}", "[".repeat(100_000));
    for (body, status, reason) in [
        (&*deep, 400, "recursion limit"),
        ("not JSON", 400, "not a webhook payload"),
        (&*version_5.to_string(), 400, "unknown payload version \"5\""),
        (&*format!("\"{}\"", "x".repeat(1024 * 1024)), 413, ""),
    ] {
        let (refused, text) = post(bridge.address(), body);
        assert_eq!(refused, status, "{text}");
        assert!(text.contains(reason), "{text}");
    }
    assert_eq!(get(&bridge, "/webhook").0, 405);
    assert_eq!(get(&bridge, "/").0, 404);
    let url = format!("http://{}/webhook", bridge.address());
    let foreign = agent().post(url).header("origin", "https://example.org").send("{}").expect("an answer");
    assert_eq!(foreign.status(), 403);
    assert_eq!(post(bridge.address(), &payload(&[]).to_string()).0, 200, "an empty group is not an error");
}

#[test]
fn with_a_token_only_its_owner_can_post() {
    let feishu = Feishu::start();
    let with_token = BridgeSettings {
        token: Some(Secret::new("t0ken")),
        ..settings([(Severity::Critical, feishu.bot("c", None))])
    };
    let bridge = Bridge::start(with_token, listener(), TUNING, Clock::start()).expect("a bridge");
    let body = payload(&[alert("a", "firing", "critical")]).to_string();
    let call = |authorization: &str| {
        let request = agent().post(format!("http://{}/webhook", bridge.address()));
        request.header("authorization", authorization).send(&body).expect("an answer").status().as_u16()
    };
    assert_eq!(post(bridge.address(), &body).0, 401);
    for wrong in ["Bearer", "Bearer ", "Bearer t0ke", "Bearer t0ken2", "Basic t0ken", "t0ken"] {
        assert_eq!(call(wrong), 401, "{wrong}");
    }
    assert_eq!(call("Bearer t0ken"), 200);
    feishu.next_post();
    assert_eq!(series(&bridge, r#"alert_bridge_webhooks_total{result="unauthorized"}"#), 7.0);
    assert_eq!(get(&bridge, "/health").0, 200);
}

#[test]
fn the_pages_show_how_it_is_and_no_secret() {
    let feishu = Feishu::start();
    let bridge = bridge([(Severity::Critical, feishu.bot("hidden", Some("s3cret")))], TUNING);
    notify(&bridge, &[alert("a", "firing", "critical"), alert("a", "firing", "critical")]);
    feishu.next_post();
    let (status, health) = get(&bridge, "/health");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    let (_, text) = get(&bridge, "/metrics");
    for line in [
        r#"alert_bridge_alerts_total{result="queued",severity="critical",state="firing"} 1"#,
        r#"alert_bridge_alerts_total{result="duplicate",severity="critical",state="firing"} 1"#,
        r#"alert_bridge_queue_capacity{severity="critical",way="feishu"} 10"#,
    ] {
        assert!(text.lines().any(|present| present == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("hidden") && !text.contains("s3cret"), "{text}");
}
