//! The gate in a fleet: what it claims of the common window, and what it is told.

use super::gate::Gate;
use super::hold::Passage;
use super::rate::Rpm;
use super::shared::{Claim, Grant, Shared, Sight, Use};
use crate::clock::Moment;
use crate::priority::Priority;
use std::time::Duration;

/// The window that a fleet shares, as this gate's rate has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonWindow {
    /// Places at the present rate.
    pub limit: u32,
    /// Places at the base rate.
    pub base: u32,
    /// Its length with the margin for uneven travel.
    pub length: Duration,
    /// Places at once.
    pub burst: u32,
    /// Places kept for URGENT.
    pub reserve: u32,
}

impl<J> Gate<J> {
    /// The window that it would share with a fleet.
    #[must_use]
    pub fn common_window(&self, now: Moment) -> CommonWindow {
        CommonWindow {
            limit: self.window.limit(),
            base: Rpm::from(self.settings.rate_rpm).whole_in(self.settings.window),
            length: self.settings.window + self.window.margin(now),
            burst: self.settings.bucket_capacity,
            reserve: 2,
        }
    }

    /// From now on places come from a fleet's window, one grant each.
    pub fn join_fleet(&mut self) {
        self.shared = Some(Shared::default());
    }

    /// The fleet grants a place.
    pub fn granted(&mut self, grant: Grant) {
        if let Some(shared) = &mut self.shared {
            shared.granted(grant);
        }
    }

    /// How the fleet stands.
    pub fn see_fleet(&mut self, sight: Sight, now: Moment) {
        if let Some(shared) = &mut self.shared {
            shared.sight = sight;
        }
        self.note_low(now);
    }

    /// The request that a place is claimed for; none where none waits, or where it would wait for something else as well.
    #[must_use]
    pub fn claim(&self, now: Moment) -> Option<Claim> {
        if !self.has_slot() || matches!(self.key.passage(now), Passage::Wait(_)) {
            return None;
        }
        let pick = self.lanes.pick(now)?;
        let candidate = &self.store.get(pick.key)?.candidate;
        Some(Claim { class: pick.level, arrived: candidate.arrived, client: candidate.client.clone() })
    }

    /// What became of grants since the last call.
    pub fn take_uses(&mut self) -> Vec<Use> {
        self.shared.as_mut().map(Shared::take_uses).unwrap_or_default()
    }

    /// Whether the fleet has a place for a request of this priority.
    pub(super) fn has_grant(&self, priority: Priority, now: Moment) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.has_grant(priority == Priority::Urgent, now))
    }
}
