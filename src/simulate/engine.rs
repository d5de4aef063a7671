//! The engine: the very gate that the sidecar runs, on virtual time, between model agents and a model upstream.
//!
//! The next thing that happens is either an event (an agent sends, a request arrives at the upstream, an answer arrives
//! here) or the moment that the gate asked for. Nothing waits, so a day passes in a second or two.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::agents::{Agent, Habit, agents};
use super::figures::{Figures, POINTS, Peak, Point, Waits, jain, ratio};
use super::scenario::Scenario;
use super::upstream::{Said, Upstream};
use crate::clock::{Moment, duration_from_secs_f64};
use crate::limiter::admission::{Candidate, Next, Offered, Report, Scope, Ticket, Verdict};
use crate::limiter::gate::Gate;

/// As `max_attempts` is by default.
const MAX_ATTEMPTS: u32 = 5;
/// Estimates of shorter waits say little in percent.
const WORTH_ESTIMATING: Duration = Duration::from_secs(10);

/// One request of an agent.
#[derive(Clone, Debug)]
struct Request {
    agent: usize,
    arrived: Moment,
    attempts: u32,
    eta: Duration,
    wait: Option<Duration>,
    candidate: Option<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    request: usize,
    ticket: Ticket,
    at: Moment,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    AgentSends(usize),
    OtherSends,
    Arrives(Sent),
    Answered(Sent, Said),
    Relayed(Sent),
    /// The sidecar is killed and started again.
    Restart,
}

/// Estimates on arrival, and what came of them.
#[derive(Clone, Copy, Debug, Default)]
struct Estimates {
    count: u64,
    good: u64,
    told: Duration,
    waited: Duration,
}

/// A run.
struct Engine<'a> {
    scenario: &'a Scenario,
    rng: fastrand::Rng,
    gate: Gate<usize>,
    upstream: Upstream,
    agents: Vec<Agent>,
    requests: Slab<Request>,
    agenda: BinaryHeap<Reverse<(Moment, u64, usize)>>,
    happenings: Slab<Happening>,
    serial: u64,
    now: Moment,
    /// When the present sidecar was started.
    started: Moment,
    figures: Figures,
    peak: Peak,
    taken_by_other: u64,
    estimates: Estimates,
    late_bad_429: u64,
}

/// Runs a scenario.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64) -> Figures {
    let mut engine = Engine::new(scenario, seed);
    engine.run();
    engine.finish()
}

impl<'a> Engine<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Engine<'a> {
        let figures = Figures {
            duration: scenario.duration,
            asked: 0,
            served: 0,
            oracle: 0,
            upstream: 0,
            upstream_429: 0,
            client_refusals: 0,
            client_500: 0,
            bad_model_429_per_minute: 0.0,
            good_model_refusals: 0,
            peak_60s: 0,
            last_served: Moment::ZERO,
            worst: [Duration::ZERO; 4],
            refusals_by_kind: vec![0; scenario.agents.len()],
            waits: Default::default(),
            waits_by_kind: vec![Waits::default(); scenario.agents.len()],
            jain: 1.0,
            estimate_bias: 1.0,
            estimates_good: 1.0,
            course: vec![Point::default(); POINTS],
        };
        Engine {
            rng: fastrand::Rng::with_seed(seed),
            gate: Gate::new(scenario.settings.clone(), Moment::ZERO),
            upstream: Upstream::new(scenario.upstream.clone()),
            agents: agents(&scenario.agents),
            requests: Slab::new(),
            agenda: BinaryHeap::new(),
            happenings: Slab::new(),
            serial: 0,
            now: Moment::ZERO,
            started: Moment::ZERO,
            figures,
            peak: Peak::default(),
            taken_by_other: 0,
            estimates: Estimates::default(),
            late_bad_429: 0,
            scenario,
        }
    }

    fn run(&mut self) {
        for agent in 0..self.agents.len() {
            let start = match self.agents[agent].habit {
                Habit::Once { .. } => Duration::ZERO,
                Habit::Every { secs, .. } => self.evenly(0.0, secs),
                Habit::Loop { .. } | Habit::Hog { .. } => self.evenly(0.0, 1.0),
            };
            self.plan(start, Happening::AgentSends(agent));
        }
        if let Some((span, _)) = self.scenario.upstream.other {
            self.plan(duration_from_secs_f64(span.from), Happening::OtherSends);
        }
        if let Some(secs) = self.scenario.restart_at {
            self.plan(duration_from_secs_f64(secs), Happening::Restart);
        }
        let end = Moment::ZERO + self.scenario.duration;
        loop {
            let event = self.agenda.peek().map_or(Moment::NEVER, |Reverse((at, _, _))| *at);
            let wanted = self.gate.ready_at(self.now).unwrap_or(Moment::NEVER);
            let next = event.min(wanted);
            if next >= end {
                return;
            }
            self.mark_course(next);
            self.now = next.max(self.now);
            while let Some(&Reverse((at, _, key))) = self.agenda.peek() {
                if at > self.now {
                    break;
                }
                self.agenda.pop();
                let happening = self.happenings.remove(key);
                self.happen(happening);
            }
            self.drive_gate();
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::AgentSends(agent) => self.agent_sends(agent),
            Happening::OtherSends => self.other_sends(),
            Happening::Restart => self.restart(),
            Happening::Arrives(sent) => self.arrives(sent),
            Happening::Answered(sent, said) => self.answered(sent, said),
            Happening::Relayed(sent) => {
                if sent.at >= self.started {
                    self.gate.done(sent.ticket, self.now);
                }
                self.end(sent.request, Duration::ZERO);
            }
        }
    }

    fn agent_sends(&mut self, agent: usize) {
        let count = match self.agents[agent].habit {
            Habit::Loop { .. } => 1,
            Habit::Every { count, secs } => {
                self.plan(duration_from_secs_f64(secs), Happening::AgentSends(agent));
                count
            }
            Habit::Once { count } => count,
            // The first time all of them; later one for each that ended.
            Habit::Hog { count } if self.now < Moment::from_secs_f64(1.0) => count,
            Habit::Hog { .. } => 1,
        };
        for _ in 0..count {
            self.ask(agent);
        }
    }

    fn ask(&mut self, index: usize) {
        self.figures.asked += 1;
        self.serial += 1;
        let agent = &self.agents[index];
        let candidate = Candidate {
            id: self.serial,
            priority: agent.priority,
            client: agent.name.clone(),
            model: Some(agent.model.clone()),
            arrived: self.now,
            deadline: self.now + self.scenario.patience,
            bytes: 10_000,
        };
        let eta = self.gate.outlook(&candidate, false, self.now).eta;
        let (arrived, attempts) = (self.now, 0);
        let request = Request { agent: index, arrived, attempts, eta, wait: None, candidate: None };
        let key = self.requests.insert(request);
        match self.gate.offer(candidate, key, self.now) {
            Offered::Queued | Offered::Overflow => {}
            Offered::Refused { job, outlook, .. } => self.refuse(job, outlook.retry_after),
            Offered::Displaced { job, outlook, .. } => self.refuse(job, outlook.retry_after),
        }
    }

    fn drive_gate(&mut self) {
        loop {
            match self.gate.next(self.now) {
                Next::Release { job, candidate, ticket } => {
                    let (point, jitter) = (self.point(self.now), self.scenario.upstream.jitter);
                    self.figures.course[point].tickets += 1;
                    self.gate.report(ticket, Report::Sent { at: self.now }, self.now);
                    let request = &mut self.requests[job];
                    request.attempts += 1;
                    request.wait = Some(self.now.since(candidate.arrived));
                    request.candidate = Some(candidate);
                    let travel = jitter.mul_f64(self.rng.f64());
                    self.plan(travel, Happening::Arrives(Sent { request: job, ticket, at: self.now }));
                }
                Next::Expired { job, outlook, .. } => self.refuse(job, outlook.retry_after),
                Next::Nothing => return,
            }
        }
    }

    fn arrives(&mut self, sent: Sent) {
        let model = self.agents[self.requests[sent.request].agent].model.clone();
        let said = self.upstream.arrive(&model, self.now);
        self.figures.upstream += 1;
        self.peak.add(self.now);
        let back = self.scenario.upstream.jitter.mul_f64(self.rng.f64());
        let thinking = match said {
            Said::Accepted => {
                self.served(sent.request);
                let (least, most) = self.scenario.upstream.answer_secs;
                self.evenly(least, most)
            }
            Said::Refused | Said::Failed => Duration::ZERO,
        };
        if said == Said::Refused {
            let point = self.point(self.now);
            self.figures.course[point].refused += 1;
            self.figures.upstream_429 += 1;
            let late = self.now + Duration::from_secs(600) >= Moment::ZERO + self.scenario.duration;
            self.late_bad_429 += u64::from(late && self.is_bad(&model));
        }
        self.plan(thinking + back, Happening::Answered(sent, said));
    }

    fn answered(&mut self, sent: Sent, said: Said) {
        let verdict = match said {
            Said::Accepted => Verdict::Success,
            Said::Refused => {
                Verdict::Refused { scope: Scope::Unknown, retry_after: self.scenario.upstream.retry_after }
            }
            Said::Failed => Verdict::Ignored,
        };
        let report = Report::Answered { sent_at: sent.at, answered_at: self.now, verdict };
        // A sidecar that was started since knows nothing of this ticket.
        if sent.at >= self.started {
            self.gate.report(sent.ticket, report, self.now);
        }
        match said {
            Said::Accepted => {
                let relay = self.evenly(0.0, 4.0);
                self.plan(relay, Happening::Relayed(sent));
            }
            Said::Failed => {
                self.figures.client_500 += 1;
                self.plan(Duration::ZERO, Happening::Relayed(sent));
            }
            Said::Refused => {
                if sent.at >= self.started {
                    self.gate.done(sent.ticket, self.now);
                }
                let request = &mut self.requests[sent.request];
                let spent = request.attempts >= MAX_ATTEMPTS;
                match request.candidate.take().filter(|_| !spent) {
                    Some(candidate) => self.gate.give_back(candidate, sent.request, self.now, None),
                    None => self.refuse(sent.request, Duration::from_secs(5)),
                }
            }
        }
    }

    fn served(&mut self, key: usize) {
        let request = &self.requests[key];
        let agent = &mut self.agents[request.agent];
        let wait = request.wait.unwrap_or_default();
        agent.served += 1;
        self.figures.served += 1;
        self.figures.last_served = self.now;
        if request.arrived < Moment::ZERO + self.scenario.warm_up {
            return;
        }
        let worst = &mut self.figures.worst[agent.priority.index()];
        *worst = wait.max(*worst);
        self.figures.waits[agent.priority.index()].add(wait);
        self.figures.waits_by_kind[agent.kind].add(wait);
        if wait >= WORTH_ESTIMATING && request.attempts == 1 {
            let off = (request.eta.as_secs_f64() / wait.as_secs_f64() - 1.0).abs();
            self.estimates.count += 1;
            self.estimates.good += u64::from(off <= 0.2);
            self.estimates.told += request.eta;
            self.estimates.waited += wait;
        }
    }

    fn refuse(&mut self, request: usize, retry_after: Duration) {
        self.figures.client_refusals += 1;
        let agent = &self.agents[self.requests[request].agent];
        let model = agent.model.clone();
        self.figures.refusals_by_kind[agent.kind] += 1;
        self.figures.good_model_refusals += u64::from(!self.is_bad(&model));
        self.end(request, retry_after);
    }

    /// The request is over; its agent goes on.
    fn end(&mut self, request: usize, pause: Duration) {
        let request = self.requests.remove(request);
        match self.agents[request.agent].habit {
            Habit::Loop { think_secs } => {
                let thought = self.evenly(0.0, think_secs);
                self.plan(pause + thought, Happening::AgentSends(request.agent));
            }
            Habit::Hog { .. } => {
                self.plan(pause + Duration::from_secs(1), Happening::AgentSends(request.agent));
            }
            Habit::Every { .. } | Habit::Once { .. } => {}
        }
    }

    /// What waited comes again at once; the window is remembered by its grants, and nothing else is.
    fn restart(&mut self) {
        self.started = self.now;
        let ages = self.gate.window_ages(self.now);
        let waiting = self.gate.drain_all();
        self.gate = Gate::new(self.scenario.settings.clone(), self.now);
        self.gate.restore_window(ages, self.now);
        for (candidate, job) in waiting {
            if let Offered::Refused { job, outlook, .. } = self.gate.offer(candidate, job, self.now) {
                self.refuse(job, outlook.retry_after);
            }
        }
    }

    fn other_sends(&mut self) {
        let Some((span, rpm)) = self.scenario.upstream.other else { return };
        if span.has(self.now) {
            for _ in 0..self.scenario.upstream.other_burst {
                self.taken_by_other += u64::from(self.upstream.arrive("other", self.now) == Said::Accepted);
            }
            let gap = match self.scenario.upstream.other_burst {
                1 => self.evenly(0.0, 120.0 / rpm),
                burst => duration_from_secs_f64(60.0 / rpm * f64::from(burst)),
            };
            self.plan(gap, Happening::OtherSends);
        }
    }

    fn finish(mut self) -> Figures {
        let scenario = self.scenario;
        self.mark_course(Moment::ZERO + scenario.duration);
        self.figures.oracle =
            Upstream::oracle(&scenario.upstream, scenario.duration).saturating_sub(self.taken_by_other);
        self.figures.peak_60s = self.peak.most;
        self.figures.bad_model_429_per_minute =
            self.late_bad_429 as f64 / scenario.duration.as_secs_f64().min(600.0) * 60.0;
        let mut by_kind: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for agent in &self.agents {
            by_kind.entry(agent.kind).or_default().push(agent.served);
        }
        self.figures.jain = by_kind.values().map(|served| jain(served)).fold(1.0, f64::min);
        if self.estimates.count > 0 {
            self.figures.estimates_good = ratio(self.estimates.good, self.estimates.count);
            self.figures.estimate_bias =
                self.estimates.told.as_secs_f64() / self.estimates.waited.as_secs_f64();
        }
        self.figures
    }

    /// Fills the course of the run up to `until`.
    fn mark_course(&mut self, until: Moment) {
        let (from, to) = (self.point(self.now), self.point(until));
        if from < to || until == Moment::ZERO + self.scenario.duration {
            let snapshot = self.gate.snapshot(self.now);
            for point in &mut self.figures.course[from..to.max(from + 1).min(POINTS)] {
                point.effective_rpm = snapshot.retreat.effective_rpm;
                point.waiting = snapshot.queue.depth_by_priority.iter().sum();
            }
        }
    }

    fn point(&self, at: Moment) -> usize {
        let part = at.as_secs_f64() / self.scenario.duration.as_secs_f64();
        (crate::limiter::rate::whole(part * 240.0) as usize).min(POINTS - 1)
    }

    fn is_bad(&self, model: &Arc<str>) -> bool {
        self.scenario.upstream.bad_model.is_some_and(|bad| bad == &**model)
    }

    fn evenly(&mut self, least: f64, most: f64) -> Duration {
        duration_from_secs_f64(least + (most - least) * self.rng.f64())
    }

    fn plan(&mut self, delay: Duration, happening: Happening) {
        let key = self.happenings.insert(happening);
        self.serial += 1;
        // Events of one moment happen in the order in which they were planned.
        self.agenda.push(Reverse((self.now + delay, self.serial, key)));
    }
}
