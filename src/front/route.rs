//! Decides where a request goes: whether it draws on the NVIDIA quota, with which priority, for whom and for how long.

use crate::config::{Config, LimitUnmatched};
use crate::http::Head;
use crate::priority::Priority;
use crate::record::Route;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
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
}

/// Which of the two upstreams a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `upstream_url`.
    Nvidia,
    /// `passthrough_url`; where it is not set, `upstream_url` too.
    Other,
}

/// The longest agent name that is kept; the rest is cut.
const MAX_CLIENT_NAME: usize = 64;

/// The longest model name that is kept for the limiter and the log.
const MAX_MODEL_NAME: usize = 128;

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
    let routing = &config.routing;
    let Some(found) = find_model(body) else {
        return unmatched(head, None, config);
    };
    let prefixed = found.name.split_once('/').filter(|(prefix, _)| {
        let prefix = prefix.trim().to_lowercase();
        routing.gateways.contains(&prefix)
    });
    let Some((_, rest)) = prefixed else {
        return unmatched(head, Some(found.name.into_owned()), config);
    };
    let stripped = routing.strip_prefix.then(|| (found.span.clone(), json_string(rest)));
    let model = if routing.strip_prefix { rest } else { &found.name };
    Class {
        route: Route::Limited,
        destination: Destination::Nvidia,
        model: Some(cut(model.to_owned(), MAX_MODEL_NAME)),
        strip: stripped,
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
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// Whether this is an inference POST. Spellings that servers take for the same path (a doubled or trailing slash,
/// percent-encoded letters) count as that path, so that none of them slips past the quota.
fn is_inference(head: &Head) -> bool {
    if head.method() != "POST" {
        return false;
    }
    let decoded = percent_encoding::percent_decode_str(head.path()).decode_utf8_lossy();
    let segments: Vec<&str> = decoded.split('/').filter(|s| !s.is_empty() && *s != ".").collect();
    let segments = match segments.as_slice() {
        ["v1", rest @ ..] => rest,
        all => all,
    };
    let path = segments.join("/");
    INFERENCE_PATHS.contains(&path.as_str())
        // NIM's visual models: /v1/genai/{publisher}/{model}; Dynamo and Gemini-style calls name the action last.
        || matches!(segments, ["genai" | "cv" | "vlm" | "retrieval" | "biology", _, ..])
}

/// The model that a body names.
struct Found<'a> {
    name: Cow<'a, str>,
    /// Where its JSON string stands in the body, quotes included.
    span: Range<usize>,
}

/// The top-level `model` of a JSON object and where its string stands in the body. As in JavaScript's and Python's
/// parsers the last of several wins.
fn find_model(body: &[u8]) -> Option<Found<'_>> {
    let text = std::str::from_utf8(body).ok()?;
    if !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let raw = deserializer.deserialize_map(ModelVisitor).ok()??;
    // A raw value borrows from the text, so its place follows from the addresses.
    let start = raw.as_ptr() as usize - text.as_ptr() as usize;
    let name: Cow<'_, str> = match serde_json::from_str::<&str>(raw) {
        Ok(plain) => Cow::Borrowed(plain),
        Err(_) => Cow::Owned(serde_json::from_str::<String>(raw).ok()?),
    };
    Some(Found { name, span: start..start + raw.len() })
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Model,
    #[serde(other)]
    Other,
}

struct ModelVisitor;

impl<'de> Visitor<'de> for ModelVisitor {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut model = None;
        while let Some(key) = map.next_key()? {
            match key {
                Key::Model => model = Some(map.next_value::<&'de RawValue>()?.get()),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(model)
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
}

/// Who sent the request: `X-Agent-Id`, else its alias `X-Gateway-Fairness-Id`, else a hash of the client's own bearer
/// token, else its address. Bounded in length and printable, since it goes into the log.
#[must_use]
pub fn client(head: &Head, peer: IpAddr) -> String {
    let named = head.field("x-agent-id").or_else(|| head.field("x-gateway-fairness-id"));
    if let Some(name) = named.map(printable).filter(|n| !n.is_empty()) {
        return name;
    }
    match head.field("authorization").and_then(bearer) {
        Some(token) => {
            let digest = ring::digest::digest(&ring::digest::SHA256, token);
            let mut name = String::from("key-");
            for byte in &digest.as_ref()[..6] {
                name.push_str(&format!("{byte:02x}"));
            }
            name
        }
        None => peer.to_canonical().to_string(),
    }
}

/// The token of a `Bearer` credential (RFC 6750 §2.1; the scheme's name in any case, RFC 9110 §11.1).
#[must_use]
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.trim_ascii().split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.trim_ascii().is_empty()).then(|| token.trim_ascii())
}

fn printable(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value.trim_ascii());
    let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    cut(clean, MAX_CLIENT_NAME)
}

/// The request id to answer with when the upstream sends none: the client's `X-Request-Id` if it is short and plain,
/// else a new one.
#[must_use]
pub fn request_id(head: &Head) -> String {
    head.field("x-request-id")
        .filter(|v| !v.is_empty() && v.len() <= 128 && v.iter().all(u8::is_ascii_graphic))
        .map_or_else(new_request_id, |v| String::from_utf8_lossy(v).into_owned())
}

/// A request id of the sidecar's own.
#[must_use]
pub fn new_request_id() -> String {
    format!("req_{:032x}", fastrand::u128(..))
}
