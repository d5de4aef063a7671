//! Requests cut out of a connection's bytes, strictly and incrementally (RFC 9112).
//!
//! Whatever cannot be read in exactly one way is refused, because a request that two parsers understand differently is
//! how one is smuggled past a proxy.

use super::chunked::Decoder;
use super::head::{self, Content};
pub use super::malformed::Malformed;
use super::request::{Head, Request};
use super::scan::HeadScan;

/// Memory given to a body before any of it has arrived: a declared length alone must not cost memory.
const FIRST_BODY_BYTES: usize = 64 * 1024;

/// What is buffered of a connection up to this size lies among the allocator's small blocks.
const SMALL_BYTES: usize = 8 * 1024;

/// What is larger gets a mapping of its own, of which only the pages that are used cost memory and which leaves nothing
/// behind: thousands of half heads would otherwise keep the allocator's heaps from shrinking for good.
const MAPPED_BYTES: usize = 160 * 1024;

/// What a request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The largest body, in bytes after the transfer coding is taken off.
    pub max_body_bytes: usize,
}

/// What [`RequestReader::step`] found.
#[derive(Debug)]
pub enum Step {
    /// Feed more bytes, and step again.
    NeedMore {
        /// Send `100 Continue` now: the client waits for it before it sends its body. True once a request at most.
        send_continue: bool,
    },
    /// A whole request. Further ones may be buffered: step again once it has been answered.
    Complete(Request),
}

/// What the reader is in the middle of; tells the caller which deadline applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Between requests, with nothing buffered.
    Idle,
    /// Some of a head has arrived.
    Head,
    /// The head is complete, its body is not.
    Body,
}

/// Reads the requests of one connection.
///
/// It buffers what it is fed: once a request is complete, the caller stops reading from its socket until that is answered.
#[derive(Default)]
pub struct RequestReader {
    /// Bytes not yet understood, after `consumed` ones that are.
    buffered: Vec<u8>,
    consumed: usize,
    state: State,
}

enum State {
    Head(HeadScan),
    Body(Incoming),
    /// Refused, with the head where it was complete: the form of the answer depends on what was asked.
    Refused(Malformed, Option<Head>),
}

impl Default for State {
    fn default() -> State {
        State::Head(HeadScan::default())
    }
}

impl RequestReader {
    /// Takes the connection's next bytes. A body's bytes are copied to their final place at once.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let all_understood = self.consumed == self.buffered.len();
        match &mut self.state {
            State::Refused(..) => return,
            State::Body(incoming) if all_understood => match incoming.take(bytes) {
                Ok(taken) => rest = &bytes[taken..],
                Err(refusal) => return self.refuse(refusal),
            },
            State::Body(_) | State::Head(_) => {}
        }
        if !rest.is_empty() {
            self.buffered.drain(..self.consumed);
            self.consumed = 0;
            if self.buffered.capacity() < MAPPED_BYTES && self.buffered.len() + rest.len() > SMALL_BYTES {
                self.buffered.reserve_exact(MAPPED_BYTES - self.buffered.len());
            }
            self.buffered.extend_from_slice(rest);
        }
    }

    /// Understands as much as has been fed. An error is final: every further step returns it again.
    pub fn step(&mut self, bounds: &Bounds) -> Result<Step, Malformed> {
        self.advance(bounds).inspect_err(|refusal| self.refuse(refusal.clone()))
    }

    /// Understands the next request's head alone; true when it has just become complete. Nothing of its body is kept
    /// before the next [`step`](RequestReader::step), so that what is not let in can be refused at no cost.
    pub fn step_to_head(&mut self, bounds: &Bounds) -> Result<bool, Malformed> {
        self.advance_to_head(bounds).inspect_err(|refusal| self.refuse(refusal.clone()))
    }

    fn advance_to_head(&mut self, bounds: &Bounds) -> Result<bool, Malformed> {
        let State::Head(scan) = &mut self.state else { return Ok(false) };
        let pending = &self.buffered[self.consumed..];
        let Some((start, end)) = scan.find(pending)? else { return Ok(false) };
        let parsed = head::parse(&pending[start..end])?;
        self.consumed += end;
        let max_body_bytes = bounds.max_body_bytes;
        let coding = match coding(parsed.content, max_body_bytes) {
            Ok(coding) => coding,
            Err(refusal) => {
                self.state = State::Refused(refusal.clone(), Some(parsed.head));
                return Err(refusal);
            }
        };
        let (head, owes_continue) = (parsed.head, parsed.expects_continue);
        self.state = State::Body(Incoming { head, body: Vec::new(), coding, max_body_bytes, owes_continue });
        Ok(true)
    }

    fn advance(&mut self, bounds: &Bounds) -> Result<Step, Malformed> {
        self.advance_to_head(bounds)?;
        let State::Body(incoming) = &mut self.state else {
            return match &self.state {
                State::Refused(refusal, _) => Err(refusal.clone()),
                _ => Ok(Step::NeedMore { send_continue: false }),
            };
        };
        self.consumed += incoming.take(&self.buffered[self.consumed..])?;
        if !incoming.is_complete() {
            return Ok(Step::NeedMore { send_continue: std::mem::take(&mut incoming.owes_continue) });
        }
        match std::mem::take(&mut self.state) {
            State::Body(incoming) => Ok(Step::Complete(incoming.finish())),
            State::Head(_) | State::Refused(..) => Ok(Step::NeedMore { send_continue: false }),
        }
    }

    fn refuse(&mut self, refusal: Malformed) {
        let head = match std::mem::take(&mut self.state) {
            State::Body(incoming) => Some(incoming.head),
            State::Refused(_, head) => head,
            State::Head(_) => None,
        };
        *self = RequestReader { state: State::Refused(refusal, head), ..RequestReader::default() };
    }

    /// The head of the request whose body is being read, or that was refused after its head.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        match &self.state {
            State::Body(incoming) => Some(&incoming.head),
            State::Refused(_, head) => head.as_ref(),
            State::Head(_) => None,
        }
    }

    /// Whether the request whose head is complete has a body of which not all has been taken.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        matches!(&self.state, State::Body(incoming) if !incoming.is_complete())
    }

    /// What the reader is in the middle of.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match &self.state {
            State::Head(_) if self.has_leftover() => Progress::Head,
            State::Body(_) => Progress::Body,
            State::Head(_) | State::Refused(..) => Progress::Idle,
        }
    }

    /// Bytes of memory held for this connection's input, for a budget over all connections.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let incoming = match &self.state {
            State::Body(incoming) => incoming.head.held_bytes() + incoming.body.capacity(),
            State::Head(_) | State::Refused(..) => 0,
        };
        // Of a mapping only what was written to.
        self.buffered.len().max(self.buffered.capacity().min(SMALL_BYTES)) + incoming
    }

    /// Bytes of the present request's body that have arrived, without the transfer coding.
    #[must_use]
    pub fn body_received(&self) -> usize {
        match &self.state {
            State::Body(incoming) => incoming.body.len(),
            State::Head(_) | State::Refused(..) => 0,
        }
    }

    /// Whether bytes are buffered that no request has claimed: a pipelined request, or the start of one.
    #[must_use]
    pub fn has_leftover(&self) -> bool {
        let blank = if let State::Head(scan) = &self.state { scan.blank } else { 0 };
        self.consumed + blank < self.buffered.len()
    }

    /// Gives back spare memory, for a connection that is about to wait.
    pub fn shrink(&mut self) {
        self.buffered.drain(..self.consumed);
        self.consumed = 0;
        self.buffered.shrink_to_fit();
    }
}

/// A request whose head is complete.
struct Incoming {
    head: Head,
    body: Vec<u8>,
    coding: Coding,
    max_body_bytes: usize,
    owes_continue: bool,
}

enum Coding {
    Length(usize),
    Chunked(Decoder),
}

/// How a body with this content is read.
fn coding(content: Content, max_body_bytes: usize) -> Result<Coding, Malformed> {
    match content {
        Content::Chunked => Ok(Coding::Chunked(Decoder::new())),
        Content::Length(length) => match usize::try_from(length) {
            Ok(length) if length <= max_body_bytes => Ok(Coding::Length(length)),
            _ => Err(Malformed::body_too_large(max_body_bytes)),
        },
    }
}

impl Incoming {
    /// Takes what belongs to this request from the front of `bytes` and returns how much that was.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match &mut self.coding {
            Coding::Chunked(decoder) => decoder.decode(bytes, &mut self.body, self.max_body_bytes),
            Coding::Length(length) => {
                let missing = *length - self.body.len();
                let taken = missing.min(bytes.len());
                let spare = self.body.capacity() - self.body.len();
                if spare < taken {
                    // Doubling, but never beyond the declared length: the finished body has no spare capacity.
                    let growth = taken.max(self.body.len()).max(FIRST_BODY_BYTES);
                    self.body.reserve_exact(growth.min(missing));
                }
                self.body.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
        }
    }

    fn is_complete(&self) -> bool {
        match &self.coding {
            Coding::Length(length) => self.body.len() == *length,
            Coding::Chunked(decoder) => decoder.is_complete(),
        }
    }

    fn finish(mut self) -> Request {
        self.body.shrink_to_fit();
        Request { head: self.head, body: self.body }
    }
}

#[cfg(test)]
mod tests;
