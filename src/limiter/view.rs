//! The gate as others see it: what a newcomer is told, what status pages show.

use std::collections::HashSet;

use super::admission::{Candidate, Outlook};
use super::fairness::Order;
use super::gate::Gate;
use super::lanes::{Stand, Standing};
use super::model_quota::quota_stats;
use super::models::REST;
use super::snapshot::{ClientSide, HELD_SHOWN, HeldModel, QueueStats, RetreatStats, Snapshot, WaitingJob};
use super::store::Place;
use crate::clock::Moment;
use crate::priority::Priority;

impl<J> Gate<J> {
    /// What a request would be told if it came now.
    #[must_use]
    pub fn outlook(&self, candidate: &Candidate, overflow: bool, now: Moment) -> Outlook {
        let known = self.models.known(&candidate.model);
        let since = self.turn_since(&candidate.client, candidate.arrived);
        let job = Standing {
            priority: candidate.priority,
            client: &candidate.client,
            group: known.unwrap_or(REST),
            order: Order { arrived: candidate.arrived, serial: u64::MAX },
        };
        let ahead =
            self.lanes.ahead_of(job, if overflow { Stand::Overflow } else { Stand::Queued }, since, now);
        let position = ahead.all + 1;
        let ticket = self.forecast.ticket_of(candidate.priority, position);
        let mut at = self.nth_ticket_at(ticket, candidate.priority, now);
        if let Some(model) = known.and_then(|group| self.models.get(group)) {
            let ticket = self.forecast.ticket_of(candidate.priority, ahead.of_group + 1);
            at = at.max(model.nth_at(ticket, candidate.priority, now));
        }
        Outlook::new(position, at.since(now))
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
        let held = self.models.iter().filter_map(|(_, model)| {
            let until = model.hold.held_until().filter(|&until| until > now || model.waiting > 0)?;
            Some(HeldModel { model: model.name.clone(), until, waiting: model.waiting })
        });
        let mut held: Vec<_> = held.collect();
        let models_held = held.len();
        held.sort_by(|a, b| b.until.cmp(&a.until).then_with(|| a.model.cmp(&b.model)));
        held.truncate(HELD_SHOWN);
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
            bucket: self.quota.as_ref().map(|quota| quota.bucket_stats(now)).unwrap_or_default(),
            window: self.quota.as_ref().map(|quota| quota.window_stats(now)).unwrap_or_default(),
            quotas: quota_stats(self.models.rules(), &self.models.iter().map(|(_, model)| &model.quota), now),
            retreat: self.retreat_stats(now),
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
    /// `client_side` says what the gate does not know of a job.
    #[must_use]
    pub fn waiting(
        &self,
        max: usize,
        now: Moment,
        client_side: impl Fn(&J) -> ClientSide,
    ) -> Vec<WaitingJob> {
        let aging = self.settings.queue.aging;
        let in_line = self.lanes.in_order(now);
        let may_go: HashSet<_> = in_line.iter().copied().collect();
        let mut others: Vec<_> = self.store.iter().filter(|(key, _)| !may_go.contains(key)).collect();
        others.sort_by_key(|(_, waiting)| (waiting.candidate.priority, waiting.order));
        let keys = in_line.into_iter().chain(others.into_iter().map(|(key, _)| key));
        let jobs = (1..).zip(keys.take(max)).filter_map(|(position, key)| {
            let waiting = self.store.get(key)?;
            let candidate = &waiting.candidate;
            let free_at = match waiting.place {
                Place::Lane => self
                    .models
                    .get(waiting.group)
                    .map_or(now, |model| model.nth_at(1, candidate.priority, now)),
                Place::Delayed(until) => until,
            };
            let ticket = u32::try_from(position).unwrap_or(u32::MAX);
            let waited = now.since(candidate.arrived);
            let can_rise = !aging.is_zero() && candidate.priority != Priority::Urgent;
            let ClientSide { request_id, early_since } = client_side(&waiting.job);
            Some(WaitingJob {
                id: candidate.id,
                request_id,
                aged: can_rise && waited >= aging,
                client: candidate.client.clone(),
                priority: candidate.priority,
                model: candidate.model.clone(),
                waited,
                position,
                eta: self.nth_ticket_at(ticket, candidate.priority, now).max(free_at).since(now),
                kept_alive: early_since.map(|since| now.since(since)),
            })
        });
        jobs.collect()
    }

    /// Without a rate none is shown.
    fn retreat_stats(&self, now: Moment) -> RetreatStats {
        let stats = self.retreat.stats(now);
        if self.settings.rate_rpm > 0 {
            stats
        } else {
            RetreatStats { effective_rpm: 0.0, base_rpm: 0.0, ..stats }
        }
    }

    /// When the `nth` ticket from now can be granted to this priority, by quota and slots.
    fn nth_ticket_at(&self, nth: u32, priority: Priority, now: Moment) -> Moment {
        let key = self.key.held_until().unwrap_or(now);
        let slot = if self.has_slot() { now } else { now + self.pace.time_for(nth) };
        let quota = self.quota.as_ref().map_or(now, |quota| quota.nth_at(nth, priority, now));
        quota.max(slot).max(key)
    }
}
