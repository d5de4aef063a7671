//! The scenarios: upstream, agents, settings, and what must come out.

use std::time::Duration;

use super::agents::{AgentSpec, Habit};
use super::figures::{Figures, WARM_UP};
use super::upstream::{Rule, Span, UpstreamSpec};
use crate::config::limiter::{Adaptive, Settings};
use crate::priority::Priority;

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// The upstream.
    pub upstream: UpstreamSpec,
    /// The agents.
    pub agents: Vec<AgentSpec>,
    /// The gate's settings.
    pub settings: Settings,
    /// How long it lasts, in virtual time.
    pub duration: Duration,
    /// From when on waits are measured.
    pub warm_up: Duration,
    /// How long a request may wait: `queue_timeout`.
    pub patience: Duration,
    /// The second at which the sidecar is killed and started again.
    pub restart_at: Option<f64>,
    /// What must come out.
    pub targets: Targets,
}

/// What must come out of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Targets {
    /// At least this share of the oracle's goodput.
    pub goodput: f64,
    /// At most this many refusals reach clients of models that work.
    pub client_refusals: u64,
    /// At most this share of the requests at the upstream is refused (a bad model's are not counted here).
    pub upstream_429: f64,
    /// At most this many refusals a minute of a model that refuses forever, in the long run.
    pub bad_model_429_per_minute: f64,
    /// The longest wait of URGENT at p99, in seconds.
    pub urgent_p99: f64,
    /// The longest wait of any URGENT request, in seconds.
    pub urgent_worst: f64,
    /// By when the last request has to be served, in seconds.
    pub done_by: f64,
    /// The least of Jain's index.
    pub jain: f64,
}

impl Targets {
    const NONE: Targets = Targets {
        goodput: 0.0,
        client_refusals: u64::MAX,
        upstream_429: 1.0,
        bad_model_429_per_minute: f64::INFINITY,
        urgent_p99: f64::INFINITY,
        urgent_worst: f64::INFINITY,
        done_by: f64::INFINITY,
        jain: 0.0,
    };

    const fn of(goodput: f64, upstream_429: f64) -> Targets {
        Targets { goodput, client_refusals: 0, upstream_429, jain: 0.98, ..Targets::NONE }
    }

    /// What these figures miss, each as one line.
    #[must_use]
    pub fn missed(&self, figures: &Figures, has_bad_model: bool) -> Vec<String> {
        let mut missed = Vec::new();
        let mut check = |holds: bool, line: String| {
            if !holds {
                missed.push(line);
            }
        };
        let goodput = figures.goodput();
        check(goodput >= self.goodput, format!("goodput {goodput:.4}, at least {} wanted", self.goodput));
        let refusals = figures.good_model_refusals;
        check(
            refusals <= self.client_refusals,
            format!("{refusals} refusals reached clients, {} allowed", self.client_refusals),
        );
        let share = figures.upstream_429_share();
        check(
            has_bad_model || share <= self.upstream_429,
            format!(
                "{:.3} % refused at the upstream, {} % allowed",
                share * 100.0,
                self.upstream_429 * 100.0
            ),
        );
        let bad = figures.bad_model_429_per_minute;
        check(
            bad <= self.bad_model_429_per_minute,
            format!(
                "the bad model was asked {bad:.1} times a minute, {} allowed",
                self.bad_model_429_per_minute
            ),
        );
        let urgent = figures.waits[Priority::Urgent.index()].quantile(0.99).unwrap_or(0.0);
        check(
            urgent <= self.urgent_p99,
            format!("URGENT waits {urgent:.2} s at p99, {} allowed", self.urgent_p99),
        );
        let worst = figures.worst[Priority::Urgent.index()].as_secs_f64();
        check(
            worst <= self.urgent_worst,
            format!("an URGENT request waits {worst:.2} s, {} allowed", self.urgent_worst),
        );
        let done = figures.last_served.as_secs_f64();
        check(
            done <= self.done_by,
            format!("the last is served after {done:.1} s, {} allowed", self.done_by),
        );
        check(
            figures.jain >= self.jain,
            format!("Jain's index is {:.3}, at least {} wanted", figures.jain, self.jain),
        );
        missed
    }
}

/// As `queue_timeout` is by default.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
const TEN_MINUTES: Span = Span { from: 1200.0, until: 1800.0 };

/// One's own agents before a rolling window.
#[must_use]
pub fn own(adaptive: Adaptive, agents: Vec<AgentSpec>) -> Scenario {
    Scenario {
        name: "own",
        title: "your agents",
        upstream: UpstreamSpec::new(Rule::RollingWindow, 40.0),
        agents,
        settings: Settings { adaptive, ..Settings::default() },
        duration: HOUR,
        warm_up: Duration::ZERO,
        patience: QUEUE_TIMEOUT,
        restart_at: None,
        targets: Targets::NONE,
    }
}

/// All scenarios, in this mode.
#[must_use]
pub fn scenarios(adaptive: Adaptive) -> Vec<Scenario> {
    let rolling = UpstreamSpec::new(Rule::RollingWindow, 40.0);
    let scenario = |name, title, upstream: UpstreamSpec, agents, targets| Scenario {
        name,
        title,
        upstream,
        agents,
        settings: Settings { adaptive, ..Settings::default() },
        duration: HOUR,
        warm_up: WARM_UP,
        patience: QUEUE_TIMEOUT,
        restart_at: None,
        targets,
    };
    let mut all = vec![
        scenario(
            "rolling",
            "rolling window 40/60, twelve busy agents, jitter up to 200 ms",
            rolling.clone(),
            twelve("m"),
            Targets::of(0.98, 0.0),
        ),
        scenario(
            "fixed",
            "fixed window of a minute",
            UpstreamSpec { rule: Rule::FixedWindow, ..rolling.clone() },
            twelve("m"),
            Targets::of(0.98, 0.0),
        ),
        scenario(
            "bucket",
            "token bucket of 40",
            UpstreamSpec { rule: Rule::TokenBucket, ..rolling.clone() },
            twelve("m"),
            Targets::of(0.98, 0.0),
        ),
        scenario(
            "jitter",
            "travel takes up to 2 s",
            UpstreamSpec { jitter: Duration::from_secs(2), ..rolling.clone() },
            twelve("m"),
            Targets::of(0.95, 0.001),
        ),
        scenario(
            "drop",
            "40 → 20 for ten minutes → 40",
            UpstreamSpec { drop: Some((TEN_MINUTES, 20.0)), ..rolling.clone() },
            twelve("m"),
            Targets::of(0.93, 0.02),
        ),
        scenario(
            "drop-two-models",
            "40 → 20 → 40, two models in use",
            UpstreamSpec { drop: Some((TEN_MINUTES, 20.0)), ..rolling.clone() },
            two_models(),
            Targets::of(0.93, 0.02),
        ),
        scenario(
            "other",
            "another consumer takes half for ten minutes",
            UpstreamSpec { other: Some((TEN_MINUTES, 20.0)), ..rolling.clone() },
            twelve("m"),
            Targets::of(0.90, 0.03),
        ),
        scenario(
            "bad-model",
            "one of two models refuses forever",
            UpstreamSpec { bad_model: Some("bad"), ..rolling.clone() },
            [of(6, Priority::Normal, "good"), of(6, Priority::Normal, "bad")].concat(),
            // Its share is half of the quota; what is measured here is the part of the whole that it gets.
            Targets { bad_model_429_per_minute: 2.0, jain: 0.0, ..Targets::of(0.96, 1.0) },
        ),
        scenario(
            "low-quota",
            "40 configured, 20 granted all day",
            UpstreamSpec { limit: 20.0, ..rolling.clone() },
            twelve("m"),
            Targets::of(0.90, 0.03),
        ),
        scenario(
            "errors",
            "500 for a minute",
            UpstreamSpec { errors: Some(Span { from: 1200.0, until: 1260.0 }), ..rolling.clone() },
            twelve("m"),
            Targets::of(0.97, 0.0),
        ),
        scenario(
            "mixed",
            "saturated at all priorities",
            rolling.clone(),
            mixed(),
            Targets { urgent_p99: 1.6, jain: 0.98, ..Targets::of(0.98, 0.0) },
        ),
        scenario(
            "hog",
            "a hog of 500 requests beside one polite client",
            rolling.clone(),
            vec![
                AgentSpec { habit: Habit::Hog { count: 500 }, ..one(Priority::Normal) },
                AgentSpec { habit: Habit::Loop { think_secs: 10.0 }, ..one(Priority::Normal) },
            ],
            Targets { client_refusals: u64::MAX, ..Targets::of(0.98, 0.0) },
        ),
    ];
    all.extend(of_the_reserve(&rolling, &scenario));
    all
}

/// Bursts, URGENT beside them, and what a restart and a stranger do to them; waits are measured from the first second on.
fn of_the_reserve(
    rolling: &UpstreamSpec,
    scenario: &impl Fn(&'static str, &'static str, UpstreamSpec, Vec<AgentSpec>, Targets) -> Scenario,
) -> Vec<Scenario> {
    let batch = |count| AgentSpec { habit: Habit::Once { count }, ..one(Priority::Normal) };
    let urgent = |count| AgentSpec { habit: Habit::Every { count, secs: 60.0 }, ..one(Priority::Urgent) };
    let from_the_start = |scenario: Scenario| Scenario {
        warm_up: Duration::ZERO,
        patience: Duration::from_secs(7200),
        ..scenario
    };
    let none_refused = Targets { client_refusals: 0, upstream_429: 0.0, ..Targets::NONE };
    let three_intervals = 3.0 * 60.2 / 40.0;
    let stranger = UpstreamSpec {
        other: Some((Span { from: 0.0, until: f64::INFINITY }, 12.0)),
        other_burst: 12,
        ..rolling.clone()
    };
    let all = [
        scenario(
            "batch",
            "a hundred at once",
            rolling.clone(),
            vec![batch(100)],
            Targets { done_by: 124.0, ..none_refused },
        ),
        scenario(
            "batch-1000",
            "a thousand at once",
            rolling.clone(),
            vec![batch(1000)],
            Targets { done_by: 1512.0, ..none_refused },
        ),
        scenario(
            "batch-urgent",
            "an endless backlog, and one URGENT request a minute from the first on",
            rolling.clone(),
            vec![batch(3000), urgent(1)],
            Targets { urgent_worst: three_intervals, ..none_refused },
        ),
        scenario(
            "batch-urgent-3",
            "an endless backlog, and three URGENT requests at once each minute",
            rolling.clone(),
            vec![batch(3000), urgent(3)],
            Targets { urgent_worst: 60.0, ..none_refused },
        ),
        scenario(
            "bursts",
            "sixty every three minutes, and URGENT between",
            rolling.clone(),
            vec![
                AgentSpec { habit: Habit::Every { count: 60, secs: 180.0 }, ..one(Priority::Normal) },
                urgent(1),
            ],
            Targets { urgent_worst: 60.0, ..none_refused },
        ),
        Scenario {
            restart_at: Some(20.0),
            ..scenario(
                "restart",
                "a hundred at once, and a kill after twenty seconds",
                rolling.clone(),
                vec![batch(100)],
                Targets { done_by: 124.0, ..none_refused },
            )
        },
        scenario(
            "stranger-bursts",
            "a stranger takes twelve at once each minute",
            stranger,
            twelve("m"),
            Targets { client_refusals: 0, ..Targets::NONE },
        ),
    ];
    all.map(from_the_start).into()
}

fn one(priority: Priority) -> AgentSpec {
    let (name, model) = (priority.to_string(), "m".to_owned());
    AgentSpec { name, count: 1, priority, model, habit: Habit::Loop { think_secs: 1.0 } }
}

fn of(count: u32, priority: Priority, model: &'static str) -> Vec<AgentSpec> {
    vec![AgentSpec { count, model: model.to_owned(), ..one(priority) }]
}

/// Twelve agents that always have something to ask.
fn twelve(model: &'static str) -> Vec<AgentSpec> {
    of(12, Priority::Normal, model)
}

fn two_models() -> Vec<AgentSpec> {
    [of(8, Priority::Normal, "m"), of(4, Priority::Normal, "n")].concat()
}

/// One urgent agent that asks now and then, and more of everything else than the quota bears.
fn mixed() -> Vec<AgentSpec> {
    vec![
        AgentSpec { habit: Habit::Loop { think_secs: 60.0 }, ..one(Priority::Urgent) },
        AgentSpec { count: 2, habit: Habit::Loop { think_secs: 10.0 }, ..one(Priority::High) },
        AgentSpec { count: 6, ..one(Priority::Normal) },
        AgentSpec { count: 4, ..one(Priority::Low) },
    ]
}
