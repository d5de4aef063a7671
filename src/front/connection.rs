//! One client connection in its event loop: reading requests, writing the sidecar's own answers, closing politely.

use crate::clock::Moment;
use crate::front::intake::{Handled, Intake, Source};
use crate::front::link::{Home, Link, Next};
use crate::front::listen::Door;
use crate::front::memory::Share;
use crate::http::{Bounds, Malformed, Progress, Request, RequestReader, Step, write};
use crate::outcome::Outcome;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may rest between two requests.
const IDLE: Duration = Duration::from_secs(75);

/// How long a client has to take its last answer before the connection is closed over unread input: closing earlier
/// sends a reset that can destroy the answer on its way (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);

/// A body may take the client timeout, and a second more for every so many bytes that have come.
const SLOWEST_BODY_BYTES_A_SECOND: usize = 1024;

/// Reads from one connection before the others get their turn.
const READS_A_TURN: usize = 16;

/// What the loop does with a connection after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for its next event or its deadline.
    Stay,
    /// It has more to do, after the others had their turn.
    Again,
    /// It is over.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between requests, or in the middle of reading one.
    Reading,
    /// A request is under way and its holder owns the socket.
    Lent { job: u64 },
    /// An answer of the sidecar's own is being written.
    Writing(Next),
    /// The last answer is out; unread input is thrown away until the client closes.
    Lingering,
}

/// A client connection as its loop sees it.
pub(super) struct Connection {
    link: Arc<Link>,
    token: Token,
    peer: IpAddr,
    door: Door,
    reader: RequestReader,
    share: Share,
    state: State,
    /// When the loop has to look at it without an event.
    deadline: Moment,
    began: Moment,
    out: Vec<u8>,
    written: usize,
    awaits_writable: bool,
    turned_away: bool,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, peer: IpAddr, door: Door, place: (usize, u32), home: &Arc<Home>, now: Moment, share: Share) -> Connection {
        let (token, generation) = place;
        Connection {
            link: Arc::new(Link::new(socket, token, generation, home.clone())),
            token: Token(token),
            peer,
            door,
            reader: RequestReader::default(),
            share,
            state: State::Reading,
            deadline: now + IDLE,
            began: now,
            out: Vec::new(),
            written: 0,
            awaits_writable: false,
            turned_away: false,
        }
    }

    pub(super) fn socket_fd(&self) -> std::os::fd::RawFd {
        self.link.socket().as_raw_fd()
    }

    pub(super) fn generation(&self) -> u32 {
        self.link.generation()
    }

    pub(super) fn deadline(&self) -> Moment {
        self.deadline
    }

    /// Nothing is under way: no request is being read, answered or written.
    pub(super) fn is_idle(&self) -> bool {
        match self.state {
            State::Reading => self.reader.progress() == Progress::Idle,
            State::Lent { .. } => !self.link.is_lent(),
            State::Writing(_) | State::Lingering => false,
        }
    }

    /// Whether it was accepted only to be told that there are too many.
    pub(super) fn was_turned_away(&self) -> bool {
        self.turned_away
    }

    /// Cuts the connection whatever it is doing; a holder that is blocked on it fails at once.
    pub(super) fn cut(&self) {
        self.link.hangup().cancel();
        self.link.shut_down();
    }

    /// The selector says that something happened. `closed`: the client has sent its last byte, which while a request is
    /// under way means that it has hung up (as nginx and Go's net/http take it too).
    pub(super) fn on_event(&mut self, closed: bool, intake: &Intake, registry: &Registry, scratch: &mut [u8], now: Moment) -> Fate {
        let fate = self.drive(intake, registry, scratch, now);
        if closed && let State::Lent { job } = self.state && self.link.is_lent() && self.link.hangup().cancel() {
            intake.cancel(job);
        }
        fate
    }

    /// The holder has given the connection back with a message.
    pub(super) fn on_return(&mut self, answer: Vec<u8>, next: Next, intake: &Intake, registry: &Registry, scratch: &mut [u8], now: Moment) -> Fate {
        self.link.take_back();
        if next == Next::Abort {
            return Fate::Close;
        }
        self.begin_writing(answer, next, now + intake.client_timeout());
        self.drive(intake, registry, scratch, now)
    }

    /// The deadline has passed.
    pub(super) fn on_deadline(&mut self, intake: &Intake, registry: &Registry, scratch: &mut [u8], now: Moment) -> Fate {
        match self.state {
            State::Reading if self.reader.progress() != Progress::Idle => {
                let what = if self.reader.progress() == Progress::Head { "head" } else { "body" };
                let message = format!("the request's {what} did not arrive within client_timeout");
                self.refuse(Outcome::Invalid(408), &message, intake, now);
                self.drive(intake, registry, scratch, now)
            }
            // A connection that was given back by re-arming says nothing until its next request; its rest begins here.
            State::Lent { .. } => {
                self.deadline = now + IDLE;
                self.drive(intake, registry, scratch, now)
            }
            _ => Fate::Close,
        }
    }

    /// Gives the client an answer without having read a request.
    pub(super) fn turn_away(&mut self, outcome: Outcome, message: &str, intake: &Intake, registry: &Registry, scratch: &mut [u8], now: Moment) -> Fate {
        self.turned_away = true;
        self.refuse(outcome, message, intake, now);
        self.drive(intake, registry, scratch, now)
    }

    fn drive(&mut self, intake: &Intake, registry: &Registry, scratch: &mut [u8], now: Moment) -> Fate {
        if matches!(self.state, State::Lent { .. }) {
            if self.link.is_lent() {
                return Fate::Stay;
            }
            self.link.settle_return();
            self.await_request(now);
        }
        let mut reads = 0;
        loop {
            match self.state {
                State::Reading => match self.reader.step(&Bounds { max_body_bytes: intake.max_body_bytes() }) {
                    Ok(Step::Complete(request)) => self.take(request, intake, now),
                    Ok(Step::NeedMore { send_continue }) => {
                        if send_continue && !self.send_continue() {
                            return Fate::Close;
                        }
                        if reads == READS_A_TURN {
                            return Fate::Again;
                        }
                        reads += 1;
                        match receive(self.link.socket(), scratch) {
                            Received::Bytes(n) => self.feed(&scratch[..n], intake, now),
                            Received::Nothing => return Fate::Stay,
                            Received::End => return Fate::Close,
                        }
                    }
                    Err(malformed) => self.refuse_malformed(&malformed, intake, now),
                },
                State::Writing(next) => match self.flush(registry) {
                    Ok(true) => self.end_answer(next, now),
                    Ok(false) => return Fate::Stay,
                    Err(_) => return Fate::Close,
                },
                State::Lingering => match receive(self.link.socket(), scratch) {
                    Received::Bytes(_) if reads < READS_A_TURN => reads += 1,
                    Received::Bytes(_) => return Fate::Again,
                    Received::Nothing => return Fate::Stay,
                    Received::End => return Fate::Close,
                },
                State::Lent { .. } => return Fate::Stay,
            }
        }
    }

    fn feed(&mut self, bytes: &[u8], intake: &Intake, now: Moment) {
        if self.reader.progress() == Progress::Idle {
            self.began = now;
        }
        self.reader.feed(bytes);
        if !self.share.resize(self.reader.held_bytes(), intake.max_body_memory()) {
            let message = "the memory for request bodies is used up (max_body_memory_bytes)";
            self.refuse(Outcome::QueueFull, message, intake, now);
            return;
        }
        let earned = self.reader.body_received() / SLOWEST_BODY_BYTES_A_SECOND;
        self.deadline = self.began + intake.client_timeout() + Duration::from_secs(earned as u64);
    }

    fn take(&mut self, request: Request, intake: &Intake, now: Moment) {
        let leftover = self.reader.has_leftover();
        let share = std::mem::replace(&mut self.share, intake.share());
        self.reader.shrink();
        let source = Source { link: &self.link, peer: self.peer, door: self.door };
        match intake.handle(request, share, leftover, &source, now) {
            Handled::Answer { bytes, keep } => self.begin_writing(bytes, Next::keep_if(keep), now + intake.client_timeout()),
            Handled::Lent { job } => {
                self.state = State::Lent { job };
                self.deadline = now + IDLE;
            }
        }
    }

    fn refuse_malformed(&mut self, malformed: &Malformed, intake: &Intake, now: Moment) {
        self.refuse(Outcome::Invalid(malformed.status), &malformed.message, intake, now);
    }

    fn refuse(&mut self, outcome: Outcome, message: &str, intake: &Intake, now: Moment) {
        let answer = intake.refusal(outcome, message, self.peer);
        self.begin_writing(answer, Next::Close, now + intake.client_timeout());
    }

    fn begin_writing(&mut self, answer: Vec<u8>, next: Next, deadline: Moment) {
        self.out = answer;
        self.written = 0;
        self.state = State::Writing(next);
        self.deadline = deadline;
    }

    /// Writes what the socket takes; tells whether everything is out.
    fn flush(&mut self, registry: &Registry) -> io::Result<bool> {
        while self.written < self.out.len() {
            match send(self.link.socket(), &self.out[self.written..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => self.written += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.await_writable(registry, true)?;
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.out = Vec::new();
        self.await_writable(registry, false)?;
        Ok(true)
    }

    fn await_writable(&mut self, registry: &Registry, awaits: bool) -> io::Result<()> {
        if self.awaits_writable == awaits {
            return Ok(());
        }
        self.awaits_writable = awaits;
        let interest = if awaits { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        registry.reregister(&mut SourceFd(&self.socket_fd()), self.token, interest)
    }

    fn end_answer(&mut self, next: Next, now: Moment) {
        if next == Next::Keep {
            self.await_request(now);
        } else {
            let _ = self.link.socket().shutdown(Shutdown::Write);
            self.state = State::Lingering;
            self.deadline = now + LINGER;
        }
    }

    fn await_request(&mut self, now: Moment) {
        self.state = State::Reading;
        self.began = now;
        self.deadline = now + IDLE;
    }

    fn send_continue(&mut self) -> bool {
        // 25 bytes into an empty send buffer; a socket that cannot take them is broken.
        send(self.link.socket(), write::CONTINUE, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            .is_ok_and(|n| n == write::CONTINUE.len())
    }
}

enum Received {
    Bytes(usize),
    Nothing,
    End,
}

fn receive(socket: &TcpStream, scratch: &mut [u8]) -> Received {
    loop {
        return match recv(socket, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Received::End,
            Ok((_, n)) => Received::Bytes(n),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => Received::Nothing,
            Err(_) => Received::End,
        };
    }
}
