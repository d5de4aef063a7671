//! Which requests are kept alive, from when on and how often: the configuration, what the request asks for, and how long its
//! client says that it will wait.

use super::boundary::{LineEnd, Place};
use super::form::{Form, comment};
use crate::clock::Moment;
use crate::config::{Keepalive, KeepaliveMode};
use crate::http::Head;
use crate::telemetry::metrics::SignKind;
use std::time::Duration;

/// A client that says how long it waits gets its first sign after this share of it.
const SHARE_OF_PATIENCE: f64 = 0.6;

/// Not earlier than this, whatever a client says, unless the configuration itself is earlier: until then an error keeps its
/// true status.
const EARLIEST: Duration = Duration::from_secs(5);

/// The bounds of `after=` in `X-Sidecar-Keepalive`, those of `keepalive_after`.
const SHORTEST_AFTER: Duration = Duration::from_millis(100);
const LONGEST_AFTER: Duration = Duration::from_secs(3600);

/// What a request's body asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// It is a JSON object.
    pub is_json: bool,
    /// Its `stream` is `true`.
    pub stream: bool,
}

/// How one request is kept alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    form: Form,
    mode: KeepaliveMode,
    is_stream: bool,
    model: Box<str>,
    after: Duration,
    interval: Duration,
}

impl Plan {
    /// How this request is kept alive; `None` for one that is not: it is not a POST, is not answered with a stream, comes by
    /// HTTP/1.0, which knows no chunks, or it or the configuration does not want it. `model` is what it asks for, as it
    /// says it.
    #[must_use]
    pub fn of(head: &Head, wanted: Wanted, model: Option<&str>, settings: &Keepalive) -> Option<Plan> {
        if head.method() != "POST" || head.is_http_10() || !wanted.is_json {
            return None;
        }
        let (asked_mode, after) = asked(head);
        let (mode, form) = (asked_mode.unwrap_or(settings.mode), Form::of(head));
        let turned_off = if wanted.stream { mode } else { asked_mode.unwrap_or(KeepaliveMode::Auto) };
        if turned_off == KeepaliveMode::Off {
            return None;
        }
        let model = model.unwrap_or_default().into();
        if wanted.stream {
            let after = first_sign(after.unwrap_or(settings.after), patience(head));
            return Some(Plan { form, mode, is_stream: true, model, after, interval: settings.interval });
        }
        // Other paths answer with bytes that nothing may stand in front of, and embeddings with so many numbers that
        // clients parse them in a hurry.
        let interval = settings.json.filter(|_| form != Form::Other)?;
        Some(Plan { form, mode, is_stream: false, model, after: interval, interval })
    }

    /// When the early 200 is due for a request that arrived at `arrived`.
    #[must_use]
    pub fn first_due(&self, arrived: Moment) -> Moment {
        arrived + self.after
    }

    /// When the next sign is due, the client having been sent something at `last`.
    #[must_use]
    pub fn next_due(&self, last: Moment) -> Moment {
        last + self.interval
    }

    /// How long the client is left without a byte once its answer has begun.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// What is spoken on its path.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whether the answer is to be an event stream, and not one JSON text.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Whether the id of a stream must be known for a sign in its middle.
    #[must_use]
    pub fn repeats_id(&self) -> bool {
        self.mode == KeepaliveMode::Auto
            && matches!(self.form, Form::Chat { needs_roles: false } | Form::Completions)
    }

    /// The sign to be put at `place`; `None` where none may be. `created` is seconds since the Unix epoch.
    #[must_use]
    pub fn frame(&self, place: &Place, created: u64) -> Option<(SignKind, Vec<u8>)> {
        let Place::Between { line_end, started, seen } = place else { return None };
        if !self.is_stream {
            return (!started).then(|| (SignKind::Newline, b"\n".to_vec()));
        }
        Some(match self.mode {
            KeepaliveMode::Comment => comment(*line_end),
            _ => self.form.sign(&self.model, seen.as_deref(), *started, created, *line_end),
        })
    }

    /// Where an answer stands that consists of signs alone.
    #[must_use]
    pub fn beginning() -> Place {
        Place::Between { line_end: LineEnd::Lf, started: false, seen: None }
    }
}

fn first_sign(after: Duration, patience: Option<Duration>) -> Duration {
    let told = patience.map_or(after, |patience| patience.mul_f64(SHARE_OF_PATIENCE));
    told.max(EARLIEST).min(after)
}

/// `X-Sidecar-Keepalive: auto | comment | off`, with an optional `; after=SECONDS`. What cannot be read is ignored.
fn asked(head: &Head) -> (Option<KeepaliveMode>, Option<Duration>) {
    let Some(text) = head.field("x-sidecar-keepalive").and_then(|value| std::str::from_utf8(value).ok())
    else {
        return (None, None);
    };
    let mut parts = text.split(';').map(str::trim);
    let mode = parts.next().and_then(KeepaliveMode::parse);
    let after = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
        let secs = name.trim().eq_ignore_ascii_case("after").then(|| seconds(value))??;
        Some(secs.clamp(SHORTEST_AFTER, LONGEST_AFTER))
    });
    (mode, after)
}

/// How long the client waits for the next byte before it hangs up, as the SDKs that Stainless generates say it (OpenAI's,
/// Anthropic's): `X-Stainless-Read-Timeout` or `X-Stainless-Timeout`, seconds; the shorter of both.
#[must_use]
pub fn patience(head: &Head) -> Option<Duration> {
    let told = |name| head.field(name).and_then(|value| seconds(std::str::from_utf8(value).ok()?));
    let told = [told("x-stainless-read-timeout"), told("x-stainless-timeout")];
    told.into_iter().flatten().filter(|patience| !patience.is_zero()).min()
}

fn seconds(text: &str) -> Option<Duration> {
    let secs: f64 = text.trim().parse().ok()?;
    (secs.is_finite() && secs >= 0.0).then(|| crate::clock::duration_from_secs_f64(secs).min(LONGEST_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::samples::request;

    fn default() -> Keepalive {
        crate::config::Config::default().keepalive
    }

    const STREAM: Wanted = Wanted { is_json: true, stream: true };

    fn plan(fields: &str, wanted: Wanted, settings: &Keepalive) -> Option<Plan> {
        let request = request("POST", "/v1/chat/completions", fields, "{}");
        Plan::of(&request.head, wanted, Some("m"), settings)
    }

    fn after(fields: &str, settings: &Keepalive) -> Duration {
        plan(fields, STREAM, settings).unwrap().after
    }

    #[test]
    fn only_posts_that_want_a_stream_are_kept_alive() {
        let settings = default();
        assert!(plan("", STREAM, &settings).is_some());
        assert_eq!(plan("", Wanted { is_json: true, stream: false }, &settings), None);
        assert_eq!(plan("", Wanted::default(), &settings), None);
        let get = request("GET", "/v1/chat/completions", "", "");
        assert_eq!(Plan::of(&get.head, STREAM, None, &settings), None);
    }

    #[test]
    fn the_request_may_choose_what_the_configuration_chose_for_it() {
        let off = Keepalive { mode: KeepaliveMode::Off, ..default() };
        assert_eq!(plan("", STREAM, &off), None);
        assert!(plan("X-Sidecar-Keepalive: auto\r\n", STREAM, &off).is_some());
        let settings = default();
        assert_eq!(plan("X-Sidecar-Keepalive: OFF\r\n", STREAM, &settings), None);
        let comment = plan("X-Sidecar-Keepalive: comment ; after=7\r\n", STREAM, &settings).unwrap();
        assert_eq!(comment.after, Duration::from_secs(7));
        let (kind, frame) = comment.frame(&Plan::beginning(), 1).unwrap();
        assert_eq!((kind, &frame[..]), (SignKind::Comment, &b": keep-alive\n"[..]));
        for (value, expected) in
            [("auto; after=5", 5), ("auto;after=99999", 3600), ("auto; after=x", 40), ("?", 40)]
        {
            let fields = format!("X-Sidecar-Keepalive: {value}\r\n");
            assert_eq!(after(&fields, &settings), Duration::from_secs(expected), "{value}");
        }
    }

    #[test]
    fn a_client_that_says_how_long_it_waits_gets_its_sign_before() {
        let settings = default();
        assert_eq!(after("X-Stainless-Read-Timeout: 60\r\n", &settings), Duration::from_secs(36));
        assert_eq!(after("X-Stainless-Timeout: 600\r\n", &settings), Duration::from_secs(40));
        assert_eq!(
            after("X-Stainless-Timeout: 20\r\nX-Stainless-Read-Timeout: 30\r\n", &settings),
            Duration::from_secs(12)
        );
        assert_eq!(after("X-Stainless-Timeout: 1\r\n", &settings), EARLIEST);
        let early = Keepalive { after: Duration::from_secs(2), ..settings };
        assert_eq!(after("X-Stainless-Timeout: 1\r\n", &early), Duration::from_secs(2));
        for nonsense in ["NOT_GIVEN", "-1", "NaN", "inf", "", "soon", "0"] {
            assert_eq!(
                patience(&request("POST", "/", &format!("X-Stainless-Timeout: {nonsense}\r\n"), "").head),
                None
            );
        }
    }

    #[test]
    fn json_answers_get_blank_lines_in_front_where_that_is_configured_and_only_where_clients_stand_it() {
        let plain = Wanted { is_json: true, stream: false };
        let settings = Keepalive { json: Some(Duration::from_secs(30)), ..default() };
        let plan = plan("", plain, &settings).unwrap();
        assert_eq!(plan.frame(&Plan::beginning(), 1), Some((SignKind::Newline, b"\n".to_vec())));
        assert_eq!((plan.after, plan.interval), (Duration::from_secs(30), Duration::from_secs(30)));
        for path in ["/v1/embeddings", "/v1/images/generations", "/v1/audio/speech"] {
            assert_eq!(
                Plan::of(&request("POST", path, "", "{}").head, plain, None, &settings),
                None,
                "{path}"
            );
        }
    }
}
