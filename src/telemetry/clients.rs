//! Who spends the quota: the busiest clients of about the last hour, without any configuration.

use crate::clock::Moment;
use crate::outcome::StatusLabel;
use crate::telemetry::record::{Finished, Route};
use crate::telemetry::usage::Tokens;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How many clients are shown.
pub const SHOWN: usize = 20;

/// Clients that are counted at once. A newcomer beyond that takes the place of the least busy one, so that a flood of
/// invented names costs no more memory than this.
const COUNTED: usize = 256;

/// After this time counting begins anew; what was counted in the time before still shows.
const HALF: Duration = Duration::from_secs(30 * 60);

/// What one client did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClientView {
    /// Its name: its token's, its `X-Agent-Id`, a hash or an address.
    pub client: Arc<str>,
    /// Its finished requests.
    pub requests: u64,
    /// Those of them that ended with 429.
    pub ratelimited: u64,
    /// Those of them that failed otherwise, the client's own hang-ups aside.
    pub failed: u64,
    /// How long they waited for tickets, all together.
    pub queue_seconds: f64,
    /// What their answers said that they cost.
    pub tokens: Tokens,
}

/// The counts of the present half hour and of the one before.
#[derive(Debug, Default)]
pub struct Clients {
    present: HashMap<Arc<str>, ClientView>,
    before: HashMap<Arc<str>, ClientView>,
    since: Moment,
}

impl Clients {
    /// Takes note of a finished limited request; pass-through spends no quota.
    pub fn saw(&mut self, request: &Finished) {
        if request.route != Route::Limited {
            return;
        }
        self.turn(request.at);
        if self.present.len() >= COUNTED && !self.present.contains_key(&request.client) {
            let least =
                self.present.values().min_by_key(|view| view.requests).map(|view| view.client.clone());
            least.and_then(|least| self.present.remove(&least));
        }
        let view = self.present.entry(request.client.clone()).or_default();
        view.client = request.client.clone();
        view.requests += 1;
        match request.label {
            StatusLabel::RateLimited => view.ratelimited += 1,
            StatusLabel::Error | StatusLabel::Rejected => view.failed += 1,
            StatusLabel::Success | StatusLabel::Cancelled => {}
        }
        view.queue_seconds += request.queue.as_secs_f64();
        view.tokens = view.tokens.plus(request.tokens.unwrap_or_default());
    }

    /// The busiest first, at most [`SHOWN`].
    #[must_use]
    pub fn view(&mut self, now: Moment) -> Vec<ClientView> {
        self.turn(now);
        let mut views: HashMap<&Arc<str>, ClientView> = HashMap::with_capacity(self.present.len());
        for (name, counted) in self.present.iter().chain(&self.before) {
            let view = views.entry(name).or_default();
            view.client = name.clone();
            view.requests += counted.requests;
            view.ratelimited += counted.ratelimited;
            view.failed += counted.failed;
            view.queue_seconds += counted.queue_seconds;
            view.tokens = view.tokens.plus(counted.tokens);
        }
        let mut views: Vec<ClientView> = views.into_values().collect();
        views.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.client.cmp(&b.client)));
        views.truncate(SHOWN);
        views
    }

    fn turn(&mut self, now: Moment) {
        let passed = now.since(self.since);
        if passed < HALF {
            return;
        }
        self.before = std::mem::take(&mut self.present);
        if passed >= 2 * HALF {
            self.before.clear();
        }
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::telemetry::record::Record;
    use crate::telemetry::record::tests::answered;

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    fn request(client: &str, secs: u64) -> Finished {
        Finished { client: client.into(), ..Finished::new(&answered(), at(secs)) }
    }

    #[test]
    fn the_busiest_comes_first_with_what_it_spent() {
        let mut clients = Clients::default();
        clients.saw(&request("quiet", 1));
        for _ in 0..3 {
            clients
                .saw(&Finished { tokens: Some(Tokens { prompt: 5, completion: 2 }), ..request("busy", 2) });
        }
        let refused = Record { outcome: Outcome::NoTicket, ..answered() };
        clients.saw(&Finished { client: "busy".into(), ..Finished::new(&refused, at(3)) });
        let views = clients.view(at(4));
        assert_eq!(views.iter().map(|v| &*v.client).collect::<Vec<_>>(), ["busy", "quiet"]);
        assert_eq!((views[0].requests, views[0].ratelimited, views[0].failed), (4, 1, 0));
        assert_eq!(views[0].tokens, Tokens { prompt: 15, completion: 6 });
        assert!((views[0].queue_seconds - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_hour_is_remembered_and_no_longer() {
        let mut clients = Clients::default();
        clients.saw(&request("early", 1));
        clients.saw(&request("late", 1900));
        assert_eq!(clients.view(at(1900)).len(), 2);
        assert_eq!(clients.view(at(3800)).len(), 1);
        assert_eq!(clients.view(at(9000)), []);
    }

    #[test]
    fn invented_names_take_no_more_room_and_do_not_hide_the_busy() {
        let mut clients = Clients::default();
        (0..9).for_each(|_| clients.saw(&request("busy", 1)));
        (0..10_000).for_each(|n| clients.saw(&request(&format!("invented-{n}"), 2)));
        assert!(clients.present.len() <= COUNTED);
        assert_eq!((&*clients.view(at(3))[0].client, clients.view(at(3)).len()), ("busy", SHOWN));
    }
}
