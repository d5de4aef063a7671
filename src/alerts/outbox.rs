//! One way to send with its queue and its thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::alert::Alert;
use super::answer::SendOutcome;
use super::card::Card;
use super::command::Command;
use super::feishu::Feishu;
use super::metrics::{BridgeMetrics, RouteLabel};
use super::queue::{Form, NextSend, Offer, Queue, SendPace, Settled};
use crate::clock::{Clock, Moment};

/// What a message is sent to.
pub(super) enum Receiver {
    Feishu(Feishu),
    Command(Command),
}

impl Receiver {
    fn send(&self, card: &Card, form: Form) -> SendOutcome {
        match (self, form) {
            (Receiver::Feishu(bot), Form::Card) => bot.send(card.message()),
            (Receiver::Feishu(bot), Form::Plain) => bot.send(card.plain_message()),
            (Receiver::Command(program), _) => program.send(card),
        }
    }
}

/// A queue that its thread empties.
pub(super) struct Outbox {
    label: RouteLabel,
    receiver: Receiver,
    capacity: usize,
    clock: Clock,
    metrics: Arc<BridgeMetrics>,
    state: Mutex<Sending>,
    changed: Condvar,
}

struct Sending {
    queue: Queue,
    /// Set when no more alerts come: the thread ends when the queue is empty, or at this moment.
    end: Option<Moment>,
}

impl Outbox {
    pub(super) fn new(
        label: RouteLabel,
        receiver: Receiver,
        (capacity, pace): (usize, SendPace),
        metrics: Arc<BridgeMetrics>,
        clock: Clock,
    ) -> Outbox {
        let state = Mutex::new(Sending { queue: Queue::new(capacity, pace), end: None });
        Outbox { label, receiver, capacity, clock, metrics, state, changed: Condvar::new() }
    }

    pub(super) fn label(&self) -> RouteLabel {
        self.label
    }

    /// Takes an alert in, unless it has no room for it.
    pub(super) fn offer(&self, alert: &Alert, card: &Arc<Card>) -> Offer {
        let offer = self.state.lock().queue.offer(alert, card, self.clock.now());
        self.changed.notify_one();
        offer
    }

    /// Sets the metrics of how full it is.
    pub(super) fn measure(&self) {
        let state = self.state.lock();
        let oldest = state.queue.oldest(self.clock.now());
        self.metrics.queue(self.label, state.queue.len(), self.capacity, oldest.as_secs_f64());
    }

    /// Lets the thread end: when everything is sent, or after `within`.
    pub(super) fn close(&self, within: Duration) {
        let mut state = self.state.lock();
        state.end = Some(self.clock.now() + within);
        state.queue.hurry();
        self.changed.notify_one();
    }

    /// Messages that wait.
    pub(super) fn len(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Sends until [`close`](Outbox::close)d.
    pub(super) fn run(&self) {
        while let Some((card, form)) = self.await_next() {
            // A bug in sending one message must not silence the others.
            let sent = catch_unwind(AssertUnwindSafe(|| self.receiver.send(&card, form)));
            let verdict = sent
                .unwrap_or_else(|_| SendOutcome::Refused("the bridge has a bug: sending it panicked".into()));
            let settled = self.state.lock().queue.settle(&verdict, self.clock.now());
            self.metrics.attempted(self.label, &verdict);
            self.report(&card, &verdict, &settled);
        }
    }

    fn await_next(&self) -> Option<(Arc<Card>, Form)> {
        let mut state = self.state.lock();
        loop {
            let now = self.clock.now();
            let end = state.end.unwrap_or(Moment::NEVER);
            match state.queue.next(now) {
                _ if now >= end => return None,
                NextSend::Send(card, form) => return Some((card, form)),
                NextSend::Idle if state.end.is_some() => return None,
                NextSend::Idle => self.changed.wait(&mut state),
                NextSend::Wait(until) => {
                    self.changed.wait_until(&mut state, self.clock.instant(until.min(end)));
                }
            }
        }
    }

    fn report(&self, card: &Card, verdict: &SendOutcome, settled: &Settled) {
        let (severity, way, name) = (self.label.severity.as_str(), self.label.way, card.name());
        let reason = match verdict {
            SendOutcome::Delivered => "",
            SendOutcome::RateLimited(reason) | SendOutcome::Failed(reason) | SendOutcome::Refused(reason) => {
                reason
            }
        };
        match settled {
            Settled::Delivered(waited) => {
                log::info!(severity, way, alert = name, waited_secs = waited.as_secs_f64(); "sent");
            }
            Settled::Retried => {
                log::warn!(severity, way, alert = name; "not sent, and will be tried again: {reason}");
            }
            Settled::Dropped(given_up) => {
                self.metrics.dropped(self.label, *given_up);
                log::error!(severity, way, alert = name; "given up: {reason}");
            }
        }
    }
}
