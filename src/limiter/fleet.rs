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
    /// The window that it shares, or would; `None` where it has none of the whole key.
    #[must_use]
    pub fn common_window(&self, now: Moment) -> Option<CommonWindow> {
        let window = self.quota.as_ref()?.window();
        Some(CommonWindow {
            limit: window.limit(),
            base: Rpm::from(self.settings.rate_rpm).whole_in(self.settings.window),
            length: window.cycle(now),
            burst: self.settings.bucket_capacity,
            reserve: self.settings.urgent_reserve,
        })
    }

    /// Whether places come from a fleet.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some() && self.quota.is_some()
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

    /// Whether the picked request may have a place: of a fleet's, only one that was granted for its like.
    pub(super) fn may_take(&self, priority: Priority, now: Moment) -> bool {
        let granted = |shared: &Shared| shared.has_grant(priority == Priority::Urgent, now);
        !self.is_shared() || self.shared.as_ref().is_some_and(granted)
    }

    /// Places of the common window that are in use.
    pub(super) fn used_by_fleet(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.sight.used as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limiter::Settings;
    use crate::limiter::admission::{Candidate, Next, Offered, Refused, Report};
    use crate::limiter::shared::Standing;

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(secs)
    }

    fn gate() -> Gate<u64> {
        let mut gate = Gate::new(Settings::default(), at(0.0));
        gate.join_fleet();
        gate
    }

    fn offer(gate: &mut Gate<u64>, id: u64, priority: Priority, now: Moment) -> Offered<u64> {
        let candidate = Candidate {
            id,
            priority,
            client: "a".into(),
            model: None,
            arrived: now,
            deadline: Moment::NEVER,
            bytes: 0,
        };
        gate.offer(candidate, id, now)
    }

    fn grant(id: &str, urgent: bool) -> Grant {
        Grant { id: id.into(), valid_until: at(10.0), urgent }
    }

    fn released(gate: &mut Gate<u64>, now: Moment) -> Option<(u64, crate::limiter::admission::Ticket)> {
        match gate.next(now) {
            Next::Release { job, ticket, .. } => Some((job, ticket)),
            _ => None,
        }
    }

    #[test]
    fn nothing_goes_without_a_grant_and_each_grant_is_used_once() {
        let mut gate = gate();
        for id in 1..=3 {
            offer(&mut gate, id, Priority::Normal, at(0.0));
        }
        assert!(released(&mut gate, at(0.0)).is_none());
        assert_eq!(gate.claim(at(0.0)).unwrap().class, Priority::Normal.index());
        gate.granted(grant("a", false));
        let (job, ticket) = released(&mut gate, at(1.0)).unwrap();
        assert_eq!((job, ticket.must_send_by), (1, Some(at(10.0))));
        assert!(released(&mut gate, at(1.0)).is_none());
        gate.report(ticket, Report::Sent { at: at(1.5) }, at(2.0));
        gate.done(ticket, at(3.0));
        assert_eq!(gate.take_uses(), [Use::Sent { id: "a".into(), at: at(1.5) }]);
    }

    #[test]
    fn a_place_that_is_kept_for_urgent_goes_to_nobody_else() {
        let mut gate = gate();
        offer(&mut gate, 1, Priority::Normal, at(0.0));
        gate.granted(grant("a", true));
        assert!(released(&mut gate, at(0.0)).is_none());
        assert_eq!(gate.take_uses(), [Use::GivenBack { id: "a".into() }]);
        offer(&mut gate, 2, Priority::Urgent, at(0.0));
        assert_eq!(gate.claim(at(0.0)).unwrap().class, 0);
        gate.granted(grant("b", true));
        assert_eq!(released(&mut gate, at(0.0)).unwrap().0, 2);
    }

    #[test]
    fn what_is_not_sent_is_given_back_and_what_has_ended_is_not_used() {
        let mut gate = gate();
        offer(&mut gate, 1, Priority::Normal, at(0.0));
        gate.granted(grant("a", false));
        let (_, ticket) = released(&mut gate, at(0.0)).unwrap();
        gate.report(ticket, Report::Unsent, at(1.0));
        gate.done(ticket, at(1.0));
        offer(&mut gate, 2, Priority::Normal, at(1.0));
        gate.granted(grant("late", false));
        assert!(released(&mut gate, at(10.0)).is_none());
        let back = |id: &str| Use::GivenBack { id: id.into() };
        assert_eq!(gate.take_uses(), [back("a"), back("late")]);
    }

    #[test]
    fn newcomers_are_refused_while_no_ticket_can_come() {
        let mut gate = gate();
        let sight = Sight { standing: Standing::Away, refuses: true, ..Sight::default() };
        gate.see_fleet(sight, at(0.0));
        let refused = offer(&mut gate, 1, Priority::Urgent, at(0.0));
        assert!(matches!(refused, Offered::Refused { reason: Refused::FleetAway, .. }));
    }
}
