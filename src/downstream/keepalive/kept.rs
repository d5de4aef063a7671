//! One request that is kept alive: what its client has been sent so far, and what is due.
//!
//! There is one such state, and each writer, the event loop or a worker, writes with it in hand. So there is one writer at a
//! time, and each knows where the other has stopped.

use super::asked::Plan;
use super::boundary::Place;
use super::form::Form;
use crate::clock::Moment;
use crate::downstream::access::cors_fields;
use crate::http::write::{Asked, Delivery, answer_head, chunk_into, http_date};
use crate::telemetry::metrics::SignKind;
use std::time::{Duration, SystemTime};

/// What the head of an early 200 says of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its `X-Request-Id`.
    pub request_id: String,
    /// The origin of the browser's page that may read the answer.
    pub page: Option<Box<str>>,
    /// It draws on the quota, and its answer says how long it waited.
    pub is_limited: bool,
    /// The connection may carry another request afterwards.
    pub persists: bool,
}

/// A request that is kept alive.
#[derive(Debug)]
pub struct KeptAlive {
    plan: Plan,
    opening: Opening,
    arrived: Moment,
    /// Its wait for tickets, once that is over.
    queued: Option<Duration>,
    stage: Stage,
    due: Moment,
    has_signs: bool,
    /// What the socket did not take of the last thing sent. It goes first, or the answer would be broken.
    unsent: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has been sent.
    Silent,
    /// The early 200 is out, and nothing of the upstream's.
    Early(Moment),
    /// The upstream's answer is being passed on and stands here.
    Answering { early: Option<Moment>, place: Place },
}

/// An early 200 whose answer is now to be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early {
    /// When it was sent.
    pub at: Moment,
    /// What is spoken.
    pub form: Form,
    /// An event stream was promised, and not one JSON text.
    pub is_stream: bool,
    /// Its head said that the connection persists.
    pub persists: bool,
}

/// Where an answer begins that a worker writes from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// What has been promised already.
    pub early: Option<Early>,
    /// What is spoken.
    pub form: Form,
    /// Signs in the middle of the stream repeat its id.
    pub repeats_id: bool,
}

/// Something to be sent to a client that waits.
#[derive(Debug)]
pub struct DueBytes {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The sign among them; `None` for the rest of one that was sent in part.
    pub sign: Option<SignKind>,
}

/// What came of sending something that was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The sign that was sent.
    pub sign: Option<SignKind>,
    /// It was the first one of its answer.
    pub is_first: bool,
    /// It came with an early 200.
    pub is_early: bool,
}

impl KeptAlive {
    /// A request that arrived at `arrived` and has been sent nothing.
    #[must_use]
    pub fn new(plan: Plan, opening: Opening, arrived: Moment) -> KeptAlive {
        let due = plan.first_due(arrived);
        KeptAlive {
            plan,
            opening,
            arrived,
            queued: None,
            stage: Stage::Silent,
            due,
            has_signs: false,
            unsent: Vec::new(),
        }
    }

    /// When to look next whether something is due: an answer that begins meanwhile is followed by its own silence, which may
    /// be over before the first sign was due.
    #[must_use]
    pub fn look_at(&self, now: Moment) -> Moment {
        self.due.min(self.plan.next_due(now))
    }

    /// Since when the answer has been an early 200.
    #[must_use]
    pub fn early_since(&self) -> Option<Moment> {
        match self.stage {
            Stage::Silent => None,
            Stage::Early(at) => Some(at),
            Stage::Answering { early, .. } => early,
        }
    }

    /// Its wait for tickets is over, or over once more.
    pub fn queued(&mut self, queued: Duration) {
        self.queued = Some(queued);
    }

    /// What is to be sent now. [`KeptAlive::sent`] must follow.
    #[must_use]
    pub fn take_due(&mut self, now: Moment, wall: SystemTime) -> Option<DueBytes> {
        if now < self.due {
            return None;
        }
        self.due = self.plan.next_due(now);
        if !self.unsent.is_empty() {
            return Some(DueBytes { bytes: std::mem::take(&mut self.unsent), sign: None });
        }
        let created = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (place, opens) = match &self.stage {
            Stage::Silent => (&Plan::beginning(), true),
            Stage::Early(_) => (&Plan::beginning(), false),
            Stage::Answering { place, .. } => (place, false),
        };
        let (kind, frame) = self.plan.frame(place, created)?;
        let mut bytes = if opens { self.head(now, wall) } else { Vec::new() };
        chunk_into(&mut bytes, &frame);
        Some(DueBytes { bytes, sign: Some(kind) })
    }

    /// The socket took so many bytes of what was due at `now`. A sign of which it took nothing is dropped.
    pub fn sent(&mut self, mut due: DueBytes, taken: usize, now: Moment) -> Sent {
        if taken == 0 {
            if due.sign.is_none() {
                self.unsent = due.bytes;
            }
            return Sent::default();
        }
        due.bytes.drain(..taken);
        self.unsent = due.bytes;
        let is_early = due.sign.is_some() && self.stage == Stage::Silent;
        if is_early {
            self.stage = Stage::Early(now);
        }
        let is_first = due.sign.is_some() && !std::mem::replace(&mut self.has_signs, true);
        Sent { sign: due.sign, is_first, is_early }
    }

    /// What must be written before anything else.
    #[must_use]
    pub fn take_unsent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unsent)
    }

    /// The upstream's answer was written up to `place` at `now`.
    pub fn wrote(&mut self, place: &Place, now: Moment) {
        self.due = self.plan.next_due(now);
        if let Stage::Answering { place: before, .. } = &mut self.stage {
            before.clone_from(place);
        }
    }

    /// From now on a worker writes the answer, and signs stand only where [`KeptAlive::wrote`] says.
    pub fn begin_answer(&mut self) -> Begun {
        let early = self.early_since();
        // Without an early 200 the head comes first.
        let place = if early.is_some() { Plan::beginning() } else { Place::Within };
        self.stage = Stage::Answering { early, place };
        let (form, is_stream, persists) = (self.plan.form(), self.plan.is_stream(), self.opening.persists);
        let early = early.map(|at| Early { at, form, is_stream, persists });
        Begun { early, form, repeats_id: self.plan.repeats_id() }
    }

    fn head(&self, now: Moment, wall: SystemTime) -> Vec<u8> {
        let waited = self.queued.unwrap_or_else(|| now.since(self.arrived)).as_millis().to_string();
        let content_type: &[u8] =
            if self.plan.is_stream() { b"text/event-stream" } else { b"application/json" };
        let date = http_date(wall);
        let mut fields: Vec<(&str, &[u8])> = vec![
            ("date", date.as_bytes()),
            ("content-type", content_type),
            ("cache-control", b"no-cache"),
            // nginx would collect the answer until its buffer is full.
            ("x-accel-buffering", b"no"),
            ("x-request-id", self.opening.request_id.as_bytes()),
        ];
        if self.opening.is_limited {
            fields.push(("x-sidecar-queue-ms", waited.as_bytes()));
        }
        let page: Vec<_> = self.opening.page.iter().flat_map(|origin| cors_fields(origin)).collect();
        fields.extend(page.iter().map(|(name, value)| (*name, value.as_bytes())));
        let asked = Asked { is_head: false, is_http_10: false, keep_alive: self.opening.persists };
        let mut head = Vec::new();
        answer_head(&mut head, 200, fields, Delivery::decide(asked, 200, None));
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::downstream::keepalive::{LineEnd, Wanted};
    use crate::http::samples::request;

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(secs)
    }

    fn kept() -> KeptAlive {
        let head = request("POST", "/v1/chat/completions", "", "{}").head;
        let wanted = Wanted { is_json: true, stream: true };
        let plan = Plan::of(&head, wanted, Some("m"), &Config::default().keepalive).unwrap();
        let opening = Opening { request_id: "r-1".into(), page: None, is_limited: true, persists: true };
        KeptAlive::new(plan, opening, at(0.0))
    }

    fn due(kept: &mut KeptAlive, secs: f64) -> Option<String> {
        let due = kept.take_due(at(secs), SystemTime::UNIX_EPOCH)?;
        let text = String::from_utf8(due.bytes.clone()).unwrap();
        let all = due.bytes.len();
        kept.sent(due, all, at(secs));
        Some(text)
    }

    #[test]
    fn the_first_sign_opens_the_answer_and_the_next_follow_in_their_interval() {
        let mut kept = kept();
        assert_eq!((kept.look_at(at(0.0)), kept.look_at(at(30.0))), (at(15.0), at(40.0)));
        assert_eq!(due(&mut kept, 39.9), None);
        let first = due(&mut kept, 40.0).unwrap();
        let (head, rest) = first.split_once("\r\n\r\n").unwrap();
        for line in [
            "HTTP/1.1 200 OK",
            "content-type: text/event-stream",
            "cache-control: no-cache",
            "x-accel-buffering: no",
            "x-request-id: r-1",
            "x-sidecar-queue-ms: 40000",
            "transfer-encoding: chunked",
            "connection: keep-alive",
        ] {
            assert!(head.lines().any(|other| other == line), "{line} in {head}");
        }
        assert!(rest.contains("\"delta\":{}") && rest.ends_with("\n\n\r\n"));
        assert_eq!(due(&mut kept, 54.9), None);
        assert!(due(&mut kept, 55.0).unwrap().starts_with(rest.split("data").next().unwrap()));
        assert_eq!(kept.begin_answer().early.map(|early| early.at), Some(at(40.0)));
    }

    #[test]
    fn a_sign_that_the_socket_takes_in_part_is_completed_before_anything_else() {
        let mut kept = kept();
        let first = kept.take_due(at(40.0), SystemTime::UNIX_EPOCH).unwrap();
        let whole = first.bytes.clone();
        let sent = kept.sent(first, 10, at(40.0));
        assert!(sent.is_early && sent.is_first);
        let rest = kept.take_due(at(55.0), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!((&rest.bytes[..], rest.sign), (&whole[10..], None));
        kept.sent(rest, 0, at(55.0));
        assert!(kept.begin_answer().early.is_some());
        assert_eq!(kept.take_unsent(), &whole[10..]);
    }

    #[test]
    fn a_sign_that_the_socket_does_not_take_is_dropped_and_nothing_was_promised() {
        let mut kept = kept();
        let first = kept.take_due(at(40.0), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(kept.sent(first, 0, at(40.0)), Sent::default());
        assert_eq!(kept.look_at(at(40.0)), at(55.0), "tried again after the interval, not at once");
        assert_eq!(kept.begin_answer().early, None);
    }

    #[test]
    fn in_an_answer_signs_stand_between_frames_and_only_after_silence() {
        let mut kept = kept();
        assert_eq!(kept.begin_answer().early, None);
        assert_eq!(due(&mut kept, 40.0), None, "the upstream's head comes first");
        let between = Place::Between { line_end: LineEnd::Lf, started: true, seen: None };
        kept.wrote(&between, at(50.0));
        assert_eq!(kept.look_at(at(60.0)), at(65.0));
        assert_eq!(due(&mut kept, 65.0).as_deref(), Some("d\r\n: keep-alive\n\r\n"));
        kept.wrote(&Place::Within, at(70.0));
        assert_eq!(due(&mut kept, 90.0), None);
    }
}
