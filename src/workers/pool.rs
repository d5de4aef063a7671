//! A pool of blocking workers that grows with its work and shrinks without it.

use crate::lifecycle::Threads;
use crate::workers::idle::{Idle, IdleWorker};
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How long a worker without work stays before it ends.
const IDLE_BEFORE_RETIRING: Duration = Duration::from_secs(10);

/// How often a worker that has finished lets other threads run before it goes to rest. On a busy host one of them brings
/// the next job, and resting and being called would cost more than carrying it; on an idle one this is over at once.
const TURNS_BEFORE_RESTING: usize = 4;

/// Workers for jobs of one kind. One more is started whenever there are more jobs than workers, up to the cap; one that
/// finds no job for ten seconds ends. When the pool is dropped its workers finish what is queued and end.
///
/// That a slow job never delays another (below the cap) rests on one atomic word that holds both counts, so that "is
/// there a worker for this job?" and "may this worker leave?" are each one indivisible step.
pub struct Pool<T> {
    /// Bounded by who submits: a connection has at most one job.
    queue: Sender<T>,
    shared: Arc<Shared<T>>,
    /// Dropped after the queue: the idle workers are called and find it closed.
    _wake_on_drop: WakeOnDrop,
}

struct WakeOnDrop(Arc<Idle>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.call_all();
    }
}

struct Shared<T> {
    name: &'static str,
    intake: Receiver<T>,
    idle: Arc<Idle>,
    counts: Arc<AtomicU64>,
    cap: AtomicUsize,
    threads: Threads,
    make_worker: Box<dyn Fn() -> Worker<T> + Send + Sync>,
}

/// What one worker does with each job; it may own buffers.
pub type Worker<T> = Box<dyn FnMut(T) + Send>;

/// Workers in the upper half of the word, jobs (queued and running) in the lower.
const ONE_WORKER: u64 = 1 << 32;

fn workers(counts: u64) -> u64 {
    counts >> 32
}

fn jobs(counts: u64) -> u64 {
    counts & (ONE_WORKER - 1)
}

impl<T: Send + 'static> Pool<T> {
    /// A pool of at most `cap` workers, each made by `make_worker` on its own thread.
    pub fn new(
        name: &'static str,
        cap: usize,
        threads: Threads,
        make_worker: impl Fn() -> Worker<T> + Send + Sync + 'static,
    ) -> Pool<T> {
        let (queue, intake) = unbounded();
        let idle = Arc::new(Idle::default());
        let shared = Shared {
            name,
            intake,
            idle: idle.clone(),
            counts: Arc::default(),
            cap: AtomicUsize::new(cap),
            threads,
            make_worker: Box::new(make_worker),
        };
        Pool { queue, shared: Arc::new(shared), _wake_on_drop: WakeOnDrop(idle) }
    }

    /// Hands a job to a worker; starts one when all are busy and the cap allows it.
    ///
    /// # Errors
    /// Gives the job back when there is no worker and none can be started.
    pub fn submit(&self, job: T) -> Result<(), T> {
        let cap = self.shared.cap.load(Ordering::Relaxed) as u64;
        let before = self
            .shared
            .counts
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |c| {
                let grows = jobs(c) >= workers(c) && workers(c) < cap;
                Some(c + 1 + if grows { ONE_WORKER } else { 0 })
            })
            .unwrap_or_else(|unchanged| unchanged);
        let grows = jobs(before) >= workers(before) && workers(before) < cap;
        if grows && !self.start_worker() {
            let now = self.shared.counts.fetch_sub(ONE_WORKER, Ordering::AcqRel) - ONE_WORKER;
            if workers(now) == 0 {
                self.shared.counts.fetch_sub(1, Ordering::AcqRel);
                return Err(job);
            }
        }
        self.queue.send(job).map_err(|unsent| unsent.0)?;
        self.shared.idle.call_one();
        Ok(())
    }

    /// As [`Pool::submit`], but never lets a job wait for a worker.
    ///
    /// # Errors
    /// Gives the job back when as many jobs run as the cap allows.
    pub fn submit_if_free(&self, job: T) -> Result<(), T> {
        if jobs(self.shared.counts.load(Ordering::Relaxed)) >= self.shared.cap.load(Ordering::Relaxed) as u64
        {
            return Err(job);
        }
        self.submit(job)
    }

    /// Workers that have no job, started or not.
    #[must_use]
    pub fn free(&self) -> usize {
        let busy = jobs(self.shared.counts.load(Ordering::Relaxed));
        self.shared.cap.load(Ordering::Relaxed).saturating_sub(usize::try_from(busy).unwrap_or(usize::MAX))
    }

    /// Changes the cap; running workers above it leave when they are idle.
    pub fn set_cap(&self, cap: usize) {
        self.shared.cap.store(cap, Ordering::Relaxed);
    }

    /// How busy the pool is, for those who only look.
    #[must_use]
    pub fn load(&self) -> Load {
        Load(self.shared.counts.clone())
    }

    fn start_worker(&self) -> bool {
        let shared = self.shared.clone();
        let started = self.shared.threads.spawn(self.shared.name.into(), move || shared.work());
        if let Err(error) = &started {
            log::error!("no thread for another {} worker: {error}", self.shared.name);
        }
        started.is_ok()
    }
}

/// How busy a pool is. It does not keep the pool's workers from ending.
#[derive(Clone, Debug)]
pub struct Load(Arc<AtomicU64>);

impl Load {
    /// Jobs queued or running.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        jobs(self.0.load(Ordering::Relaxed))
    }
}

impl<T> Shared<T> {
    fn work(&self) {
        let mut worker = (self.make_worker)();
        let idle_worker = Arc::<IdleWorker>::default();
        while let Some(job) = self.next(&idle_worker) {
            // A panic costs this one job, whose drop answers its client; the panic hook has told the log.
            if catch_unwind(AssertUnwindSafe(|| worker(job))).is_err() {
                worker = (self.make_worker)();
            }
            self.counts.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The next job for the worker in `idle_worker`; `None` when it is to end.
    fn next(&self, idle_worker: &Arc<IdleWorker>) -> Option<T> {
        loop {
            for _ in 0..TURNS_BEFORE_RESTING {
                match self.intake.try_recv() {
                    Err(TryRecvError::Empty) => thread::yield_now(),
                    found => return found.ok(),
                }
            }
            self.idle.enter(idle_worker);
            // Again, because a job that came before this worker was idle has called nobody.
            let found = self.intake.try_recv();
            if matches!(found, Err(TryRecvError::Empty)) {
                idle_worker.rest(IDLE_BEFORE_RETIRING);
            }
            let called = self.idle.leave(idle_worker);
            match found {
                Ok(job) => {
                    if called {
                        // For another job.
                        self.idle.call_one();
                    }
                    return Some(job);
                }
                Err(_) if !called && self.may_leave() => return None,
                Err(_) => {}
            }
        }
    }

    /// Takes one worker off the count unless a job needs it.
    fn may_leave(&self) -> bool {
        self.counts
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |c| {
                (workers(c) > jobs(c)).then(|| c - ONE_WORKER)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crossbeam_channel::bounded;

    #[test]
    fn as_many_jobs_run_at_once_as_the_cap_allows_and_the_rest_follow() {
        let threads = Threads::default();
        let (ran, runs) = unbounded();
        let (release, held) = bounded::<()>(0);
        let pool = Pool::new("test", 3, threads.clone(), move || {
            let (ran, held) = (ran.clone(), held.clone());
            Box::new(move |job: u32| {
                ran.send(job).unwrap();
                let _ = held.recv();
            })
        });
        for job in 0..5 {
            pool.submit(job).unwrap();
        }
        let wait = Duration::from_secs(10);
        let mut first: Vec<u32> = (0..3).map(|_| runs.recv_timeout(wait).unwrap()).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        assert!(runs.try_recv().is_err(), "a fourth ran above the cap");
        drop(release);
        assert_eq!(runs.recv_timeout(wait).unwrap() + runs.recv_timeout(wait).unwrap(), 7);
        drop(pool);
        let clock = Clock::start();
        assert!(threads.join_until(clock.instant(clock.now() + wait)), "dropping the pool ends its workers");
    }

    #[test]
    fn a_job_that_panics_costs_itself_alone_and_its_worker_carries_the_next() {
        let threads = Threads::default();
        let (ran, runs) = unbounded();
        let pool = Pool::new("test", 1, threads.clone(), move || {
            let ran = ran.clone();
            Box::new(move |job: u32| {
                assert!([0, 2, 4, 6, 8].contains(&job), "on purpose");
                ran.send(job).unwrap();
            })
        });
        for job in 0..10 {
            pool.submit(job).unwrap();
        }
        let wait = Duration::from_secs(20);
        for job in [0, 2, 4, 6, 8] {
            assert_eq!(runs.recv_timeout(wait), Ok(job));
        }
        let clock = Clock::start();
        drop(pool);
        assert!(threads.join_until(clock.instant(clock.now() + wait)));
    }

    #[test]
    fn a_worker_leaves_only_when_no_job_needs_it_and_what_is_free_is_what_has_no_job() {
        let (release, held) = bounded::<()>(0);
        let pool = Pool::new("test", 2, Threads::default(), move || {
            let held = held.clone();
            Box::new(move |_: u32| {
                let _ = held.recv();
            })
        });
        assert_eq!(pool.free(), 2);
        pool.submit_if_free(0).unwrap();
        assert_eq!((pool.free(), pool.shared.may_leave()), (1, false), "one worker, one job");
        pool.submit_if_free(1).unwrap();
        assert_eq!(pool.submit_if_free(2), Err(2));
        pool.set_cap(1);
        assert_eq!((pool.free(), pool.load().jobs()), (0, 2));
        drop(release);
    }
}
