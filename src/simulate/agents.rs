//! Model agents: who sends what, and when.

use std::sync::Arc;

use crate::priority::Priority;

/// How an agent behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Habit {
    /// Sends, waits for the answer, thinks for up to this many seconds, and sends again.
    Loop {
        /// The longest thought.
        think_secs: f64,
    },
    /// Sends so many at once, again and again after this time; agents of one kind begin at different moments of it.
    Every {
        /// How many.
        count: u32,
        /// Seconds from one time to the next.
        secs: f64,
    },
    /// Sends so many at once when everything begins, and no more.
    Once {
        /// How many.
        count: u32,
    },
    /// Keeps so many requests waiting at all times.
    Hog {
        /// How many.
        count: u32,
    },
}

/// A kind of agents.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// What they are called.
    pub name: String,
    /// How many of them there are.
    pub count: u32,
    /// The priority of their requests.
    pub priority: Priority,
    /// The model that they ask for.
    pub model: String,
    /// What they do.
    pub habit: Habit,
}

/// One agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its name.
    pub name: Arc<str>,
    /// Which kind it is of, as an index into the kinds.
    pub kind: usize,
    /// The model that it asks for.
    pub model: Arc<str>,
    /// The priority of its requests.
    pub priority: Priority,
    /// What it does.
    pub habit: Habit,
    /// How many of its requests were answered with a success.
    pub served: u64,
}

/// All agents of these kinds.
#[must_use]
pub fn agents(kinds: &[AgentSpec]) -> Vec<Agent> {
    let of_kind = |(kind, spec): (usize, &AgentSpec)| {
        let model: Arc<str> = spec.model.as_str().into();
        let (priority, habit) = (spec.priority, spec.habit);
        let named = move |number: u32| Agent {
            name: format!("{} {kind}.{number}", spec.name).into(),
            kind,
            model: model.clone(),
            priority,
            habit,
            served: 0,
        };
        (1..=spec.count).map(named).collect::<Vec<_>>()
    };
    kinds.iter().enumerate().flat_map(of_kind).collect()
}
