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
            limit: self.quota.window().limit(),
            base: Rpm::from(self.settings.rate_rpm).whole_in(self.settings.window),
            length: self.settings.window + self.quota.window().margin(now),
            burst: self.settings.bucket_capacity,
            reserve: self.settings.urgent_reserve,
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
        let pick = self.lanes.pick(Priority::Low, now)?;
        let candidate = &self.store.get(pick.key)?.candidate;
        Some(Claim { class: pick.level, arrived: candidate.arrived, client: candidate.client.clone() })
    }

    /// What became of grants since the last call.
    pub fn take_uses(&mut self) -> Vec<Use> {
        self.shared.as_mut().map(Shared::take_uses).unwrap_or_default()
    }

    /// The least urgent priority that a grant is there for.
    pub(super) fn least_urgent_granted(&mut self, now: Moment) -> Option<Priority> {
        let shared = self.shared.as_ref()?;
        let is_full = shared.sight.used >= shared.sight.limit;
        let granted = [Priority::Low, Priority::Urgent]
            .into_iter()
            .find(|&priority| shared.has_grant(priority == Priority::Urgent, now));
        if granted.is_none() && is_full {
            self.retreat.filled_by(!self.lanes.is_empty());
        }
        granted
    }

    /// Places of the common window that are in use.
    pub(super) fn used_by_fleet(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.sight.used as usize)
    }
}
