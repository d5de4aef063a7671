//! The limiter thread: the only owner of the gate, and so of queue, rate and window; nothing of it has a lock.
//!
//! It waits for arrivals, workers' reports, commands and the moment that the gate asked for, hands each to the gate, and
//! sends on what the gate releases. All decisions are the gate's.

use crate::clock::{Clock, Moment};
use crate::config::limiter::Settings;
use crate::dispatch::fleet::handle::Fleet;
use crate::dispatch::permit::{Dispatch, Feedback, Permit};
use crate::dispatch::state_file::StateFile;
use crate::downstream::job::Job;
use crate::limiter::admission::{Candidate, Event, Next, Offered, Outlook, Refused};
use crate::limiter::gate::{Gate, Unfit};
use crate::limiter::places::Places;
use crate::limiter::snapshot::{ClientSide, RetreatState, Snapshot, WaitingJob};
use crate::outcome::Outcome;
use crate::priority::Priority;
use crate::published::Published;
use crate::workers::pool::Pool;
use crossbeam_channel::{Receiver, Select, Sender, unbounded};
use std::sync::Arc;
use std::time::Duration;

/// A snapshot is published at most this often while much happens, and at once when little does.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// Messages taken from one channel before the others and the tickets get their turn.
const MESSAGES_A_TURN: usize = 512;

/// The `Retry-After` while the fleet's Redis is away: nothing here says when it returns.
const FLEET_RETRY: Duration = Duration::from_secs(5);

/// What may be asked of the limiter.
pub enum Command {
    /// The client of this job hung up.
    Cancel(u64),
    /// An operator removes this job from the queue; answers whether it was there.
    Evict(u64, Sender<bool>),
    /// New settings.
    Reconfigure(Box<Settings>, Sender<Result<(), Unfit>>),
    /// Back to the base rate.
    Reset(Sender<()>),
    /// The first jobs of the queue, at most so many.
    Waiting(usize, Sender<Vec<WaitingJob>>),
    /// From this moment on nothing waits any more: what is left in the queue is refused.
    CloseAt(Moment),
}

/// The way to the limiter, for all others.
#[derive(Clone)]
pub struct LimiterHandle {
    arrivals: [Sender<Job>; 4],
    commands: Sender<Command>,
}

impl LimiterHandle {
    /// A limited request has come.
    pub fn arrive(&self, job: Job) {
        if let Err(unsent) = self.arrivals[job.facts.priority.index()].send(job) {
            unsent.0.refuse(Outcome::ShuttingDown, "the sidecar is shutting down", None);
        }
    }

    /// Asks something of the limiter; it goes unheard once the limiter has ended.
    pub fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// The limiter before it runs.
pub struct Limiter {
    gate: Gate<Job>,
    places: Places,
    /// Four crossbeam channels, one a priority. None is bounded by itself: a connection has at most one job.
    arrivals: [Receiver<Job>; 4],
    commands: Receiver<Command>,
    reports: Receiver<Feedback>,
    report_to: Sender<Feedback>,
    workers: Arc<Pool<Dispatch>>,
    board: Arc<Published<Snapshot>>,
    state: Option<StateFile>,
    fleet: Option<Fleet>,
    clock: Clock,
    published_at: Moment,
    is_stale: bool,
    closes_at: Moment,
}

/// What a limiter is made of.
pub struct Parts {
    /// The gate.
    pub gate: Gate<Job>,
    /// Where the gate's state is shown.
    pub board: Arc<Published<Snapshot>>,
    /// Where released jobs go.
    pub workers: Arc<Pool<Dispatch>>,
    /// Remembers the window over a restart.
    pub state: Option<StateFile>,
    /// The fleet that it shares its window with.
    pub fleet: Option<Fleet>,
    /// The clock.
    pub clock: Clock,
}

impl Limiter {
    /// A limiter and the way to it.
    #[must_use]
    pub fn new(parts: Parts) -> (Limiter, LimiterHandle) {
        let Parts { mut gate, board, workers, mut state, fleet, clock } = parts;
        let now = clock.now();
        if let Some(state) = &mut state {
            gate.restore_window(state.take_restored(), now);
        }
        let (arrival_senders, arrivals): (Vec<_>, Vec<_>) =
            Priority::ALL.map(|_| unbounded()).into_iter().unzip();
        let (command_sender, commands) = unbounded();
        let (report_to, reports) = unbounded();
        let intakes = LimiterHandle { arrivals: four(arrival_senders), commands: command_sender };
        let limiter = Limiter {
            gate,
            places: Places::default(),
            arrivals: four(arrivals),
            commands,
            reports,
            report_to,
            workers,
            board,
            state,
            fleet,
            clock,
            published_at: now,
            is_stale: true,
            closes_at: Moment::NEVER,
        };
        (limiter, intakes)
    }

    /// Runs until everybody who could send a request has gone and the last slot is free.
    pub fn run(mut self) {
        let mut open = true;
        while open || self.gate.in_flight() > 0 {
            self.wait(open);
            let now = self.clock.now();
            open = self.take_arrivals(now);
            self.take_reports(now);
            self.take_commands(now);
            if let Some(fleet) = &mut self.fleet {
                self.is_stale |= fleet.listen(&mut self.gate, now);
            }
            if now >= self.closes_at {
                self.refuse_waiting();
            }
            self.release(now);
            if let Some(fleet) = &mut self.fleet {
                fleet.speak(&mut self.gate, now);
            }
            self.tell_events();
            self.publish(now);
        }
        self.refuse_waiting();
    }

    /// Blocks until a message or the next moment at which something is due.
    fn wait(&self, open: bool) {
        let mut select = Select::new();
        if open {
            for arrivals in &self.arrivals {
                select.recv(arrivals);
            }
            select.recv(&self.commands);
        }
        select.recv(&self.reports);
        if let Some(fleet) = &self.fleet {
            select.recv(fleet.words());
        }
        let publish_at = if self.is_stale { self.published_at + PUBLISH_EVERY } else { Moment::NEVER };
        let ready_at = self.gate.ready_at(self.clock.now()).unwrap_or(Moment::NEVER);
        let closes_at = if self.gate.depth() == 0 { Moment::NEVER } else { self.closes_at };
        match publish_at.min(ready_at).min(closes_at) {
            Moment::NEVER => drop(select.ready()),
            until => drop(select.ready_deadline(self.clock.instant(until))),
        }
    }

    /// Takes what has come; tells whether more can come.
    fn take_arrivals(&mut self, now: Moment) -> bool {
        let mut open = true;
        for priority in Priority::ALL {
            for _ in 0..MESSAGES_A_TURN {
                match self.arrivals[priority.index()].try_recv() {
                    Ok(job) => self.offer(job, now),
                    Err(empty) => {
                        open &= !empty.is_disconnected();
                        break;
                    }
                }
            }
        }
        open
    }

    fn offer(&mut self, mut job: Job, now: Moment) {
        self.is_stale = true;
        if let Some(first) = job.facts.fingerprint.and_then(|request| self.places.take(request, now)) {
            job.facts.first_arrived = first;
        }
        if job.is_abandoned() {
            return self.left(job, now);
        }
        match self.gate.offer(candidate(&job), job, now) {
            Offered::Queued | Offered::Overflow => {}
            Offered::Refused { job, reason: Refused::QueueFull, outlook } => {
                refuse(job, Outcome::QueueFull, &self.gate.why_full(), outlook);
            }
            Offered::Refused { job, reason: Refused::NoTicket, outlook } => {
                let message = format!(
                    "no ticket within the time that this request may wait: it would be number {} in the queue and wait about {:.1} s",
                    outlook.position,
                    outlook.eta.as_secs_f64()
                );
                self.remember(&job, now + outlook.retry_after, now);
                refuse(job, Outcome::NoTicket, &message, outlook);
            }
            Offered::Refused { job, reason: Refused::FleetAway, .. } => job.refuse(
                Outcome::QuotaUnavailable,
                "the Redis in which the fleet shares its quota does not answer; try again in a few seconds",
                Some(FLEET_RETRY),
            ),
            Offered::Displaced { mut job, outlook, .. } => {
                job.end_wait(now);
                self.remember(&job, now + outlook.retry_after, now);
                refuse(
                    job,
                    Outcome::Displaced,
                    "displaced by a more urgent request while the queue was full",
                    outlook,
                );
            }
        }
    }

    /// The client of a job has gone before its ticket came.
    fn left(&mut self, job: Job, now: Moment) {
        self.remember(&job, now, now);
        job.abandon();
    }

    /// Keeps the place of a job that leaves unserved and whose client may come again from `from` on.
    fn remember(&mut self, job: &Job, from: Moment, now: Moment) {
        if let Some(request) = job.facts.fingerprint {
            let until = from + self.gate.settings().queue.remember_place;
            self.places.leave(request, &job.facts.client, job.facts.first_arrived, until, now);
        }
    }

    fn take_reports(&mut self, now: Moment) {
        for _ in 0..MESSAGES_A_TURN {
            let Ok(Feedback { ticket, report, returned, done }) = self.reports.try_recv() else { return };
            self.is_stale = true;
            if let Some(report) = report {
                self.gate.report(ticket, report, now);
            }
            if done {
                self.gate.done(ticket, now);
            }
            if let Some((mut job, not_before)) = returned {
                if job.is_abandoned() {
                    self.left(job, now);
                } else {
                    job.waiting_since = now;
                    self.gate.give_back(candidate(&job), job, now, not_before);
                }
            }
        }
    }

    fn take_commands(&mut self, now: Moment) {
        for _ in 0..MESSAGES_A_TURN {
            let Ok(command) = self.commands.try_recv() else { return };
            // Looking changes nothing.
            self.is_stale |= !matches!(command, Command::Waiting(..));
            match command {
                Command::Cancel(id) => {
                    if let Some(mut job) = self.gate.cancel(id, now) {
                        job.end_wait(now);
                        self.left(job, now);
                    }
                }
                Command::Evict(id, answer) => {
                    let evicted = self.gate.cancel(id, now);
                    self.publish_now(now);
                    let _ = answer.send(evicted.is_some());
                    if let Some(mut job) = evicted {
                        job.end_wait(now);
                        // An SDK would bring it back otherwise.
                        let never_again = [("x-should-retry", "false".to_owned())];
                        let message = "an operator removed this request from the queue";
                        job.refuse_with(Outcome::Removed, message, None, &never_again);
                    }
                }
                Command::Reconfigure(settings, answer) => {
                    let most = settings.max_in_flight as usize;
                    let fits = self.gate.reconfigure(*settings, now);
                    if fits.is_ok() {
                        self.workers.set_cap(most);
                    }
                    // A caller that is told of the change finds it on every page.
                    self.publish_now(now);
                    let _ = answer.send(fits);
                }
                Command::Reset(answer) => {
                    self.gate.reset_to_base(now);
                    self.publish_now(now);
                    let _ = answer.send(());
                }
                Command::Waiting(most, answer) => {
                    let jobs = self.gate.waiting(most, now, |job| ClientSide {
                        request_id: job.facts.request_id.clone(),
                        early_since: job.link().early_since(),
                    });
                    let _ = answer.send(jobs);
                }
                Command::CloseAt(moment) => self.closes_at = moment,
            }
        }
    }

    fn release(&mut self, now: Moment) {
        let mut released = Vec::new();
        loop {
            match self.gate.next(now) {
                Next::Release { mut job, ticket, .. } => {
                    job.end_wait(now);
                    let permit = Permit::new(ticket, self.report_to.clone());
                    if job.is_abandoned() {
                        self.left(job, now);
                    } else {
                        released.push(Dispatch { job, permit });
                    }
                }
                Next::Expired { mut job, outlook, .. } => {
                    job.end_wait(now);
                    let message = format!("no ticket within {:.1} s", job.queued.as_secs_f64());
                    self.remember(&job, now + outlook.retry_after, now);
                    refuse(job, Outcome::NoTicket, &message, outlook);
                }
                Next::Nothing => break,
            }
            self.is_stale = true;
        }
        if released.is_empty() {
            return;
        }
        // Written down before anything is sent: a process that is killed in between spends a ticket less, never more.
        if let Some(state) = &mut self.state {
            state.record(released.len(), || self.gate.window_ages(now));
        }
        for dispatch in released {
            if let Err(Dispatch { job, permit }) = self.workers.submit(dispatch) {
                drop(permit);
                job.refuse(Outcome::Internal, "no thread for another request", None);
            }
        }
    }

    fn refuse_waiting(&mut self) {
        for (_, job) in self.gate.drain_all() {
            job.refuse(Outcome::ShuttingDown, "the sidecar is shutting down", None);
        }
    }

    fn tell_events(&mut self) {
        for event in self.gate.take_events() {
            tell(&event, self.clock.now());
        }
    }

    fn publish(&mut self, now: Moment) {
        if self.is_stale && now.since(self.published_at) >= PUBLISH_EVERY {
            self.publish_now(now);
        }
    }

    fn publish_now(&mut self, now: Moment) {
        self.board.publish(self.gate.snapshot(now));
        self.published_at = now;
        self.is_stale = false;
    }
}

/// What the gate has to know of a job.
fn candidate(job: &Job) -> Candidate {
    Candidate {
        id: job.facts.id,
        priority: job.facts.priority,
        client: job.facts.client.clone(),
        model: job.facts.model.clone(),
        arrived: job.facts.first_arrived,
        deadline: job.facts.deadline,
        bytes: job.held_bytes(),
    }
}

fn four<T>(of: Vec<T>) -> [T; 4] {
    of.try_into().unwrap_or_else(|_| unreachable!("there are four priorities"))
}

fn refuse(job: Job, outcome: Outcome, message: &str, outlook: Outlook) {
    let fields = [
        ("X-Sidecar-Queue-Position", outlook.position.to_string()),
        ("X-Sidecar-Queue-Eta", format!("{:.1}", outlook.eta.as_secs_f64())),
    ];
    job.refuse_with(outcome, message, Some(outlook.retry_after), &fields);
}

/// What a change of the rate means and who has to know: an operator that it is lowered, nobody each step of its way back.
const fn rate_change(from: RetreatState, to: RetreatState) -> (log::Level, &'static str) {
    match (from, to) {
        (_, RetreatState::Retreat) => (log::Level::Warn, "the upstream refuses, retreating"),
        (RetreatState::Recover, RetreatState::Recover) => (log::Level::Debug, "recovering"),
        (_, RetreatState::Recover) => (log::Level::Info, "the upstream refuses no longer, recovering"),
        (RetreatState::Normal, RetreatState::Normal) => {
            (log::Level::Debug, "the rate follows what is granted")
        }
        (_, RetreatState::Normal) => (log::Level::Info, "back to normal"),
    }
}

fn tell(event: &Event, now: Moment) {
    let model_name = |model: &Option<Arc<str>>| model.as_deref().unwrap_or("(none)").to_owned();
    match event {
        Event::Rate { from, to, effective_rpm, share } => {
            let (level, change) = rate_change(*from, *to);
            log::log!(
                level, retreat_state = to.as_str(), effective_rpm = *effective_rpm, upstream_429_rate = *share;
                "{change}: the rate is {effective_rpm:.1} rpm, {:.0} % of the answers of the last minute were refusals",
                share * 100.0
            );
        }
        Event::Floor { effective_rpm, share } => log::error!(
            effective_rpm = *effective_rpm, upstream_429_rate = *share;
            "the upstream refuses so much that the rate is at its floor, {effective_rpm:.1} rpm"
        ),
        Event::Held { model, until } => log::warn!(
            model = model_name(model);
            "the upstream refuses this model; its requests wait for {:.1} s", until.since(now).as_secs_f64()
        ),
        Event::Freed { model } => {
            log::info!(model = model_name(model); "the upstream takes this model again");
        }
        Event::KeyPaused { until } => log::warn!(
            "the upstream refuses several models: the key is over its quota; all requests wait for {:.1} s",
            until.since(now).as_secs_f64()
        ),
    }
}
