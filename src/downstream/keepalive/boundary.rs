//! Where in the upstream's event stream a frame of the sidecar's own may stand, and what the stream calls itself.

use serde::Deserialize;
use std::sync::Arc;

/// Bytes of the stream that are looked through for its id.
const SEARCHED_BYTES: usize = 64 * 1024;

/// The longest event that is looked into.
const MAX_EVENT: usize = 16 * 1024;

/// The longest id or model that is repeated.
const MAX_NAME: usize = 256;

/// Bytes of the stream's end that are kept: enough to recognise a blank line and a closing event.
const TAIL: usize = 64;

/// How a stream ends its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// LF.
    Lf,
    /// CR LF.
    CrLf,
    /// CR.
    Cr,
}

impl LineEnd {
    /// The characters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LineEnd::Lf => "\n",
            LineEnd::CrLf => "\r\n",
            LineEnd::Cr => "\r",
        }
    }
}

/// What a chat stream calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its chunks' id.
    pub id: String,
    /// Their model.
    pub model: Option<String>,
}

/// Where a stream stands after the bytes passed on so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the middle of a frame, or behind the last one: nothing may be put here.
    Within,
    /// Between two frames.
    Between {
        /// How the stream ends its lines.
        line_end: LineEnd,
        /// Bytes of the upstream's have been passed on.
        started: bool,
        /// What it calls itself, as long as a chunk may say so: known, and before the chunk that finishes the answer. The
        /// SDKs' helpers take what follows that one for its usage.
        seen: Option<Arc<Seen>>,
    },
}

/// Follows a stream as it is passed on, piece by piece, wherever the pieces are cut.
#[derive(Clone, Debug, Default)]
pub struct FrameScanner {
    tail: Vec<u8>,
    fed: usize,
    /// The event that is looked into; `None` once the id is found or given up.
    event: Option<Vec<u8>>,
    event_is_too_long: bool,
    seen: Option<Arc<Seen>>,
    /// It looks for the end of a chat, which has not come yet.
    awaits_finish: bool,
}

#[derive(Deserialize)]
struct Named {
    id: Option<String>,
    model: Option<String>,
}

impl FrameScanner {
    /// At the beginning of a stream. `finds_id`: look for the id of its chunks.
    #[must_use]
    pub fn new(finds_id: bool) -> FrameScanner {
        FrameScanner { event: finds_id.then(Vec::new), awaits_finish: finds_id, ..FrameScanner::default() }
    }

    /// The next bytes of the stream.
    pub fn feed(&mut self, piece: &[u8]) {
        self.look_for_finish(piece);
        let mut rest = piece;
        while self.event.is_some() && !rest.is_empty() {
            rest = self.look(rest);
        }
        self.remember(rest);
        if !self.awaits_finish {
            self.seen = None;
            self.event = None;
        }
    }

    fn look_for_finish(&mut self, piece: &[u8]) {
        if !self.awaits_finish || piece.is_empty() {
            return;
        }
        // What is looked for may have been cut.
        let seam = [&self.tail[..], &piece[..piece.len().min(TAIL)]].concat();
        if finishes(&seam) || finishes(piece) {
            self.awaits_finish = false;
        }
    }

    /// Where the stream stands now.
    #[must_use]
    pub fn place(&self) -> Place {
        let between = |line_end| Place::Between { line_end, started: self.fed > 0, seen: self.seen.clone() };
        match self.line_end() {
            _ if self.fed == 0 => between(LineEnd::Lf),
            Some(line_end) if !self.is_over() => between(line_end),
            _ => Place::Within,
        }
    }

    /// Takes bytes up to the end of the present event, and returns the rest.
    fn look<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        for (i, byte) in piece.iter().enumerate() {
            self.remember(&[*byte]);
            let Some(event) = &mut self.event else { return &piece[i + 1..] };
            event.push(*byte);
            if event.len() > MAX_EVENT {
                event.clear();
                self.event_is_too_long = true;
            }
            if self.line_end().is_some() {
                self.end_event();
            }
            if self.fed >= SEARCHED_BYTES {
                self.event = None;
            }
        }
        &[]
    }

    fn end_event(&mut self) {
        let Some(event) = &mut self.event else { return };
        let named = if self.event_is_too_long { None } else { named(event) };
        event.clear();
        self.event_is_too_long = false;
        if let Some(seen) = named {
            self.seen = Some(Arc::new(seen));
            self.event = None;
        }
    }

    fn remember(&mut self, piece: &[u8]) {
        self.fed = self.fed.saturating_add(piece.len());
        let kept = &piece[piece.len().saturating_sub(TAIL)..];
        let excess = (self.tail.len() + kept.len()).saturating_sub(TAIL);
        self.tail.drain(..excess);
        self.tail.extend_from_slice(kept);
    }

    /// How the blank line that ends the bytes so far is written; `None` where they do not end with one.
    ///
    /// CR LF CR is not an end: its LF may still come, and many a parser looks for the four together.
    fn line_end(&self) -> Option<LineEnd> {
        match self.tail.as_slice() {
            [.., b'\r', b'\n', b'\r', b'\n'] => Some(LineEnd::CrLf),
            [.., b'\n', b'\n'] => Some(LineEnd::Lf),
            [.., b'\r', b'\r'] => Some(LineEnd::Cr),
            _ => None,
        }
    }

    /// Whether the last frame was the stream's own end, behind which clients do not read on.
    fn is_over(&self) -> bool {
        let text = self.tail.trim_ascii_end();
        text.ends_with(b"[DONE]") || text.ends_with(b"\"message_stop\"}")
    }
}

/// Whether the chunk that finishes a chat is among these bytes: one with a `finish_reason`, or with usage and no choices.
fn finishes(bytes: &[u8]) -> bool {
    let value_of = |name: &[u8], begins: fn(&[u8]) -> bool| {
        bytes.windows(name.len()).enumerate().filter(|(_, window)| *window == name).any(|(at, _)| {
            let rest = bytes[at + name.len()..].trim_ascii_start();
            rest.strip_prefix(b":").is_some_and(|value| begins(value.trim_ascii_start()))
        })
    };
    value_of(b"\"finish_reason\"", |value| value.starts_with(b"\""))
        || value_of(b"\"choices\"", |value| {
            value.strip_prefix(b"[").is_some_and(|items| items.trim_ascii_start().starts_with(b"]"))
        })
}

/// The id of the chunk that an event carries, and its model.
fn named(event: &[u8]) -> Option<Seen> {
    let text = std::str::from_utf8(event).ok()?;
    let data: Vec<&str> =
        text.split(['\r', '\n']).filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
    let Named { id, model } = serde_json::from_str(&data.join("\n")).ok()?;
    let short = |name: &String| !name.is_empty() && name.len() <= MAX_NAME;
    Some(Seen { id: id.filter(short)?, model: model.filter(short) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::keepalive::form::Form;
    use proptest::prelude::*;

    fn place_after(pieces: &[&str]) -> Place {
        let mut scanner = FrameScanner::new(true);
        pieces.iter().for_each(|piece| scanner.feed(piece.as_bytes()));
        scanner.place()
    }

    fn is_between(pieces: &[&str]) -> bool {
        matches!(place_after(pieces), Place::Between { .. })
    }

    #[test]
    fn a_frame_ends_with_a_blank_line_however_lines_end() {
        assert!(is_between(&[]));
        assert!(is_between(&["data: 1\n", "\n"]));
        assert!(is_between(&["data: 1\r\n\r", "\n"]));
        assert!(is_between(&["data: 1\r", "\r"]));
        for within in ["data: 1", "data: 1\n", "data: 1\r\n", "data: 1\r\n\r", "data: 1\r", "\n"] {
            assert!(!is_between(&[within]), "{within:?}");
        }
    }

    #[test]
    fn nothing_is_put_behind_the_streams_own_end() {
        for end in [
            "data: [DONE]\n\n",
            "data:[DONE]\r\n\r\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ] {
            assert!(!is_between(&["data: {}\n\n", end]), "{end:?}");
        }
    }

    #[test]
    fn the_id_and_the_model_are_those_of_the_first_chunk_that_has_them() {
        let chunk = "data: {\"id\":\"c-1\",\n";
        let Place::Between { seen, started, .. } = place_after(&[
            ": hello\n\ndata: {\"id\":\"\",\"choices\":[{}]}\n\n",
            chunk,
            "data: \"model\":\"m\"}\n\n",
            "data: {\"id\":\"c-2\"}\n\n",
        ]) else {
            panic!("in the middle of a frame");
        };
        assert!(started);
        assert_eq!(seen.as_deref(), Some(&Seen { id: "c-1".into(), model: Some("m".into()) }));
    }

    #[test]
    fn behind_the_chunk_that_finishes_a_chat_no_chunk_says_its_name_wherever_it_is_cut() {
        let chunk = "data: {\"id\":\"c-1\",\"choices\":[{\"finish_reason\":null}]}\n\n";
        let content = r#"data: {"id":"c-1","choices":[{"delta":{"content":"\"finish_reason\":\"x\""}}]}"#
            .to_owned()
            + "\n\n";
        let is_named = |text: &str, cut: usize| {
            let Place::Between { seen, .. } = place_after(&[chunk, &text[..cut], &text[cut..]]) else {
                panic!("in the middle of a frame");
            };
            seen.is_some()
        };
        for finish in [
            "data: {\"id\":\"c-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\": \"stop\"}]}\n\n",
            "data: {\"id\":\"c-1\",\"choices\" : [ ],\"usage\":{\"total_tokens\":3}}\n\n",
        ] {
            assert!((0..finish.len()).all(|cut| !is_named(finish, cut)), "{finish}");
        }
        assert!((0..content.len()).all(|cut| is_named(&content, cut)), "a text about it");
    }

    #[test]
    fn a_stream_without_an_id_is_not_searched_forever() {
        let mut scanner = FrameScanner::new(true);
        for _ in 0..100 {
            scanner.feed(format!("data: {}\n\n", "x".repeat(2 * MAX_EVENT)).as_bytes());
        }
        assert!(scanner.event.is_none() && scanner.tail.len() <= TAIL);
        assert!(matches!(scanner.place(), Place::Between { seen: None, .. }));
    }

    /// An event stream as an upstream may send it: lines that end in one of three ways, comments, ids, data of several
    /// lines, large frames, and perhaps no blank line at the end.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            Just("data: {\"id\":\"c-1\",\"model\":\"m\",\"choices\":[{}]}".to_owned()),
            Just("data: {\"id\":\"c-1\",\"choices\":[]}".to_owned()),
            Just("data: one".to_owned()),
            Just("data:".to_owned()),
            Just(": a comment".to_owned()),
            Just("id: 7".to_owned()),
            Just("event: error".to_owned()),
            Just(format!("data: {}", "y".repeat(65_536))),
            "[a-z:é ]{0,12}",
        ];
        let event = prop::collection::vec(line, 1..4);
        let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
        (prop::collection::vec(event, 0..8), end, any::<bool>()).prop_map(|(events, end, is_whole)| {
            let mut text = String::new();
            for event in &events {
                event.iter().for_each(|line| text.push_str(&format!("{line}{end}")));
                text.push_str(end);
            }
            if !is_whole {
                text.truncate(text.trim_end().len());
            }
            text.into_bytes()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..crate::properties() })]

        #[test]
        fn what_is_passed_on_without_our_frames_is_what_the_upstream_sent(
            sent in stream(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            form in prop::sample::select(vec![
                Form::Chat { needs_roles: false }, Form::Chat { needs_roles: true }, Form::Completions, Form::Messages,
                Form::Responses { counts_events: false }, Form::Responses { counts_events: true }, Form::Other,
            ]),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(sent.len() + 1)).collect();
            at.extend([0, sent.len()]);
            at.sort_unstable();
            let mut scanner = FrameScanner::new(matches!(form, Form::Chat { needs_roles: false } | Form::Completions));
            // What the client gets, and which of it is ours.
            let (mut got, mut ours) = (Vec::new(), Vec::new());
            let mut frames = Vec::new();
            for pair in at.windows(2) {
                got.extend_from_slice(&sent[pair[0]..pair[1]]);
                scanner.feed(&sent[pair[0]..pair[1]]);
                if let Place::Between { line_end, started, seen } = scanner.place() {
                    let (_, frame) = form.sign("asked", seen.as_deref(), started, 1, line_end);
                    // Whatever was read before it is complete: a parser is at the start of an event.
                    prop_assert!(got.is_empty() || ends_an_event(&got), "{:?}", String::from_utf8_lossy(&got));
                    ours.push((got.len(), frame.len()));
                    got.extend_from_slice(&frame);
                    frames.push(frame);
                }
            }
            let mut without = got.clone();
            for (start, length) in ours.iter().rev() {
                without.drain(*start..start + length);
            }
            prop_assert_eq!(&without, &sent);
            // Parsed, the events are those that the upstream sent, with ours between them.
            let mut parsed = events(&got);
            for frame in &frames {
                for event in events(frame) {
                    let place = parsed.iter().position(|other| *other == event);
                    prop_assert!(place.is_some(), "our frame is not an event of its own");
                    parsed.remove(place.unwrap_or_default());
                }
            }
            prop_assert_eq!(parsed, events(&sent));
        }
    }

    fn ends_an_event(bytes: &[u8]) -> bool {
        bytes.ends_with(b"\n\n")
            || bytes.ends_with(b"\r\n\r\n")
            || bytes.ends_with(b"\r\r")
            || bytes.ends_with(b": keep-alive\n")
            || bytes.ends_with(b": keep-alive\r\n")
            || bytes.ends_with(b": keep-alive\r")
    }

    /// The events of a stream as a parser that follows the HTML standard sees them: the type and the data of each that
    /// has data and is complete.
    fn events(bytes: &[u8]) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\r', "\n");
        let (mut events, mut kind, mut data) = (Vec::new(), String::new(), Vec::new());
        let lines: Vec<&str> = text.split('\n').collect();
        for line in &lines[..lines.len() - 1] {
            if line.is_empty() {
                if !data.is_empty() {
                    events.push((std::mem::take(&mut kind), data.join("\n")));
                }
                kind.clear();
                data.clear();
            } else if let Some(value) = line.strip_prefix("data:") {
                data.push(value.trim_start().to_owned());
            } else if let Some(value) = line.strip_prefix("event:") {
                kind = value.trim().to_owned();
            }
        }
        events
    }
}
