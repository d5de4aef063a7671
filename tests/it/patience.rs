//! Waiting: how long a test waits for what must come, and how it looks again without sleeping for a result.

use nvidia_sidecar::clock::{Clock, Moment};
use std::sync::LazyLock;
use std::time::Duration;

/// How long anything that must happen may take on a busy machine. A test that waits as long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::start);

/// The present moment.
pub(crate) fn now() -> Moment {
    CLOCK.now()
}

/// Looks until there is something to see.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(now().since(began) < PATIENCE, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
