//! One job's course on a worker: send it, judge the answer, then relay it, send it again or refuse.

use crate::clock::{Clock, Moment};
use crate::config::{Config, LiveConfig};
use crate::dispatch::permit::{Dispatch, Permit};
use crate::downstream::job::Job;
use crate::downstream::keepalive::upstream_error;
use crate::http::retry_after;
use crate::lifecycle::Stopping;
use crate::limiter::admission::{Report, Scope, Verdict};
use crate::limiter::snapshot::Snapshot;
use crate::outcome::Outcome;
use crate::published::Published;
use crate::telemetry::journal::Journal;
use crate::telemetry::metrics::RetryReason;
use crate::telemetry::record::{Route, UpstreamError};
use crate::upstream::agent::{self, AgentSettings};
use crate::upstream::cancel::Call;
use crate::upstream::early;
use crate::upstream::forward::{self, Pseudonym};
use crate::upstream::relay::{Answer, relay};
use crate::upstream::retry::{self, Allowance, Failed, Failure};
use crate::upstream::trust::CaFileError;
use parking_lot::RwLock;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ureq::http::response::Parts;
use ureq::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use ureq::{Agent, AsSendBody, Body};

/// How much of a refusal's content is read to learn whose refusal it is.
const JUDGED_BYTES: u64 = 4096;

/// An answer up to this length is there with its head, as a rule.
const SMALL_BYTES: u64 = 16 * 1024;

/// Shared by all workers of both pools.
pub struct Forwarder {
    live: Arc<LiveConfig>,
    agent: RwLock<Agent>,
    via: Pseudonym,
    snapshot: Arc<Published<Snapshot>>,
    journal: Arc<Journal>,
    clock: Clock,
    stopping: Stopping,
    /// When the upstream last answered below 500, in the clock's nanoseconds; 0 is never.
    reached_at: AtomicU64,
}

/// One attempt's answer before it is relayed.
struct Arrived {
    response: Response<Body>,
    call: Call,
    sent_at: Moment,
    answered_at: Moment,
}

impl Forwarder {
    /// A forwarder with an agent of its own.
    ///
    /// # Errors
    /// When the configured certificates cannot be used.
    pub fn new(
        live: Arc<LiveConfig>,
        snapshot: Arc<Published<Snapshot>>,
        journal: Arc<Journal>,
        stopping: Stopping,
        clock: Clock,
    ) -> Result<Forwarder, CaFileError> {
        let agent = RwLock::new(agent::agent(&AgentSettings::of(&live.snapshot()), clock)?);
        let reached_at = AtomicU64::new(0);
        Ok(Forwarder { live, agent, via: Pseudonym::new(), snapshot, journal, clock, stopping, reached_at })
    }

    /// The agent in force.
    #[must_use]
    pub fn agent(&self) -> Agent {
        self.agent.read().clone()
    }

    /// Takes an agent made for another configuration; calls under way keep theirs.
    pub fn renew(&self, agent: Agent) {
        *self.agent.write() = agent;
    }

    /// When the upstream last answered a request below 500.
    #[must_use]
    pub fn last_reached(&self) -> Option<Moment> {
        Some(self.reached_at.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0).map(Moment::from_nanos)
    }

    /// Cuts every call to the upstream, once the sidecar cuts what is under way.
    pub fn cut(&self) {
        self.agent().shutdown();
    }

    /// Carries a limited job whose ticket is there.
    pub fn carry_limited(&self, dispatch: Dispatch) {
        let Dispatch { mut job, mut permit } = dispatch;
        if job.is_abandoned() {
            drop(permit);
            return job.abandon();
        }
        if self.via.is_in(&job.head) {
            drop(permit);
            return refuse_loop(job);
        }
        permit.begin();
        match self.attempt(&mut job, Some(&permit)) {
            Ok(arrived) => self.judge(job, permit, arrived),
            Err(failed) => {
                let report = match failed.traffic.sent_at {
                    None => Report::Unsent,
                    Some(sent_at) => {
                        let answered_at = self.clock.now();
                        Report::Answered { sent_at, answered_at, verdict: Verdict::Ignored }
                    }
                };
                let config = self.live.snapshot();
                match self.allowance(&job, &config).after_failure(failed.failure) {
                    Some(not_before) if !self.stopping.is_cut() => {
                        self.retried(&job, failed.failure.reason(), failed.failure.error());
                        job.needs_fresh_connection = failed.failure == Failure::Stale;
                        permit.give_back(job, report, Some(not_before));
                    }
                    _ => {
                        permit.report_at_end(report);
                        drop(permit);
                        self.fail(job, &failed);
                    }
                }
            }
        }
    }

    /// Carries a pass-through job.
    pub fn carry_pass_through(&self, mut job: Job) {
        if job.is_abandoned() {
            return job.abandon();
        }
        if self.via.is_in(&job.head) {
            return refuse_loop(job);
        }
        let mut result = self.attempt(&mut job, None);
        if result.as_ref().is_err_and(|failed| failed.failure == Failure::Stale) {
            self.retried(&job, RetryReason::StaleConnection, UpstreamError::Broken);
            job.needs_fresh_connection = true;
            result = self.attempt(&mut job, None);
        }
        match result {
            Ok(arrived) => self.deliver(job, arrived, Vec::new(), None),
            Err(failed) => self.fail(job, &failed),
        }
    }

    fn attempt(&self, job: &mut Job, permit: Option<&Permit>) -> Result<Arrived, Failed> {
        let config = self.live.snapshot();
        let (base, key) = forward::target(job.facts.destination, &config);
        let other = forward::other_host(base, job.head.path(), config.routing.nvidia_hosts);
        let base = other.as_ref().unwrap_or(base);
        let body = job.body.as_ref().map_or(&[][..], |b| &b.bytes);
        // A client token opens the sidecar and is nobody else's business.
        let owns_authorization = key.is_some() || !config.clients.tokens.is_empty();
        let mut request = forward::request(&job.head, body, base, key, owns_authorization)
            .map_err(|_| Failed::unsendable())?;
        forward::announce(request.headers_mut(), base, config.upstream.first_byte_timeout, &self.via);
        if job.facts.is_kept_alive {
            // A compressed answer could not be announced any more.
            request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        job.enter_wait();
        let agent = self.agent();
        let hangup = job.link().hangup().clone();
        let call = Call::begin(hangup.clone(), forward::head_bytes(&request), body.len());
        if let Some(permit) = permit {
            call.once_sent(permit.sent_teller());
            call.not_after(permit.must_send_by());
        }
        let began = self.clock.now();
        let idle = job.needs_fresh_connection.then_some(Duration::ZERO);
        let result = if forward::has_content(&job.head, body) {
            run(&agent, request, idle)
        } else {
            run(&agent, request.map(|_| ()), idle)
        };
        let traffic = call.traffic();
        match traffic.sent_at {
            Some(_) => job.attempts += 1,
            None => job.unconnected += 1,
        }
        let answered_at = self.clock.now();
        match result {
            // Nobody is asked to switch protocols, so a 101 is not an answer to any request (RFC 9110 §15.2.2).
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let cause = "the upstream switched protocols without being asked to".to_owned();
                job.upstream.error = Some(Failure::Broken.error());
                job.upstream.cause = Some(cause.clone());
                Err(Failed { failure: Failure::Broken, cause, traffic })
            }
            Ok(response) => {
                // What `passthrough_url` answers says nothing of the NVIDIA upstream.
                if response.status().as_u16() < 500 && *base == config.upstream.url {
                    self.reached_at.store(answered_at.as_nanos(), Ordering::Relaxed);
                }
                let sent_at = traffic.sent_at.unwrap_or(began);
                job.upstream.latency = Some(answered_at.since(sent_at));
                job.upstream.error = UpstreamError::of_status(response.status().as_u16());
                job.upstream.cause = None;
                Ok(Arrived { response, call, sent_at, answered_at })
            }
            Err(error) => {
                let failed = Failed::of(&error, traffic, hangup.is_cancelled());
                log::debug!(request_id = job.facts.request_id.as_str(); "an attempt failed: {}", failed.cause);
                let upstreams = failed.failure != Failure::ClientGone;
                job.upstream.latency = None;
                job.upstream.error = upstreams.then(|| failed.failure.error());
                job.upstream.cause = upstreams.then(|| failed.cause.clone());
                Err(failed)
            }
        }
    }

    /// Tells the limiter what the answer teaches, and whether the client gets it or another attempt.
    fn judge(&self, job: Job, mut permit: Permit, mut arrived: Arrived) {
        let status = arrived.response.status().as_u16();
        let prefix =
            if matches!(status, 429 | 503) { read_prefix(arrived.response.body_mut()) } else { Vec::new() };
        let refused = retry::refusal(status, &prefix);
        let retry_after = header(&arrived.response, header::RETRY_AFTER.as_str())
            .and_then(|value| retry_after::read(value, self.clock.wall()));
        let report = Report::Answered {
            sent_at: arrived.sent_at,
            answered_at: arrived.answered_at,
            verdict: verdict(status, refused, retry_after),
        };
        let config = self.live.snapshot();
        let again = self.allowance(&job, &config).after_status(status, refused.is_some(), retry_after);
        if let Some(not_before) = again.filter(|_| !self.stopping.is_cut()) {
            let reason = if refused.is_some() { RetryReason::Refused } else { RetryReason::ServerError };
            self.retried(&job, reason, UpstreamError::Status(status));
            drop(arrived);
            return permit.give_back(job, report, Some(not_before));
        }
        if arrived.response.body().content_length().is_some_and(|length| length <= SMALL_BYTES) {
            // It is relayed in no time: report and free slot wake the limiter once instead of twice.
            permit.report_at_end(report);
        } else {
            permit.report(report);
        }
        self.deliver(job, arrived, prefix, Some(permit));
    }

    fn deliver(&self, mut job: Job, arrived: Arrived, prefix: Vec<u8>, permit: Option<Permit>) {
        // The request cannot be sent again from here on.
        job.body = None;
        let begun = job.begin_answer();
        let early = begun.and_then(|begun| begun.early);
        if let Some(early) = early {
            self.journal.metrics().answered_early(arrived.answered_at.since(early.at));
        }
        let Arrived { response, call, .. } = arrived;
        let mut fields = job.own_fields();
        match header(&response, "x-request-id") {
            // It has been told already.
            _ if early.is_some() => {}
            // What the client is told is what the log says.
            Some(id) => job.facts.request_id = String::from_utf8_lossy(id).into_owned(),
            None => fields.push(("x-request-id", job.facts.request_id.clone())),
        }
        if job.facts.route == Route::Limited && response.status().as_u16() == 429 {
            fields.push(("retry-after", self.retry_after(response.headers()).to_string()));
        }
        let (parts, body) = response.into_parts();
        if early.is_some_and(|early| !early::continues(early, &parts)) {
            return self.end_early(job, &parts, prefix, body, (call, permit));
        }
        let stream = begun.and_then(|begun| early::follow(begun, &parts));
        let (rest, stopping) = (body.into_reader(), self.stopping.clone());
        let answer = Answer { parts, prefix, rest, fields, early, stopping, stream };
        let patience = self.live.snapshot().front.client_timeout;
        let (outcome, next) = relay(&mut job, &call, answer, self.clock, patience);
        let failure = call.failure();
        drop(call);
        drop(permit);
        if let Outcome::Truncated(_) = outcome {
            let (error, cause) = failure.unzip();
            job.upstream.error = Some(error.unwrap_or(UpstreamError::Broken));
            job.upstream.cause = cause;
        }
        job.settle(outcome, next);
    }

    /// Ends an early 200 with the error that the upstream's answer amounts to.
    fn end_early(
        &self,
        job: Job,
        parts: &Parts,
        mut content: Vec<u8>,
        mut body: Body,
        held: (Call, Option<Permit>),
    ) {
        let status = parts.status.as_u16();
        if status >= 400 && content.is_empty() {
            content = read_prefix(&mut body);
        }
        let retry_after = (status == 429).then(|| self.retry_after(&parts.headers));
        let error = upstream_error(status, early::content_type(&parts.headers), &content);
        drop((body, held));
        let outcome = if status >= 400 { Outcome::Answered(status) } else { Outcome::UpstreamBroken };
        job.end_early(outcome, &error.with_retry_after(retry_after));
    }

    /// Whole seconds until a client whose 429 could not be kept from it should try again: what the upstream says, or
    /// the sidecar's own estimate, at most a minute.
    fn retry_after(&self, answer: &HeaderMap) -> u64 {
        let told = answer
            .get(header::RETRY_AFTER)
            .and_then(|value| retry_after::read(value.as_bytes(), self.clock.wall()));
        let wait = told.unwrap_or_else(|| self.snapshot.read().expected_wait());
        retry_after::seconds(wait)
    }

    fn fail(&self, job: Job, failed: &Failed) {
        let outcome = match failed.failure {
            Failure::ClientGone => return job.abandon(),
            _ if self.stopping.is_cut() => {
                return job.refuse(Outcome::ShuttingDown, "the sidecar is shutting down", None);
            }
            Failure::Connect | Failure::Untrusted | Failure::Stale | Failure::Broken => {
                Outcome::UpstreamBroken
            }
            Failure::ConnectTimeout | Failure::PlaceEnded | Failure::Timeout => Outcome::UpstreamTimeout,
            Failure::Unsendable => Outcome::Invalid(400),
        };
        // The upstream may still be at work on it: an SDK that repeats it pays for it again.
        let fields: &[_] = match failed.failure {
            Failure::Timeout => &[("x-should-retry", "false".to_owned())],
            _ => &[],
        };
        job.refuse_with(outcome, &failed.cause, None, fields);
    }

    fn allowance<'a>(&self, job: &Job, config: &'a Config) -> Allowance<'a> {
        Allowance {
            retry_on: &config.upstream.retry_on,
            sent: job.attempts,
            unconnected: job.unconnected,
            max_attempts: config.upstream.max_attempts,
            retry_after_cap: config.limiter.retry_after_cap,
            now: self.clock.now(),
            deadline: job.facts.deadline,
        }
    }

    fn retried(&self, job: &Job, reason: RetryReason, error: UpstreamError) {
        log::debug!(request_id = job.facts.request_id.as_str(), attempts = job.attempts; "sent again: {reason:?}");
        self.journal.metrics().retried(job.facts.route, reason, error);
    }
}

/// Refuses what would come back to this process forever deeper.
fn refuse_loop(job: Job) {
    let message =
        "this request came from this sidecar itself: upstream_url or passthrough_url leads back to it";
    job.refuse(Outcome::Invalid(508), message, None);
}

/// Runs the call; with `max_idle_age` only on a connection that has rested for less.
fn run(
    agent: &Agent,
    request: Request<impl AsSendBody>,
    max_idle_age: Option<Duration>,
) -> Result<Response<Body>, ureq::Error> {
    match max_idle_age {
        None => agent.run(request),
        Some(age) => agent.run(agent.configure_request(request).max_idle_age(age).build()),
    }
}

fn read_prefix(body: &mut Body) -> Vec<u8> {
    let mut prefix = Vec::new();
    // What cannot be read now fails again, and visibly, when the answer is relayed.
    let _ = body.as_reader().take(JUDGED_BYTES).read_to_end(&mut prefix);
    prefix
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a [u8]> {
    response.headers().get(name).map(HeaderValue::as_bytes)
}

fn verdict(status: u16, refused: Option<Scope>, retry_after: Option<Duration>) -> Verdict {
    match refused {
        Some(scope) => Verdict::Refused { scope, retry_after },
        None if status < 400 => Verdict::Success,
        None => Verdict::Ignored,
    }
}
