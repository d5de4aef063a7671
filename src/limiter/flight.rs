//! What the gate remembers of the tickets that are out and of the refusals that they met.

use std::sync::Arc;
use std::time::Duration;

use super::fairness::Group;
use crate::clock::Moment;

/// A ticket that is out.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) client: Arc<str>,
    pub(super) group: Group,
    pub(super) sent_at: Option<Moment>,
    pub(super) answered: bool,
}

/// The last plain refusal since which nothing succeeded.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    pub(super) group: Group,
    pub(super) sent_at: Moment,
}

/// What isolated refusals teach about travel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lesson {
    /// A refusal at the window's edge that may turn out to be isolated: when it was heard, and its round trip.
    pub(super) pending: Option<(Moment, Duration)>,
    /// When a lesson was learned, and what was known before.
    pub(super) learned: Option<(Moment, (Duration, Moment))>,
}
