//! The upstream's answer on its way to the client: every piece at once, truncated ones visibly truncated.

use crate::clock::Clock;
use crate::downstream::job::{Job, UpstreamAttempt};
use crate::downstream::keepalive::{Early, ErrorFrame, Place};
use crate::downstream::link::{AfterAnswer, Link};
use crate::http::headers::client_fields;
use crate::http::write::{Asked, BodyFraming, Delivery, LAST_CHUNK, answer_head, chunk_into};
use crate::lifecycle::Stopping;
use crate::outcome::Outcome;
use crate::telemetry::usage::UsageReader;
use crate::upstream::cancel::Call;
use crate::upstream::early::EventStream;
use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::response::Parts;
use ureq::http::{HeaderMap, header};

/// What is collected at most before it is written, if the upstream sends faster than that.
const PIECE_BYTES: usize = 16 * 1024;

/// The head of an answer, and as much of its content as was read to judge it.
pub struct Answer<R> {
    /// Status and fields.
    pub parts: Parts,
    /// The first bytes of the content, read already.
    pub prefix: Vec<u8>,
    /// The rest of the content.
    pub rest: R,
    /// Fields that the sidecar adds, or puts in place of the upstream's.
    pub fields: Vec<(&'static str, String)>,
    /// The 200 that the client got before: the content continues it, and the head goes nowhere.
    pub early: Option<Early>,
    /// The sidecar is ending, and cuts what is under way.
    pub stopping: Stopping,
    /// How the content is followed where it is an event stream in which signs of life may stand.
    pub stream: Option<EventStream>,
}

/// Bytes on their way to one client, written when there are many or when nothing else is there to do.
struct Outbox {
    link: Arc<Link>,
    bytes: Vec<u8>,
    stream: Option<EventStream>,
    stopping: Stopping,
    clock: Clock,
    patience: Duration,
}

impl Outbox {
    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let written = self.link.write(&self.bytes, &self.place(), &self.clock, self.patience);
        self.bytes.clear();
        written
    }

    fn take(&mut self, piece: &[u8], framing: BodyFraming) {
        match framing {
            BodyFraming::Chunked => chunk_into(&mut self.bytes, piece),
            BodyFraming::Length(_) | BodyFraming::UntilClose => self.bytes.extend_from_slice(piece),
            BodyFraming::None => {}
        }
        if let Some(stream) = &mut self.stream {
            stream.scanner.feed(piece);
        }
    }

    fn place(&self) -> Place {
        self.stream.as_ref().map_or(Place::Within, |stream| stream.scanner.place())
    }

    fn end(&mut self, framing: BodyFraming) {
        if framing == BodyFraming::Chunked {
            self.bytes.extend_from_slice(LAST_CHUNK);
        }
        // Nothing may follow.
        self.stream = None;
    }

    /// The upstream broke off: what has come is passed on, and where a frame may stand, one says what happened.
    fn end_broken(&mut self, error: &io::Error) -> io::Result<Told> {
        let stream = self.stream.take().filter(|stream| stream.scanner.place() != Place::Within);
        let told = stream.map_or(Told::Nothing, |stream| {
            chunk_into(&mut self.bytes, &broken(error, self.stopping.is_cut()).to_event(stream.form));
            Told::Frame
        });
        self.flush().map(|()| told)
    }
}

/// What a client was told of a break beside the break itself.
#[derive(Clone, Copy)]
enum Told {
    Nothing,
    Frame,
}

fn broken(error: &io::Error, is_cut: bool) -> ErrorFrame {
    if is_cut {
        ErrorFrame::own(Outcome::ShuttingDown, "the sidecar is shutting down")
    } else if error.kind() == io::ErrorKind::TimedOut {
        ErrorFrame::own(Outcome::UpstreamTimeout, "the upstream fell silent in the middle of its answer")
    } else {
        ErrorFrame::own(Outcome::UpstreamBroken, "the upstream's answer broke off")
    }
}

/// Passes an answer on to the client of `job`. `patience` bounds how slowly the client may take one piece.
pub fn relay<R: Read>(
    job: &mut Job,
    call: &Call,
    answer: Answer<R>,
    clock: Clock,
    patience: Duration,
) -> (Outcome, AfterAnswer) {
    let status = answer.parts.status.as_u16();
    let asked = Asked {
        is_head: job.head.method() == "HEAD",
        is_http_10: job.head.is_http_10(),
        keep_alive: job.may_persist(),
    };
    let mut bytes = Vec::with_capacity(1024);
    let delivery = match answer.early {
        Some(early) => {
            let asked = Asked { keep_alive: asked.keep_alive && early.persists, ..asked };
            Delivery::decide(asked, status, None)
        }
        None => {
            let delivery = Delivery::decide(asked, status, content_length(&answer.parts.headers));
            let kept = client_fields(&answer.parts.headers)
                // `Vary` is a list; all others have one value, and the sidecar's own takes its place.
                .filter(|(name, _)| *name == "vary" || !answer.fields.iter().any(|(own, _)| own == name));
            let own = answer.fields.iter().map(|(name, value)| (*name, value.as_bytes()));
            answer_head(&mut bytes, status, kept.chain(own), delivery);
            delivery
        }
    };

    // Only in chunks is there room for a frame more.
    let stream = answer.stream.filter(|_| delivery.framing == BodyFraming::Chunked);
    let stopping = answer.stopping;
    let outbox = Outbox { link: job.link().clone(), bytes, stream, stopping, clock, patience };
    let outbox = Rc::new(RefCell::new(outbox));
    let waiting = outbox.clone();
    call.before_waiting(Box::new(move || waiting.borrow_mut().flush()));

    let mut content = io::Cursor::new(answer.prefix).chain(answer.rest);
    let is_readable = !answer.parts.headers.contains_key(header::CONTENT_ENCODING);
    job.upstream.usage = (answer.parts.status.is_success() && is_readable).then(UsageReader::default);
    let ended = copy(&mut content, &outbox, delivery.framing, &mut job.upstream);
    match ended {
        End::Whole => (Outcome::Answered(status), AfterAnswer::keep_if(delivery.persists)),
        End::UpstreamBroke(told) if !job.is_abandoned() => {
            if delivery.framing == BodyFraming::UntilClose {
                job.link().reset();
            }
            let next = match told {
                Told::Nothing => AfterAnswer::Abort,
                // With the time to read it; the last chunk is missing all the same.
                Told::Frame => AfterAnswer::Close,
            };
            (Outcome::Truncated(status), next)
        }
        End::UpstreamBroke(_) | End::ClientGone => (Outcome::ClientGone, AfterAnswer::Abort),
    }
}

enum End {
    Whole,
    UpstreamBroke(Told),
    ClientGone,
}

fn copy(
    content: &mut impl Read,
    outbox: &RefCell<Outbox>,
    framing: BodyFraming,
    upstream: &mut UpstreamAttempt,
) -> End {
    let mut buffer = [0; PIECE_BYTES / 2];
    loop {
        let read = match content.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return outbox.borrow_mut().end_broken(&error).map_or(End::ClientGone, End::UpstreamBroke);
            }
        };
        let mut out = outbox.borrow_mut();
        if read == 0 {
            out.end(framing);
        } else {
            out.take(&buffer[..read], framing);
        }
        upstream.pass_on(&buffer[..read]);
        if (read == 0 || out.bytes.len() >= PIECE_BYTES) && out.flush().is_err() {
            return End::ClientGone;
        }
        if read == 0 {
            return End::Whole;
        }
    }
}

/// The content's length where it is what delimits the content: not beside a transfer coding (RFC 9112 §6.3).
fn content_length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
