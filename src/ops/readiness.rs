//! Whether the sidecar can do its work: the upstream can be reached, the queue has room, tickets flow. What is wrong is
//! said together with since when.

use crate::clock::{Clock, Moment};
use crate::config::LiveConfig;
use crate::downstream::job::Destination;
use crate::limiter::snapshot::Snapshot;
use crate::ops::page::Page;
use crate::ops::page_request::PageRequest;
use crate::published::Published;
use crate::upstream::forward;
use crate::upstream::worker::Forwarder;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Request, header};

/// How long the probe of the upstream may take.
const PROBE: Duration = Duration::from_secs(5);

/// For how long a probe's result, or an answer to a real request, speaks for the upstream.
const FRESH: Duration = Duration::from_secs(5);

/// Questions that wait for the probe under way; further ones are answered by what is known.
const WAITING: usize = 64;

/// The queue is healthy below this share of its bound.
const QUEUE_HEALTHY: f64 = 0.9;

/// The answer of `GET /health/ready`.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    ready: bool,
    upstream_reachable: bool,
    queue_healthy: bool,
    token_bucket_healthy: bool,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize)]
struct Problem {
    check: &'static str,
    since_seconds: f64,
    detail: String,
}

const UPSTREAM: &str = "upstream_reachable";
const QUEUE: &str = "queue_healthy";
const BUCKET: &str = "token_bucket_healthy";

/// Judges readiness; shared by the pages, the metrics and the dashboard.
pub struct Readiness {
    snapshot: Arc<Published<Snapshot>>,
    forwarder: Arc<Forwarder>,
    live: Arc<LiveConfig>,
    clock: Clock,
    probe: Mutex<Probe>,
    /// Since when each check fails.
    failing: Mutex<[Option<Moment>; 3]>,
    asked: Sender<Option<PageRequest>>,
}

#[derive(Clone, Debug)]
struct Probe {
    at: Option<Moment>,
    failure: Option<String>,
}

impl Readiness {
    /// Readiness, and what its prober has to listen to.
    #[must_use]
    pub fn new(
        snapshot: Arc<Published<Snapshot>>,
        forwarder: Arc<Forwarder>,
        live: Arc<LiveConfig>,
        clock: Clock,
    ) -> (Arc<Readiness>, Prober) {
        let (asked, questions) = bounded(WAITING);
        let probe = Mutex::new(Probe { at: None, failure: None });
        let readiness =
            Arc::new(Readiness { snapshot, forwarder, live, clock, probe, failing: Mutex::default(), asked });
        let prober = Prober { questions };
        (readiness, prober)
    }

    /// Answers a question, after a probe where nothing recent speaks for the upstream.
    pub fn ask(&self, page_request: PageRequest) {
        if self.is_fresh() {
            return page_request.answer(&self.page());
        }
        if let Err(TrySendError::Full(Some(page_request)) | TrySendError::Disconnected(Some(page_request))) =
            self.asked.try_send(Some(page_request))
        {
            page_request.answer(&self.page());
        }
    }

    /// Has what is known of the upstream refreshed when it is old, without waiting for it.
    pub fn refresh(&self) {
        if !self.is_fresh() {
            let _ = self.asked.try_send(None);
        }
    }

    fn page(&self) -> Page {
        let ready = self.judge();
        Page::json(if ready.ready { 200 } else { 503 }, &ready)
    }

    fn is_fresh(&self) -> bool {
        let now = self.clock.now();
        let spoke = self.forwarder.last_reached().max(self.probe.lock().at);
        spoke.is_some_and(|at| now.since(at) < FRESH)
    }

    /// The state as far as it is known.
    #[must_use]
    pub fn judge(&self) -> Ready {
        let (now, snapshot) = (self.clock.now(), self.snapshot.read());
        let floor = f64::from(self.live.snapshot().floor_rpm());
        let probe = self.probe.lock().clone();
        // An answer to a real request that is newer than the probe speaks for the upstream too.
        let unreachable = probe.failure.filter(|_| self.forwarder.last_reached() <= probe.at);
        let details = [unreachable, queue_problem(&snapshot), bucket_problem(&snapshot, floor, now)];
        let mut failing = self.failing.lock();
        let mut problems = Vec::new();
        for ((detail, since), check) in
            details.into_iter().zip(failing.iter_mut()).zip([UPSTREAM, QUEUE, BUCKET])
        {
            match detail {
                Some(detail) => {
                    let since = *since.get_or_insert(now);
                    problems.push(Problem { check, since_seconds: now.since(since).as_secs_f64(), detail });
                }
                None => *since = None,
            }
        }
        let healthy = |check| problems.iter().all(|p: &Problem| p.check != check);
        Ready {
            ready: problems.is_empty(),
            upstream_reachable: healthy(UPSTREAM),
            queue_healthy: healthy(QUEUE),
            token_bucket_healthy: healthy(BUCKET),
            problems,
        }
    }

    /// Asks the upstream for its models: reachable is what answers below 500.
    fn probe(&self) {
        let result = self.ask_upstream();
        let mut probe = self.probe.lock();
        if let Err(failure) = &result
            && probe.failure.is_none()
        {
            log::warn!("the upstream cannot be reached: {failure}");
        }
        *probe = Probe { at: Some(self.clock.now()), failure: result.err() };
    }

    fn ask_upstream(&self) -> Result<(), String> {
        let config = self.live.snapshot();
        let (base, key) = forward::target(Destination::Nvidia, &config);
        let uri = forward::join(base, "/v1/models").map_err(|error| error.to_string())?;
        let mut request = Request::get(uri);
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let request = request.body(()).map_err(|error| error.to_string())?;
        let agent = self.forwarder.agent();
        let request = agent
            .configure_request(request)
            .timeout_connect(Some(PROBE))
            .timeout_recv_response(Some(PROBE))
            .build();
        match agent.run(request) {
            Ok(answer) if answer.status().as_u16() < 500 => Ok(()),
            Ok(answer) => Err(format!("it answers {}", answer.status().as_u16())),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn queue_problem(snapshot: &Snapshot) -> Option<String> {
    let queue = &snapshot.queue;
    (queue.utilization >= QUEUE_HEALTHY).then(|| {
        format!(
            "{} of {} places and {} of {} bytes are taken",
            queue.current_size, queue.max_size, queue.bytes, queue.max_bytes
        )
    })
}

/// An empty bucket is what a busy sidecar has; it is ill when the upstream itself keeps the tickets back.
fn bucket_problem(snapshot: &Snapshot, floor: f64, now: Moment) -> Option<String> {
    if let Some(until) = snapshot.key_paused_until.filter(|until| *until > now) {
        return Some(format!(
            "the upstream refuses the key; tickets pause for {:.0} s",
            until.since(now).as_secs_f64()
        ));
    }
    let retreat = &snapshot.retreat;
    let at_floor = retreat.effective_rpm <= floor && retreat.effective_rpm < retreat.base_rpm;
    at_floor.then(|| {
        format!("the rate is at its floor, {:.0} of {:.0} rpm", retreat.effective_rpm, retreat.base_rpm)
    })
}

impl Ready {
    /// Whether the upstream answers.
    #[must_use]
    pub fn is_upstream_reachable(&self) -> bool {
        self.upstream_reachable
    }
}

/// The prober's end: one probe answers all who asked meanwhile.
pub struct Prober {
    questions: Receiver<Option<PageRequest>>,
}

impl Prober {
    /// Probes when asked, until no question can come any more.
    pub fn run(&self, readiness: &std::sync::Weak<Readiness>) {
        while let Ok(first) = self.questions.recv() {
            let Some(readiness) = readiness.upgrade() else { return };
            if !readiness.is_fresh() {
                readiness.probe();
            }
            for page_request in std::iter::once(first).chain(self.questions.try_iter()).flatten() {
                page_request.answer(&readiness.page());
            }
        }
    }
}
