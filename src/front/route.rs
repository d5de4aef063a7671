//! Decides where a request goes: whether it draws on the NVIDIA quota, with which priority and for how long.

use crate::config::{Config, LimitUnmatched};
use crate::downstream::identity::cut;
use crate::downstream::job::Destination;
use crate::downstream::keepalive::Wanted;
use crate::http::{Head, path};
use crate::priority::Priority;
use crate::telemetry::record::Route;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// The answer of [`classify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Limited or pass-through.
    pub route: Route,
    /// Which upstream it goes to.
    pub destination: Destination,
    /// The model as the upstream will know it.
    pub model: Option<String>,
    /// Bytes of the body to be replaced, and by what, to take the gateway's prefix off the model.
    pub strip: Option<(Range<usize>, String)>,
    /// The model as the client calls it, for a stream: its signs of life name it.
    pub asked_model: Option<String>,
    /// What the body asks for beside the model.
    pub wanted: Wanted,
}

/// The longest model name that is kept for the limiter and the log.
const MAX_MODEL_NAME: usize = 128;

/// The shortest wait: who will not wait at all still takes a ticket that is there, and the way to it is not waiting.
const HANDOVER: Duration = Duration::from_millis(50);

/// Paths (behind an optional `/v1`) that run a model. A POST to one of them draws on the quota.
const INFERENCE_PATHS: [&str; 13] = [
    "chat/completions",
    "completions",
    "embeddings",
    "messages",
    "responses",
    "ranking",
    "rerank",
    "infer",
    "images/generations",
    "images/edits",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
];

/// Classifies a request by the gateway that its model names, or by its path where it names none.
#[must_use]
pub fn classify(head: &Head, body: &[u8], config: &Config) -> Class {
    let (wanted, body) = read(body);
    let asked_model = match &body {
        Body::Named { name, .. } if wanted.stream => Some(cut(name.clone().into_owned(), MAX_MODEL_NAME)),
        _ => None,
    };
    let mut class = Class { asked_model, wanted, ..route_of(head, body, config) };
    if is_free(head) {
        class.route = Route::PassThrough;
    }
    class
}

fn route_of(head: &Head, body: Body<'_>, config: &Config) -> Class {
    let routing = &config.routing;
    let (name, span) = match body {
        Body::Named { name, span } => (name, span),
        Body::Unnamed => return unmatched(head, None, config),
        // Limited for nothing does less harm than a request past the quota, or one that goes to another provider.
        Body::Unreadable => {
            return Class {
                route: Route::Limited,
                destination: Destination::Nvidia,
                model: None,
                strip: None,
                asked_model: None,
                wanted: Wanted::default(),
            };
        }
    };
    let prefixed = name.split_once('/').filter(|(prefix, _)| {
        let prefix = prefix.trim().to_lowercase();
        routing.gateways.contains(&prefix)
    });
    let Some((_, rest)) = prefixed else {
        return unmatched(head, Some(name.into_owned()), config);
    };
    let stripped = routing.strip_prefix.then(|| (span, json_string(rest)));
    let model = if routing.strip_prefix { rest } else { &name };
    Class {
        route: Route::Limited,
        destination: Destination::Nvidia,
        model: Some(cut(model.to_owned(), MAX_MODEL_NAME)),
        strip: stripped,
        asked_model: None,
        wanted: Wanted::default(),
    }
}

/// A request whose model names no gateway of NVIDIA's.
fn unmatched(head: &Head, model: Option<String>, config: &Config) -> Class {
    let goes_to = config.passthrough.url.as_ref().unwrap_or(&config.upstream.url);
    let limited = match config.routing.limit_unmatched {
        LimitUnmatched::Never => false,
        LimitUnmatched::Always => is_inference(head),
        LimitUnmatched::Auto => goes_to.is_nvidia() && is_inference(head),
    };
    Class {
        route: if limited { Route::Limited } else { Route::PassThrough },
        destination: Destination::Other,
        model: model.map(|m| cut(m, MAX_MODEL_NAME)),
        strip: None,
        asked_model: None,
        wanted: Wanted::default(),
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether this is an inference POST. Spellings that some server takes for the same path (case, a doubled `/v1`, doubled
/// or trailing slashes, percent-encoded letters, parameters) count as that path, so that none of them slips past the quota.
fn is_inference(head: &Head) -> bool {
    if head.method() != "POST" {
        return false;
    }
    let segments = path::segments(head.path());
    let version = segments.iter().take_while(|segment| *segment == "v1").count();
    let segments: Vec<&str> = segments[version..].iter().map(String::as_str).collect();
    INFERENCE_PATHS.contains(&segments.join("/").as_str())
        // NIM's models beside the language models: /v1/genai/{publisher}/{model} and its like.
        || matches!(segments.as_slice(), ["genai" | "cv" | "vlm" | "retrieval" | "biology", _, ..])
}

/// Whether this asks for what costs the upstream no inference, and NVIDIA's quota nothing: how long a text is, and what
/// became of a request that was answered with 202.
fn is_free(head: &Head) -> bool {
    let segments = path::segments(head.path());
    match (head.method(), segments.last().map(String::as_str)) {
        ("POST", Some(last)) => {
            ["tokenize", "detokenize", "count_tokens", "counttokens", "input_tokens"].contains(&last)
        }
        ("GET" | "HEAD", _) => {
            segments.iter().find(|segment| *segment != "v1").is_some_and(|s| s == "status")
        }
        _ => false,
    }
}

/// What a body says of the model.
enum Body<'a> {
    /// No JSON object, or one without a model.
    Unnamed,
    /// A JSON object that names one.
    Named {
        name: Cow<'a, str>,
        /// Where its JSON string stands in the body, quotes included.
        span: Range<usize>,
    },
    /// It begins as a JSON object and cannot be read as one (RFC 8259). Python's parsers, and so NIM's, take more than the
    /// standard allows: a byte order mark, UTF-16, `NaN`, control characters in strings, lone surrogates.
    Unreadable,
}

/// The top-level `model` of a JSON object, and whether its `stream` is `true`. As in JavaScript's and Python's parsers the
/// last of several wins.
fn read(body: &[u8]) -> (Wanted, Body<'_>) {
    let nothing = Wanted::default();
    if !begins_as_object(body) {
        return (nothing, Body::Unnamed);
    }
    let Ok(text) = std::str::from_utf8(body) else { return (nothing, Body::Unreadable) };
    match serde_json::Deserializer::from_str(text).deserialize_map(MembersVisitor) {
        Ok(Members { model, stream }) => {
            let wanted = Wanted { is_json: true, stream: stream == Some("true") };
            (wanted, model.map_or(Body::Unnamed, |raw| named(text, raw)))
        }
        Err(_) => (nothing, Body::Unreadable),
    }
}

/// What a model's value says, `raw` being where it is written in `text`.
fn named<'a>(text: &'a str, raw: &'a str) -> Body<'a> {
    // A raw value borrows from the text, so its place follows from the addresses.
    let start = raw.as_ptr().addr() - text.as_ptr().addr();
    let span = start..start + raw.len();
    if let Ok(plain) = serde_json::from_str::<&str>(raw) {
        return Body::Named { name: Cow::Borrowed(plain), span };
    }
    match serde_json::from_str::<String>(raw) {
        Ok(name) => Body::Named { name: Cow::Owned(name), span },
        Err(_) if raw.starts_with('"') => Body::Unreadable,
        Err(_) => Body::Unnamed,
    }
}

/// Whether the first character is a brace, in any encoding that Python's `json.loads` detects (UTF-8, -16 and -32, with or
/// without a byte order mark).
fn begins_as_object(body: &[u8]) -> bool {
    let is_mark_or_blank =
        |byte: &u8| matches!(byte, 0xef | 0xbb | 0xbf | 0xfe | 0xff | 0) || byte.is_ascii_whitespace();
    body.iter().find(|byte| !is_mark_or_blank(byte)) == Some(&b'{')
}

/// The members of a body that decide about its way, as they are written.
#[derive(Default)]
struct Members<'a> {
    model: Option<&'a str>,
    stream: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Model,
    Stream,
    #[serde(other)]
    Other,
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Model => members.model = Some(map.next_value::<&'de RawValue>()?.get()),
                Key::Stream => members.stream = Some(map.next_value::<&'de RawValue>()?.get()),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(members)
    }
}

/// The priority that the request asks for: `X-Priority`, else Dynamo's `X-Dynamo-Request-Priority`.
#[must_use]
pub fn priority(head: &Head) -> Priority {
    head.field("x-priority")
        .and_then(Priority::parse)
        .or_else(|| head.field("x-dynamo-request-priority").and_then(dynamo_priority))
        .unwrap_or_default()
}

/// Dynamo's request priority is an integer, larger is more urgent, 0 is normal.
fn dynamo_priority(value: &[u8]) -> Option<Priority> {
    if let Some(named) = Priority::parse(value) {
        return Some(named);
    }
    let number: i64 = std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()?;
    Some(match number {
        i64::MIN..=-1 => Priority::Low,
        0 => Priority::Normal,
        1..=9 => Priority::High,
        _ => Priority::Urgent,
    })
}

/// How long the client is willing to queue: `X-Sidecar-Max-Wait` in seconds, never longer than `most`. A value that is
/// no number of seconds is ignored.
#[must_use]
pub fn patience(head: &Head, most: Duration) -> Duration {
    head.field("x-sidecar-max-wait")
        .and_then(|v| std::str::from_utf8(v.trim_ascii()).ok()?.parse::<f64>().ok())
        .filter(|secs| secs.is_finite() && *secs >= 0.0)
        .map_or(most, |secs| crate::clock::duration_from_secs_f64(secs).min(most))
        .max(HANDOVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BaseUrl;
    use crate::http::samples::request;

    fn class_of(path: &str, body: &str, config: &Config) -> Class {
        let request = request("POST", path, "", body);
        classify(&request.head, &request.body, config)
    }

    fn local() -> Config {
        let mut config = Config::default();
        config.upstream.url = BaseUrl::parse("http://127.0.0.1:8000/v1").unwrap();
        config
    }

    const CHAT: &str = "/v1/chat/completions";

    #[test]
    fn the_models_prefix_names_the_gateway_in_any_case_and_with_blanks() {
        for model in ["nvidia/a/b", "NVIDIA/x", " nvidia-gateway /x", "nvidiavx/x", "nvidiavx18088980513/x"] {
            let class = class_of(CHAT, &format!(r#"{{"model":"{model}"}}"#), &local());
            assert_eq!((class.route, class.destination), (Route::Limited, Destination::Nvidia), "{model}");
        }
        for model in ["openai/gpt", "nvidia", "xnvidia/x", "deepseek-ai/nvidia/x", "/nvidia/x", ""] {
            let class = class_of(CHAT, &format!(r#"{{"model":"{model}"}}"#), &local());
            assert_eq!(class.route, Route::PassThrough, "{model}");
        }
    }

    #[test]
    fn what_names_no_model_is_not_nvidias() {
        for body in
            ["", "[]", "null", r#"{"model":7}"#, r#"{"m":{"model":"nvidia/x"}}"#, r#"["model","nvidia/x"]"#]
        {
            assert_eq!(class_of(CHAT, body, &local()).route, Route::PassThrough, "{body}");
        }
    }

    #[test]
    fn the_last_of_several_models_counts_as_it_does_for_the_upstream() {
        let body = r#"{"model":"nvidia/x","model":"other/y"}"#;
        assert_eq!(class_of(CHAT, body, &local()).route, Route::PassThrough);
        let body = r#"{"model":"other/y", "messages":[{"model":"z"}], "mod\u0065l" : "nvidia\/x"}"#;
        assert_eq!(class_of(CHAT, body, &local()).model.as_deref(), Some("nvidia/x"));
    }

    #[test]
    fn a_stream_is_wanted_where_the_last_stream_member_is_true() {
        let wanted = |body: &str| class_of(CHAT, body, &local()).wanted;
        for (body, stream) in [
            (r#"{"stream":true,"model":"nvidia/x"}"#, true),
            (r#"{"stream" : true }"#, true),
            (r#"{"stream":false,"stream":true}"#, true),
            (r#"{"stream":true,"stream":false}"#, false),
            (r#"{"stream":"true"}"#, false),
            (r#"{"options":{"stream":true}}"#, false),
            ("{}", false),
        ] {
            assert_eq!(wanted(body), Wanted { is_json: true, stream }, "{body}");
        }
        assert_eq!(wanted("[true]"), Wanted::default());
        let class = class_of(CHAT, r#"{"stream":true,"model":"nvidia/x"}"#, &local());
        assert_eq!(class.asked_model.as_deref(), Some("nvidia/x"));
    }

    #[test]
    fn unmatched_inference_is_limited_where_it_would_reach_nvidia() {
        let nvidia = Config::default();
        let body = r#"{"model":"deepseek-ai/deepseek-v4-pro"}"#;
        for path in [
            CHAT,
            "/v1/embeddings",
            "/chat/completions",
            "/v1//chat/completions/",
            "/v1/%63hat/completions?x",
            "/V1/Chat/Completions",
            "/v1/v1/chat/completions",
            "/v1/chat/completions;v=1",
            "/v1/responses",
        ] {
            assert_eq!(class_of(path, body, &nvidia).route, Route::Limited, "{path}");
        }
        for path in ["/v1/models", "/v1/files", "/v1/chat/completions/123/messages", "/"] {
            assert_eq!(class_of(path, body, &nvidia).route, Route::PassThrough, "{path}");
        }
        assert_eq!(class_of(CHAT, body, &local()).route, Route::PassThrough);
        let mut elsewhere = Config::default();
        elsewhere.passthrough.url = Some(BaseUrl::parse("https://api.example/v1").unwrap());
        assert_eq!(class_of(CHAT, body, &elsewhere).route, Route::PassThrough);
        let get = request("GET", CHAT, "", "");
        assert_eq!(classify(&get.head, &get.body, &nvidia).route, Route::PassThrough);
    }

    #[test]
    fn bodies_that_only_others_can_read_are_limited_and_never_go_elsewhere() {
        let mut elsewhere = local();
        elsewhere.passthrough.url = Some(BaseUrl::parse("https://api.example/v1").unwrap());
        let class = |body: &[u8]| {
            let head = request("POST", "/anything", "", "").head;
            let class = classify(&head, body, &elsewhere);
            (class.route, class.destination)
        };
        let utf_16: Vec<u8> =
            "\u{feff}{\"model\":\"nvidia/m\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for body in [
            b"\xef\xbb\xbf{\"model\":\"nvidia/m\"}".as_slice(),
            utf_16.as_slice(),
            br#"{"temperature":NaN,"model":"nvidia/m"}"#,
            b"{\"a\":\"tab\there\",\"model\":\"nvidia/m\"}",
            br#"{"model":"nvidia/m\ud83d"}"#,
            br#"{"k\ud83d":1,"model":"nvidia/m"}"#,
            br#"{"model":"nvidia/m","#,
        ] {
            assert_eq!(class(body), (Route::Limited, Destination::Nvidia), "{}", body.escape_ascii());
        }
        for body in [br#"{"model":7}"#.as_slice(), b"", b"--boundary", b"[{}]", br#"{"model":"gpt-5"}"#] {
            assert_eq!(class(body), (Route::PassThrough, Destination::Other), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn counting_tokens_and_asking_for_a_result_take_no_ticket() {
        let body = r#"{"model":"nvidia/x"}"#;
        for path in ["/v1/messages/count_tokens", "/tokenize", "/v1/tokenize?x", "/v1/responses/input_tokens"]
        {
            let class = class_of(path, body, &Config::default());
            assert_eq!((class.route, class.destination), (Route::PassThrough, Destination::Nvidia), "{path}");
        }
        let get = request("GET", "/v1/status/0a1b", "", body);
        assert_eq!(classify(&get.head, &get.body, &Config::default()).route, Route::PassThrough);
        assert_eq!(class_of("/v1/messages", body, &Config::default()).route, Route::Limited);
    }

    #[test]
    fn limit_unmatched_can_be_forced_either_way() {
        let body = r#"{"model":"other/x"}"#;
        let mut always = local();
        always.routing.limit_unmatched = LimitUnmatched::Always;
        assert_eq!(class_of(CHAT, body, &always).route, Route::Limited);
        let mut never = Config::default();
        never.routing.limit_unmatched = LimitUnmatched::Never;
        assert_eq!(class_of(CHAT, body, &never).route, Route::PassThrough);
    }

    #[test]
    fn the_prefix_is_cut_out_of_the_body_and_nothing_else_is_touched() {
        let mut config = local();
        config.routing.strip_prefix = true;
        let body = r#"{ "n" : 1.0, "model" : "nvidia/deepseek-ai\/\u00e9" ,"x":"nvidia/a"}"#;
        let class = class_of(CHAT, body, &config);
        assert_eq!(class.model.as_deref(), Some("deepseek-ai/é"));
        let (span, model) = class.strip.unwrap();
        let sent = format!("{}{model}{}", &body[..span.start], &body[span.end..]);
        assert_eq!(sent, r#"{ "n" : 1.0, "model" : "deepseek-ai/é" ,"x":"nvidia/a"}"#);
    }

    #[test]
    fn priority_comes_from_the_header_or_its_alias() {
        let of = |fields: &str| priority(&request("GET", "/", fields, "").head);
        assert_eq!(of("X-Priority: URGENT\r\n"), Priority::Urgent);
        assert_eq!(of("X-Priority: whatever\r\n"), Priority::Normal);
        assert_eq!(of(""), Priority::Normal);
        assert_eq!(of("X-Dynamo-Request-Priority: 5\r\n"), Priority::High);
        assert_eq!(of("X-Dynamo-Request-Priority: -1\r\n"), Priority::Low);
        assert_eq!(of("X-Priority: low\r\nX-Dynamo-Request-Priority: 50\r\n"), Priority::Low);
    }

    #[test]
    fn a_clients_patience_only_ever_shortens_the_wait() {
        let most = Duration::from_secs(600);
        let of = |value: &str| {
            patience(&request("GET", "/", &format!("X-Sidecar-Max-Wait: {value}\r\n"), "").head, most)
        };
        assert_eq!(of("2.5"), Duration::from_millis(2500));
        assert_eq!(of("0"), HANDOVER, "a ticket that is there is taken");
        for ignored in ["9999", "-1", "NaN", "inf", "soon", ""] {
            assert_eq!(of(ignored), most, "{ignored}");
        }
    }
}
