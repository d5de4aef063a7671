//! The metrics that are read off the state when they are scraped, one row each: name, labels, help and value.
//!
//! To add one: add a row here (base units; a help text that says what is measured) and its row with a PromQL line to
//! `docs/METRICS.md`; a test compares the two. A label takes its values from a closed set or from the configuration.

use crate::clock::Moment;
use crate::limiter::snapshot::QuotaStats;
use crate::ops::state::State;
use crate::outcome::StatusLabel;
use crate::priority::Priority;
use crate::telemetry::agents::AgentView;
use crate::telemetry::metric_names::Def;
use crate::telemetry::metrics::{Family, Sample};
use crate::telemetry::process::ProcessFigures;
use crate::telemetry::record::Route;

/// One metric and where its values come from.
struct Row {
    def: Def,
    read: Read,
}

const QUOTA: &[&str] = &["match", "window"];
const AGENT: &[&str] = &["agent_name", "agent_label"];

enum Read {
    /// One value, without a label.
    State(fn(&State) -> f64),
    /// A value a priority, in the order of [`Priority::ALL`].
    ByPriority(fn(&State) -> [f64; Priority::ALL.len()]),
    /// A value a route, in the order of [`Route::ALL`].
    ByRoute(fn(&State) -> [f64; Route::ALL.len()]),
    /// A value an agent; `None` where there is none to tell.
    ByAgent(fn(&AgentView) -> Option<f64>),
    /// Values an agent, each with the value of a third label.
    ByAgentAnd(fn(&AgentView) -> Vec<(&'static str, f64)>),
    /// A value a quota of single models.
    ByQuota(fn(&QuotaStats, Moment) -> f64),
    /// One of the process's own figures.
    Process(fn(&ProcessFigures) -> f64),
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&State) -> f64) -> Row {
    Row { def: Def::gauge(name, &[], help), read: Read::State(read) }
}

const fn counter(name: &'static str, help: &'static str, read: fn(&State) -> f64) -> Row {
    Row { def: Def::counter(name, &[], help), read: Read::State(read) }
}

const fn of_agent(name: &'static str, help: &'static str, read: fn(&AgentView) -> Option<f64>) -> Row {
    Row { def: Def::gauge(name, AGENT, help), read: Read::ByAgent(read) }
}

const fn of_quota(name: &'static str, help: &'static str, read: fn(&QuotaStats, Moment) -> f64) -> Row {
    Row { def: Def::gauge(name, QUOTA, help), read: Read::ByQuota(read) }
}

const fn of_process(name: &'static str, help: &'static str, read: fn(&ProcessFigures) -> f64) -> Row {
    Row { def: Def::gauge(name, &[], help), read: Read::Process(read) }
}

const ROWS: &[Row] = &[
    gauge("sidecar_tokens_available", "Tokens in the bucket.", |s| s.bucket.tokens),
    gauge("sidecar_tokens_rate", "Tokens that flow into the bucket per second.", |s| {
        s.bucket.rate_per_minute / 60.0
    }),
    gauge(
        "sidecar_tokens_rate_per_minute",
        "Tokens that flow into the bucket per minute; sidecar_tokens_rate is the same per second.",
        |s| s.bucket.rate_per_minute,
    ),
    gauge(
        "sidecar_window_used",
        "Requests sent upstream within the last 60 seconds, as the rolling window counts them.",
        |s| float(s.limiter.window.used),
    ),
    Row {
        def: Def::gauge("sidecar_queue_depth", &["priority"], "Requests that wait for a ticket."),
        read: Read::ByPriority(|s| s.limiter.queue.depth_by_priority.map(float)),
    },
    gauge("sidecar_queue_max_size", "Bound on the requests that wait for a ticket.", |s| {
        float(s.limiter.queue.max_size)
    }),
    gauge("sidecar_queue_bytes", "Bytes of the requests that wait for a ticket.", |s| {
        float(s.limiter.queue.bytes)
    }),
    gauge("sidecar_queue_max_bytes", "Bound on the bytes of the requests that wait for a ticket.", |s| {
        float(s.limiter.queue.max_bytes)
    }),
    counter(
        "sidecar_fallback_passthrough_total",
        "Requests that found the queue full and waited behind it, as queue_full_policy passthrough has it.",
        |s| approximate(s.limiter.queue.total_overflowed),
    ),
    Row {
        def: Def::gauge(
            "sidecar_in_flight_requests",
            &["provider"],
            "Requests that are at the upstream now.",
        ),
        read: Read::ByRoute(|s| [float(s.limiter.in_flight), approximate(s.passthrough_in_flight)]),
    },
    gauge("sidecar_connections", "Open client connections.", |s| approximate(s.connections)),
    gauge("sidecar_connections_max", "Bound on open client connections.", |s| approximate(s.connections_max)),
    gauge("sidecar_health_status", "1 while the upstream can be reached, 0 while it cannot.", |s| {
        truth(s.ready.is_upstream_reachable())
    }),
    gauge(
        "sidecar_upstream_key_refused",
        "1 while the upstream refuses the sidecar's own key with 401 or 403, 0 again with the first success.",
        |s| truth(s.key_refused.is_some()),
    ),
    gauge(
        "sidecar_ready",
        "1 while the sidecar is ready as GET /health/ready says it, 0 while it is not.",
        |s| truth(s.ready.is_ready()),
    ),
    gauge("sidecar_uptime_seconds", "Time since the start.", |s| s.uptime().as_secs_f64()),
    gauge("sidecar_retreat_state", "0 normal, 1 retreat, 2 recover.", |s| {
        f64::from(s.limiter.retreat.state.code())
    }),
    counter("sidecar_retreats_total", "Times that the rate was lowered because the upstream refused.", |s| {
        approximate(s.limiter.retreats_total)
    }),
    counter(
        "sidecar_retreat_floor_total",
        "Times that the rate was lowered to its floor because the upstream refused more than a fifth.",
        |s| approximate(s.limiter.floors_total),
    ),
    gauge("sidecar_base_rate_rpm", "Configured rate, requests per minute.", |s| s.limiter.retreat.base_rpm),
    gauge("sidecar_floor_rate_rpm", "Rate below which the retreat never goes, requests per minute.", |s| {
        f64::from(s.floor_rpm)
    }),
    gauge("sidecar_effective_rate_rpm", "Rate in force, requests per minute.", |s| {
        s.limiter.retreat.effective_rpm
    }),
    gauge(
        "sidecar_learned_rate_rpm",
        "Rate that the upstream granted when it last refused, requests per minute; 0 while none was learned.",
        |s| s.limiter.retreat.learned_rpm.unwrap_or_default(),
    ),
    gauge(
        "sidecar_upstream_429_rate",
        "Share of the upstream's answers within the last 60 seconds that were refusals of the key, 0 to 1.",
        |s| s.limiter.retreat.upstream_429_rate,
    ),
    gauge(
        "sidecar_models_held",
        "Models whose requests wait because the upstream refused that model.",
        |s| float(s.limiter.models_held),
    ),
    of_quota(
        "sidecar_quota_used",
        "Requests that count in this quota now, of the model that has used most of it.",
        |quota, _| float(quota.used),
    ),
    of_quota("sidecar_quota_limit", "Requests that may count in this quota at once.", |quota, _| {
        float(quota.limit)
    }),
    of_quota(
        "sidecar_quota_next_free_seconds",
        "Time until this quota's next place is free, 0 while one is.",
        |quota, now| quota.wait_at(now).as_secs_f64(),
    ),
    gauge(
        "sidecar_fleet_standing",
        "Without a fleet 0, joined 1, joining 2, repairing 3, away 4, sharing 5, other_version 6.",
        |s| if s.fleet.id.is_empty() { 0.0 } else { f64::from(s.fleet.sight.standing.code()) },
    ),
    gauge("sidecar_fleet_replicas", "Sidecars of the fleet that are heard, this one among them.", |s| {
        float(s.fleet.live())
    }),
    gauge(
        "sidecar_fleet_absent",
        "Silent sidecars of the fleet for which a share of the rate is left.",
        |s| f64::from(s.fleet.absent),
    ),
    gauge("sidecar_fleet_window_used", "Places of the fleet's window that are in use.", |s| {
        f64::from(s.fleet.sight.used)
    }),
    counter("sidecar_fleet_calls_total", "Calls that the fleet's Redis answered.", |s| {
        approximate(s.fleet.calls)
    }),
    counter("sidecar_fleet_failures_total", "Calls and connections to the fleet's Redis that failed.", |s| {
        approximate(s.fleet.failures)
    }),
    of_agent(
        "agent_heartbeat_status",
        "1 when the agent was heard of within 1.5 times its interval, 0 when not.",
        |a| a.fresh.map(truth),
    ),
    of_agent(
        "agent_task_stagnation_seconds",
        "Time since the agent's work last moved on, as far as is known.",
        |a| a.stagnation_seconds,
    ),
    of_agent(
        "agent_stagnation_warning_seconds",
        "Time that the agent's work may stand still before somebody should look.",
        |a| a.stagnation_warning_seconds,
    ),
    of_agent(
        "agent_stagnation_critical_seconds",
        "Time that the agent's work may stand still before somebody has to look.",
        |a| a.stagnation_critical_seconds,
    ),
    of_agent("agent_rounds", "Rounds that the agent's task has taken, as its last heartbeat says.", |a| {
        a.rounds.map(approximate)
    }),
    of_agent("agent_rounds_limit", "Rounds that a task of the agent may take.", |a| {
        a.rounds_limit.map(f64::from)
    }),
    of_agent(
        "agent_429_error_rate",
        "Share of the agent's requests within its last interval (60 seconds at least) that ended with 429, 0 to 1.",
        |a| Some(a.ratelimited_share),
    ),
    of_agent(
        "agent_response_time_seconds",
        "Time that the agent's successful requests take from in to out, smoothed over about the last ten.",
        |a| Some(a.response_seconds.unwrap_or_default()),
    ),
    of_agent(
        "agent_workboard_pending",
        "Tasks that wait on the agent's board, as its last heartbeat says.",
        |a| a.pending.map(approximate),
    ),
    Row {
        def: Def::counter(
            "agent_requests_total",
            &["agent_name", "agent_label", "status"],
            "The agent's finished requests by what it got.",
        ),
        read: Read::ByAgentAnd(|a| {
            StatusLabel::ALL.map(|label| (label.as_str(), approximate(a.by_status[label as usize]))).to_vec()
        }),
    },
    Row {
        def: Def::counter(
            "agent_queue_seconds_total",
            AGENT,
            "Time that the agent's finished requests waited for tickets, all together.",
        ),
        read: Read::ByAgent(|a| Some(a.queue_seconds)),
    },
    Row {
        def: Def::counter(
            "agent_tokens_total",
            &["agent_name", "agent_label", "kind"],
            "Tokens that the agent's requests cost, as their answers' usage says.",
        ),
        read: Read::ByAgentAnd(|a| {
            vec![("prompt", approximate(a.tokens.prompt)), ("completion", approximate(a.tokens.completion))]
        }),
    },
    of_process("process_resident_memory_bytes", "Resident memory size in bytes.", |p| {
        approximate(p.resident_bytes)
    }),
    Row {
        def: Def::counter(
            "process_cpu_seconds_total",
            &[],
            "Total user and system CPU time spent in seconds.",
        ),
        read: Read::Process(|p| p.cpu_seconds),
    },
    of_process("process_open_fds", "Number of open file descriptors.", |p| approximate(p.open_fds)),
    of_process("process_max_fds", "Maximum number of open file descriptors.", |p| approximate(p.max_fds)),
    of_process("process_start_time_seconds", "Start time of the process since Unix epoch in seconds.", |p| {
        p.start_unix_seconds
    }),
    of_process("process_threads", "Number of threads.", |p| approximate(p.threads)),
];

/// Every row's values.
#[must_use]
pub fn families(state: &State, process: &ProcessFigures) -> Vec<Family> {
    ROWS.iter().map(|row| Family { def: row.def, samples: row.read.samples(state, process) }).collect()
}

impl Read {
    fn samples(&self, state: &State, process: &ProcessFigures) -> Vec<Sample> {
        match self {
            Read::State(read) => vec![Sample::plain(read(state))],
            Read::Process(read) => vec![Sample::plain(read(process))],
            Read::ByPriority(read) => {
                let labelled = |(p, value): (Priority, f64)| Sample::labelled([p.as_str()], value);
                Priority::ALL.into_iter().zip(read(state)).map(labelled).collect()
            }
            Read::ByRoute(read) => {
                let labelled = |(r, value): (Route, f64)| Sample::labelled([r.provider()], value);
                Route::ALL.into_iter().zip(read(state)).map(labelled).collect()
            }
            Read::ByQuota(read) => {
                let labelled = |quota: &QuotaStats| {
                    Sample::labelled([&*quota.pattern, &quota.window()], read(quota, state.now))
                };
                state.limiter.quotas.iter().map(labelled).collect()
            }
            Read::ByAgent(read) => {
                let labelled = |a: &AgentView| Some(Sample::labelled([&a.name, &a.label], read(a)?));
                state.agents.iter().filter_map(labelled).collect()
            }
            Read::ByAgentAnd(read) => {
                let labelled = |a: &AgentView| {
                    read(a)
                        .into_iter()
                        .map(|(third, value)| Sample::labelled([&a.name, &a.label, third], value))
                        .collect::<Vec<_>>()
                };
                state.agents.iter().flat_map(labelled).collect()
            }
        }
    }
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Prometheus knows only floats; they are exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "the format's own precision")]
const fn approximate(count: u64) -> f64 {
    count as f64
}

const fn float(count: usize) -> f64 {
    approximate(count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metric_names::{self, Kind};
    use std::collections::HashSet;

    fn all() -> impl Iterator<Item = Def> {
        metric_names::ALL.iter().copied().chain(ROWS.iter().map(|row| row.def))
    }

    #[test]
    fn names_are_unique_and_follow_the_rule() {
        let names: HashSet<_> = all().map(|def| def.name).collect();
        assert_eq!(names.len(), all().count());
        for def in all() {
            assert_eq!(def.kind == Kind::Counter, def.name.ends_with("_total"), "{}", def.name);
            assert!(def.help.ends_with('.'), "{}", def.name);
        }
    }

    const ENGLISH: &str = include_str!("../../docs/METRICS.md");
    const CHINESE: &str = include_str!("../../docs/zh-CN/METRICS.md");

    #[test]
    fn the_chinese_documentation_has_the_same_rows_and_queries() {
        let facts = |document| -> Vec<(String, String, String, String)> {
            let query = |cells: &[String]| cells[3].split('`').nth_back(1).unwrap_or_default().to_owned();
            let rows = documented(document).into_iter();
            rows.map(|(name, cells)| (name, cells[0].clone(), cells[1].clone(), query(&cells))).collect()
        };
        for (english, chinese) in facts(ENGLISH).iter().zip(facts(CHINESE)) {
            assert_eq!(*english, chinese);
        }
        assert_eq!(facts(ENGLISH).len(), facts(CHINESE).len());
    }

    /// The rows of a documentation: a metric's name, and the cells after it.
    fn documented(document: &str) -> Vec<(String, Vec<String>)> {
        let cells = |row: &str| -> Vec<String> {
            // A bar within a cell is written with a backslash.
            row.replace("\\|", "\0").split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
        };
        let rows = document.lines().filter(|line| line.starts_with("| `"));
        rows.map(cells).map(|cells| (cells[1].trim_matches('`').to_owned(), cells[2..].to_vec())).collect()
    }

    #[test]
    fn the_documentation_has_each_metric_with_its_type_its_labels_and_a_query() {
        let rows = documented(ENGLISH);
        for def in all() {
            let row = rows.iter().find(|(name, _)| *name == def.name);
            let (_, cells) = row.unwrap_or_else(|| panic!("{} is not in docs/METRICS.md", def.name));
            assert_eq!(cells[0], def.kind.as_str(), "{}", def.name);
            assert_eq!(cells[1], def.labels.join(", "), "{}", def.name);
            let query = cells[3].split('`').nth_back(1);
            assert!(query.is_some_and(|query| query.contains(def.name)), "{} has no query", def.name);
        }
        for (name, _) in rows {
            assert!(all().any(|def| def.name == name), "{name} is documented and not there");
        }
    }
}
