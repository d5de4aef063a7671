//! The queue of one way to send: bounded, without duplicates, first in first out, patient with a receiver that fails.
//!
//! An alert is a duplicate when it says what was said last about its fingerprint: in the queue, or delivered within
//! [`REMEMBER`]. Alertmanager repeats a whole group whenever one alert joins or leaves it, and after a 503. Comparing with
//! the *last* word keeps firing, resolved, firing as three messages, so that the last one that people see is true.
//!
//! A failure makes everything wait, since what fails is the receiver, and each further one twice as long, up to
//! [`MAX_BACKOFF`]. A message that the receiver cannot read is sent once more in its plain form, and then dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::alert::{Alert, AlertState};
use super::answer::SendOutcome;
use super::card::Card;
use crate::clock::Moment;

/// How long a delivered word counts as said: longer than a group's intervals, shorter than a usual `repeat_interval`,
/// whose reminder is wanted.
pub const REMEMBER: Duration = Duration::from_secs(30 * 60);
/// The longest wait after a failure.
pub const MAX_BACKOFF: Duration = Duration::from_secs(5 * 60);
/// What could not be sent in a day is not news any more.
const EXPIRE: Duration = Duration::from_secs(24 * 3600);
/// Delivered words that are remembered at most.
const MAX_REMEMBERED: usize = 2000;

/// How fast a queue sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendPace {
    /// The least time between two messages.
    pub apart: Duration,
    /// The wait after a first failure.
    pub backoff: Duration,
}

impl Default for SendPace {
    /// A bot of Feishu's takes 100 messages a minute and 5 a second.
    fn default() -> SendPace {
        SendPace { apart: Duration::from_millis(600), backoff: Duration::from_secs(1) }
    }
}

/// What the queue says to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It waits now.
    Queued,
    /// Its word waits or was said already.
    Duplicate,
    /// There is no room.
    Full,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextSend {
    /// Send this, and report to [`Queue::settle`] how it went.
    Send(Arc<Card>, Form),
    /// Nothing before this moment.
    Wait(Moment),
    /// Nothing waits.
    Idle,
}

/// How a message is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As a card.
    Card,
    /// As plain text, because the card was refused.
    Plain,
}

/// What became of the message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It arrived, this long after it was queued.
    Delivered(Duration),
    /// It will be tried again.
    Retried,
    /// It is given up.
    Dropped(GivenUp),
}

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The receiver cannot read it in either form.
    Refused,
    /// It waited for a day.
    Expired,
}

struct Entry {
    fingerprint: String,
    state: AlertState,
    card: Arc<Card>,
    form: Form,
    queued_at: Moment,
}

/// The queue.
pub struct Queue {
    capacity: usize,
    pace: SendPace,
    waiting: VecDeque<Entry>,
    delivered: HashMap<String, (AlertState, Moment)>,
    resume_at: Moment,
    failures: u32,
}

impl Queue {
    /// A queue of at most `capacity` messages.
    #[must_use]
    pub fn new(capacity: usize, pace: SendPace) -> Queue {
        Queue {
            capacity,
            pace,
            waiting: VecDeque::new(),
            delivered: HashMap::new(),
            resume_at: Moment::ZERO,
            failures: 0,
        }
    }

    /// Takes an alert and its card in.
    pub fn offer(&mut self, alert: &Alert, card: &Arc<Card>, now: Moment) -> Offer {
        if self.last_word(&alert.fingerprint, now) == Some(alert.state) {
            return Offer::Duplicate;
        }
        if self.waiting.len() >= self.capacity {
            return Offer::Full;
        }
        self.waiting.push_back(Entry {
            fingerprint: alert.fingerprint.clone(),
            state: alert.state,
            card: Arc::clone(card),
            form: Form::Card,
            queued_at: now,
        });
        Offer::Queued
    }

    fn last_word(&self, fingerprint: &str, now: Moment) -> Option<AlertState> {
        let waiting = self.waiting.iter().rev().find(|entry| entry.fingerprint == fingerprint);
        waiting.map(|entry| entry.state).or_else(|| {
            let (state, at) = self.delivered.get(fingerprint)?;
            (now.since(*at) < REMEMBER).then_some(*state)
        })
    }

    /// What is to be sent now, or when to ask again. The message stays in its place until it is settled.
    #[must_use]
    pub fn next(&self, now: Moment) -> NextSend {
        match self.waiting.front() {
            None => NextSend::Idle,
            Some(_) if now < self.resume_at => NextSend::Wait(self.resume_at),
            Some(first) => NextSend::Send(Arc::clone(&first.card), first.form),
        }
    }

    /// Takes note of how sending the first message ended.
    pub fn settle(&mut self, verdict: &SendOutcome, now: Moment) -> Settled {
        let Some(mut entry) = self.waiting.pop_front() else { return Settled::Retried };
        self.resume_at = now + self.pace.apart;
        let settled = match verdict {
            SendOutcome::Delivered => {
                self.failures = 0;
                let waited = now.since(entry.queued_at);
                self.remember(entry.fingerprint, entry.state, now);
                return Settled::Delivered(waited);
            }
            SendOutcome::Refused(_) if entry.form == Form::Plain => {
                return Settled::Dropped(GivenUp::Refused);
            }
            SendOutcome::Refused(_) => {
                entry.form = Form::Plain;
                Settled::Retried
            }
            SendOutcome::RateLimited(_) | SendOutcome::Failed(_) => {
                self.resume_at = now + self.backoff();
                self.failures = self.failures.saturating_add(1);
                Settled::Retried
            }
        };
        if now.since(entry.queued_at) >= EXPIRE {
            return Settled::Dropped(GivenUp::Expired);
        }
        self.waiting.push_front(entry);
        settled
    }

    fn backoff(&self) -> Duration {
        self.pace.backoff.saturating_mul(2_u32.saturating_pow(self.failures)).min(MAX_BACKOFF)
    }

    fn remember(&mut self, fingerprint: String, state: AlertState, now: Moment) {
        self.delivered.retain(|_, (_, at)| now.since(*at) < REMEMBER);
        if self.delivered.len() >= MAX_REMEMBERED {
            let oldest = self.delivered.iter().min_by_key(|(_, (_, at))| *at).map(|(print, _)| print.clone());
            oldest.and_then(|print| self.delivered.remove(&print));
        }
        self.delivered.insert(fingerprint, (state, now));
    }

    /// Forgets past failures, for a last attempt before the end.
    pub fn hurry(&mut self) {
        self.failures = 0;
        self.resume_at = Moment::ZERO;
    }

    /// Messages that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How long the first one has waited; zero when none waits.
    #[must_use]
    pub fn oldest(&self, now: Moment) -> Duration {
        self.waiting.front().map(|entry| now.since(entry.queued_at)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::alerts::alert::Severity;
    use crate::alerts::card::Style;

    const APART: Duration = Duration::from_millis(600);
    const SECOND: Duration = Duration::from_secs(1);

    fn alert(fingerprint: &str, state: AlertState) -> Alert {
        Alert {
            fingerprint: fingerprint.into(),
            state,
            severity: Severity::Critical,
            labels: BTreeMap::from([("alertname".to_owned(), fingerprint.to_owned())]),
            annotations: BTreeMap::new(),
            starts_at: None,
            ends_at: None,
        }
    }

    fn offer(queue: &mut Queue, fingerprint: &str, state: AlertState, now: Moment) -> Offer {
        let alert = alert(fingerprint, state);
        let card = Arc::new(Card::new(&alert, &Style::default(), SystemTime::UNIX_EPOCH));
        queue.offer(&alert, &card, now)
    }

    /// The name and form of what is to be sent at `now`.
    fn sent(queue: &Queue, now: Moment) -> Option<(String, Form)> {
        match queue.next(now) {
            NextSend::Send(card, form) => Some((card.name().to_owned(), form)),
            _ => None,
        }
    }

    fn failed() -> SendOutcome {
        SendOutcome::Failed("no".into())
    }

    #[test]
    fn the_same_word_is_said_once_until_it_is_forgotten() {
        let mut queue = Queue::new(10, SendPace::default());
        let now = Moment::ZERO + SECOND;
        assert_eq!(offer(&mut queue, "a", AlertState::Firing, now), Offer::Queued);
        assert_eq!(offer(&mut queue, "a", AlertState::Firing, now), Offer::Duplicate, "it waits");
        assert_eq!(queue.settle(&SendOutcome::Delivered, now + SECOND), Settled::Delivered(SECOND));
        assert_eq!(
            offer(&mut queue, "a", AlertState::Firing, now + SECOND * 60),
            Offer::Duplicate,
            "it was said"
        );
        assert_eq!(
            offer(&mut queue, "a", AlertState::Firing, now + REMEMBER + SECOND),
            Offer::Queued,
            "a reminder"
        );
    }

    #[test]
    fn a_change_is_news_and_the_last_word_is_the_true_one() {
        let mut queue = Queue::new(10, SendPace::default());
        for state in [AlertState::Firing, AlertState::Resolved, AlertState::Firing] {
            assert_eq!(offer(&mut queue, "a", state, Moment::ZERO), Offer::Queued);
        }
        assert_eq!(offer(&mut queue, "a", AlertState::Firing, Moment::ZERO), Offer::Duplicate);
        assert_eq!(queue.len(), 3);
    }

    #[test]
    fn a_full_queue_refuses_what_is_new_and_still_knows_what_it_has() {
        let mut queue = Queue::new(1, SendPace::default());
        assert_eq!(offer(&mut queue, "a", AlertState::Firing, Moment::ZERO), Offer::Queued);
        assert_eq!(offer(&mut queue, "b", AlertState::Firing, Moment::ZERO), Offer::Full);
        assert_eq!(offer(&mut queue, "a", AlertState::Firing, Moment::ZERO), Offer::Duplicate);
    }

    #[test]
    fn a_receiver_that_fails_is_left_alone_for_longer_each_time() {
        let mut queue = Queue::new(10, SendPace::default());
        let mut now = Moment::ZERO + SECOND;
        offer(&mut queue, "a", AlertState::Firing, now);
        offer(&mut queue, "b", AlertState::Firing, now);
        for secs in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(sent(&queue, now), Some(("a".into(), Form::Card)));
            assert_eq!(queue.settle(&failed(), now), Settled::Retried);
            let resume = now + Duration::from_secs(secs);
            assert_eq!(queue.next(now), NextSend::Wait(resume));
            now = resume;
        }
        assert!(matches!(queue.settle(&SendOutcome::Delivered, now), Settled::Delivered(_)));
        now = now + APART;
        assert_eq!(sent(&queue, now), Some(("b".into(), Form::Card)), "and then goes on at its pace");
        assert_eq!(queue.settle(&SendOutcome::RateLimited("slower".into()), now), Settled::Retried);
        assert_eq!(queue.next(now), NextSend::Wait(now + SECOND), "counted anew");
    }

    #[test]
    fn messages_keep_their_distance() {
        let mut queue = Queue::new(10, SendPace::default());
        let now = Moment::ZERO + SECOND;
        offer(&mut queue, "a", AlertState::Firing, now);
        offer(&mut queue, "b", AlertState::Firing, now);
        queue.settle(&SendOutcome::Delivered, now);
        assert_eq!(queue.next(now), NextSend::Wait(now + APART));
    }

    #[test]
    fn a_card_that_cannot_be_read_goes_as_text_and_then_makes_room() {
        let mut queue = Queue::new(10, SendPace::default());
        let now = Moment::ZERO + SECOND;
        offer(&mut queue, "a", AlertState::Firing, now);
        offer(&mut queue, "b", AlertState::Firing, now);
        let refused = SendOutcome::Refused("Bad Request".into());
        assert_eq!(queue.settle(&refused, now), Settled::Retried);
        assert_eq!(sent(&queue, now + APART), Some(("a".into(), Form::Plain)));
        assert_eq!(queue.settle(&refused, now + APART), Settled::Dropped(GivenUp::Refused));
        assert_eq!(sent(&queue, now + APART * 2), Some(("b".into(), Form::Card)));
    }

    #[test]
    fn what_could_not_be_sent_in_a_day_is_dropped() {
        let mut queue = Queue::new(10, SendPace::default());
        offer(&mut queue, "a", AlertState::Firing, Moment::ZERO);
        assert_eq!(queue.settle(&failed(), Moment::ZERO + EXPIRE - SECOND), Settled::Retried);
        assert_eq!(queue.settle(&failed(), Moment::ZERO + EXPIRE), Settled::Dropped(GivenUp::Expired));
        assert_eq!(queue.next(Moment::NEVER), NextSend::Idle);
    }

    #[test]
    fn in_a_hurry_past_failures_do_not_count() {
        let mut queue = Queue::new(10, SendPace::default());
        offer(&mut queue, "a", AlertState::Firing, Moment::ZERO);
        queue.settle(&failed(), Moment::ZERO);
        queue.hurry();
        assert_eq!(sent(&queue, Moment::ZERO), Some(("a".into(), Form::Card)));
    }

    #[test]
    fn memory_is_bounded_whatever_is_delivered() {
        let mut queue = Queue::new(10, SendPace::default());
        for number in 0..MAX_REMEMBERED + 10 {
            let now = Moment::from_nanos(number as u64);
            offer(&mut queue, &number.to_string(), AlertState::Firing, now);
            queue.settle(&SendOutcome::Delivered, now);
        }
        assert_eq!(queue.delivered.len(), MAX_REMEMBERED);
        let last = (MAX_REMEMBERED + 9).to_string();
        assert_eq!(offer(&mut queue, &last, AlertState::Firing, Moment::ZERO), Offer::Duplicate);
    }

    proptest! {
        #![proptest_config(crate::properties())]
        /// Whatever happens, what people see of an alert is its changes in their order, ending with its present state.
        #[test]
        fn what_arrives_is_each_change_once_and_in_order(
            steps in proptest::collection::vec((0_usize..3, any::<bool>(), 0_u8..3), 1..60),
        ) {
            let mut queue = Queue::new(100, SendPace::default());
            let mut now = Moment::ZERO + SECOND;
            let (mut expected, mut seen) = (vec![Vec::new(); 3], vec![Vec::new(); 3]);
            let take = |queue: &mut Queue, now: Moment, seen: &mut Vec<Vec<AlertState>>, verdict: &SendOutcome| {
                if let Some(entry) = queue.waiting.front().filter(|_| matches!(queue.next(now), NextSend::Send(..))) {
                    let (who, state) = (entry.fingerprint.parse::<usize>().expect("a number"), entry.state);
                    if matches!(queue.settle(verdict, now), Settled::Delivered(_)) {
                        seen[who].push(state);
                    }
                }
            };
            for (who, fires, verdict) in steps {
                let state = if fires { AlertState::Firing } else { AlertState::Resolved };
                let news = expected[who].last() != Some(&state);
                let said = offer(&mut queue, &who.to_string(), state, now);
                prop_assert_eq!(said, if news { Offer::Queued } else { Offer::Duplicate });
                if news {
                    expected[who].push(state);
                }
                match verdict {
                    0 => take(&mut queue, now, &mut seen, &SendOutcome::Delivered),
                    1 => take(&mut queue, now, &mut seen, &failed()),
                    _ => {}
                }
                now = now + SECOND;
            }
            while !queue.is_empty() {
                now = now + SECOND;
                take(&mut queue, now, &mut seen, &SendOutcome::Delivered);
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
