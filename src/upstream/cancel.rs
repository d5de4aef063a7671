//! Cancelling an upstream call from another thread: the client's hang-up shuts down the socket that its call is using.
//!
//! ureq's calls block. A [`Call`] stands for the one that is made for a request; the transport ties the socket in use to
//! the call of the running thread, from the first connect until the connection goes back to the pool. It also notes what
//! only the transport knows: when the request left, whether the connection had been used before, whether a byte of the
//! answer came, and when it is about to wait for more.

use crate::clock::Moment;
use crate::downstream::hangup::Hangup;
use crate::telemetry::record::UpstreamError;
use crate::upstream::reason;
use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Weak};
use ureq::unversioned::transport::ShutdownHandle;

/// Room for the head of a request that is made outside of a call, such as a probe of ours.
const UNKNOWN_HEAD: usize = 8 * 1024;

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
    size: (usize, usize),
    before_waiting: Option<BeforeWaiting>,
    failure: Option<(UpstreamError, String)>,
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
    /// Begins the present thread's call on behalf of `hangup`, of a request whose head takes at most so many bytes and its
    /// content so many.
    #[must_use]
    pub fn begin(hangup: Arc<Hangup>, head: usize, content: usize) -> Call {
        let (traffic, size) = (Traffic::default(), (head, content));
        let running = Running { hangup, traffic, not_after: None, size, before_waiting: None, failure: None };
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

    /// How the connection failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<(UpstreamError, String)> {
        RUNNING.with(|r| r.borrow().as_ref().and_then(|r| r.failure.clone()))
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

/// From now on the hang-up of the running call's client shuts `socket` down; outside of a call it does nothing.
///
/// # Errors
/// When the client has gone already.
pub(super) fn attach(socket: Weak<dyn ShutdownHandle>) -> io::Result<()> {
    RUNNING.with(|r| r.borrow().as_ref().map_or(Ok(()), |running| running.hangup.attach(Some(socket))))
}

/// Refuses the first byte of a request that comes too late.
///
/// # Errors
/// When it does; nothing was sent then.
pub(super) fn check_time(now: Moment) -> io::Result<()> {
    RUNNING.with(|r| match r.borrow_mut().as_mut() {
        Some(running)
            if running.traffic.sent_at.is_none() && running.not_after.is_some_and(|end| now > end) =>
        {
            running.traffic.place_ended = true;
            Err(io::ErrorKind::TimedOut.into())
        }
        _ => Ok(()),
    })
}

/// From now on the client's hang-up reaches no socket.
pub(super) fn detach() {
    RUNNING.with(|r| {
        if let Some(running) = r.borrow().as_ref() {
            running.hangup.detach();
        }
    });
}

/// The most bytes that head and content of the running call's request take.
pub(super) fn request_size() -> (usize, usize) {
    RUNNING.with(|r| r.borrow().as_ref().map_or((UNKNOWN_HEAD, 0), |running| running.size))
}

/// Notes what the transport saw of the running call.
pub(super) fn note(what: impl FnOnce(&mut Traffic)) {
    RUNNING.with(|r| {
        if let Some(running) = r.borrow_mut().as_mut() {
            what(&mut running.traffic);
        }
    });
}

/// Notes how the connection failed; the relayed answer's reader only sees that it did.
pub(super) fn note_failure(error: &ureq::Error) {
    let kind = match error {
        ureq::Error::Timeout(_) => UpstreamError::Timeout,
        _ => UpstreamError::Broken,
    };
    RUNNING.with(|r| {
        if let Some(running) = r.borrow_mut().as_mut() {
            running.failure = Some((kind, reason::in_words(error)));
        }
    });
}

/// Does what the running call wants done before it blocks.
///
/// # Errors
/// When that failed; the call is over then.
pub(super) fn about_to_wait() -> io::Result<()> {
    // Taken out while it runs, so that it may itself look at the running call.
    let act = RUNNING.with(|r| r.borrow_mut().as_mut().and_then(|r| r.before_waiting.take()));
    let Some(mut act) = act else { return Ok(()) };
    act()?;
    RUNNING.with(|r| r.borrow_mut().as_mut().map(|r| r.before_waiting = Some(act)));
    Ok(())
}
