//! One client connection as its event loop and the present holder of its request share it.
//!
//! While a request is under way its connection is *lent*: the loop only watches for the client's hang-up and leaves
//! reading and writing alone; the holder of the request writes the answer and gives the connection back. The one exception
//! are [signs of life](crate::downstream::keepalive): the loop writes them, to a client that waits and between the pieces
//! of its answer, with what has been written so far in hand ([`Link::give_sign`]).

use crate::clock::{Clock, Moment};
use crate::downstream::hangup::Hangup;
use crate::downstream::keepalive::{Begun, Early, KeptAlive, Place, Sent};
use crate::lifecycle::Stopping;
use crossbeam_channel::Sender;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, Waker};
use parking_lot::Mutex;
use rustix::net::{SendFlags, send};
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// When a loop looks again at a connection on which a worker was writing at that moment.
const BUSY: Duration = Duration::from_secs(1);

/// What a holder tells the event loop when it gives a connection back.
#[derive(Debug)]
pub struct Returned {
    /// The connection's place in the loop.
    pub token: usize,
    /// Tells this connection from a later one in the same place.
    pub generation: u32,
    /// Bytes that the loop still has to write: an answer of the sidecar's own.
    pub answer: Vec<u8>,
    /// What becomes of the connection.
    pub next: AfterAnswer,
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAnswer {
    /// It may carry another request.
    Keep,
    /// It is closed once the client has had the time to read the answer.
    Close,
    /// It is closed at once: the answer is incomplete, or nobody reads it.
    Abort,
}

impl AfterAnswer {
    /// [`AfterAnswer::Keep`] when the connection persists, else [`AfterAnswer::Close`].
    #[must_use]
    pub fn keep_if(persists: bool) -> AfterAnswer {
        if persists { AfterAnswer::Keep } else { AfterAnswer::Close }
    }
}

/// The way back to one event loop.
#[derive(Debug)]
pub struct LoopPort {
    /// Bounded by the connections: each is returned once for each time it is lent.
    pub returns: Sender<Returned>,
    /// Wakes the loop.
    pub waker: Waker,
    /// The loop's selector, through which a connection is re-armed without waking the loop.
    pub registry: Registry,
    /// Once the sidecar ends, connections end with the answer that is under way.
    pub stopping: Stopping,
}

/// The shared part of one client connection.
#[derive(Debug)]
pub struct Link {
    socket: TcpStream,
    lent: AtomicBool,
    /// The socket may hold bytes that the selector has told of and that the loop has not read.
    unread: AtomicBool,
    /// Held while a holder gives the connection back by re-arming it, so that the loop, which may hear of it in the
    /// middle, never has its own registration overwritten.
    rearming: Mutex<()>,
    hangup: Arc<Hangup>,
    /// The request that is kept alive. Whoever writes a part of its answer holds this meanwhile; the loop only tries to,
    /// because a holder may be blocked on a client that reads slowly.
    kept_alive: Mutex<Option<Box<KeptAlive>>>,
    token: usize,
    generation: u32,
    home: Arc<LoopPort>,
}

/// What a loop did for a client that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The request is not kept alive, or not any more.
    None,
    /// Something was sent if it was due; look again at this moment.
    Next(Moment, Sent),
    /// The client has gone.
    Gone,
}

/// How the signs of life of a request ended.
#[derive(Debug, Default)]
pub struct EndedSigns {
    /// What the client has been promised already.
    pub early: Option<Early>,
    /// What must be written before anything else.
    pub unsent: Vec<u8>,
}

impl Link {
    /// The shared part of a connection that sits at `token` in its loop.
    #[must_use]
    pub fn new(socket: TcpStream, token: usize, generation: u32, home: Arc<LoopPort>) -> Link {
        Link {
            socket,
            lent: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            rearming: Mutex::new(()),
            hangup: Arc::default(),
            kept_alive: Mutex::default(),
            token,
            generation,
            home,
        }
    }

    /// The client's socket, in blocking mode; the loop reads it with `MSG_DONTWAIT`.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The client's hang-up and what it cancels.
    #[must_use]
    pub fn hangup(&self) -> &Arc<Hangup> {
        &self.hangup
    }

    /// Tells this connection from a later one at the same place in the loop.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether a request is under way.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        self.lent.load(Ordering::SeqCst)
    }

    /// As [`Link::is_lent`], for a loop that was told of the socket and leaves it alone if it is lent.
    #[must_use]
    pub fn keeps_lent(&self) -> bool {
        // The holder clears `lent` and then reads `unread`: one of the two sees the other.
        self.unread.store(true, Ordering::SeqCst);
        self.is_lent()
    }

    /// Whether a connection that the client would keep may be kept.
    #[must_use]
    pub fn may_persist(&self) -> bool {
        !self.home.stopping.is_draining()
    }

    /// Marks the connection as lent; the loop does so before it hands the request on. `unread`: it has not read all
    /// that the selector told of.
    pub fn lend(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
        self.lent.store(true, Ordering::Release);
    }

    /// The loop has its connection back: waits until a re-arming that is under way is complete.
    pub fn settle_return(&self) {
        drop(self.rearming.lock());
    }

    /// The loop takes the connection back that was returned with a message.
    pub fn take_back(&self) {
        self.lent.store(false, Ordering::Release);
    }

    /// The request that is lent is kept alive; the loop says so before it hands the request on.
    pub fn keep_alive(&self, request: KeptAlive) {
        *self.kept_alive.lock() = Some(Box::new(request));
    }

    /// Sends a sign of life if one is due, without waiting for anything: what the socket does not take at once is left
    /// out, and a worker that is writing is sign enough. For the loop alone.
    pub fn give_sign(&self, clock: &Clock, now: Moment) -> Sign {
        let Some(mut slot) = self.kept_alive.try_lock() else {
            return Sign::Next(now + BUSY, Sent::default());
        };
        let Some(kept) = slot.as_mut() else { return Sign::None };
        let Some(due) = kept.take_due(now, clock.wall()) else {
            return Sign::Next(kept.look_at(now), Sent::default());
        };
        let taken = loop {
            match send(&self.socket, &due.bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(taken) => break taken,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break 0,
                Err(_) => return Sign::Gone,
            }
        };
        let sent = kept.sent(due, taken, now);
        Sign::Next(kept.look_at(now), sent)
    }

    /// The wait for tickets of the request that is lent is over.
    pub fn note_queued(&self, queued: Duration) {
        if let Some(kept) = self.kept_alive.lock().as_mut() {
            kept.queued(queued);
        }
    }

    /// Since when the answer of the request that is lent has been an early 200. For its holder, who is not writing.
    #[must_use]
    pub fn early_since(&self) -> Option<Moment> {
        self.kept_alive.lock().as_ref()?.early_since()
    }

    /// The holder is about to write the answer. The loop does not begin one any more, and signs stand where the holder's
    /// [writing](Link::write) allows. `None` for a request that is not kept alive.
    pub fn begin_answer(&self) -> Option<Begun> {
        self.kept_alive.lock().as_mut().map(|kept| kept.begin_answer())
    }

    /// There are no more signs of life: the holder is about to end the answer, or to give the connection back.
    pub fn end_signs(&self) -> EndedSigns {
        let Some(mut kept) = self.kept_alive.lock().take() else { return EndedSigns::default() };
        EndedSigns { early: kept.begin_answer().early, unsent: kept.take_unsent() }
    }

    /// Writes `bytes` and blocks until they are taken, at most for `patience` in all: a reader that is slower than that
    /// for one piece would hold a worker. After them the answer stands at `place`.
    ///
    /// # Errors
    /// When the client is gone or too slow.
    pub fn write(&self, bytes: &[u8], place: &Place, clock: &Clock, patience: Duration) -> io::Result<()> {
        let mut slot = self.kept_alive.lock();
        let Some(kept) = slot.as_mut() else {
            drop(slot);
            return self.write_all(bytes, clock, patience);
        };
        let unsent = kept.take_unsent();
        self.write_all(&unsent, clock, patience)?;
        self.write_all(bytes, clock, patience)?;
        kept.wrote(place, clock.now());
        Ok(())
    }

    fn write_all(&self, bytes: &[u8], clock: &Clock, patience: Duration) -> io::Result<()> {
        let mut rest = bytes;
        let mut give_up = None;
        while !rest.is_empty() {
            match (&self.socket).write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The socket's own send timeout, which is the same patience.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(e) => return Err(e),
            }
            if !rest.is_empty() {
                let now = clock.now();
                if now > *give_up.get_or_insert(now + patience) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(())
    }

    /// Gives the connection back after an answer that the holder wrote itself.
    ///
    /// Without `leftover` (pipelined bytes that the loop has read already) the loop need not be woken: the selector
    /// tells it of the next request. What the selector has told already, it tells again when the socket is re-armed.
    pub fn give_back(&self, next: AfterAnswer, leftover: bool) {
        self.end_signs();
        if next == AfterAnswer::Keep && !leftover {
            let _guard = self.rearming.lock();
            self.lent.store(false, Ordering::SeqCst);
            if !self.unread.load(Ordering::SeqCst) || self.rearm().is_ok() {
                // The loop closes what is idle when it begins to drain. Either it sees this connection as returned, or
                // this load sees that it drains: both accesses are sequentially consistent.
                if !self.may_persist() {
                    let _ = self.home.waker.wake();
                }
                return;
            }
        }
        self.give_back_with(Vec::new(), next);
    }

    /// Gives the connection back together with an answer that the loop is to write.
    pub fn give_back_with(&self, answer: Vec<u8>, next: AfterAnswer) {
        self.end_signs();
        let back = Returned { token: self.token, generation: self.generation, answer, next };
        // Fails only when the loop has ended, and its connections with it.
        if self.home.returns.send(back).is_ok() {
            let _ = self.home.waker.wake();
        }
    }

    /// Ends the connection so that the client sees a broken, not a complete, answer (RFC 9112 §8: a body delimited by
    /// the connection's end is only complete if that end is clean).
    pub fn reset(&self) {
        // Without lingering a close sends RST instead of FIN.
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Shuts the socket down in both directions: a holder that is blocked in a write fails at once.
    pub fn shut_down(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn rearm(&self) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        self.home.registry.reregister(&mut SourceFd(&fd), Token(self.token), Interest::READABLE)
    }
}
