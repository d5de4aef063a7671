//! A run as a table for people and as JSON for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::agents::AgentSpec;
use super::figures::{Figures, Waits};
use super::scenario::Scenario;
use crate::priority::Priority;

/// A scenario that was run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The scenario.
    pub scenario: Scenario,
    /// Its seed.
    pub seed: u64,
    /// What came out.
    pub figures: Figures,
}

impl Run {
    /// What it missed of its targets.
    #[must_use]
    pub fn missed(&self) -> Vec<String> {
        self.scenario.targets.missed(&self.figures, self.scenario.upstream.bad_model.is_some())
    }
}

/// The answer in sentences: a paragraph a run.
#[must_use]
pub fn sentences(runs: &[Run]) -> String {
    let mut text = String::new();
    for run in runs {
        let (scenario, figures) = (&run.scenario, &run.figures);
        let waits = Priority::ALL.into_iter().filter_map(|priority| {
            let waits = &figures.waits[priority.index()];
            let (usual, worst) = (waits.quantile(0.5)?, figures.worst[priority.index()].as_secs_f64());
            Some(format!(
                "{} waits {}, {} at worst",
                priority.as_str().to_uppercase(),
                told(usual),
                told(worst)
            ))
        });
        let waits: Vec<_> = waits.collect();
        let _ =
            writeln!(text, "{} ({}, seed {})", scenario.title, scenario.settings.adaptive.as_str(), run.seed);
        let _ = writeln!(text, "  {}.", waits.join("; "));
        let _ = writeln!(
            text,
            "  {} of {} requests served, the last after {}; {} refused to agents, {} 429s at the upstream.",
            figures.served,
            figures.asked,
            told(figures.last_served.as_secs_f64()),
            figures.client_refusals,
            figures.upstream_429,
        );
        for line in run.missed() {
            let _ = writeln!(text, "  MISSED: {line}");
        }
    }
    text
}

/// Seconds, and above two minutes minutes, as a person says them.
fn told(secs: f64) -> String {
    if secs < 120.0 { format!("{secs:.1} s") } else { format!("{:.1} min", secs / 60.0) }
}

/// The table: one line a run.
#[must_use]
pub fn table(runs: &[Run]) -> String {
    let mut text = String::from(
        "| scenario | mode | seed | goodput / oracle | 429 at clients | 429 at upstream | most in 60 s | Jain | wait p50 / p99 (s) | estimate / wait (within 20 %) |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for Run { scenario, figures, seed } in runs {
        let waits = Priority::ALL.into_iter().filter_map(|priority| {
            let waits = &figures.waits[priority.index()];
            Some(format!("{priority} {:.1} / {:.1}", waits.quantile(0.5)?, waits.quantile(0.99)?))
        });
        let bad = if scenario.upstream.bad_model.is_some() {
            format!(" ({:.1} a minute at last)", figures.bad_model_429_per_minute)
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "| {} | {} | {seed} | {:.3} ({} of {}) | {} | {} ({:.2} %){bad} | {} | {:.3} | {} | {:.2} ({:.0} %) |",
            scenario.name,
            scenario.settings.adaptive.as_str(),
            figures.goodput(),
            figures.served,
            figures.attainable(),
            figures.good_model_refusals,
            figures.upstream_429,
            figures.upstream_429_share() * 100.0,
            figures.peak_60s,
            figures.jain,
            waits.collect::<Vec<_>>().join(", "),
            figures.estimate_bias,
            figures.estimates_good * 100.0,
        );
    }
    text
}

/// The runs as one JSON array.
#[must_use]
pub fn json(runs: &[Run]) -> Value {
    runs.iter().map(run_as_json).collect()
}

fn run_as_json(run: &Run) -> Value {
    let (scenario, figures) = (&run.scenario, &run.figures);
    let by_kind = |(waits, kind): (&Waits, &AgentSpec)| {
        json!({ "name": kind.name, "agents": kind.count, "priority": kind.priority.as_str(), "model": kind.model,
            "habit": format!("{:?}", kind.habit), "count": waits.total(), "p50": waits.quantile(0.5), "p99": waits.quantile(0.99) })
    };
    let wait = |priority: Priority| {
        let waits = &figures.waits[priority.index()];
        let worst = figures.worst[priority.index()].as_secs_f64();
        let value = json!({ "count": waits.total(), "p50": waits.quantile(0.5), "p99": waits.quantile(0.99), "worst": worst });
        (priority.as_str().to_owned(), value)
    };
    json!({
        "scenario": scenario.name,
        "title": scenario.title,
        "adaptive": scenario.settings.adaptive.as_str(),
        "seed": run.seed,
        "seconds": figures.duration.as_secs_f64(),
        "asked": figures.asked,
        "served": figures.served,
        "last_served_seconds": figures.last_served.as_secs_f64(),
        "oracle": figures.oracle,
        "goodput": figures.goodput(),
        "upstream": { "requests": figures.upstream, "refused": figures.upstream_429,
            "refused_share": figures.upstream_429_share(), "most_in_60s": figures.peak_60s },
        "clients": { "refused": figures.client_refusals, "failed": figures.client_500 },
        "bad_model_refusals_per_minute": figures.bad_model_429_per_minute,
        "jain": figures.jain,
        "estimate_over_wait": figures.estimate_bias,
        "estimates_within_20_percent": figures.estimates_good,
        "wait_seconds": Priority::ALL.into_iter().map(wait).collect::<serde_json::Map<_, _>>(),
        "wait_seconds_by_agents": figures.waits_by_kind.iter().zip(&scenario.agents).map(by_kind).collect::<Vec<_>>(),
        "missed": run.missed(),
    })
}
