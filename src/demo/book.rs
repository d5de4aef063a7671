//! What the agents experienced: requests, waits and refusals, in bounded memory.

use std::collections::VecDeque;
use std::time::Duration;

use super::cast::{CAST, Role};
use crate::clock::Moment;
use crate::priority::Priority;

/// Waits that percentiles are taken of, for each priority: the latest ones.
const WAITS_KEPT: usize = 4096;
/// Seconds of throughput that are kept.
pub(super) const SECONDS_KEPT: usize = 60;

/// How a request of an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Answered, after so long in the sidecar's queue.
    Answered {
        /// What `X-Sidecar-Queue-Ms` said.
        queued: Duration,
    },
    /// Refused with 429: what the sidecar is there to prevent.
    RateLimited,
    /// Any other failure.
    Failed,
    /// The demo ended first.
    Unfinished,
}

/// One agent's page.
#[derive(Debug)]
pub(super) struct Page {
    /// Who the agent is.
    pub(super) role: &'static Role,
    /// Requests answered.
    pub(super) done: u64,
    /// When those that are open were sent, the oldest first.
    pub(super) open: VecDeque<Moment>,
    /// How long the latest answer took, queue included.
    pub(super) latest: Option<Duration>,
    /// How long it queued.
    pub(super) latest_queued: Option<Duration>,
}

/// All agents' pages.
#[derive(Debug)]
pub(super) struct Book {
    started: Moment,
    pages: Vec<Page>,
    waits: [VecDeque<Duration>; 4],
    answered: u64,
    rate_limited: u64,
    failed: u64,
    around: u64,
    per_second: VecDeque<u32>,
    first_second: u64,
}

impl Book {
    /// An empty book that begins at `now`.
    pub(super) fn new(now: Moment) -> Book {
        let page = |role| Page { role, done: 0, open: VecDeque::new(), latest: None, latest_queued: None };
        Book {
            started: now,
            pages: CAST.iter().map(page).collect(),
            waits: Default::default(),
            answered: 0,
            rate_limited: 0,
            failed: 0,
            around: 0,
            per_second: VecDeque::with_capacity(SECONDS_KEPT),
            first_second: 0,
        }
    }

    /// The agent at `index` of the cast sends a request.
    pub(super) fn sent(&mut self, index: usize, now: Moment) {
        if let Some(page) = self.pages.get_mut(index) {
            page.open.push_back(now);
        }
    }

    /// A request that the agent at `index` sent at `sent` has ended.
    pub(super) fn ended(&mut self, index: usize, sent: Moment, end: End, now: Moment) {
        let Some(page) = self.pages.get_mut(index) else { return };
        if let Some(place) = page.open.iter().position(|at| *at == sent) {
            page.open.remove(place);
        }
        match end {
            End::Answered { queued } => {
                page.done += 1;
                page.latest = Some(now.since(sent));
                page.latest_queued = Some(queued);
                let waits = &mut self.waits[page.role.priority.index()];
                if waits.len() == WAITS_KEPT {
                    waits.pop_front();
                }
                waits.push_back(queued);
                self.answered += 1;
                let second = self.turn_to(now);
                if let Some(count) = second {
                    *count += 1;
                }
            }
            End::RateLimited => self.rate_limited += 1,
            End::Failed => self.failed += 1,
            End::Unfinished => {}
        }
    }

    /// Somebody else sends a request with the same key, around the sidecar.
    pub(super) const fn sent_around(&mut self) {
        self.around += 1;
    }

    /// Makes the count of the present second the last one, and gives it.
    fn turn_to(&mut self, now: Moment) -> Option<&mut u32> {
        let second = now.since(self.started).as_secs();
        if second.saturating_sub(self.first_second) >= 2 * SECONDS_KEPT as u64 {
            // Nothing of what is kept would remain.
            self.per_second.clear();
            self.first_second = second;
        }
        while self.first_second + self.per_second.len() as u64 <= second {
            self.per_second.push_back(0);
            if self.per_second.len() > SECONDS_KEPT {
                self.per_second.pop_front();
                self.first_second += 1;
            }
        }
        self.per_second.back_mut()
    }

    /// Answers in each of the last whole seconds, at most [`SECONDS_KEPT`], the latest last.
    pub(super) fn throughput(&mut self, now: Moment) -> Vec<u32> {
        self.turn_to(now);
        let whole = self.per_second.len().saturating_sub(1);
        self.per_second.iter().take(whole).copied().collect()
    }

    /// When the book began.
    pub(super) const fn started(&self) -> Moment {
        self.started
    }

    /// The agents' pages, in the order of the cast.
    pub(super) fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Requests answered.
    pub(super) const fn answered(&self) -> u64 {
        self.answered
    }

    /// 429s that reached an agent.
    pub(super) const fn rate_limited(&self) -> u64 {
        self.rate_limited
    }

    /// Other failures.
    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    /// Requests that somebody else sent with the same key.
    pub(super) const fn around(&self) -> u64 {
        self.around
    }

    /// The waits of `priority`, ready for percentiles.
    pub(super) fn waits(&self, priority: Priority) -> Waits {
        let mut sorted: Vec<Duration> = self.waits[priority.index()].iter().copied().collect();
        sorted.sort_unstable();
        Waits(sorted)
    }
}

/// Waits, the shortest first.
pub(super) struct Waits(Vec<Duration>);

impl Waits {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The wait that `percent` of all do not exceed (nearest rank); `None` when there are none.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(100.0 + secs)
    }

    fn answered(queued: u64) -> End {
        End::Answered { queued: Duration::from_secs(queued) }
    }

    #[test]
    fn an_agents_page_tells_what_is_open_and_how_the_latest_answer_fared() {
        let mut book = Book::new(at(0.0));
        book.sent(0, at(1.0));
        book.sent(0, at(2.0));
        book.ended(0, at(1.0), answered(3), at(5.0));
        let page = &book.pages()[0];
        assert_eq!((page.done, page.open.front()), (1, Some(&at(2.0))));
        assert_eq!(page.latest, Some(Duration::from_secs(4)));
        assert_eq!(book.waits(page.role.priority).percentile(50), Some(Duration::from_secs(3)));
    }

    #[test]
    fn ends_are_counted_apart_and_an_unfinished_request_is_nobodys_failure() {
        let mut book = Book::new(at(0.0));
        for end in [End::RateLimited, End::Failed, End::Unfinished, answered(0)] {
            book.sent(1, at(0.0));
            book.ended(1, at(0.0), end, at(1.0));
        }
        assert_eq!((book.answered(), book.rate_limited(), book.failed()), (1, 1, 1));
        assert!(book.pages()[1].open.is_empty());
    }

    #[test]
    fn throughput_is_kept_for_a_minute_and_idle_time_is_zeros() {
        let mut book = Book::new(at(0.0));
        for secs in [0.1, 0.2, 2.5] {
            book.ended(0, at(0.0), answered(0), at(secs));
        }
        assert_eq!(book.throughput(at(2.9)), [2, 0]);
        assert_eq!(book.throughput(at(4.0)), [2, 0, 1, 0]);
        let later = book.throughput(at(64.0));
        assert_eq!((later.len(), later.iter().sum::<u32>()), (SECONDS_KEPT - 1, 0));
        book.ended(0, at(0.0), answered(0), at(1e7));
        assert_eq!(book.throughput(at(1e7 + 1.0)), [1]);
    }

    #[test]
    fn percentiles_are_nearest_ranks_of_the_latest_waits() {
        let mut book = Book::new(at(0.0));
        assert_eq!(book.waits(Priority::Urgent).percentile(50), None);
        for wait in 0..2 * WAITS_KEPT as u64 {
            book.ended(0, at(0.0), answered(wait), at(1.0));
        }
        let waits = book.waits(CAST[0].priority);
        assert_eq!(waits.count(), WAITS_KEPT);
        assert_eq!(waits.percentile(0), Some(Duration::from_secs(4096)));
        assert_eq!(waits.percentile(50), Some(Duration::from_secs(4096 + 2047)));
        assert_eq!(waits.percentile(100), Some(Duration::from_secs(2 * 4096 - 1)));
    }
}
