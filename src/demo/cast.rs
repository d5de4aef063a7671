//! Who uses the sidecar in the demo: a dozen agents that together want about three times what the quota grants.

use std::time::Duration;

use crate::priority::Priority;

/// What an agent asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A chat completion in one piece.
    Chat,
    /// A chat completion, word by word.
    Stream,
    /// Embeddings.
    Embed,
}

impl Work {
    /// Its name in the picture.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Work::Chat => "chat",
            Work::Stream => "stream",
            Work::Embed => "embed",
        }
    }
}

/// One agent.
#[derive(Debug)]
pub(super) struct Role {
    /// What it sends as `X-Agent-Id`.
    pub(super) name: &'static str,
    /// What it sends as `X-Priority`.
    pub(super) priority: Priority,
    /// What it asks for.
    pub(super) work: Work,
    /// How many requests it has open at once.
    pub(super) at_once: usize,
    /// How long it thinks between an answer and its next request, about.
    pub(super) thinks: Duration,
}

const fn role(name: &'static str, priority: Priority, work: Work, at_once: usize, thinks_ms: u64) -> Role {
    Role { name, priority, work, at_once, thinks: Duration::from_millis(thinks_ms) }
}

/// The agents, the most urgent first.
pub(super) const CAST: [Role; 12] = [
    role("operator", Priority::Urgent, Work::Stream, 1, 5000),
    role("on-call", Priority::Urgent, Work::Chat, 1, 8000),
    role("planner", Priority::High, Work::Stream, 1, 3000),
    role("reviewer", Priority::High, Work::Chat, 1, 4000),
    role("coder", Priority::Normal, Work::Stream, 1, 800),
    role("tester", Priority::Normal, Work::Chat, 1, 1500),
    role("researcher", Priority::Normal, Work::Stream, 1, 1000),
    role("writer", Priority::Normal, Work::Chat, 1, 2000),
    // The one that takes all it can get. It must not starve the four above.
    role("hog", Priority::Normal, Work::Chat, 8, 0),
    role("indexer", Priority::Low, Work::Embed, 2, 500),
    role("summarizer", Priority::Low, Work::Chat, 1, 1000),
    role("translator", Priority::Low, Work::Chat, 1, 1000),
];
