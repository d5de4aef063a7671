//! The gate as others see it: what a newcomer is told, what status pages show.

use super::admission::{Candidate, Outlook};
use super::gate::Gate;
use super::snapshot::{BucketStats, HELD_SHOWN, HeldModel, QueueStats, Snapshot, WaitingJob, WindowStats};
use super::store::Place;
use crate::clock::Moment;
use crate::priority::Priority;

impl<J> Gate<J> {
    /// What a request would be told if it came now.
    #[must_use]
    pub fn outlook(&self, candidate: &Candidate, overflow: bool, now: Moment) -> Outlook {
        let ahead =
            self.lanes.ahead_of_next(candidate.priority, &candidate.client, candidate.arrived, overflow, now);
        let (mut position, mut free_at) = (ahead + 1, now);
        if let Some(model) = self.models.get(&candidate.model)
            && let Some(until) = model.hold.held_until()
        {
            position += model.parked.len();
            free_at = until;
        }
        let ticket = self.forecast.ticket_of(candidate.priority, position);
        Outlook::new(position, self.nth_ticket_at(ticket, candidate.priority, now).max(free_at).since(now))
    }

    /// Which of the queue's bounds was met, for a client that is refused for it.
    #[must_use]
    pub fn why_full(&self) -> String {
        let (bounds, waiting) = (&self.settings.queue, self.store.queued_len());
        if waiting >= bounds.max_size {
            format!("the queue is full: {waiting} requests wait (queue_max_size is {})", bounds.max_size)
        } else {
            format!(
                "the queue is full: what waits holds {} bytes, and this request has no room beside it (queue_max_bytes is {})",
                self.store.queued_bytes(),
                bounds.max_bytes
            )
        }
    }

    /// The gate as plain data. Cheap: no walk over jobs.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        let bounds = &self.settings.queue;
        let current_size = self.store.queued_len();
        let filled = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        let fullness =
            filled(current_size, bounds.max_size).max(filled(self.store.queued_bytes(), bounds.max_bytes));
        let held = self.models.iter().filter_map(|(name, model)| {
            let until = model.hold.held_until().filter(|&until| until > now || !model.parked.is_empty())?;
            Some(HeldModel { model: name.clone(), until, waiting: model.parked.len() })
        });
        let mut held: Vec<_> = held.collect();
        let models_held = held.len();
        held.sort_by(|a, b| b.until.cmp(&a.until).then_with(|| a.model.cmp(&b.model)));
        held.truncate(HELD_SHOWN);
        let (window, used) = (self.quota.window(), self.quota.window().used(now));
        Snapshot {
            at: now,
            queue: QueueStats {
                max_size: bounds.max_size,
                current_size,
                depth_by_priority: self.store.depth(),
                overflow: self.store.len() - current_size,
                bytes: self.store.bytes(),
                max_bytes: bounds.max_bytes,
                total_enqueued: self.totals.enqueued,
                total_dequeued: self.totals.dequeued,
                total_dropped: self.totals.dropped,
                total_overflowed: self.totals.overflowed,
                full_policy: bounds.full_policy,
                utilization: fullness.min(1.0),
            },
            bucket: BucketStats {
                at: now,
                tokens: self.quota.bucket().tokens_at(now),
                capacity: self.quota.bucket().capacity(),
                rate_per_minute: self.quota.bucket().rate().per_minute(),
                free: window.limit().saturating_sub(u32::try_from(used).unwrap_or(u32::MAX)),
                returns: window.returns(now),
            },
            window: WindowStats { used, limit: window.limit() as usize, margin: window.margin(now) },
            retreat: self.retreat.stats(now),
            in_flight: self.flights.len(),
            max_in_flight: self.settings.max_in_flight as usize,
            held,
            models_held,
            retreats_total: self.totals.retreats,
            floors_total: self.totals.floors,
            key_paused_until: self.key.held_until().filter(|&until| until > now),
        }
    }

    /// Up to `max` waiting jobs in about the order in which they will go; held and delayed ones last. Walks the queue.
    /// `request_id` names a job as its client knows it.
    #[must_use]
    pub fn waiting(&self, max: usize, now: Moment, request_id: impl Fn(&J) -> String) -> Vec<WaitingJob> {
        let aging = self.settings.queue.aging;
        let in_line = self.lanes.in_order(now);
        let mut others: Vec<_> =
            self.store.iter().filter(|(_, waiting)| waiting.place != Place::Lane).collect();
        others.sort_by_key(|(_, waiting)| (waiting.candidate.priority, waiting.order));
        let keys = in_line.into_iter().chain(others.into_iter().map(|(key, _)| key));
        let jobs = (1..).zip(keys.take(max)).filter_map(|(position, key)| {
            let waiting = self.store.get(key)?;
            let candidate = &waiting.candidate;
            let free_at = match waiting.place {
                Place::Lane => now,
                Place::Delayed(until) => until,
                Place::Parked => {
                    self.models.get(&candidate.model).and_then(|model| model.hold.held_until()).unwrap_or(now)
                }
            };
            let ticket = u32::try_from(position).unwrap_or(u32::MAX);
            let waited = now.since(candidate.arrived);
            let can_rise = !aging.is_zero() && candidate.priority != Priority::Urgent;
            Some(WaitingJob {
                id: candidate.id,
                request_id: request_id(&waiting.job),
                aged: can_rise && waited >= aging,
                client: candidate.client.clone(),
                priority: candidate.priority,
                model: candidate.model.clone(),
                waited,
                position,
                eta: self.nth_ticket_at(ticket, candidate.priority, now).max(free_at).since(now),
            })
        });
        jobs.collect()
    }

    /// When the `nth` ticket from now can be granted to this priority, by quota and slots.
    fn nth_ticket_at(&self, nth: u32, priority: Priority, now: Moment) -> Moment {
        let key = self.key.held_until().unwrap_or(now);
        let slot = if self.has_slot() { now } else { now + self.pace.time_for(nth) };
        self.quota.nth_at(nth, priority, now).max(slot).max(key)
    }
}
