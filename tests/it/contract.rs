//! The names of what operators' programs read: a name that was there stays there, with its type. More may come.

use crate::ask::{chat, model, page};
use crate::dashboard::{snapshot, viewer};
use crate::pages::agent;
use crate::sidecar::{Sidecar, base, scarce};
use crate::upstream::Upstream;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// `/status` as it was first published: each path to a value, and the value's type.
const STATUS: &str = include_str!("contract/status.txt");

/// The dashboard's snapshot, likewise.
const SNAPSHOT: &str = include_str!("contract/snapshot.txt");

/// The series of `/metrics`, likewise: names with their labels' names and values.
const METRICS: &str = include_str!("contract/metrics.txt");

/// Writes each path to a scalar with its type; an array's elements share one path.
fn shape(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    let scalar = match value {
        Value::Object(members) => {
            return members.iter().for_each(|(name, member)| shape(&format!("{path}.{name}"), member, found));
        }
        Value::Array(elements) => {
            return elements.iter().for_each(|element| shape(&format!("{path}[]"), element, found));
        }
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
    };
    found.insert(format!("{path} {scalar}"));
}

fn missing<'a>(contract: &'a str, found: &BTreeSet<String>) -> Vec<&'a str> {
    contract.lines().filter(|line| !found.contains(*line)).collect()
}

#[track_caller]
fn assert_kept(contract: &str, found: &BTreeSet<String>) {
    let missing = missing(contract, found);
    let all: Vec<_> = found.iter().map(String::as_str).collect();
    assert!(missing.is_empty(), "no longer there:\n{}\nthere is:\n{}", missing.join("\n"), all.join("\n"));
}

/// A sidecar of which every part has something to show: agents, a model on hold, a request that waits.
fn busy(upstream: &Upstream) -> Sidecar {
    let sidecar = Sidecar::with(upstream, |c| {
        scarce(c, 2);
        c.upstream.max_attempts = 1;
        c.agents = vec![agent("planner", Duration::from_secs(600))];
    });
    upstream.keep_probes_apart().answer(200).answer(429);
    for text in ["succeeds", "is refused"] {
        sidecar.ask(chat(text).field("X-Agent-Id", "planner"));
    }
    sidecar.ask(model("openai/gpt", "passes"));
    sidecar
}

#[test]
fn the_status_keeps_its_names() {
    let upstream = Upstream::start();
    let sidecar = busy(&upstream);
    let _waits = sidecar.queue(chat("waits"), 1);
    let mut found = BTreeSet::new();
    shape("", &sidecar.status(), &mut found);
    assert_kept(STATUS, &found);
}

#[test]
fn the_dashboards_snapshot_keeps_its_names() {
    let upstream = Upstream::start();
    let sidecar = busy(&upstream);
    let _waits = sidecar.queue(chat("waits"), 1);
    // With nothing behind it, so that it is seen what a problem looks like.
    let unreachable = Sidecar::with(&upstream, |c| c.upstream.url = base("http://127.0.0.1:1/v1"));
    let mut viewers = [viewer(&sidecar), viewer(&unreachable)];
    let mut found = BTreeSet::new();
    // A hold is over after two seconds, a point of the history takes five.
    for _ in 0..20 {
        viewers.iter_mut().for_each(|viewer| shape("", &snapshot(viewer), &mut found));
        if missing(SNAPSHOT, &found).is_empty() {
            break;
        }
    }
    assert_kept(SNAPSHOT, &found);
}

#[test]
fn the_metrics_keep_their_names_and_labels() {
    let upstream = Upstream::start();
    let sidecar = busy(&upstream);
    let text = sidecar.scrape();
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let found: BTreeSet<String> = series.map(|(series, _)| series.to_owned()).collect();
    assert_kept(METRICS, &found);
    let page = sidecar.ask(page("/metrics"));
    assert!(page.head.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
}
