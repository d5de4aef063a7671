//! The configuration as the program uses it: a tree of values that are valid.

use std::path::PathBuf;
use std::time::Duration;

use super::agents::{Agent, Agents, Class, Classes};
use super::clients::Clients;
use super::fleet::Fleet;
use super::front::Front;
use super::keepalive::Keepalive;
use super::key::Reload::{Live, Restart};
use super::key::Variable::Own;
use super::key::{Keys, Row, Section, defaults};
use super::kind::Optional;
use super::limiter::Settings;
use super::listen::Listen;
use super::log::Log;
use super::number::{HOUR, Seconds};
use super::passthrough::Passthrough;
use super::routing::Routing;
use super::secret::Secret;
use super::text::{FilePath, Token};
use super::upstream::Upstream;

/// The whole configuration. Its `Debug` masks secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the sidecar listens.
    pub listen: Listen,
    /// The NVIDIA side of limited requests.
    pub upstream: Upstream,
    /// The quota, the queue and the retreat.
    pub limiter: Settings,
    /// Which requests are limited.
    pub routing: Routing,
    /// Where requests go that do not draw on the quota.
    pub passthrough: Passthrough,
    /// Signs of life to clients whose answers take long.
    pub keepalive: Keepalive,
    /// Bounds on clients' connections and requests.
    pub front: Front,
    /// Who may use the sidecar.
    pub clients: Clients,
    /// What is expected of many agents at once.
    pub classes: Vec<Class>,
    /// The agents with metrics of their own, by distinct name.
    pub agents: Vec<Agent>,
    /// What the admin pages ask for; without it they are open to local peers only.
    pub admin_token: Option<Secret>,
    /// How long a stopping sidecar may finish what it has.
    pub drain_timeout: Duration,
    /// Where the last minute's requests outlive a restart; the retreat's rate does not.
    pub state_file: Option<PathBuf>,
    /// The fleet that the sidecar shares its quota with.
    pub fleet: Fleet,
    /// What is logged, and how it looks.
    pub log: Log,
}

/// Every key at its default.
impl Default for Config {
    fn default() -> Config {
        defaults()
    }
}

impl Section for Config {
    fn build(keys: &mut impl Keys<Config>) -> Config {
        Config {
            listen: keys.section(|c| &c.listen),
            upstream: keys.section(|c| &c.upstream),
            limiter: keys.section(|c| &c.limiter),
            routing: keys.section(|c| &c.routing),
            passthrough: keys.section(|c| &c.passthrough),
            keepalive: keys.section(|c| &c.keepalive),
            front: keys.section(|c| &c.front),
            clients: keys.section(|c| &c.clients),
            classes: keys.key(&Row {
                name: "classes",
                variable: Own,
                reload: Live,
                kind: Classes,
                default: Vec::new(),
                of: |c| &c.classes,
                text: "Classes of agents: a list of `name`, `heartbeat_seconds`, `stagnation_warning`, `stagnation_critical` (seconds) and `max_rounds`. Built in: `high-frequency` (600, 3600, 7200, 50), `development` (900, 7200, 14400, 100) and `business` (900, 5400, 10800, 30).",
            }),
            agents: keys.key(&Row {
                name: "agents",
                variable: Own,
                reload: Live,
                kind: Agents,
                default: Vec::new(),
                of: |c| &c.agents,
                text: "Agents with metrics of their own: a list of `name`, `label` (default: the name), `class` (one of `classes`) and what differs from the class: `heartbeat_seconds` (default: 600), `stagnation_warning` and `stagnation_critical` (3600, 7200) and `max_rounds` (none).",
            }),
            admin_token: keys.key(&Row {
                name: "admin_token",
                variable: Own,
                reload: Live,
                kind: Optional(Token),
                default: None,
                of: |c| &c.admin_token,
                text: "The bearer token of the admin pages. Without one, only programs on this host and the sidecar's own page may use them, and not even those once `client_tokens` are set, `listen_host` is beyond loopback or a request came through a proxy.",
            }),
            drain_timeout: keys.key(&Row {
                name: "drain_timeout",
                variable: Own,
                reload: Live,
                kind: Seconds(0.0..=HOUR),
                default: Duration::from_secs(30),
                of: |c| &c.drain_timeout,
                text: "Seconds that a stopping sidecar has to finish what is under way, {range}.",
            }),
            state_file: keys.key(&Row {
                name: "state_file",
                variable: Own,
                reload: Restart,
                kind: Optional(FilePath),
                default: None,
                of: |c| &c.state_file,
                text: "The file in which the last minute's requests outlive a restart. Without one, they do not.",
            }),
            fleet: keys.section(|c| &c.fleet),
            log: keys.section(|c| &c.log),
        }
    }
}

impl Config {
    /// The rate below which no retreat goes: `retreat_min_rpm`, or the configured rate where that is lower.
    #[must_use]
    pub fn floor_rpm(&self) -> u32 {
        self.limiter.retreat.min_rpm.min(self.limiter.rate_rpm)
    }
}
