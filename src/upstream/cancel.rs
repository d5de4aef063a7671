//! Cancelling an upstream call from another thread: the client's hang-up shuts down the socket that its call is using.
//!
//! ureq's calls block. A [`Call`] stands for the one that is made for a request; the [`CancelConnector`] around ureq's
//! own connectors ties the socket in use to the call of the running thread, from the first byte sent until the
//! connection goes back to the pool. It also notes what only the transport knows: when the request left, whether the
//! connection had been used before, whether a byte of the answer came, and when it is about to wait for more.

use crate::clock::{Clock, Moment};
use crate::downstream::hangup::Hangup;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, ShutdownHandle, Transport,
};

/// A pooled connection that has rested for less is taken without asking the kernel whether the upstream has closed it:
/// that is three system calls under the pool's lock, and under load most connections rest for less. One that was closed
/// all the same costs an attempt on a fresh connection.
const SURELY_OPEN: Duration = Duration::from_millis(10);

/// What the transport saw of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// When the last byte of the request was handed to the socket; `None` when none was.
    pub sent_at: Option<Moment>,
    /// The connection had served another request before.
    pub reused: bool,
    /// At least one byte of the answer arrived.
    pub answered: bool,
    /// Nothing was sent, because it would have been too late ([`Call::not_after`]).
    pub place_ended: bool,
}

struct Running {
    hangup: Arc<Hangup>,
    traffic: Traffic,
    not_after: Option<Moment>,
    before_waiting: Option<BeforeWaiting>,
}

/// What is to be done before a call blocks for more of the answer; an error ends the call.
pub type BeforeWaiting = Box<dyn FnMut() -> io::Result<()>>;

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// The call that the present thread makes, from before the connection until its end. When it is dropped the hang-up can
/// no longer reach the socket, which may by then serve another request.
pub struct Call(());

impl Call {
    /// Begins the present thread's call on behalf of `hangup`.
    #[must_use]
    pub fn begin(hangup: Arc<Hangup>) -> Call {
        let running = Running { hangup, traffic: Traffic::default(), not_after: None, before_waiting: None };
        RUNNING.with(|r| *r.borrow_mut() = Some(running));
        Call(())
    }

    /// From now on `act` is called whenever the transport is about to wait for more of the answer. What has arrived can
    /// so be passed on in one piece, and nothing of it waits for what has not.
    pub fn before_waiting(&self, act: BeforeWaiting) {
        RUNNING.with(|r| {
            if let Some(running) = r.borrow_mut().as_mut() {
                running.before_waiting = Some(act);
            }
        });
    }

    /// As [`Call::before_waiting`], with the moment at which the request was sent.
    pub fn once_sent(&self, mut act: impl FnMut(Moment) + 'static) {
        self.before_waiting(Box::new(move || {
            let sent_at = RUNNING.with(|r| r.borrow().as_ref().and_then(|r| r.traffic.sent_at));
            sent_at.into_iter().for_each(&mut act);
            Ok(())
        }));
    }

    /// Its first byte may not be sent later than this: a process that was stopped in between finds that out here.
    pub fn not_after(&self, moment: Option<Moment>) {
        RUNNING.with(|r| {
            if let Some(running) = r.borrow_mut().as_mut() {
                running.not_after = moment;
            }
        });
    }

    /// What the transport has seen so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        RUNNING.with(|r| r.borrow().as_ref().map(|r| r.traffic).unwrap_or_default())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(running) = RUNNING.with(|r| r.borrow_mut().take()) {
            running.hangup.detach();
        }
    }
}

fn attach(socket: Option<Weak<dyn ShutdownHandle>>) -> Result<(), ureq::Error> {
    RUNNING.with(|r| r.borrow().as_ref().map_or(Ok(()), |running| Ok(running.hangup.attach(socket)?)))
}

/// Refuses the first byte of a request that comes too late.
fn check_time(clock: Clock) -> Result<(), ureq::Error> {
    RUNNING.with(|r| match r.borrow_mut().as_mut() {
        Some(running)
            if running.traffic.sent_at.is_none()
                && running.not_after.is_some_and(|end| clock.now() > end) =>
        {
            running.traffic.place_ended = true;
            Err(ureq::Error::Io(io::ErrorKind::TimedOut.into()))
        }
        _ => Ok(()),
    })
}

fn note(what: impl FnOnce(&mut Traffic)) {
    RUNNING.with(|r| {
        if let Some(running) = r.borrow_mut().as_mut() {
            what(&mut running.traffic);
        }
    });
}

/// Wraps a chain of connectors so that the calls made through it can be cancelled.
pub struct CancelConnector<C> {
    inner: C,
    clock: Clock,
}

impl<C> CancelConnector<C> {
    /// Wraps `inner`.
    pub fn new(inner: C, clock: Clock) -> CancelConnector<C> {
        CancelConnector { inner, clock }
    }
}

impl<C> fmt::Debug for CancelConnector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelConnector")
    }
}

impl<C: Connector<()>> Connector<()> for CancelConnector<C> {
    type Out = CancelTransport<C::Out>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let socket: Arc<Mutex<Option<Weak<dyn ShutdownHandle>>>> = Arc::default();
        let (seen, register) = (socket.clone(), details.register_shutdown.clone());
        let watched = ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            resolver: details.resolver,
            config: details.config,
            request_level: details.request_level,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            // Called right after connect(2), before the TLS handshake, so that the handshake can be cancelled too.
            register_shutdown: Arc::new(move |handle: Weak<dyn ShutdownHandle>| {
                *seen.lock() = Some(handle.clone());
                attach(Some(handle.clone()))?;
                register(handle)
            }),
        };
        let inner = self.inner.connect(&watched, chained)?;
        let socket = socket.lock().take();
        let clock = self.clock;
        Ok(inner.map(|inner| CancelTransport { inner, socket, clock, rests_since: None, used: false }))
    }
}

/// One upstream connection whose current call can be cancelled.
pub struct CancelTransport<T> {
    inner: T,
    socket: Option<Weak<dyn ShutdownHandle>>,
    clock: Clock,
    /// When it went back to the pool; `None` while it is in use.
    rests_since: Option<Moment>,
    /// A request that was sent on it has ended.
    used: bool,
}

impl<T> fmt::Debug for CancelTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelTransport")
    }
}

impl<T: Transport> Transport for CancelTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        // The first I/O of every request, also on a pooled connection.
        attach(self.socket.clone())?;
        self.rests_since = None;
        let (reused, clock) = (self.used, self.clock);
        check_time(clock)?;
        note(|traffic| traffic.reused = reused);
        let result = self.inner.transmit_output(amount, timeout);
        // Noted also on failure: part of it may have reached the upstream.
        note(|traffic| traffic.sent_at = Some(clock.now()));
        result
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        // Taken out while it runs, so that it may itself look at the running call.
        if let Some(mut act) = RUNNING.with(|r| r.borrow_mut().as_mut().and_then(|r| r.before_waiting.take()))
        {
            act()?;
            RUNNING.with(|r| r.borrow_mut().as_mut().map(|r| r.before_waiting = Some(act)));
        }
        let progressed = self.inner.await_input(timeout)?;
        if progressed {
            note(|traffic| traffic.answered = true);
        }
        Ok(progressed)
    }

    fn is_open(&mut self) -> bool {
        let now = self.clock.now();
        match self.rests_since {
            // Asked when the connection goes back to the pool: the link to the request that is done must be cut before
            // another thread can take the connection. Whether it is still open is looked up when it is taken.
            None => {
                self.used = true;
                self.rests_since = Some(now);
                RUNNING.with(|r| {
                    if let Some(running) = r.borrow().as_ref() {
                        running.hangup.detach();
                    }
                });
                true
            }
            Some(since) => now.since(since) < SURELY_OPEN || self.inner.is_open(),
        }
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
