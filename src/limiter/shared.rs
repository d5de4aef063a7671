//! Places that come from a fleet's common window instead of this gate's own: what the gate asks for, gets and says.
//!
//! The gate [claims](Claim) a place for its best waiting request, is [granted](Grant) one, and says of each grant whether and when
//! its request was [used](Use). It never waits: what talks to the fleet does so on a thread of its own.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Moment;

/// The best request that waits here, as the fleet compares it with the others' best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its priority after aging, 0 is URGENT.
    pub class: usize,
    /// When it arrived.
    pub arrived: Moment,
    /// Its client.
    pub client: Arc<str>,
}

/// A place of the common window that may be used once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name in the fleet.
    pub id: Arc<str>,
    /// Until when the request must have been sent.
    pub valid_until: Moment,
    /// It is one of those that are kept for URGENT.
    pub urgent: bool,
}

/// What became of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Its request was sent.
    Sent {
        /// The grant.
        id: Arc<str>,
        /// When.
        at: Moment,
    },
    /// It was not used.
    GivenBack {
        /// The grant.
        id: Arc<str>,
    },
}

/// How a sidecar stands towards its fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It has not joined yet.
    #[default]
    Joining,
    /// It shares the fleet's window.
    Joined,
    /// The fleet gathers again what was sent, after Redis has lost writes.
    Repairing,
    /// Redis does not answer: no tickets, or not yet.
    Away,
    /// Redis does not answer: this sidecar uses its own share.
    Sharing,
    /// The keys in Redis belong to another version: no tickets.
    OtherVersion,
}

impl Standing {
    /// The value of `sidecar_fleet_standing`.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Standing::Joined => 1,
            Standing::Joining => 2,
            Standing::Repairing => 3,
            Standing::Away => 4,
            Standing::Sharing => 5,
            Standing::OtherVersion => 6,
        }
    }

    /// The name in status and log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Joining => "joining",
            Standing::Joined => "joined",
            Standing::Repairing => "repairing",
            Standing::Away => "away",
            Standing::Sharing => "sharing",
            Standing::OtherVersion => "other_version",
        }
    }
}

/// What the gate is told of the fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// How this sidecar stands.
    pub standing: Standing,
    /// Places of the common window.
    pub limit: u32,
    /// Those of them that are in use.
    pub used: u32,
    /// Another sidecar's request goes before the best one here.
    pub behind: bool,
    /// No ticket comes before Redis is back: newcomers are refused.
    pub refuses: bool,
}

/// The gate's side of a fleet.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    grants: VecDeque<Grant>,
    /// Of tickets that are out and were not reported as sent or given back.
    out: HashMap<u64, Arc<str>>,
    uses: Vec<Use>,
    pub(super) sight: Sight,
}

impl Shared {
    pub(super) fn granted(&mut self, grant: Grant) {
        self.grants.push_back(grant);
    }

    /// Whether a grant is there for a request that came as URGENT, or for any.
    pub(super) fn has_grant(&self, urgent: bool, now: Moment) -> bool {
        self.grants.iter().any(|grant| (urgent || !grant.urgent) && grant.valid_until > now)
    }

    /// A ticket uses a grant; tells until when it must have been sent.
    pub(super) fn take(&mut self, ticket: u64, urgent: bool, now: Moment) -> Option<Moment> {
        let usable = |grant: &Grant| (urgent || !grant.urgent) && grant.valid_until > now;
        let grant = self.grants.iter().position(usable).and_then(|index| self.grants.remove(index))?;
        self.out.insert(ticket, grant.id);
        Some(grant.valid_until)
    }

    /// Gives back what nothing here can use.
    pub(super) fn give_back_rest(&mut self) {
        self.uses.extend(self.grants.drain(..).map(|grant| Use::GivenBack { id: grant.id }));
    }

    pub(super) fn sent(&mut self, ticket: u64, at: Moment) {
        self.uses.extend(self.out.remove(&ticket).map(|id| Use::Sent { id, at }));
    }

    pub(super) fn unsent(&mut self, ticket: u64) {
        self.uses.extend(self.out.remove(&ticket).map(|id| Use::GivenBack { id }));
    }

    pub(super) fn take_uses(&mut self) -> Vec<Use> {
        std::mem::take(&mut self.uses)
    }
}
