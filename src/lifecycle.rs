//! Named threads with an owner, an end and a joiner; how far the sidecar's end has come; and the process's descriptors.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{Builder, park_timeout};
use std::time::{Duration, Instant};

/// Stack of every thread: a TLS handshake needs 160 KiB in a debug build, and a page is only taken when it is touched.
const STACK_BYTES: usize = 256 * 1024;

/// How long a thread that panicked rests before it begins anew.
const BEFORE_ANEW: Duration = Duration::from_millis(100);

/// Starts threads, counts them and waits for their end. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Threads(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    alive: Mutex<usize>,
    ended: Condvar,
}

/// Held by each running thread: its end is counted also when it panics.
struct Alive(Arc<Inner>);

impl Drop for Alive {
    fn drop(&mut self) {
        *self.0.alive.lock() -= 1;
        self.0.ended.notify_all();
    }
}

impl Threads {
    /// Starts a named thread.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        *self.0.alive.lock() += 1;
        let alive = Alive(self.0.clone());
        Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            let _alive = alive;
            run();
        })?;
        Ok(())
    }

    /// Starts a named thread without which the process is useless: `died` is called when it panics.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn spawn_vital(
        &self,
        name: String,
        run: impl FnOnce() + Send + 'static,
        died: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        self.spawn(name, move || {
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                died();
            }
        })
    }

    /// Starts a named thread that begins anew when it panics: what panicked is lost, what comes after it is not.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn spawn_lasting(&self, name: String, run: impl Fn() + Send + 'static) -> io::Result<()> {
        let called = name.clone();
        self.spawn(name, move || {
            while catch_unwind(AssertUnwindSafe(&run)).is_err() {
                log::error!("the thread {called} panicked and begins anew");
                // One that panics each time must not keep a core busy.
                park_timeout(BEFORE_ANEW);
            }
        })
    }

    /// Waits until every thread has ended, but not beyond `deadline`; tells whether all have.
    #[must_use]
    pub fn join_until(&self, deadline: Instant) -> bool {
        let mut alive = self.0.alive.lock();
        while *alive > 0 {
            if self.0.ended.wait_until(&mut alive, deadline).timed_out() {
                return *alive == 0;
            }
        }
        true
    }
}

/// How far the end of the sidecar has come: one value that all its parts look at. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stopping(Arc<AtomicU8>);

/// Nothing new is begun; what is under way goes on.
const DRAINING: u8 = 1;

/// What is under way is cut.
const CUT: u8 = 2;

impl Stopping {
    /// From now on nothing new is begun.
    pub fn drain(&self) {
        self.0.fetch_max(DRAINING, Ordering::SeqCst);
    }

    /// From now on what is under way is cut.
    pub fn cut(&self) {
        self.0.fetch_max(CUT, Ordering::SeqCst);
    }

    /// Whether the sidecar ends: nothing new is begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= DRAINING
    }

    /// Whether what is under way is being cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= CUT
    }
}

/// Raises the soft limit on open files to the hard one and returns it; a connection waits for minutes and takes one.
#[must_use]
pub fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    allowed.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_thread_that_panics_is_joined_like_any_other() {
        let threads = Threads::default();
        threads.spawn("panics".into(), || panic!("on purpose")).unwrap();
        threads.spawn("ends".into(), || {}).unwrap();
        let clock = Clock::start();
        assert!(threads.join_until(clock.instant(clock.now() + Duration::from_secs(10))));
    }

    #[test]
    fn a_lasting_thread_that_panics_goes_on_with_what_comes_next() {
        let threads = Threads::default();
        let (work, works) = crossbeam_channel::unbounded();
        let (done, results) = crossbeam_channel::unbounded();
        let run = move || works.iter().for_each(|number: u32| done.send(100 / number).unwrap());
        threads.spawn_lasting("lasts".into(), run).unwrap();
        [50, 0, 0, 20].into_iter().for_each(|number| work.send(number).unwrap());
        drop(work);
        assert_eq!(results.iter().collect::<Vec<_>>(), [2, 5]);
        let clock = Clock::start();
        assert!(threads.join_until(clock.instant(clock.now() + Duration::from_secs(20))));
    }

    #[test]
    fn joining_gives_up_at_its_deadline() {
        let threads = Threads::default();
        let (hold, held) = crossbeam_channel::bounded::<()>(0);
        threads.spawn("waits".into(), move || assert!(held.recv().is_err())).unwrap();
        let clock = Clock::start();
        assert!(!threads.join_until(clock.instant(clock.now())));
        drop(hold);
        assert!(threads.join_until(clock.instant(clock.now() + Duration::from_secs(10))));
    }
}
