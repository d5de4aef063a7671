//! What the requests of one model must find beside the key's own quota: a place in each of its windows, and few enough on
//! their way.

use std::time::Duration;

use super::admission::Ticket;
use super::bucket::Bucket;
use super::quota::Quota;
use super::rate::Rpm;
use super::reserve::Reserve;
use super::snapshot::QuotaStats;
use crate::clock::Moment;
use crate::config::limiter::{ModelRate, RateScope, Settings};
use crate::priority::Priority;

/// Which quota a model has, by the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// With `rate_scope: model`, what each model has that no entry matches: length and rate.
    each: Option<(Duration, Rpm)>,
    rates: Vec<ModelRate>,
    burst: u32,
    reserve: Reserve,
}

impl Rules {
    /// As the settings say.
    #[must_use]
    pub fn new(settings: &Settings) -> Rules {
        let by_model = settings.rate_scope == RateScope::Model && settings.rate_rpm > 0;
        Rules {
            each: by_model.then(|| (settings.window, Rpm::from(settings.rate_rpm))),
            rates: settings.model_rates.clone(),
            burst: settings.bucket_capacity,
            reserve: Reserve::new(settings.urgent_reserve),
        }
    }

    /// The configured entries.
    #[must_use]
    pub fn rates(&self) -> &[ModelRate] {
        &self.rates
    }

    /// The quota of a model; the first entry that matches counts, in place of the rate of `rate_scope: model`.
    #[must_use]
    pub fn quota_of(&self, model: Option<&str>, now: Moment) -> ModelQuota {
        let named = model.unwrap_or_default();
        let rule = self.rates.iter().position(|rate| rate.pattern.matches(named));
        let windows = match (rule, self.each) {
            (Some(rule), _) => {
                let windows = self.rates[rule].windows.iter();
                windows.map(|window| Quota::of_window(window.span, window.requests, self.reserve)).collect()
            }
            (None, Some((length, rate))) => vec![Quota::new(length, rate, self.burst, self.reserve, now)],
            (None, None) => Vec::new(),
        };
        let most_in_flight = rule.and_then(|rule| self.rates[rule].in_flight);
        ModelQuota { rule, windows, most_in_flight, burst: self.burst, ..ModelQuota::default() }
    }
}

/// The figures of what the rules give, each of the model that has used most; `quotas` are those of the known models.
#[must_use]
pub fn quota_stats<'a>(
    rules: &Rules,
    quotas: &(impl Iterator<Item = &'a ModelQuota> + Clone),
    now: Moment,
) -> Vec<QuotaStats> {
    let fullest = |rule: Option<usize>, span: Option<Duration>, limit: u32| {
        let pattern = rule.map_or("*", |rule| rules.rates[rule].pattern.as_str()).into();
        let limit = limit as usize;
        let none = QuotaStats { pattern, span, used: 0, limit, next_free: None };
        let of_model = |quota: &ModelQuota| quota.used(span, now);
        let (used, next_free) =
            quotas.clone().filter(|quota| quota.rule == rule).filter_map(of_model).max().unwrap_or_default();
        QuotaStats { used, next_free, ..none }
    };
    let of_rule = |(rule, rate): (usize, &ModelRate)| {
        let windows = rate.windows.iter().map(|window| (Some(window.span), window.requests));
        let all = windows.chain(rate.in_flight.map(|most| (None, most))).collect::<Vec<_>>();
        all.into_iter().map(move |(span, limit)| (Some(rule), span, limit))
    };
    let configured = rules.rates.iter().enumerate().flat_map(of_rule);
    let each = rules.each.map(|(length, rate)| (None, Some(length), rate.whole_in(length)));
    configured.chain(each).map(|(rule, span, limit)| fullest(rule, span, limit)).collect()
}

/// One model's windows, and what is on its way.
#[derive(Clone, Debug, Default)]
pub struct ModelQuota {
    rule: Option<usize>,
    windows: Vec<Quota>,
    most_in_flight: Option<u32>,
    in_flight: u32,
    /// After a hold, a bucket that was empty when it ended: what the model did not take meanwhile is not a licence for a burst at
    /// it. Gone once it is full.
    easing: Option<Bucket>,
    burst: u32,
}

impl ModelQuota {
    /// When a request of this priority may go, if nothing more is taken or reported; [`Moment::NEVER`] when one of those on
    /// their way has to end first.
    #[must_use]
    pub fn free_at(&self, priority: Priority, now: Moment) -> Moment {
        if self.most_in_flight.is_some_and(|most| self.in_flight >= most) {
            return Moment::NEVER;
        }
        let eased = self.easing.as_ref().map_or(now, |bucket| bucket.nth_at(1.0, now));
        self.windows.iter().map(|window| window.free_at(priority, now)).fold(eased, Moment::max)
    }

    /// When the `nth` request of this priority (the next one is 1) may go, by the windows.
    #[must_use]
    pub fn nth_at(&self, nth: u32, priority: Priority, now: Moment) -> Moment {
        self.windows.iter().map(|window| window.nth_at(nth, priority, now)).fold(now, Moment::max)
    }

    /// A request goes.
    pub fn take(&mut self, ticket: Ticket) {
        self.in_flight += 1;
        if let Some(bucket) = &mut self.easing {
            bucket.take(ticket.granted_at);
        }
        self.windows.iter_mut().for_each(|window| window.take(ticket));
    }

    /// It was written to the upstream.
    pub fn sent(&mut self, ticket: Ticket, at: Moment) {
        self.windows.iter_mut().for_each(|window| window.sent(ticket, at));
    }

    /// It was never sent.
    pub fn give_back(&mut self, ticket: Ticket) {
        self.windows.iter_mut().for_each(|window| window.give_back(ticket));
    }

    /// It is over.
    pub fn done(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// After a hold: no burst, at this rate.
    pub fn ease(&mut self, rate: Rpm, now: Moment) {
        let mut bucket = Bucket::new(self.burst, rate, now);
        bucket.forfeit(now);
        self.easing = Some(bucket);
    }

    /// Forgets what has left the windows; notes whether requests wait for a place, and the key's rate.
    pub fn advance(&mut self, requests_wait: bool, rate: Rpm, now: Moment) {
        if let Some(bucket) = &mut self.easing {
            bucket.set_rate(rate, now);
            if bucket.is_full(now) {
                self.easing = None;
            }
        }
        for window in &mut self.windows {
            window.advance(now);
            if !requests_wait {
                window.waited_for(false, now);
            } else if window.free_at(Priority::Low, now) > now {
                window.waited_for(true, now);
            }
        }
    }

    /// Whether nothing would be lost if it were forgotten.
    #[must_use]
    pub fn is_unused(&self, now: Moment) -> bool {
        self.in_flight == 0 && self.windows.iter().all(|window| window.window().used(now) == 0)
    }

    /// Takes over what another one, of the same model under other settings, remembers.
    pub fn inherit(&mut self, before: ModelQuota) {
        self.in_flight = before.in_flight;
        self.easing = before.easing;
        for window in &mut self.windows {
            let length = window.window().length();
            if let Some(same) = before.windows.iter().find(|other| other.window().length() == length) {
                window.inherit(same);
            }
        }
    }

    /// The windows, to be read.
    #[must_use]
    pub fn windows(&self) -> &[Quota] {
        &self.windows
    }

    /// The windows, to be filled with what is remembered from before a restart.
    pub fn windows_mut(&mut self) -> &mut [Quota] {
        &mut self.windows
    }

    /// What it has used of its window of this length, or of what may be on its way, and when the next request may go.
    fn used(&self, span: Option<Duration>, now: Moment) -> Option<(usize, Option<Moment>)> {
        let Some(span) = span else { return Some((self.in_flight as usize, None)) };
        let window = self.windows.iter().map(Quota::window).find(|window| window.length() == span)?;
        Some((window.used(now), Some(window.places_at(1, now)).filter(|&at| at > now)))
    }
}
