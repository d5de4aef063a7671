//! The gate on virtual time, whatever comes in whatever order: never more than the rate in any 60 s, no job is lost, and it
//! always says when it next wants to be called.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use nvidia_sidecar::clock::Moment;
use nvidia_sidecar::config::limiter::Settings;
use nvidia_sidecar::limiter::admission::{Candidate, Next, Offered, Report, Scope, Ticket, Verdict};
use nvidia_sidecar::limiter::gate::Gate;
use nvidia_sidecar::priority::Priority;
use std::time::Duration;

#[derive(Arbitrary, Debug)]
enum Step {
    Offer { priority: u8, client: u8, model: Option<u8>, bytes: u16, patience_secs: u16 },
    Pass { millis: u16 },
    Answer { nth: u8, refused: bool, own: bool, retry_after_secs: Option<u8> },
    Fail { nth: u8, sends_again: bool },
    Cancel { id: u8 },
    Rate { rpm: u8 },
    Reset,
}

struct Flight {
    ticket: Ticket,
    candidate: Candidate,
    sent_at: Moment,
}

struct World {
    gate: Gate<u64>,
    now: Moment,
    highest_rpm: u32,
    waiting: usize,
    flights: Vec<Flight>,
    sent: Vec<Moment>,
}

impl World {
    fn turn(&mut self) {
        loop {
            match self.gate.next(self.now) {
                Next::Release { candidate, ticket, .. } => {
                    self.waiting -= 1;
                    self.gate.report(ticket, Report::Sent { at: self.now }, self.now);
                    self.sent.push(self.now);
                    self.flights.push(Flight { ticket, candidate, sent_at: self.now });
                }
                Next::Expired { .. } => self.waiting -= 1,
                Next::Nothing => break,
            }
        }
        assert_eq!(self.gate.depth(), self.waiting, "a job was lost or doubled");
        let window = Duration::from_secs(60);
        let counts = self.sent.iter().filter(|at| self.now.since(**at) < window).count();
        assert!(counts <= self.highest_rpm as usize, "{counts} in 60 s of {}", self.highest_rpm);
    }

    fn step(&mut self, step: Step, id: u64) {
        match step {
            Step::Offer { priority, client, model, bytes, patience_secs } => {
                let candidate = Candidate {
                    id,
                    priority: Priority::ALL[usize::from(priority) % 4],
                    client: format!("client-{}", client % 8).into(),
                    model: model.map(|model| format!("model-{}", model % 4).into()),
                    arrived: self.now,
                    deadline: self.now + Duration::from_secs(patience_secs.into()),
                    bytes: bytes.into(),
                };
                if matches!(self.gate.offer(candidate, id, self.now), Offered::Queued | Offered::Overflow) {
                    self.waiting += 1;
                }
            }
            Step::Pass { millis } => {
                let until = self.now + Duration::from_millis(millis.into());
                while let Some(at) = self.gate.ready_at(self.now).filter(|at| *at > self.now && *at <= until) {
                    self.now = at;
                    self.turn();
                }
                self.now = until;
            }
            Step::Answer { nth, refused, own, retry_after_secs } if !self.flights.is_empty() => {
                let flight = self.flights.swap_remove(usize::from(nth) % self.flights.len());
                let scope = if own { Scope::Model } else { Scope::Unknown };
                let retry_after = retry_after_secs.map(|secs| Duration::from_secs(secs.into()));
                let verdict = if refused { Verdict::Refused { scope, retry_after } } else { Verdict::Success };
                let report = Report::Answered { sent_at: flight.sent_at, answered_at: self.now, verdict };
                self.gate.report(flight.ticket, report, self.now);
                self.gate.done(flight.ticket, self.now);
            }
            Step::Fail { nth, sends_again } if !self.flights.is_empty() => {
                let flight = self.flights.swap_remove(usize::from(nth) % self.flights.len());
                self.gate.done(flight.ticket, self.now);
                if sends_again {
                    let job = flight.candidate.id;
                    self.gate.give_back(flight.candidate, job, self.now, None);
                    self.waiting += 1;
                }
            }
            Step::Answer { .. } | Step::Fail { .. } => {}
            Step::Cancel { id } => {
                if self.gate.cancel(id.into(), self.now).is_some() {
                    self.waiting -= 1;
                }
            }
            Step::Rate { rpm } => {
                let rate_rpm = u32::from(rpm).max(1);
                self.highest_rpm = self.highest_rpm.max(rate_rpm);
                let settings = Settings { rate_rpm, ..self.gate.settings().clone() };
                let _ = self.gate.reconfigure(settings, self.now);
            }
            Step::Reset => self.gate.reset_to_base(self.now),
        }
        self.turn();
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let settings = Settings::default();
    let now = Moment::from_secs_f64(1.0);
    let highest_rpm = settings.rate_rpm;
    let gate = Gate::new(settings, now);
    let mut world = World { gate, now, highest_rpm, waiting: 0, flights: Vec::new(), sent: Vec::new() };
    for (id, step) in steps.into_iter().take(400).enumerate() {
        world.step(step, id as u64);
    }
});
