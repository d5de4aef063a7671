//! What goes into the gate and what comes out of it: candidates, tickets, reports, answers.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::priority::Priority;

/// What the gate knows of a request.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Unique among the requests that wait; the shell's name for it in [`cancel`](super::gate::Gate::cancel).
    pub id: u64,
    /// The priority that the client asked for.
    pub priority: Priority,
    /// Who sent it: clients take turns within a priority.
    pub client: Arc<str>,
    /// The model that it asks for, if it names one: refusals hold by model.
    pub model: Option<Arc<str>>,
    /// When it first arrived; kept when it comes back after a refusal, and when its client comes again with it.
    pub arrived: Moment,
    /// When it will have waited for as long as it may.
    pub deadline: Moment,
    /// How many bytes its body holds in memory.
    pub bytes: usize,
}

/// The permission to send one request upstream.
///
/// Its life: [`Report::Sent`] once the request is written, [`Report::Answered`] when the head of the answer is there,
/// and [`done`](super::gate::Gate::done) when the slot is free again. Reports may be missing, `done` may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Unique in the life of a gate.
    pub id: u64,
    /// When it was granted, for the journal of the window.
    pub granted_at: Moment,
    /// Until when the request must have been sent: its place in a fleet's window ends then.
    pub must_send_by: Option<Moment>,
}

/// The gate's answer to a newcomer.
#[derive(Debug)]
pub enum Offered<J> {
    /// It waits in the queue.
    Queued,
    /// The queue is full and the policy is `passthrough`: it waits behind the queued ones of its priority.
    Overflow,
    /// It is turned away.
    Refused {
        /// The newcomer's job.
        job: J,
        /// Why.
        reason: Refused,
        /// What to tell its client.
        outlook: Outlook,
    },
    /// It waits in the queue, and the newest job of the lowest priority made room for it.
    Displaced {
        /// The job that made room.
        job: J,
        /// Its id.
        id: u64,
        /// What to tell its client.
        outlook: Outlook,
    },
}

/// Why a newcomer is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full: 503.
    QueueFull,
    /// There would be no ticket within the time that it may wait: 429.
    NoTicket,
    /// The fleet's Redis is away, and this sidecar may not send without it: 503.
    FleetAway,
}

/// What a request that is turned away can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The place it would have in the queue, from 1: `X-Sidecar-Queue-Position`.
    pub position: usize,
    /// How long until its ticket, by the present depth and rate: `X-Sidecar-Queue-Eta`.
    pub eta: Duration,
    /// The `Retry-After`: whole seconds, 1 to 60.
    pub retry_after: Duration,
}

/// What the gate lets happen next.
#[derive(Debug)]
pub enum Next<J> {
    /// Send this job.
    Release {
        /// The job.
        job: J,
        /// What the gate knew of it, to be handed back in [`give_back`](super::gate::Gate::give_back).
        candidate: Candidate,
        /// The permission.
        ticket: Ticket,
    },
    /// This job got no ticket in time: 429.
    Expired {
        /// The job.
        job: J,
        /// What the gate knew of it.
        candidate: Candidate,
        /// What to tell its client.
        outlook: Outlook,
    },
    /// Nothing before [`ready_at`](super::gate::Gate::ready_at), or before something is offered or reported.
    Nothing,
}

/// What became of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The request has been written to the upstream.
    ///
    /// Optional when the answer comes within seconds; without it the ticket counts as sent
    /// [`UNREPORTED`](super::window::UNREPORTED) after its grant, and the window stays fuller than it need be.
    Sent {
        /// When its last byte was written.
        at: Moment,
    },
    /// It was never sent (the client left first, the connection failed): the ticket is given back.
    Unsent,
    /// The head of the upstream's answer is there.
    Answered {
        /// When the request's last byte was written.
        sent_at: Moment,
        /// When the head of the answer arrived.
        answered_at: Moment,
        /// What the answer teaches.
        verdict: Verdict,
    },
}

/// What an answer of the upstream teaches the limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The upstream took the request.
    Success,
    /// The upstream refused it for its rate: 429, or a worker refusal.
    Refused {
        /// Whose refusal it is, as far as the answer tells.
        scope: Scope,
        /// The `Retry-After` that came with it.
        retry_after: Option<Duration>,
    },
    /// A 400, a 500, a hang-up: teaches nothing.
    Ignored,
}

/// Whose refusal it is, as far as the answer itself tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A plain 429: the key's or the model's.
    Unknown,
    /// NIM's `ResourceExhausted` or "All workers are busy": always the model's.
    Model,
}

/// Something that the log and the metrics should hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The retreat changed its state or its rate.
    Rate {
        /// The state before.
        from: super::snapshot::RetreatState,
        /// The state now.
        to: super::snapshot::RetreatState,
        /// Requests a minute now.
        effective_rpm: f64,
        /// The share of refusals (0 to 1) that led to it.
        share: f64,
    },
    /// The rate fell to the floor: an alert.
    Floor {
        /// Requests a minute now.
        effective_rpm: f64,
        /// The share of refusals (0 to 1) that led to it.
        share: f64,
    },
    /// A model refused and is held; renewed holds are told again.
    Held {
        /// The model; `None` for requests that name none.
        model: Option<Arc<str>>,
        /// Until when.
        until: Moment,
    },
    /// A held model answers again.
    Freed {
        /// The model; `None` for requests that name none.
        model: Option<Arc<str>>,
    },
    /// Two models refused with no success between them: all tickets pause.
    KeyPaused {
        /// Until when.
        until: Moment,
    },
}
