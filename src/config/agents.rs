//! Agents with metrics of their own, and the classes that say what is expected of many of them.

use std::time::Duration;

use super::kind::{Kind, Misfit, as_text, shown};
use super::list::{Fields, List, MAX_NAME, Name};
use super::number::{DAY, Seconds, Whole};
use super::raw::Raw;

/// Each agent has metrics of its own, so their number bounds the labels.
const MAX_AGENTS: usize = 256;
/// Classes beside the built-in ones.
const MAX_CLASSES: usize = 64;
/// Seconds; a longer interval says nothing about an agent's health.
const MONTH: f64 = 30.0 * DAY;
const INTERVAL: Seconds = Seconds(1.0..=MONTH);
const ROUNDS: Whole<u32> = Whole(1..=1_000_000);

/// What is expected where neither the agent nor its class says it.
const USUAL: Expected = Expected {
    heartbeat: Duration::from_secs(600),
    stagnation_warning: Duration::from_secs(3600),
    stagnation_critical: Duration::from_secs(7200),
    max_rounds: None,
};

/// The classes that need no definition; one of the same name under `classes` takes their place.
const BUILT_IN: [(&str, Figures); 3] = [
    ("high-frequency", figures(600, 60, 50)),
    ("development", figures(900, 120, 100)),
    ("business", figures(900, 90, 30)),
];

const fn figures(heartbeat_secs: u64, warning_minutes: u64, max_rounds: u32) -> Figures {
    Figures {
        heartbeat: Some(Duration::from_secs(heartbeat_secs)),
        stagnation_warning: Some(Duration::from_secs(60 * warning_minutes)),
        stagnation_critical: None,
        max_rounds: Some(max_rounds),
    }
}

/// What is said about agents, as far as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// `heartbeat_seconds`: the interval at which an agent is expected to be heard of.
    pub heartbeat: Option<Duration>,
    /// `stagnation_warning`: how long its work may stand still before somebody should look.
    pub stagnation_warning: Option<Duration>,
    /// `stagnation_critical`: how long before somebody has to.
    pub stagnation_critical: Option<Duration>,
    /// `max_rounds`: rounds that a task may take.
    pub max_rounds: Option<u32>,
}

/// What is expected of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The interval at which it is heard of.
    pub heartbeat: Duration,
    /// How long its work may stand still before somebody should look.
    pub stagnation_warning: Duration,
    /// How long before somebody has to.
    pub stagnation_critical: Duration,
    /// Rounds that a task may take; `None` is any number.
    pub max_rounds: Option<u32>,
}

impl Figures {
    /// These, and where they say nothing, those. The critical figure follows the warning's: whoever changes only the
    /// latter means both.
    fn or(self, others: Figures) -> Figures {
        let twice = |warning: Option<Duration>| warning.map(|warning| warning.saturating_mul(2));
        let critical = self.stagnation_critical.or(twice(self.stagnation_warning));
        Figures {
            heartbeat: self.heartbeat.or(others.heartbeat),
            stagnation_warning: self.stagnation_warning.or(others.stagnation_warning),
            stagnation_critical: critical.or(others.stagnation_critical).or(twice(others.stagnation_warning)),
            max_rounds: self.max_rounds.or(others.max_rounds),
        }
    }

    fn expected(self) -> Expected {
        let all = self.or(Figures::default());
        Expected {
            heartbeat: all.heartbeat.unwrap_or(USUAL.heartbeat),
            stagnation_warning: all.stagnation_warning.unwrap_or(USUAL.stagnation_warning),
            stagnation_critical: all.stagnation_critical.unwrap_or(USUAL.stagnation_critical),
            max_rounds: all.max_rounds,
        }
    }

    fn read(fields: &Fields<'_>) -> Result<Figures, Misfit> {
        Ok(Figures {
            heartbeat: fields.optional("heartbeat_seconds", &INTERVAL)?,
            stagnation_warning: fields.optional("stagnation_warning", &INTERVAL)?,
            stagnation_critical: fields.optional("stagnation_critical", &INTERVAL)?,
            max_rounds: fields.optional("max_rounds", &ROUNDS)?,
        })
    }

    fn show(&self) -> impl Iterator<Item = (String, Raw)> {
        let seconds = |time: &Option<Duration>| time.as_ref().map(|time| INTERVAL.show(time));
        [
            ("heartbeat_seconds", seconds(&self.heartbeat)),
            ("stagnation_warning", seconds(&self.stagnation_warning)),
            ("stagnation_critical", seconds(&self.stagnation_critical)),
            ("max_rounds", self.max_rounds.as_ref().map(|rounds| ROUNDS.show(rounds))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    }
}

/// An agent with metrics of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// What the agent sends as `X-Agent-Id`.
    pub name: String,
    /// What people call it.
    pub label: String,
    /// The class that says what it does not say itself.
    pub class: Option<String>,
    /// What is said about it.
    pub figures: Figures,
}

impl Agent {
    /// An agent of no class, of which something is to be heard at this interval.
    #[must_use]
    pub fn new(name: &str, label: &str, heartbeat: Duration) -> Agent {
        let figures = Figures { heartbeat: Some(heartbeat), ..Figures::default() };
        Agent { name: name.into(), label: label.into(), class: None, figures }
    }

    /// What is expected of it.
    #[must_use]
    pub fn expected(&self) -> Expected {
        self.figures.expected()
    }

    /// Takes over from its class what it does not say itself.
    ///
    /// # Errors
    /// When no class has that name.
    pub(super) fn follow(&mut self, classes: &[Class]) -> Result<(), String> {
        let Some(name) = &self.class else { return Ok(()) };
        let own = classes.iter().find(|class| class.name == *name).map(|class| class.figures);
        let built_in = || BUILT_IN.iter().find(|(built_in, _)| built_in == name).map(|(_, figures)| *figures);
        let figures = own.or_else(built_in).ok_or_else(|| name.clone())?;
        self.figures = self.figures.or(figures);
        Ok(())
    }
}

/// What is expected of all agents of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The name that agents give as `class`.
    pub name: String,
    /// What is said about them.
    pub figures: Figures,
}

/// The list `agents`, by distinct name.
pub(super) struct Agents;

const AGENTS: List<OneAgent> = List { most: MAX_AGENTS, item: OneAgent };

impl Kind for Agents {
    type Value = Vec<Agent>;

    fn read(&self, given: &Raw) -> Result<Vec<Agent>, Misfit> {
        let agents = AGENTS.read(given)?;
        distinct(agents.iter().map(|agent| agent.name.as_str()))?;
        Ok(agents)
    }

    fn show(&self, value: &Vec<Agent>) -> Raw {
        AGENTS.show(value)
    }
}

/// The list `classes`, by distinct name.
pub(super) struct Classes;

const CLASSES: List<OneClass> = List { most: MAX_CLASSES, item: OneClass };

impl Kind for Classes {
    type Value = Vec<Class>;

    fn read(&self, given: &Raw) -> Result<Vec<Class>, Misfit> {
        let classes = CLASSES.read(given)?;
        distinct(classes.iter().map(|class| class.name.as_str()))?;
        Ok(classes)
    }

    fn show(&self, value: &Vec<Class>) -> Raw {
        CLASSES.show(value)
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Misfit> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(Misfit::new(format!("names `{}` twice", twice[0]), "keep one of them")),
        None => Ok(()),
    }
}

struct OneAgent;

impl Kind for OneAgent {
    type Value = Agent;

    fn read(&self, given: &Raw) -> Result<Agent, Misfit> {
        let remedy = "give each agent `name`, and if you like `label`, `class`, `heartbeat_seconds`, `stagnation_warning`, \
                      `stagnation_critical` and `max_rounds`";
        let known = [
            "name",
            "label",
            "class",
            "heartbeat_seconds",
            "stagnation_warning",
            "stagnation_critical",
            "max_rounds",
        ];
        let fields = Fields::of(given, &known, remedy)?;
        let name = fields.required("name", &Name)?;
        let label = fields.optional("label", &Label)?.unwrap_or_else(|| name.clone());
        let class = fields.optional("class", &Name)?;
        Ok(Agent { name, label, class, figures: Figures::read(&fields)? })
    }

    fn show(&self, value: &Agent) -> Raw {
        let mut entries = vec![
            ("name".into(), Raw::Text(value.name.clone())),
            ("label".into(), Raw::Text(value.label.clone())),
        ];
        entries.extend(value.class.iter().map(|class| ("class".into(), Raw::Text(class.clone()))));
        entries.extend(value.figures.show());
        Raw::Map(entries)
    }
}

struct OneClass;

impl Kind for OneClass {
    type Value = Class;

    fn read(&self, given: &Raw) -> Result<Class, Misfit> {
        let remedy = "give each class `name`, and what it is to say of `heartbeat_seconds`, `stagnation_warning`, \
                      `stagnation_critical` and `max_rounds`";
        let known = ["name", "heartbeat_seconds", "stagnation_warning", "stagnation_critical", "max_rounds"];
        let fields = Fields::of(given, &known, remedy)?;
        Ok(Class { name: fields.required("name", &Name)?, figures: Figures::read(&fields)? })
    }

    fn show(&self, value: &Class) -> Raw {
        let mut entries = vec![("name".into(), Raw::Text(value.name.clone()))];
        entries.extend(value.figures.show());
        Raw::Map(entries)
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
