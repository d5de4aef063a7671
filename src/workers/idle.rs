//! The workers of a pool that have nothing to do, called back one by one.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// Workers at rest. The last one to come is the first to be called: its caches are warm, and those that are not needed
/// rest long enough to retire.
///
/// Waiting in the channel itself would do neither. It calls its waiters in turn, so that each that ever was needed has a
/// job now and then; and it spins and yields before it blocks, which on a small host takes the processor from those who
/// have work.
#[derive(Default)]
pub struct Idle(Mutex<Vec<Arc<IdleWorker>>>);

/// One worker's place among the idle.
#[derive(Default)]
pub struct IdleWorker {
    called: Mutex<bool>,
    bell: Condvar,
}

impl Idle {
    /// From now on `worker` can be called. What came before called nobody: look for it before resting.
    pub fn enter(&self, worker: &Arc<IdleWorker>) {
        *worker.called.lock() = false;
        self.0.lock().push(worker.clone());
    }

    /// From now on `worker` is not called; tells whether it was.
    pub fn leave(&self, worker: &Arc<IdleWorker>) -> bool {
        if *worker.called.lock() {
            return true;
        }
        let mut idle = self.0.lock();
        // From the end: one that found work at once is still the last that came.
        match idle.iter().rposition(|other| Arc::ptr_eq(other, worker)) {
            Some(place) => drop(idle.remove(place)),
            None => return true,
        }
        false
    }

    /// Calls one worker, if one is idle.
    pub fn call_one(&self) {
        let worker = self.0.lock().pop();
        if let Some(worker) = worker {
            worker.call();
        }
    }

    /// Calls all.
    pub fn call_all(&self) {
        let workers = std::mem::take(&mut *self.0.lock());
        for worker in workers {
            worker.call();
        }
    }
}

impl IdleWorker {
    /// Rests until called, or for `patience`.
    pub fn rest(&self, patience: Duration) {
        let mut called = self.called.lock();
        if !*called {
            // parking_lot's condition variables do not wake spuriously.
            self.bell.wait_for(&mut called, patience);
        }
    }

    fn call(&self) {
        *self.called.lock() = true;
        self.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_to_come_is_called_first_and_who_left_is_not_called() {
        let idle = Idle::default();
        let workers = [(); 3].map(|()| Arc::<IdleWorker>::default());
        for worker in &workers {
            idle.enter(worker);
        }
        assert!(!idle.leave(&workers[2]));
        idle.call_one();
        assert!(idle.leave(&workers[1]), "the last one that is still there");
        idle.call_all();
        assert!(idle.leave(&workers[0]));
        idle.call_one();
    }
}
