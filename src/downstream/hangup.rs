//! A client's hang-up, and the upstream socket that it shuts down.

use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use ureq::unversioned::transport::ShutdownHandle;

/// What can be cancelled on behalf of one client connection. It is used for one request after the other.
#[derive(Default)]
pub struct Hangup {
    gone: AtomicBool,
    socket: Mutex<Option<Weak<dyn ShutdownHandle>>>,
}

impl Hangup {
    /// The client has gone: remembers it and shuts down the upstream socket in use, if there is one.
    /// Returns `false` when that was known already.
    pub fn cancel(&self) -> bool {
        let first = !self.gone.swap(true, Ordering::AcqRel);
        // The flag is set before the lock is taken, `attach` reads it under the lock: one of the two sees the other.
        let socket = self.socket.lock().take();
        if let Some(socket) = socket.and_then(|s| s.upgrade()) {
            socket.shutdown();
        }
        first
    }

    /// Whether the client has gone.
    pub fn is_cancelled(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// From now on a hang-up shuts `socket` down.
    ///
    /// # Errors
    /// When the client has gone already.
    pub fn attach(&self, socket: Option<Weak<dyn ShutdownHandle>>) -> io::Result<()> {
        let mut slot = self.socket.lock();
        if self.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client has gone"));
        }
        *slot = socket;
        Ok(())
    }

    /// From now on a hang-up reaches no socket.
    pub fn detach(&self) {
        *self.socket.lock() = None;
    }
}

impl fmt::Debug for Hangup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hangup").field("gone", &self.gone).finish_non_exhaustive()
    }
}
