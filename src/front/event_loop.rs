//! One event loop: accepts connections, feeds them their events, and minds their deadlines.

use crate::clock::{Clock, Moment};
use crate::downstream::connections::OpenConnections;
use crate::downstream::link::{LoopPort, Returned};
use crate::downstream::source::Port;
use crate::front::connection::{AfterEvent, Connection, LoopContext};
use crate::front::intake::Intake;
use crate::lifecycle::Stopping;
use crate::outcome::Outcome;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

const WAKE: Token = Token(usize::MAX);
/// Listeners' tokens count down from here.
const FIRST_LISTENER: usize = usize::MAX - 1;

/// How long accepting rests when the process or the system is out of descriptors; without it the loop would spin.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// Connections accepted before the others get their turn.
const ACCEPTS_A_TURN: usize = 64;

/// Connections beyond `max_connections` that are being told so; those beyond these are closed without a word.
const REFUSALS_AT_ONCE: usize = 64;

/// Bytes read at once, one buffer for all connections of a loop.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What a loop is told while it runs.
#[derive(Clone, Debug)]
pub enum LoopCommand {
    /// Show these bytes to every viewer.
    Show(Arc<[u8]>),
    /// Accept nothing more and close what is idle; end when the last answer is out.
    Drain,
    /// Cut what is left and end.
    Cut,
    /// Say that the loop turns.
    Answer(Sender<()>),
}

/// The way to a loop that runs.
#[derive(Clone)]
pub struct LoopHandle {
    commands: Sender<LoopCommand>,
    home: Arc<LoopPort>,
}

impl LoopHandle {
    /// Gives the loop a command; it goes unheard once the loop has ended.
    pub fn command(&self, command: LoopCommand) {
        if self.commands.send(command).is_ok() {
            let _ = self.home.waker.wake();
        }
    }

    /// Whether the loop takes commands within `patience`. One that has ended is not missed.
    #[must_use]
    pub fn answers(&self, patience: Duration) -> bool {
        let (answer, answered) = bounded(1);
        self.command(LoopCommand::Answer(answer));
        answered.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }
}

/// A loop that has not started yet.
pub struct EventLoop {
    poll: Poll,
    home: Arc<LoopPort>,
    returns: Receiver<Returned>,
    commands: Receiver<LoopCommand>,
    listeners: Vec<(TcpListener, Port)>,
    connections: Slab<Connection>,
    open: OpenConnections,
    intake: Arc<Intake>,
    clock: Clock,
    generation: u32,
    refusals: usize,
    /// Not before this moment is anything accepted.
    accept_from: Moment,
    must_accept: bool,
    /// No deadline of a connection is earlier.
    next_deadline: Moment,
    /// Connections that have more to do than one turn allowed.
    again: Vec<usize>,
    scratch: Vec<u8>,
}

impl EventLoop {
    /// A loop over `listeners`, and the way to it.
    ///
    /// # Errors
    /// When the system gives no selector or a listener cannot be registered.
    pub fn new(
        listeners: Vec<(TcpListener, Port)>,
        open: OpenConnections,
        intake: Arc<Intake>,
        stopping: Stopping,
        clock: Clock,
    ) -> io::Result<(EventLoop, LoopHandle)> {
        let poll = Poll::new()?;
        for (i, (listener, _)) in listeners.iter().enumerate() {
            let fd = listener.as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), Token(FIRST_LISTENER - i), Interest::READABLE)?;
        }
        let (sender, returns) = unbounded();
        let waker = Waker::new(poll.registry(), WAKE)?;
        let registry = poll.registry().try_clone()?;
        let home = Arc::new(LoopPort { returns: sender, waker, registry, stopping });
        // Two commands in a life, and a show a second that a loop takes at once.
        let (order_to, commands) = unbounded();
        let handle = LoopHandle { commands: order_to, home: home.clone() };
        let event_loop = EventLoop {
            poll,
            home,
            returns,
            commands,
            listeners,
            connections: Slab::new(),
            open,
            intake,
            clock,
            generation: 0,
            refusals: 0,
            accept_from: Moment::ZERO,
            must_accept: false,
            next_deadline: Moment::NEVER,
            again: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
        };
        Ok((event_loop, handle))
    }

    /// Runs until it is ordered to end.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            if let Err(error) = self.poll.poll(&mut events, self.patience())
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("the event loop cannot wait for events any more: {error}");
                break;
            }
            let now = self.clock.now();
            for token in std::mem::take(&mut self.again) {
                self.drive(token, now, |connection, context| connection.on_event(false, context));
            }
            for event in &events {
                match event.token() {
                    WAKE => {}
                    Token(listener) if listener > FIRST_LISTENER - self.listeners.len() => {
                        self.must_accept = true;
                    }
                    Token(token) => {
                        let closed = event.is_read_closed() || event.is_error();
                        self.drive(token, now, |connection, context| connection.on_event(closed, context));
                    }
                }
            }
            self.take_returns(now);
            self.mind_deadlines(now);
            // After the events: a place that was freed above is not taken by a new connection while an event of the
            // old one may still be in the batch.
            self.accept(now);
            if self.obey(now) {
                break;
            }
        }
        for (_, connection) in &self.connections {
            connection.cut();
        }
        let tokens: Vec<usize> = self.connections.iter().map(|(token, _)| token).collect();
        tokens.into_iter().for_each(|token| self.close(token));
    }

    /// How long nothing is due.
    fn patience(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let accept = if self.must_accept { self.accept_from } else { Moment::NEVER };
        let next = self.next_deadline.min(accept);
        (next != Moment::NEVER).then(|| next.since(self.clock.now()))
    }

    fn drive(
        &mut self,
        token: usize,
        now: Moment,
        act: impl FnOnce(&mut Connection, &mut LoopContext<'_>) -> AfterEvent,
    ) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        let registry = self.poll.registry();
        let mut context = LoopContext { intake: &self.intake, registry, scratch: &mut self.scratch, now };
        let was_watching = connection.is_watching();
        // A bug costs one connection, not all of this loop.
        let after =
            catch_unwind(AssertUnwindSafe(|| act(connection, &mut context))).unwrap_or(AfterEvent::Close);
        if connection.is_watching() && !was_watching {
            self.open.add_viewer();
        }
        match after {
            AfterEvent::Stay => self.next_deadline = self.next_deadline.min(connection.deadline()),
            AfterEvent::Again => self.again.push(token),
            AfterEvent::Close => self.close(token),
        }
    }

    fn take_returns(&mut self, now: Moment) {
        while let Ok(Returned { token, generation, answer, next }) = self.returns.try_recv() {
            if self.connections.get(token).is_some_and(|c| c.generation() == generation) {
                self.drive(token, now, |connection, context| connection.on_return(answer, next, context));
            }
        }
    }

    fn mind_deadlines(&mut self, now: Moment) {
        if now < self.next_deadline {
            return;
        }
        let due: Vec<usize> =
            self.connections.iter().filter(|(_, c)| c.deadline() <= now).map(|(token, _)| token).collect();
        for token in due {
            self.drive(token, now, Connection::on_deadline);
        }
        let deadlines = self.connections.iter().map(|(_, connection)| connection.deadline());
        self.next_deadline = deadlines.min().unwrap_or(Moment::NEVER);
    }

    fn accept(&mut self, now: Moment) {
        if !self.must_accept || now < self.accept_from {
            return;
        }
        self.must_accept = false;
        self.accept_from = Moment::ZERO;
        for i in 0..self.listeners.len() {
            for context in 0.. {
                if context == ACCEPTS_A_TURN {
                    self.must_accept = true;
                    break;
                }
                let port = self.listeners[i].1;
                match self.listeners[i].0.accept() {
                    Ok((socket, peer)) => self.admit(socket, peer.ip(), port, now),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        log::warn!(
                            "cannot accept a connection: {error}; trying again in {OUT_OF_DESCRIPTORS:?}"
                        );
                        self.must_accept = true;
                        self.accept_from = now + OUT_OF_DESCRIPTORS;
                        return;
                    }
                }
            }
        }
    }

    fn admit(&mut self, socket: TcpStream, peer: IpAddr, port: Port, now: Moment) {
        let over = self.open.count() >= self.intake.max_connections();
        if over && self.refusals >= REFUSALS_AT_ONCE || self.intake.prepare(&socket).is_err() {
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        let entry = self.connections.vacant_entry();
        let (token, place) = (entry.key(), (entry.key(), self.generation));
        let connection = Connection::new(socket, peer, port, place, &self.home, now, self.intake.share());
        let fd = connection.socket_fd();
        let registered = self.poll.registry().register(&mut SourceFd(&fd), Token(token), Interest::READABLE);
        if let Err(error) = registered {
            log::warn!("cannot watch a new connection: {error}");
            return;
        }
        self.next_deadline = self.next_deadline.min(connection.deadline());
        entry.insert(connection);
        self.open.add();
        if over {
            self.refusals += 1;
            let message = "too many connections (max_connections)";
            self.drive(token, now, |c, context| c.turn_away(Outcome::QueueFull, message, context));
        }
    }

    fn close(&mut self, token: usize) {
        if let Some(connection) = self.connections.try_remove(token) {
            let _ = self.poll.registry().deregister(&mut SourceFd(&connection.socket_fd()));
            self.open.remove();
            if connection.was_turned_away() {
                self.refusals -= 1;
            }
            if connection.is_watching() {
                self.open.remove_viewer();
            }
        }
    }

    /// Carries out what was ordered; tells whether the loop is to end.
    fn obey(&mut self, now: Moment) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                LoopCommand::Show(event) => self.show(&event, now),
                LoopCommand::Drain => self.begin_draining(now),
                LoopCommand::Cut => return true,
                LoopCommand::Answer(to) => {
                    let _ = to.send(());
                }
            }
        }
        if !self.is_draining() {
            return false;
        }
        self.close_idle();
        // Viewers watch to the end, but nobody waits for them.
        self.connections.iter().all(|(_, connection)| connection.is_watching())
    }

    fn show(&mut self, event: &[u8], now: Moment) {
        let viewers: Vec<usize> =
            self.connections.iter().filter(|(_, c)| c.is_watching()).map(|(token, _)| token).collect();
        for token in viewers {
            self.drive(token, now, |connection, context| connection.show(event, context));
        }
    }

    fn begin_draining(&mut self, now: Moment) {
        self.must_accept = false;
        for (listener, _) in self.listeners.drain(..) {
            let _ = self.poll.registry().deregister(&mut SourceFd(&listener.as_raw_fd()));
        }
        for (_, connection) in &mut self.connections {
            connection.drain(now);
            self.next_deadline = self.next_deadline.min(connection.deadline());
        }
    }

    /// Whether it accepts nothing more: its listeners are gone.
    fn is_draining(&self) -> bool {
        self.listeners.is_empty()
    }

    fn close_idle(&mut self) {
        let idle: Vec<usize> = self.connections.iter().filter(|(_, c)| c.is_idle()).map(|(t, _)| t).collect();
        for token in idle {
            self.close(token);
        }
    }
}

/// Errors of accept(2) that concern the connection that was to be accepted and not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        // Network errors already pending on the new socket, which accept(2) reports on Linux.
        || matches!(
            error.kind(),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown
        )
}
