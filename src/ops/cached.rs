//! A page that is built once for all who ask until something changed.

use crate::clock::Moment;
use crate::ops::state::{Sources, Stamp, State};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// The age at which a page is built anew although nothing was counted: time itself is on it.
const OLD: Duration = Duration::from_secs(1);

/// What was last built of the state.
pub struct Cached<T>(Mutex<Option<(Stamp, Moment, Arc<T>)>>);

impl<T> Default for Cached<T> {
    fn default() -> Cached<T> {
        Cached(Mutex::default())
    }
}

impl<T> Cached<T> {
    /// What `build` made of the state the last time, where the state is still the same and it is younger than a second;
    /// else what it makes now. Who asks meanwhile waits for that and is given the same.
    pub fn get(&self, sources: &Sources, now: Moment, build: impl FnOnce(&State) -> T) -> Arc<T> {
        let mut cached = self.0.lock();
        // Read before the state is: what changes in between makes the next one build again.
        let stamp = sources.stamp();
        if let Some((built_of, at, page)) = &*cached
            && *built_of == stamp
            && now.since(*at) < OLD
        {
            return page.clone();
        }
        let page = Arc::new(build(&sources.gather(now)));
        *cached = Some((stamp, now, page.clone()));
        page
    }
}
