//! The gate: bucket, window, slots, holds, lanes and retreat as one decision, on a clock that is handed in.

use std::fmt;

use super::admission::{Candidate, Event, Next, Offered, Report, Ticket};
use super::settings::Settings;
use super::snapshot::{Snapshot, WaitingJob};
use crate::clock::Moment;

/// Decides which request goes upstream next, and when. Generic over what waits.
#[derive(Debug)]
pub struct Gate<J> {
    settings: Settings,
    jobs: std::collections::VecDeque<(Candidate, J)>,
    flight: usize,
}

/// Settings that cannot be taken over as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The queue holds more than the new bound.
    QueueTooDeep {
        /// Jobs in the queue now.
        depth: usize,
        /// The bound asked for.
        max_size: usize,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::QueueTooDeep { depth, max_size } => write!(
                f,
                "queue_max_size {max_size} is below the {depth} jobs that wait now; try again when it is shorter, or give a larger bound"
            ),
        }
    }
}

impl std::error::Error for Unfit {}

impl<J> Gate<J> {
    /// A gate with a full bucket and an empty window.
    #[must_use]
    pub fn new(settings: Settings, now: Moment) -> Gate<J> {
        let _ = now;
        Gate { settings, jobs: Default::default(), flight: 0 }
    }

    /// A request arrives.
    pub fn offer(&mut self, candidate: Candidate, job: J, now: Moment) -> Offered<J> {
        let _ = now;
        self.jobs.push_back((candidate, job));
        Offered::Queued
    }

    /// What may happen at `now`. Call again until it says [`Next::Nothing`].
    pub fn next(&mut self, now: Moment) -> Next<J> {
        if let Some((candidate, job)) = self.jobs.pop_front() {
            self.flight += 1;
            return Next::Release { job, candidate, ticket: Ticket { id: 0, granted_at: now } };
        }
        Next::Nothing
    }

    /// The next moment at which [`next`](Gate::next) can do something without new input; `None` if there is none.
    #[must_use]
    pub fn ready_at(&self, now: Moment) -> Option<Moment> {
        let _ = now;
        None
    }

    /// What became of a ticket. Reports of unknown tickets are ignored.
    pub fn report(&mut self, ticket: Ticket, report: Report, now: Moment) {
        let _ = (ticket, report, now);
    }

    /// The ticket's slot is free again: the answer was relayed, or there will be none. The last word about a ticket.
    pub fn done(&mut self, ticket: Ticket, now: Moment) {
        let _ = (ticket, now);
        self.flight -= 1;
    }

    /// Requests on their way.
    pub fn in_flight(&self) -> usize {
        self.flight
    }
    /// Empty.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
    /// Depth.
    pub fn depth(&self) -> usize {
        self.jobs.len()
    }

    /// A request that was refused, or that could not be sent, comes back to the head of its priority, with its first
    /// time of arrival; not to be sent before `not_before`.
    pub fn give_back(&mut self, candidate: Candidate, job: J, now: Moment, not_before: Option<Moment>) {
        let _ = (now, not_before);
        self.jobs.push_front((candidate, job));
    }

    /// The client of a waiting job hung up.
    pub fn cancel(&mut self, id: u64, now: Moment) -> Option<J> {
        let _ = (id, now);
        None
    }

    /// New settings. A changed rate is the new base of the retreat.
    ///
    /// # Errors
    /// When the queue holds more jobs than the new bound; nothing is changed then.
    pub fn reconfigure(&mut self, settings: Settings, now: Moment) -> Result<(), Unfit> {
        let _ = now;
        self.settings = settings;
        Ok(())
    }

    /// The operator's command: back to the base rate, holds forgotten.
    pub fn reset_to_base(&mut self, now: Moment) {
        let _ = now;
    }

    /// All waiting jobs, for a shutdown, in no particular order.
    pub fn drain_all(&mut self) -> Vec<(Candidate, J)> {
        Vec::new()
    }

    /// What the window remembers from before a restart: when how many requests were sent.
    pub fn restore_window(&mut self, stamps: impl IntoIterator<Item = (Moment, u32)>, now: Moment) {
        let _ = (stamps.into_iter().count(), now);
    }

    /// When how many requests were sent within the window, oldest first, for a state file; tickets that are granted and
    /// not yet sent stand with the moment of their grant.
    #[must_use]
    pub fn window_stamps(&self, now: Moment) -> Vec<(Moment, u32)> {
        let _ = now;
        Vec::new()
    }

    /// What the log and the metrics should hear of, since the last call; the oldest are dropped beyond 64.
    pub fn take_events(&mut self) -> Vec<Event> {
        Vec::new()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The gate as plain data. Cheap: no walk over jobs.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        Snapshot {
            at: now,
            queue: Default::default(),
            bucket: Default::default(),
            window: Default::default(),
            retreat: Default::default(),
            in_flight: 0,
            max_in_flight: 0,
            held: Vec::new(),
            key_paused_until: None,
        }
    }

    /// Up to `max` waiting jobs in the order in which they will go, as far as it can be known. Walks the queue.
    #[must_use]
    pub fn waiting(&self, max: usize, now: Moment) -> Vec<WaitingJob> {
        let _ = (max, now);
        Vec::new()
    }
}
