//! The configured agents as seen from here: alive or not, how often refused, how fast served.
//!
//! Bounded by the configuration: an agent that is not configured is counted under [`OTHER`]. Liveness comes from an
//! agent's requests and from its heartbeats alike, since an agent that asks is alive.

mod share;

use std::collections::HashMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::clock::Moment;
use crate::config;
use crate::outcome::StatusLabel;
use crate::telemetry::metric_names::OTHER;
use crate::telemetry::record::Finished;
use crate::telemetry::usage::Tokens;

use share::RecentShare;

/// An agent is stale when nothing was heard of it for this many intervals: one may be late, two were missed.
const FRESH_INTERVALS: f64 = 1.5;
/// Weight of the newest answer in the smoothed response time: the last ten make up nine tenths of it.
const RESPONSE_WEIGHT: f64 = 0.2;

/// Characters of a task that are kept.
pub const TASK_CHARS: usize = 120;

/// One agent at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Its label.
    pub label: String,
    /// The interval expected of it, seconds; `None` for [`OTHER`], of which nothing is expected.
    pub heartbeat_seconds: Option<f64>,
    /// Whether it was heard of in time; `None` for [`OTHER`], and as long as nothing can be said: before it was ever heard of
    /// and its first interval is over.
    pub fresh: Option<bool>,
    /// Seconds since it was last heard of; `None` before the first time.
    pub last_seen_seconds: Option<f64>,
    /// RecentShare of its requests within the window that ended with 429, 0 to 1.
    pub ratelimited_share: f64,
    /// Smoothed time from in to out of its successful requests; `None` before the first.
    pub response_seconds: Option<f64>,
    /// Time since its work last moved on, zero while it has none; `None` for [`OTHER`].
    pub stagnation_seconds: Option<f64>,
    /// From when on that is worth a warning; `None` for [`OTHER`].
    pub stagnation_warning_seconds: Option<f64>,
    /// From when on it is critical; `None` for [`OTHER`].
    pub stagnation_critical_seconds: Option<f64>,
    /// Rounds that its task has taken, as its last heartbeat says; `None` when none did.
    pub rounds: Option<u64>,
    /// Rounds that a task may take; `None` is any number.
    pub rounds_limit: Option<u32>,
    /// What it works on, as its last heartbeat says; empty when that was nothing.
    pub task: String,
    /// Tasks on its board; `None` for [`OTHER`].
    pub pending: Option<u64>,
    /// Its finished requests since the start.
    pub requests: u64,
    /// The same by what it got, in the order of [`StatusLabel::ALL`].
    #[serde(serialize_with = "by_status")]
    pub by_status: [u64; StatusLabel::ALL.len()],
    /// How long its requests waited for tickets since the start, all together.
    pub queue_seconds: f64,
    /// What its answers said that they cost since the start.
    pub tokens: Tokens,
}

/// All configured agents, and the rest as one.
#[derive(Debug)]
pub struct Agents {
    /// In the configuration's order, which is the order of the views; the last one is [`OTHER`].
    agents: Vec<Agent>,
    by_name: HashMap<String, usize>,
}

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beat {
    /// Tasks that wait on its board.
    pub pending: Option<u64>,
    /// For how long its work has stood still.
    pub stagnation: Option<Duration>,
    /// Rounds that its task has taken.
    pub rounds: Option<u64>,
    /// What it works on; at most [`TASK_CHARS`] are kept.
    pub task: Option<String>,
}

/// No agent of that name is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAgent;

#[derive(Debug)]
struct Agent {
    spec: config::Agent,
    expected: config::Expected,
    /// `None` until it is heard of; freshness then counts from `since`.
    last_seen: Option<Moment>,
    since: Moment,
    share: RecentShare,
    response_seconds: Option<f64>,
    /// For how long its work had stood still, and when that was known. Not the moment from which on it stands, which may
    /// lie before the clock's origin.
    stood: Option<(Duration, Moment)>,
    /// `None` until a heartbeat says it.
    pending: Option<u64>,
    rounds: Option<u64>,
    task: String,
    /// Its requests that wait or are at the upstream.
    open: u64,
    requests: [u64; StatusLabel::ALL.len()],
    queue: Duration,
    tokens: Tokens,
}

impl Agents {
    /// The agents of a configuration. Of two with one name the first counts; one named [`OTHER`] is the rest's own.
    #[must_use]
    pub fn new(specs: &[config::Agent], now: Moment) -> Agents {
        let mut agents: Vec<Agent> = Vec::with_capacity(specs.len() + 1);
        let mut by_name = HashMap::new();
        for spec in specs.iter().filter(|spec| spec.name != OTHER) {
            by_name.entry(spec.name.clone()).or_insert_with(|| {
                agents.push(Agent::new(spec.clone(), now));
                agents.len() - 1
            });
        }
        agents.push(Agent::new(config::Agent::new(OTHER, OTHER, Duration::ZERO), now));
        Agents { agents, by_name }
    }

    /// Takes over a new configuration; agents that stay keep what is known of them.
    pub fn reconfigure(&mut self, specs: &[config::Agent], now: Moment) {
        let mut old = std::mem::replace(self, Agents::new(specs, now));
        for agent in &mut self.agents {
            let known = if agent.is_rest() {
                old.agents.pop()
            } else {
                old.by_name
                    .get(&agent.spec.name)
                    .map(|&i| std::mem::replace(&mut old.agents[i], Agent::nobody(now)))
            };
            if let Some(known) = known {
                let share = if known.expected.heartbeat == agent.expected.heartbeat {
                    known.share
                } else {
                    RecentShare::new(agent.expected.heartbeat)
                };
                *agent = Agent { spec: agent.spec.clone(), expected: agent.expected, share, ..known };
            }
        }
    }

    /// Takes a heartbeat of the agent `name`. What it does not say stays as it was.
    ///
    /// # Errors
    /// When no agent of that name is configured.
    pub fn beat(&mut self, name: &str, beat: Beat, now: Moment) -> Result<(), UnknownAgent> {
        let index = *self.by_name.get(name).ok_or(UnknownAgent)?;
        self.agents[index].beat(beat, now);
        Ok(())
    }

    /// A request of the client `name` has come.
    pub fn began(&mut self, name: &str, now: Moment) {
        if let Some(&index) = self.by_name.get(name) {
            self.agents[index].began(now);
        }
    }

    /// Takes note of a finished request.
    pub fn saw(&mut self, request: &Finished) {
        let index = self.by_name.get(&*request.client).copied().unwrap_or(self.agents.len() - 1);
        self.agents[index].saw(request);
    }

    /// Every configured agent in the configuration's order, then the rest as [`OTHER`].
    #[must_use]
    pub fn view(&self, now: Moment) -> Vec<AgentView> {
        self.agents.iter().map(|agent| agent.view(now)).collect()
    }
}

fn by_status<S: Serializer>(
    counts: &[u64; StatusLabel::ALL.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(StatusLabel::ALL.iter().map(|label| label.as_str()).zip(counts))
}

impl Agent {
    fn new(spec: config::Agent, now: Moment) -> Agent {
        let expected = spec.expected();
        Agent {
            share: RecentShare::new(expected.heartbeat),
            spec,
            expected,
            last_seen: None,
            since: now,
            response_seconds: None,
            stood: None,
            pending: None,
            rounds: None,
            task: String::new(),
            open: 0,
            requests: [0; StatusLabel::ALL.len()],
            queue: Duration::ZERO,
            tokens: Tokens::default(),
        }
    }

    /// Stands where a known agent was taken from.
    fn nobody(now: Moment) -> Agent {
        Agent::new(config::Agent::new("", "", Duration::ZERO), now)
    }

    fn is_rest(&self) -> bool {
        self.spec.name == OTHER
    }

    /// Whether it has something to do. One that never said what is on its board has, when it said that its work stands still.
    fn is_busy(&self) -> bool {
        self.open > 0
            || self.pending.map_or(self.stood.is_some_and(|(stood, _)| !stood.is_zero()), |tasks| tasks > 0)
    }

    fn began(&mut self, now: Moment) {
        // Its work cannot have stood still while it had none.
        if !self.is_busy() {
            self.stood = Some((Duration::ZERO, now));
        }
        self.open += 1;
    }

    fn beat(&mut self, beat: Beat, now: Moment) {
        let was_busy = self.is_busy();
        self.last_seen = Some(now);
        self.pending = beat.pending.or(self.pending);
        self.rounds = beat.rounds.or(self.rounds);
        if let Some(task) = beat.task {
            self.task = task.chars().filter(|c| !c.is_control()).take(TASK_CHARS).collect();
        }
        match beat.stagnation {
            Some(stood) => self.stood = Some((stood, now)),
            None if !was_busy => self.stood = Some((Duration::ZERO, now)),
            None => {}
        }
    }

    fn saw(&mut self, request: &Finished) {
        self.open = self.open.saturating_sub(1);
        self.last_seen = self.last_seen.max(Some(request.at));
        self.requests[request.label as usize] += 1;
        self.queue = self.queue.saturating_add(request.queue);
        self.tokens = self.tokens.plus(request.tokens.unwrap_or_default());
        match request.label {
            // The client's own doing; it says nothing of how the agent is served.
            StatusLabel::Cancelled => {}
            label => self.share.add(label == StatusLabel::RateLimited, request.at),
        }
        if request.label == StatusLabel::Success {
            let took = request.total.as_secs_f64();
            self.response_seconds =
                Some(self.response_seconds.map_or(took, |old| old + RESPONSE_WEIGHT * (took - old)));
            self.stood = Some((Duration::ZERO, request.at));
        }
    }

    fn view(&self, now: Moment) -> AgentView {
        let expected = !self.is_rest();
        let silent = now.since(self.last_seen.unwrap_or(self.since));
        let interval = self.expected.heartbeat.as_secs_f64();
        let is_late = silent.as_secs_f64() > FRESH_INTERVALS * interval;
        let stood = self.stood.filter(|_| self.is_busy());
        let stood = stood.map_or(0.0, |(stood, at)| (stood.saturating_add(now.since(at))).as_secs_f64());
        AgentView {
            name: self.spec.name.clone(),
            label: self.spec.label.clone(),
            heartbeat_seconds: expected.then_some(interval),
            fresh: match self.last_seen {
                _ if !expected => None,
                // Not heard of yet, and not late either.
                None if !is_late => None,
                _ => Some(!is_late),
            },
            last_seen_seconds: self.last_seen.map(|seen| now.since(seen).as_secs_f64()),
            ratelimited_share: self.share.value(now),
            response_seconds: self.response_seconds,
            stagnation_seconds: expected.then_some(stood),
            stagnation_warning_seconds: expected.then_some(self.expected.stagnation_warning.as_secs_f64()),
            stagnation_critical_seconds: expected.then_some(self.expected.stagnation_critical.as_secs_f64()),
            rounds: self.rounds,
            rounds_limit: self.expected.max_rounds,
            task: self.task.clone(),
            pending: expected.then_some(self.pending.unwrap_or_default()),
            requests: self.requests.iter().sum(),
            by_status: self.requests,
            queue_seconds: self.queue.as_secs_f64(),
            tokens: self.tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::telemetry::record::Record;
    use crate::telemetry::record::tests::answered;

    const TEN_MINUTES: Duration = Duration::from_secs(600);

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    fn spec(name: &str, heartbeat: Duration) -> config::Agent {
        config::Agent::new(name, "team", heartbeat)
    }

    fn agents() -> Agents {
        Agents::new(&[spec("researcher", TEN_MINUTES), spec("writer", TEN_MINUTES)], Moment::ZERO)
    }

    fn refused() -> Record<'static> {
        Record { outcome: Outcome::NoTicket, ..answered() }
    }

    /// Has the agents see a finished request of the client `name`.
    fn see(agents: &mut Agents, name: &str, record: &Record<'_>, now: Moment) {
        agents.saw(&Finished { client: name.into(), ..Finished::new(record, now) });
    }

    fn of(agents: &Agents, name: &str, now: Moment) -> AgentView {
        agents.view(now).into_iter().find(|view| view.name == name).unwrap()
    }

    #[test]
    fn an_agent_is_stale_after_one_and_a_half_intervals_of_silence() {
        let mut agents = agents();
        agents.beat("researcher", Beat::default(), at(100)).unwrap();
        see(&mut agents, "writer", &answered(), at(100));
        for name in ["researcher", "writer"] {
            assert_eq!(of(&agents, name, at(1000)).fresh, Some(true), "{name}");
            assert_eq!(of(&agents, name, at(1001)).fresh, Some(false), "{name}");
        }
        agents.beat("writer", Beat::default(), at(2000)).unwrap();
        assert_eq!(of(&agents, "writer", at(2001)).fresh, Some(true));
    }

    #[test]
    fn an_agent_has_its_time_after_a_restart_before_it_counts_as_stale() {
        let view = of(&agents(), "writer", at(900));
        assert_eq!((view.fresh, view.last_seen_seconds), (None, None), "neither well nor ill");
        assert_eq!(of(&agents(), "writer", at(901)).fresh, Some(false));
    }

    #[test]
    fn the_share_of_refusals_is_of_the_last_interval_and_hang_ups_do_not_count() {
        let mut agents = agents();
        for _ in 0..3 {
            see(&mut agents, "writer", &answered(), at(10));
        }
        see(&mut agents, "writer", &refused(), at(20));
        see(&mut agents, "writer", &Record { outcome: Outcome::ClientGone, ..answered() }, at(30));
        let view = of(&agents, "writer", at(500));
        assert!((view.ratelimited_share - 0.25).abs() < 1e-9, "{view:?}");
        assert_eq!(view.requests, 5);
        assert!(of(&agents, "writer", at(700)).ratelimited_share.abs() < 1e-9);
    }

    #[test]
    fn response_time_follows_successes_and_ignores_refusals() {
        let mut agents = agents();
        let took = |secs| Record { total: Duration::from_secs(secs), ..answered() };
        see(&mut agents, "writer", &took(10), at(1));
        see(&mut agents, "writer", &took(20), at(2));
        see(&mut agents, "writer", &Record { total: Duration::from_secs(600), ..refused() }, at(3));
        assert!((of(&agents, "writer", at(3)).response_seconds.unwrap() - 12.0).abs() < 1e-9);
        assert_eq!(of(&agents, "researcher", at(3)).response_seconds, None);
    }

    #[test]
    fn stagnation_grows_from_what_was_reported_until_work_moves_on() {
        let mut agents = agents();
        agents
            .beat(
                "writer",
                Beat { pending: Some(4), stagnation: Some(Duration::from_secs(50)), ..Beat::default() },
                at(100),
            )
            .unwrap();
        let view = of(&agents, "writer", at(130));
        assert_eq!((view.pending, view.stagnation_seconds), (Some(4), Some(80.0)));
        see(&mut agents, "writer", &answered(), at(140));
        assert_eq!(of(&agents, "writer", at(145)).stagnation_seconds, Some(5.0));
        agents.beat("writer", Beat::default(), at(150)).unwrap();
        assert_eq!(of(&agents, "writer", at(150)).pending, Some(4));
    }

    #[test]
    fn a_resting_agent_is_not_stuck() {
        let mut agents = agents();
        let stood = |agents: &Agents, secs| of(agents, "writer", at(secs)).stagnation_seconds;
        agents.beat("writer", Beat { pending: Some(2), ..Beat::default() }, at(100)).unwrap();
        assert_eq!(stood(&agents, 400), Some(300.0));
        agents.beat("writer", Beat { pending: Some(0), ..Beat::default() }, at(500)).unwrap();
        assert_eq!(stood(&agents, 9000), Some(0.0), "nothing is pending");
        agents.beat("writer", Beat { pending: Some(1), ..Beat::default() }, at(9000)).unwrap();
        assert_eq!(stood(&agents, 9060), Some(60.0), "it counts from the new task on");
        agents.beat("writer", Beat { pending: Some(0), ..Beat::default() }, at(9100)).unwrap();
        agents.began("writer", at(20_000));
        assert_eq!(stood(&agents, 20_050), Some(50.0), "its request waits");
        see(&mut agents, "writer", &refused(), at(20_060));
        assert_eq!(stood(&agents, 20_100), Some(0.0));
    }

    #[test]
    fn rounds_and_task_are_what_the_last_heartbeat_that_named_them_said() {
        let mut agents = agents();
        let beat =
            Beat { rounds: Some(12), task: Some(format!("fix\u{7}{}", "x".repeat(999))), ..Beat::default() };
        agents.beat("writer", beat, at(1)).unwrap();
        agents.beat("writer", Beat::default(), at(2)).unwrap();
        let view = of(&agents, "writer", at(3));
        assert_eq!((view.rounds, view.task.chars().count()), (Some(12), TASK_CHARS));
        assert!(view.task.starts_with("fixx"));
        assert_eq!(view.stagnation_critical_seconds, Some(7200.0));
    }

    #[test]
    fn work_may_have_stood_still_for_longer_than_the_sidecar_runs() {
        let mut agents = agents();
        agents.beat("writer", Beat { stagnation: Some(TEN_MINUTES), ..Beat::default() }, at(1)).unwrap();
        assert_eq!(of(&agents, "writer", at(2)).stagnation_seconds, Some(601.0));
    }

    #[test]
    fn strangers_are_one_row_without_expectations_and_send_no_heartbeat() {
        let mut agents = agents();
        for i in 0..3000 {
            see(&mut agents, &format!("stranger-{i}"), &answered(), at(1));
        }
        assert_eq!(agents.beat("stranger-1", Beat::default(), at(1)), Err(UnknownAgent));
        assert_eq!(agents.beat(OTHER, Beat::default(), at(1)), Err(UnknownAgent));
        let view = agents.view(at(2));
        assert_eq!(view.len(), 3);
        let rest = &view[2];
        assert_eq!((rest.name.as_str(), rest.requests, rest.fresh, rest.pending), (OTHER, 3000, None, None));
    }

    #[test]
    fn an_agent_that_stays_in_the_configuration_keeps_its_past() {
        let mut agents = agents();
        see(&mut agents, "writer", &answered(), at(1));
        see(&mut agents, "nobody", &answered(), at(1));
        let new = config::Agent { label: "night".into(), ..spec("writer", Duration::from_secs(900)) };
        agents.reconfigure(&[spec("editor", TEN_MINUTES), new], at(2));
        let view = agents.view(at(2));
        let names: Vec<_> = view.iter().map(|v| (v.name.as_str(), v.label.as_str(), v.requests)).collect();
        assert_eq!(names, [("editor", "team", 0), ("writer", "night", 1), (OTHER, OTHER, 1)]);
    }

    proptest::proptest! {
        #[test]
        fn no_heartbeat_at_no_moment_makes_a_figure_that_is_not_finite(
            beats in proptest::collection::vec((proptest::option::of(0..=u64::MAX), proptest::num::f64::ANY, 0..=u64::MAX), 1..8),
            looked_at in 0..=u64::MAX,
        ) {
            let mut agents = agents();
            for (pending, seconds, at) in beats {
                let stagnation = Some(crate::clock::duration_from_secs_f64(seconds));
                let at = Moment::from_nanos(at);
                agents.beat("writer", Beat { pending, stagnation, rounds: pending, task: None }, at).unwrap();
                see(&mut agents, "writer", &answered(), at);
                agents.beat("writer", Beat { pending, stagnation, rounds: pending, task: None }, at).unwrap();
                for now in [at, Moment::from_nanos(looked_at), Moment::NEVER] {
                    for view in agents.view(now) {
                        proptest::prop_assert!(view.stagnation_seconds.is_none_or(f64::is_finite), "{view:?}");
                        proptest::prop_assert!(view.response_seconds.is_none_or(f64::is_finite), "{view:?}");
                    }
                }
            }
        }
    }
}
