//! `GET /api/queue`: what waits, asked of the limiter once for all who ask until something changes, on a thread of its
//! own, so that pollers hold up neither the limiter nor an operator's changes.

use crate::clock::Clock;
use crate::clock::Moment;
use crate::control::{Control, Refusal};
use crate::lifecycle::Threads;
use crate::limiter::snapshot::{Snapshot, WaitingJob};
use crate::ops::page::Page;
use crate::ops::page_request::PageRequest;
use crate::published::Published;
use crossbeam_channel::{Sender, TrySendError, bounded};
use parking_lot::Mutex;
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Waiting requests that are listed.
const LISTED: usize = 200;

/// Questions that wait for the one under way; each batch takes a millisecond.
const WAITING: usize = 256;

/// The age at which the list is asked for anew although the limiter published nothing: how long each has waited is on it.
const OLD: Duration = Duration::from_secs(1);

/// Takes questions to the thread that answers them.
#[derive(Clone)]
pub struct Listing(Sender<PageRequest>);

/// The list as it was last asked for.
struct Known {
    /// What the limiter had published before.
    published: Arc<Snapshot>,
    at: Moment,
    page: Page,
}

impl Listing {
    /// Starts the thread. It ends when the last listing is gone.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn open(
        control: Arc<Control>,
        snapshot: Arc<Published<Snapshot>>,
        clock: Clock,
        threads: &Threads,
    ) -> io::Result<Listing> {
        let (asked, questions) = bounded::<PageRequest>(WAITING);
        let known = Mutex::new(None);
        threads.spawn_lasting("listing".into(), move || {
            for first in &questions {
                let mut known = known.lock();
                let page = list(&mut known, &control, snapshot.read(), clock.now());
                for question in std::iter::once(first).chain(questions.try_iter()) {
                    question.answer(page);
                }
            }
        })?;
        Ok(Listing(asked))
    }

    /// Takes a question.
    pub fn ask(&self, question: PageRequest) {
        if let Err(TrySendError::Full(question)) = self.0.try_send(question) {
            question.answer(&Page::refusal(503, "too many ask for the queue at once"));
        }
    }
}

fn list<'a>(
    known: &'a mut Option<Known>,
    control: &Control,
    published: Arc<Snapshot>,
    now: Moment,
) -> &'a Page {
    let is_current = |known: &Known| Arc::ptr_eq(&known.published, &published) && now.since(known.at) < OLD;
    let current = known.take().filter(is_current);
    let current =
        current.unwrap_or_else(|| Known { page: page(control.waiting(LISTED)), published, at: now });
    &known.insert(current).page
}

fn page(waiting: Result<Vec<WaitingJob>, Refusal>) -> Page {
    match waiting {
        Ok(jobs) => Page::json(200, &json!({ "waiting": jobs })),
        Err(gone) => Page::refusal(503, &gone.to_string()),
    }
}
