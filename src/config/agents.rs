//! Agents with metrics of their own.

use std::time::Duration;

use super::kind::{Kind, Misfit, as_text, shown};
use super::list::{Fields, List, MAX_NAME, Name};
use super::number::{DAY, Seconds};
use super::raw::Raw;

/// Each agent has metrics of its own, so their number bounds the labels.
const MAX_AGENTS: usize = 256;
/// The interval of an agent for which none is given.
const HEARTBEAT: Duration = Duration::from_secs(600);
/// Seconds; a longer interval says nothing about an agent's health.
const MONTH: f64 = 30.0 * DAY;
const INTERVAL: Seconds = Seconds(1.0..=MONTH);

/// An agent with metrics of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// What the agent sends as `X-Agent-Id`.
    pub name: String,
    /// What people call it.
    pub label: String,
    /// `heartbeat_seconds`: the interval at which it is expected to be heard of.
    pub heartbeat: Duration,
}

/// The list `agents`, by distinct name.
pub(super) struct Agents;

const AGENTS: List<OneAgent> = List { most: MAX_AGENTS, item: OneAgent };

impl Kind for Agents {
    type Value = Vec<Agent>;

    fn read(&self, given: &Raw) -> Result<Vec<Agent>, Misfit> {
        let agents = AGENTS.read(given)?;
        let mut names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(Misfit::new(format!("names `{}` twice", twice[0]), "keep one of them")),
            None => Ok(agents),
        }
    }

    fn show(&self, value: &Vec<Agent>) -> Raw {
        AGENTS.show(value)
    }
}

struct OneAgent;

impl Kind for OneAgent {
    type Value = Agent;

    fn read(&self, given: &Raw) -> Result<Agent, Misfit> {
        let remedy = "give each agent `name`, and if you like `label` and `heartbeat_seconds`";
        let fields = Fields::of(given, &["name", "label", "heartbeat_seconds"], remedy)?;
        let name = fields.required("name", &Name)?;
        let label = fields.optional("label", &Label)?.unwrap_or_else(|| name.clone());
        let heartbeat = fields.optional("heartbeat_seconds", &INTERVAL)?.unwrap_or(HEARTBEAT);
        Ok(Agent { name, label, heartbeat })
    }

    fn show(&self, value: &Agent) -> Raw {
        Raw::Map(vec![
            ("name".into(), Raw::Text(value.name.clone())),
            ("label".into(), Raw::Text(value.label.clone())),
            ("heartbeat_seconds".into(), INTERVAL.show(&value.heartbeat)),
        ])
    }
}

struct Label;

impl Kind for Label {
    type Value = String;

    fn read(&self, given: &Raw) -> Result<String, Misfit> {
        match as_text(given) {
            Some(text) if text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control) => {
                Ok(text.to_owned())
            }
            _ => Err(Misfit::new(format!("is {}", shown(given)), "give up to 64 characters of text")),
        }
    }

    fn show(&self, value: &String) -> Raw {
        Raw::Text(value.clone())
    }
}
