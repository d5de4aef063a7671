//! Whether the sidecar can do its work: the upstream takes the key and can be reached, the queue has room, tickets flow. What is wrong is
//! said together with since when.

use crate::clock::{Clock, Moment};
use crate::config::LiveConfig;
use crate::downstream::job::Destination;
use crate::limiter::snapshot::Snapshot;
use crate::ops::page::Page;
use crate::ops::page_request::PageRequest;
use crate::ops::problems::{Change, Check, Evidence, Problem, Problems};
use crate::published::Published;
use crate::telemetry::journal::Journal;
use crate::upstream::forward;
use crate::upstream::reason;
use crate::upstream::worker::Forwarder;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use serde::Serialize;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Request, header};

/// How long the probe of the upstream may take.
const PROBE: Duration = Duration::from_secs(5);

/// For how long a probe's result, or an answer to a real request, speaks for the upstream.
const FRESH: Duration = Duration::from_secs(5);

/// Questions that wait for the probe under way; further ones are answered by what is known.
const WAITING: usize = 64;

/// Bytes of the probe's answer that are read so that its connection stays in the pool; a longer answer costs the connection.
const PROBE_BYTES: u64 = 256 * 1024;

/// The answer of `GET /health/ready`.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    ready: bool,
    key_accepted: bool,
    upstream_reachable: bool,
    queue_healthy: bool,
    token_bucket_healthy: bool,
    problems: Vec<Problem>,
}

/// Judges readiness; shared by the pages, the metrics and the dashboard.
pub struct Readiness {
    snapshot: Arc<Published<Snapshot>>,
    forwarder: Arc<Forwarder>,
    live: Arc<LiveConfig>,
    clock: Clock,
    probe: Mutex<Probe>,
    journal: Arc<Journal>,
    problems: Mutex<Problems>,
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
        journal: Arc<Journal>,
        clock: Clock,
    ) -> (Arc<Readiness>, Prober) {
        let (asked, questions) = bounded(WAITING);
        let probe = Mutex::new(Probe { at: None, failure: None });
        let readiness =
            Readiness { snapshot, forwarder, live, clock, probe, journal, problems: Mutex::default(), asked };
        let readiness = Arc::new(readiness);
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
        let config = self.live.snapshot();
        let probe = self.probe.lock().clone();
        let evidence = Evidence {
            limiter: &self.snapshot.read(),
            key_refused: self.journal.key_refused(),
            // An answer to a real request that is newer than the probe speaks for the upstream too.
            unreachable: probe.failure.filter(|_| self.forwarder.last_reached() <= probe.at),
            floor_rpm: f64::from(config.floor_rpm()),
            urgent_reserve: config.limiter.urgent_reserve as usize,
            now: self.clock.now(),
        };
        let (problems, changes) = self.problems.lock().look(&evidence);
        changes.iter().for_each(tell);
        let holds = |check| problems.iter().all(|problem| problem.check != check);
        Ready {
            ready: !problems.iter().any(|problem| problem.not_ready),
            key_accepted: holds(Check::Key),
            upstream_reachable: holds(Check::Upstream),
            queue_healthy: holds(Check::Queue),
            token_bucket_healthy: holds(Check::Tickets),
            problems,
        }
    }

    /// Asks the upstream for its models: reachable is what answers below 500.
    fn probe(&self) {
        let failure = self.ask_upstream().err();
        *self.probe.lock() = Probe { at: Some(self.clock.now()), failure };
        let _ = self.judge();
    }

    fn ask_upstream(&self) -> Result<(), String> {
        let config = self.live.snapshot();
        let (base, key) = forward::target(Destination::Nvidia, &config);
        let uri = forward::join(base, "/v1/models").map_err(|error| error.to_string())?;
        // Its own name, so that an upstream can tell it from what clients send (RFC 9110 §10.1.5).
        let own_name = concat!("nvidia-sidecar/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::get(uri).header(header::USER_AGENT, own_name);
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let request = request.body(()).map_err(|error| error.to_string())?;
        let agent = self.forwarder.agent();
        let request = agent
            .configure_request(request)
            .timeout_connect(Some(PROBE))
            .timeout_recv_response(Some(PROBE))
            .timeout_recv_body(Some(PROBE))
            .build();
        match agent.run(request) {
            Ok(answer) if answer.status().as_u16() < 500 => {
                // To its end: a connection with an unread answer could not be used again.
                let mut content = answer.into_body().into_reader().take(PROBE_BYTES);
                let _ = io::copy(&mut content, &mut io::sink());
                Ok(())
            }
            Ok(answer) => Err(format!("it answers {}", answer.status().as_u16())),
            Err(error) => Err(reason::in_words(&error)),
        }
    }
}

/// One line a change, for what is not said where it happens already (the limiter and the journal say the rest).
fn tell(change: &Change) {
    match change {
        Change::Began(Check::Upstream, detail) => log::warn!("the upstream cannot be reached: {detail}"),
        Change::Began(Check::Queue, detail) => log::warn!("the queue is nearly full: {detail}"),
        Change::Ended(Check::Upstream, after) => {
            log::info!("the upstream can be reached again, after {:.0} s", after.as_secs_f64());
        }
        Change::Ended(Check::Queue, after) => {
            log::info!("the queue has room again, after {:.0} s", after.as_secs_f64());
        }
        Change::Began(..) | Change::Ended(..) => {}
    }
}

impl Ready {
    /// Whether nothing that is needed fails.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

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
