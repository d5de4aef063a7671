//! One quota for several sidecars: the windows that they share in Redis or Valkey.
//!
//! ```text
//! limiter ── claim, sent, given back ──▶ fleet thread ─ member (P) ─ ledger (P) ── connection ──▶ take.lua in Redis
//!    ▲                                        │
//!    └────────── grants, standing ────────────┘
//! ```
//!
//! [`protocol`] is what is said, `take.lua` what is decided, [`member`] what one sidecar makes of it, [`thread`] the shell. The
//! limiter never waits for any of it.

pub mod connection;
pub mod handle;
pub mod ledger;
pub mod member;
pub mod protocol;
pub mod thread;
pub mod timeline;

use crate::clock::Clock;
use crate::config::{Config, LiveConfig, Secret};
use crate::dispatch::state_file::StateFile;
use crate::limiter::gate::Gate;
use crate::limiter::snapshot::Snapshot;
use crate::published::Published;
use connection::Server;
use handle::Fleet;
use member::{Identity, Terms};
use std::sync::Arc;
use thread::{FleetThread, FleetView, Parts};

/// What else a fleet's thread needs.
pub struct Wiring<'a, J> {
    /// The running configuration.
    pub live: Arc<LiveConfig>,
    /// The gate, which joins.
    pub gate: &'a mut Gate<J>,
    /// What the last life sent.
    pub state: Option<&'a StateFile>,
    /// What is shown of this sidecar.
    pub snapshot: Arc<Published<Snapshot>>,
    /// Where the fleet is shown.
    pub view: Arc<Published<FleetView>>,
    /// The clock.
    pub clock: Clock,
}

/// The fleet that the configuration names, if it names one: its thread, and the limiter's end of it.
#[must_use]
pub fn join<J>(wiring: Wiring<'_, J>) -> Option<(FleetThread, Fleet)> {
    let Wiring { live, gate, state, snapshot, view, clock } = wiring;
    let config = live.snapshot();
    let server = server(&config)?;
    gate.join_fleet();
    let fixed = Terms { fleet_max: config.fleet.max, sharers: config.fleet.sharers(), ..Terms::default() };
    let terms = handle::terms(gate, &fixed, clock.now());
    let identity = Identity::new(config.fleet.replica_id.as_deref());
    let file = state.map(StateFile::restored);
    Some(FleetThread::new(Parts { live, server, identity, terms, file, snapshot, view, clock }))
}

/// Where the configuration's Redis is.
#[must_use]
pub fn server(config: &Config) -> Option<Server> {
    let fleet = &config.fleet;
    Some(Server {
        url: fleet.url.clone()?,
        user: fleet.user.clone(),
        password_file: fleet.password_file.clone(),
        ca_file: fleet.ca_file.clone(),
        sentinels: fleet.sentinels.clone(),
        master: fleet.master.clone(),
    })
}

/// The keys of the fleet that shares this upstream and this key.
#[must_use]
pub fn keys(config: &Config) -> Vec<String> {
    let key = config.upstream.api_key.as_ref().map(Secret::expose).unwrap_or_default();
    protocol::keys(config.upstream.url.host(), key)
}
