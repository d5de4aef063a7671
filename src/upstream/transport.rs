//! One connection to the upstream as ureq uses it: it can be cancelled, leaves in one piece what belongs together, and is
//! looked at before it serves another request.

use crate::clock::{Clock, Moment};
use crate::upstream::buffers::{Gathering, MAX_ANSWER_HEAD};
use crate::upstream::cancel;
use crate::upstream::reason::{Kind, Reason};
use crate::upstream::tcp::KEEPALIVE_AFTER;
use crate::upstream::wire::Wire;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use ureq::Timeout;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

/// A connection with its buffers, at rest in the pool or in use by one call.
pub(super) struct Connection {
    wire: Box<dyn Wire>,
    is_tls: bool,
    buffers: Gathering,
    clock: Clock,
    is_resting: bool,
    /// A request that was sent on it has ended.
    used: bool,
    sent_at: Moment,
    /// Bytes that came before the head of the answer was complete, interim answers included.
    head_bytes: usize,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// A connection that is ready for its first request.
    pub(super) fn new(wire: Box<dyn Wire>, is_tls: bool, clock: Clock) -> Connection {
        let (buffers, sent_at) = (Gathering::default(), Moment::ZERO);
        Connection { wire, is_tls, buffers, clock, is_resting: true, used: false, sent_at, head_bytes: 0 }
    }

    fn send(&mut self, timeout: NextTimeout) -> Result<(), ureq::Error> {
        // The first I/O of every request, also on a pooled connection.
        let socket = Arc::downgrade(self.wire.tcp().socket());
        cancel::attach(socket)?;
        let (reused, clock) = (self.used, self.clock);
        cancel::check_time(clock.now())?;
        cancel::note(|traffic| traffic.reused = reused);
        self.wire.tcp().until(clock.now() + write_patience(timeout));
        let result = self.wire.write_all(self.buffers.take_output());
        // Noted also on failure: part of it may have reached the upstream.
        self.sent_at = clock.now();
        cancel::note(|traffic| traffic.sent_at = Some(self.sent_at));
        result.map_err(|error| self.fail(&error, timeout))
    }

    fn fail(&self, error: &io::Error, timeout: NextTimeout) -> ureq::Error {
        let failure = self.failure(error, timeout);
        cancel::note_failure(&failure);
        failure
    }

    fn failure(&self, error: &io::Error, timeout: NextTimeout) -> ureq::Error {
        match error.kind() {
            ErrorKind::WouldBlock => ureq::Error::Timeout(match timeout.reason {
                // ureq's name for what has no time-out in all.
                Timeout::Global => Timeout::PerRead,
                reason => reason,
            }),
            // Before the kernel asks whether the peer is still there, only what was sent and not acknowledged can end a
            // connection.
            ErrorKind::TimedOut if self.clock.now().since(self.sent_at) < KEEPALIVE_AFTER => {
                let text =
                    "nothing of what was sent was acknowledged: the network has dropped the connection";
                Reason::new(Kind::Unacknowledged, text).into()
            }
            ErrorKind::TimedOut => {
                Reason::new(Kind::Broken, "the upstream's host does not answer any more").into()
            }
            ErrorKind::UnexpectedEof => {
                let text = "the connection was closed without the TLS close_notify that ends an answer";
                Reason::new(Kind::Broken, text).into()
            }
            _ => Reason::new(Kind::Broken, format!("the connection broke: {error}")).into(),
        }
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        if std::mem::take(&mut self.is_resting) {
            let (head, content) = cancel::request_size();
            self.buffers.prepare(head, content);
            self.head_bytes = 0;
        }
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        if self.buffers.gather(amount) { self.send(timeout) } else { Ok(()) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        if self.buffers.has_output() {
            self.send(timeout)?;
        }
        cancel::about_to_wait()?;
        self.wire.tcp().until(self.clock.now() + read_patience(timeout));
        let read = self.wire.read(self.buffers.input_append_buf());
        let read = read.map_err(|error| self.fail(&error, timeout))?;
        self.buffers.input_appended(read);
        if read > 0 {
            cancel::note(|traffic| traffic.answered = true);
        }
        if timeout.reason == Timeout::RecvResponse {
            self.head_bytes += read;
            if self.head_bytes > MAX_ANSWER_HEAD {
                return Err(ureq::Error::LargeResponseHeader(self.head_bytes, MAX_ANSWER_HEAD));
            }
        }
        Ok(read > 0)
    }

    /// Asked when the connection goes back to the pool and when it is taken from it. The link to the request that is
    /// done must be cut before another thread can take the connection.
    fn is_open(&mut self) -> bool {
        if !std::mem::replace(&mut self.is_resting, true) {
            self.used = true;
            cancel::detach();
        }
        self.wire.is_quiet()
    }

    fn is_tls(&self) -> bool {
        self.is_tls
    }
}

/// How long a read may take: until the head in all, afterwards for each piece.
fn read_patience(timeout: NextTimeout) -> Duration {
    match timeout.reason {
        Timeout::RecvResponse => *timeout.after,
        _ => *timeout.for_read().after,
    }
}

fn write_patience(timeout: NextTimeout) -> Duration {
    timeout.per_write.map_or(*timeout.after, |each| *each)
}
