//! One client connection in its event loop: reading requests, writing the sidecar's own answers, closing politely.

use crate::clock::{Moment, duration_from_secs_f64};
use crate::downstream::body_memory::BodyShare;
use crate::downstream::link::{AfterAnswer, Link, LoopPort, Sign};
use crate::downstream::source::Port;
use crate::downstream::source::Source;
use crate::front::intake::{Handled, Intake, LetIn, Refused};
use crate::http::{Bounds, Head, Malformed, Progress, Request, RequestReader, Step, write};
use crate::outcome::Outcome;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may rest between two requests.
const IDLE: Duration = Duration::from_secs(120);

/// How long a new connection has for its first request when the loop drains.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// How long a client has to take its last answer before the connection is closed over unread input: closing earlier
/// sends a reset that can destroy the answer on its way (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);

/// A body whose pieces come slower than this, and each later than the client timeout allows, is given up.
const SLOWEST_BODY_BYTES_A_SECOND: f64 = 1024.0;

/// Bytes of the dashboard's stream that a viewer may be behind.
const MAX_UNSEEN: usize = 64 * 1024;

/// What the kernel keeps of the stream for a viewer on top; left alone, it would keep megabytes for one that does not read.
const VIEWER_SEND_BUFFER: usize = 32 * 1024;

/// Reads from one connection before the others get their turn.
const READS_A_TURN: usize = 16;

/// Requests of one connection that its loop answers itself before the others get their turn.
const ANSWERS_A_TURN: usize = 8;

/// What the loop does with a connection after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterEvent {
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
    /// A request is under way and its holder owns the socket; a job can be cancelled.
    Lent { job: Option<u64> },
    /// An answer of the sidecar's own is being written.
    Writing(AfterAnswer),
    /// The dashboard's stream is shown until the client goes.
    Watching,
    /// The last answer is out; unread input is thrown away until the client closes.
    Lingering,
}

/// What a connection needs of its loop while it is driven.
pub(super) struct LoopContext<'a> {
    pub(super) intake: &'a Intake,
    pub(super) registry: &'a Registry,
    /// One buffer for all connections of a loop.
    pub(super) scratch: &'a mut [u8],
    pub(super) now: Moment,
}

/// A client connection as its loop sees it.
pub(super) struct Connection {
    link: Arc<Link>,
    token: Token,
    peer: IpAddr,
    port: Port,
    reader: RequestReader,
    share: BodyShare,
    state: State,
    /// When the loop has to look at it without an event.
    deadline: Moment,
    began: Moment,
    out: Vec<u8>,
    written: usize,
    awaits_writable: bool,
    /// The socket may hold bytes that the selector will not tell of again: it told of them, and they were not read.
    unread: bool,
    /// The client has sent its last byte, of which the selector may have told before that was read.
    closed: bool,
    turned_away: bool,
    /// It has carried a request.
    served: bool,
    /// What the request whose body is being read was let in as.
    let_in: Option<LetIn>,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        peer: IpAddr,
        port: Port,
        place: (usize, u32),
        home: &Arc<LoopPort>,
        now: Moment,
        share: BodyShare,
    ) -> Connection {
        let (token, generation) = place;
        Connection {
            link: Arc::new(Link::new(socket, token, generation, home.clone())),
            token: Token(token),
            peer,
            port,
            reader: RequestReader::default(),
            share,
            state: State::Reading,
            deadline: now + IDLE,
            began: now,
            out: Vec::new(),
            written: 0,
            awaits_writable: false,
            unread: false,
            closed: false,
            turned_away: false,
            served: false,
            let_in: None,
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

    /// It rests between two requests: nothing is being read, answered or written.
    pub(super) fn is_idle(&self) -> bool {
        match self.state {
            State::Reading => self.served && self.reader.progress() == Progress::Idle,
            State::Lent { .. } => !self.link.is_lent(),
            State::Writing(_) | State::Watching | State::Lingering => false,
        }
    }

    /// The loop drains. A connection that has just come has its first request on its way, as a rule, and its client could
    /// not tell a close from a failure; it has a moment to send it, as has one that is in the middle of a request.
    pub(super) fn drain(&mut self, now: Moment) {
        if self.state == State::Reading && !(self.served && self.reader.progress() == Progress::Idle) {
            self.deadline = self.deadline.min(now + FIRST_REQUEST);
        }
    }

    /// Whether it shows the dashboard's stream.
    pub(super) fn is_watching(&self) -> bool {
        self.state == State::Watching
    }

    /// Shows an event to a viewer. One that does not keep up is dropped; its browser comes back for the present.
    pub(super) fn show(&mut self, event: &[u8], context: &mut LoopContext<'_>) -> AfterEvent {
        if self.out.len() - self.written > MAX_UNSEEN {
            return AfterEvent::Close;
        }
        self.out.drain(..self.written);
        self.written = 0;
        self.out.extend_from_slice(event);
        self.drive(context)
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
    pub(super) fn on_event(&mut self, closed: bool, context: &mut LoopContext<'_>) -> AfterEvent {
        self.unread = true;
        self.closed |= closed;
        let after = self.drive(context);
        if self.closed
            && let State::Lent { job } = self.state
            && self.link.is_lent()
        {
            self.hung_up(job, context);
        }
        after
    }

    fn hung_up(&self, job: Option<u64>, context: &LoopContext<'_>) {
        if self.link.hangup().cancel()
            && let Some(job) = job
        {
            context.intake.cancel(job);
        }
    }

    /// The holder has given the connection back with a message.
    pub(super) fn on_return(
        &mut self,
        answer: Vec<u8>,
        next: AfterAnswer,
        context: &mut LoopContext<'_>,
    ) -> AfterEvent {
        self.link.take_back();
        if next == AfterAnswer::Abort {
            return AfterEvent::Close;
        }
        self.begin_writing(answer, next, context);
        self.drive(context)
    }

    /// The deadline has passed.
    pub(super) fn on_deadline(&mut self, context: &mut LoopContext<'_>) -> AfterEvent {
        match self.state {
            State::Reading if self.reader.progress() != Progress::Idle && !self.link.may_persist() => {
                self.refuse(Outcome::ShuttingDown, "the sidecar is shutting down", context);
                self.drive(context)
            }
            State::Reading if self.reader.progress() != Progress::Idle => {
                let what = if self.reader.progress() == Progress::Head { "head" } else { "body" };
                let message = format!("the request's {what} did not arrive within client_timeout");
                self.refuse(Outcome::Invalid(408), &message, context);
                self.drive(context)
            }
            State::Lent { job } => match context.intake.give_sign(&self.link, context.now) {
                Sign::Next(due, _) => {
                    self.deadline = due;
                    AfterEvent::Stay
                }
                Sign::Gone => {
                    self.deadline = context.now + IDLE;
                    self.hung_up(job, context);
                    AfterEvent::Stay
                }
                // A connection that was given back by re-arming says nothing until its next request; its rest begins here.
                Sign::None => {
                    self.deadline = context.now + IDLE;
                    self.drive(context)
                }
            },
            _ => AfterEvent::Close,
        }
    }

    /// Gives the client an answer without having read a request.
    pub(super) fn turn_away(
        &mut self,
        outcome: Outcome,
        message: &str,
        context: &mut LoopContext<'_>,
    ) -> AfterEvent {
        self.turned_away = true;
        self.refuse(outcome, message, context);
        self.drive(context)
    }

    fn drive(&mut self, context: &mut LoopContext<'_>) -> AfterEvent {
        if matches!(self.state, State::Lent { .. }) {
            if self.link.keeps_lent() {
                return AfterEvent::Stay;
            }
            self.link.settle_return();
            self.await_request(context.now);
        }
        let bounds = Bounds { max_body_bytes: context.intake.max_body_bytes() };
        let (mut reads, mut answers) = (0, 0);
        loop {
            match self.state {
                State::Reading if answers == ANSWERS_A_TURN => return AfterEvent::Again,
                State::Reading => match self.step(&bounds, context) {
                    Ok(None) => {}
                    Ok(Some(Step::Complete(request))) => self.take(request, context),
                    Ok(Some(Step::NeedMore { send_continue })) => {
                        if send_continue && !self.send_continue() {
                            return AfterEvent::Close;
                        }
                        if reads == READS_A_TURN {
                            return AfterEvent::Again;
                        }
                        reads += 1;
                        match receive(self.link.socket(), context.scratch) {
                            Received::Bytes(n) => {
                                // Fewer than asked for: that was all (epoll(7)), and more will be told of.
                                self.unread = n == context.scratch.len() || self.closed;
                                self.feed(n, context);
                            }
                            Received::Nothing => return AfterEvent::Stay,
                            Received::End => return AfterEvent::Close,
                        }
                    }
                    Err(Malformed { status, message }) => {
                        self.refuse(Outcome::Invalid(status), &message, context);
                    }
                },
                State::Writing(next) => match self.flush(context.registry) {
                    Ok(true) => {
                        answers += 1;
                        self.end_answer(next, context.now);
                    }
                    Ok(false) => return AfterEvent::Stay,
                    Err(_) => return AfterEvent::Close,
                },
                State::Lingering => match receive(self.link.socket(), context.scratch) {
                    Received::Bytes(_) if reads < READS_A_TURN => reads += 1,
                    Received::Bytes(_) => return AfterEvent::Again,
                    Received::Nothing => return AfterEvent::Stay,
                    Received::End => return AfterEvent::Close,
                },
                State::Watching => match self.flush(context.registry) {
                    Ok(seen) => {
                        self.deadline =
                            if seen { Moment::NEVER } else { context.now + context.intake.client_timeout() };
                        match receive(self.link.socket(), context.scratch) {
                            Received::Bytes(_) if reads < READS_A_TURN => reads += 1,
                            Received::Bytes(_) => return AfterEvent::Again,
                            Received::Nothing => return AfterEvent::Stay,
                            Received::End => return AfterEvent::Close,
                        }
                    }
                    Err(_) => return AfterEvent::Close,
                },
                State::Lent { .. } => return AfterEvent::Stay,
            }
        }
    }

    fn feed(&mut self, received: usize, context: &LoopContext<'_>) {
        if self.reader.progress() == Progress::Idle {
            self.began = context.now;
        }
        let taken = self.reader.body_received();
        self.reader.feed(&context.scratch[..received]);
        if !self.share.resize(self.reader.held_bytes(), context.intake.max_body_memory()) {
            let message = "the memory for request bodies is used up (max_body_memory_bytes)";
            return self.refuse(Outcome::QueueFull, message, context);
        }
        let patience = context.intake.client_timeout();
        self.deadline = if self.reader.progress() == Progress::Body {
            // Each piece earns time by its size, and never more than the client timeout ahead of it: a body that came fast
            // at first may not stall for long afterwards.
            let more = (self.reader.body_received() - taken) as f64 / SLOWEST_BODY_BYTES_A_SECOND;
            (self.deadline + duration_from_secs_f64(more)).min(context.now + patience)
        } else if self.link.may_persist() {
            self.began + patience
        } else {
            // A loop that drains does not wait longer for a head that is under way.
            self.deadline
        };
    }

    /// Reads on, and stops at a complete head to judge it; `None` when it was not let in.
    fn step(&mut self, bounds: &Bounds, context: &LoopContext<'_>) -> Result<Option<Step>, Malformed> {
        if self.reader.step_to_head(bounds)?
            && let Some(head) = self.reader.head()
        {
            let has_body = self.reader.awaits_body();
            match context.intake.judge(head, has_body, &self.source(), context.now) {
                Ok(let_in) => self.let_in = Some(let_in),
                Err(Refused { bytes, keep }) => {
                    if keep {
                        // It has no body, so this takes it off the buffer.
                        self.reader.step(bounds)?;
                    }
                    self.begin_writing(bytes, AfterAnswer::keep_if(keep), context);
                    return Ok(None);
                }
            }
            self.deadline = context.now + context.intake.client_timeout();
        }
        self.reader.step(bounds).map(Some)
    }

    fn source(&self) -> Source<'_> {
        Source { link: &self.link, peer: self.peer, port: self.port, unread: self.unread }
    }

    fn take(&mut self, request: Request, context: &LoopContext<'_>) {
        self.served = true;
        let leftover = self.reader.has_leftover();
        let share = std::mem::replace(&mut self.share, context.intake.share());
        let Some(let_in) = self.let_in.take() else {
            return self.refuse(Outcome::Internal, "the request was not judged; this is a bug", context);
        };
        match context.intake.handle(request, let_in, share, leftover, &self.source(), context.now) {
            Handled::Answer { bytes, keep } => self.begin_writing(bytes, AfterAnswer::keep_if(keep), context),
            Handled::Watch { head } => {
                let _ = SockRef::from(self.link.socket()).set_send_buffer_size(VIEWER_SEND_BUFFER);
                self.out = head;
                self.written = 0;
                self.state = State::Watching;
            }
            Handled::Lent { job, look_at } => {
                self.reader.shrink();
                self.state = State::Lent { job };
                self.deadline = look_at.min(context.now + IDLE);
            }
        }
    }

    fn refuse(&mut self, outcome: Outcome, message: &str, context: &LoopContext<'_>) {
        let path = self.reader.head().map_or("", Head::path);
        let answer = context.intake.refusal(outcome, message, path, self.peer);
        self.begin_writing(answer, AfterAnswer::Close, context);
    }

    fn begin_writing(&mut self, answer: Vec<u8>, next: AfterAnswer, context: &LoopContext<'_>) {
        self.out = answer;
        self.written = 0;
        self.state = State::Writing(next);
        self.deadline = context.now + context.intake.client_timeout();
    }

    /// Writes what the socket takes; tells whether everything is out.
    fn flush(&mut self, registry: &Registry) -> io::Result<bool> {
        while self.written < self.out.len() {
            match send(
                self.link.socket(),
                &self.out[self.written..],
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
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
        self.written = 0;
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

    fn end_answer(&mut self, next: AfterAnswer, now: Moment) {
        if next == AfterAnswer::Keep {
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
