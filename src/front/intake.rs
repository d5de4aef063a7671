//! Where a complete request goes: to one of the operator's pages, or as a job to the limiter or a pass-through worker.

use crate::clock::{Clock, Moment};
use crate::config::{Config, LiveConfig};
use crate::dispatch::thread::{Command, LimiterHandle};
use crate::downstream::access::{self, Admitted, Denied};
use crate::downstream::body_memory::{BodyBudget, BodyShare};
use crate::downstream::identity::{self, Fingerprints};
use crate::downstream::job::{Body, Facts, Job, Responder};
use crate::downstream::keepalive::{self, KeptAlive, Opening, Plan};
use crate::downstream::link::{Link, Sign};
use crate::downstream::source::Source;
use crate::front::route;
use crate::http::error::ErrorAnswer;
use crate::http::write::local_answer;
use crate::http::{Head, Request};
use crate::lifecycle::Stopping;
use crate::ops::pages::{Pages, Reply};
use crate::ops::paths::PageKind;
use crate::outcome::Outcome;
use crate::telemetry::journal::Journal;
use crate::telemetry::record::{Record, Route};
use crate::workers::pool::Pool;
use crate::workers::shares::Shares;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// After how much silence the kernel asks whether a client is still there, so that one that vanished without a word
/// (a host that lost its power) does not keep its place in the queue.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long after a question without an answer the next one follows.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How many questions without an answer end the connection.
const KEEPALIVE_PROBES: u32 = 3;

/// When a client may try again whose request was refused for a bound that says nothing of when there will be room.
const BUSY_RETRY: Duration = Duration::from_secs(2);

/// What a request became.
pub enum Handled {
    /// It is answered by these bytes.
    Answer {
        /// The whole answer.
        bytes: Vec<u8>,
        /// Whether the connection persists.
        keep: bool,
    },
    /// Its connection shows the dashboard's stream from now on.
    Watch {
        /// How the stream begins.
        head: Vec<u8>,
    },
    /// It is under way and its connection lent.
    Lent {
        /// The id of its job; `None` for a page that is not a job.
        job: Option<u64>,
        /// When to look whether a sign of life is due; never for a request that is not kept alive.
        look_at: Moment,
    },
}

/// What a request was let in as. It is judged on its head alone, before `100 Continue` is sent and before a byte of its
/// body is kept: who is not let in takes no memory.
pub(super) enum LetIn {
    /// As one for a page.
    Page(PageKind),
    /// As one to be proxied.
    Proxied(Admitted),
}

/// The answer to a request that is not let in.
pub(super) struct Refused {
    /// The whole answer.
    pub(super) bytes: Vec<u8>,
    /// Whether the connection persists.
    pub(super) keep: bool,
}

/// What an intake is wired to.
pub struct IntakeParts {
    /// The running configuration.
    pub live: Arc<LiveConfig>,
    /// The way to the limiter.
    pub limiter: LimiterHandle,
    /// The workers of pass-through requests.
    pub pass_through: Arc<Pool<Job>>,
    /// The operator's pages.
    pub pages: Pages,
    /// The books of finished requests.
    pub journal: Arc<Journal>,
    /// The sidecar shuts down: proxied requests are refused.
    pub stopping: Stopping,
    /// The budget for request bodies.
    pub budget: BodyBudget,
    /// The clock.
    pub clock: Clock,
    /// The bound on connections that the descriptors of this process allow.
    pub most_connections: usize,
}

/// Shared by all event loops.
pub struct Intake {
    parts: IntakeParts,
    shares: Shares,
    next_id: AtomicU64,
    fingerprints: Fingerprints,
}

impl Intake {
    /// An intake that hands on to what it is wired to.
    #[must_use]
    pub fn new(parts: IntakeParts) -> Intake {
        Intake {
            parts,
            shares: Shares::default(),
            next_id: AtomicU64::new(1),
            fingerprints: Fingerprints::default(),
        }
    }

    pub(super) fn max_connections(&self) -> usize {
        self.config().front.max_connections.min(self.parts.most_connections)
    }

    pub(super) fn max_body_bytes(&self) -> usize {
        self.config().front.max_body_bytes
    }

    pub(super) fn max_body_memory(&self) -> usize {
        self.config().front.max_body_memory_bytes
    }

    pub(super) fn client_timeout(&self) -> Duration {
        self.config().front.client_timeout
    }

    pub(super) fn share(&self) -> BodyShare {
        self.parts.budget.share()
    }

    fn config(&self) -> Arc<Config> {
        self.parts.live.snapshot()
    }

    /// Sets a new client socket up.
    ///
    /// # Errors
    /// When the client has gone already.
    pub(super) fn prepare(&self, socket: &TcpStream) -> io::Result<()> {
        // A listener's non-blocking mode is not inherited on Linux; workers rely on blocking writes.
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(self.client_timeout()))?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        SockRef::from(socket).set_tcp_keepalive(&keepalive)
    }

    /// The client of this job hung up.
    pub(super) fn cancel(&self, job: u64) {
        self.parts.limiter.command(Command::Cancel(job));
    }

    /// Sends the client of a job a sign of life if one is due.
    pub(super) fn give_sign(&self, link: &Link, now: Moment) -> Sign {
        let sign = link.give_sign(&self.parts.clock, now);
        if let Sign::Next(_, sent) = sign
            && let Some(kind) = sent.sign
        {
            self.parts.journal.metrics().signed(kind, sent.is_first, sent.is_early);
        }
        sign
    }

    /// An error answer to something that never became a request.
    /// `path` is empty where none is known.
    pub(super) fn refusal(&self, outcome: Outcome, message: &str, path: &str, peer: IpAddr) -> Vec<u8> {
        let request_id = identity::new_request_id();
        self.parts.journal.close(&Record::of_no_request(
            &request_id,
            &peer.to_canonical().to_string().into(),
            outcome,
        ));
        ErrorAnswer {
            outcome,
            message,
            path,
            retry_after: outcome.meaning().retry_after.then_some(BUSY_RETRY),
            request_id: &request_id,
            extra_fields: &[],
            keep_alive: false,
            head_only: false,
        }
        .to_bytes(self.parts.clock.wall())
    }

    /// Lets a request in, or not. `has_body`: a body follows that would not be read.
    pub(super) fn judge(
        &self,
        head: &Head,
        has_body: bool,
        from: &Source<'_>,
        now: Moment,
    ) -> Result<LetIn, Refused> {
        let keep = !has_body && head.keep_alive() && from.link.may_persist();
        if access::asks_for_websocket(head) {
            let message =
                "WebSocket is not spoken here: send plain HTTP requests, streams come as server-sent events";
            let denied = Denied { status: 426, message: message.into(), origin: None };
            return Err(Refused { bytes: self.deny(head, &denied, from, keep), keep });
        }
        if let Some(kind) = PageKind::of(head.method(), head.path(), from.port) {
            let admitted = self.parts.pages.admit(kind, head, from, keep, now);
            return admitted.map(|()| LetIn::Page(kind)).map_err(|bytes| Refused { bytes, keep });
        }
        access::admit(head, &self.config().clients)
            .map(LetIn::Proxied)
            .map_err(|denied| Refused { bytes: self.deny(head, &denied, from, keep), keep })
    }

    fn deny(&self, head: &Head, denied: &Denied, from: &Source<'_>, keep: bool) -> Vec<u8> {
        let outcome = Outcome::Invalid(denied.status);
        let request_id = identity::request_id(head);
        let peer = from.peer.to_canonical().to_string().into();
        self.parts.journal.close(&Record {
            method: head.method(),
            path: head.path(),
            cause: Some(&denied.message),
            ..Record::of_no_request(&request_id, &peer, outcome)
        });
        let mut fields: Vec<(&str, String)> = Vec::new();
        match denied.status {
            401 => fields.push(("www-authenticate", "Bearer".into())),
            // What is spoken instead (RFC 9110 §15.5.22).
            426 => fields.push(("upgrade", "HTTP/1.1".into())),
            _ => {}
        }
        fields.extend(denied.origin.iter().flat_map(|origin| access::cors_fields(origin)));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = ErrorAnswer {
            outcome,
            message: &denied.message,
            path: head.path(),
            retry_after: None,
            request_id: &request_id,
            extra_fields: &fields,
            keep_alive: keep,
            head_only: head.method() == "HEAD",
        };
        answer.to_bytes(self.parts.clock.wall())
    }

    fn grant_preflight(&self, head: &Head, origin: &str, from: &Source<'_>) -> Handled {
        let fields = access::preflight_fields(head, origin);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let keep = head.keep_alive() && from.link.may_persist();
        let bytes = local_answer(204, "", &fields, b"", keep, false, self.parts.clock.wall());
        Handled::Answer { bytes, keep }
    }

    /// Takes a complete request that was let in. A lent connection is marked as lent before its job leaves.
    pub(super) fn handle(
        &self,
        request: Request,
        let_in: LetIn,
        body_share: BodyShare,
        leftover: bool,
        from: &Source<'_>,
        now: Moment,
    ) -> Handled {
        let pass = match let_in {
            LetIn::Page(kind) => {
                return match self.parts.pages.reply(kind, request, from, now) {
                    Reply::Now(bytes, keep) => Handled::Answer { bytes, keep },
                    Reply::Later => Handled::Lent { job: None, look_at: Moment::NEVER },
                    Reply::Watch(head) => Handled::Watch { head },
                };
            }
            LetIn::Proxied(admitted) => admitted,
        };
        let Request { head, body } = request;
        let config = self.config();
        if let Some(origin) = &pass.origin
            && access::is_preflight(&head)
        {
            return self.grant_preflight(&head, origin, from);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let class = route::classify(&head, &body, &config);
        let plan = Plan::of(&head, class.wanted, class.asked_model.as_deref(), &config.keepalive);
        let mut wait = route::patience(&head, config.limiter.queue.timeout);
        if plan.is_none() {
            // It hangs up after so much silence, and nothing can be said to it meanwhile.
            wait = keepalive::patience(&head).map_or(wait, |patience| patience.min(wait));
        }
        let body = Body { bytes: strip(body, class.strip), share: body_share };
        let client: Arc<str> = pass.client.unwrap_or_else(|| identity::client(&head, from.peer)).into();
        let is_remembered = class.route == Route::Limited && !config.limiter.queue.remember_place.is_zero();
        let facts = Facts {
            id,
            request_id: identity::request_id(&head),
            fingerprint: is_remembered.then(|| self.fingerprints.of(&client, &head, &body.bytes)),
            client,
            model: class.model.map(Into::into),
            priority: route::priority(&head),
            route: class.route,
            destination: class.destination,
            page: pass.origin.map(Into::into),
            arrived: now,
            first_arrived: now,
            deadline: now + wait,
            is_kept_alive: plan.is_some(),
        };
        let look_at = keep_alive(plan, &facts, &head, from.link);
        from.link.lend(from.unread);
        let line = Responder::new(from.link.clone(), leftover);
        let job = Job::new(facts, head, body, line, self.parts.journal.clone());
        if self.parts.stopping.is_draining() {
            job.refuse(Outcome::ShuttingDown, "the sidecar is shutting down", Some(BUSY_RETRY));
        } else {
            match job.facts.route {
                Route::Limited => self.parts.limiter.arrive(job),
                Route::PassThrough => {
                    self.pass_through(job);
                }
            }
        }
        Handled::Lent { job: Some(id), look_at }
    }
}

impl Intake {
    /// Hands a request to a pass-through worker. Nobody counts how long such a request waits, so none does.
    fn pass_through(&self, mut job: Job) {
        let free = self.parts.pass_through.free();
        job.worker = self.shares.take(&job.facts.client, free);
        let has_share = job.worker.is_some();
        let submitted = if has_share { self.parts.pass_through.submit_if_free(job) } else { Err(job) };
        if let Err(job) = submitted {
            let message = if has_share || free == 0 {
                "all pass-through workers are busy (passthrough_max_in_flight)"
            } else {
                "this client has its share of the pass-through workers, the rest is for others (passthrough_max_in_flight)"
            };
            job.refuse(Outcome::QueueFull, message, Some(BUSY_RETRY));
        }
    }
}

/// Keeps the client of a request alive by `plan`; returns when to look whether a sign is due.
fn keep_alive(plan: Option<Plan>, facts: &Facts, head: &Head, link: &Link) -> Moment {
    let Some(plan) = plan else { return Moment::NEVER };
    let opening = Opening {
        request_id: facts.request_id.clone(),
        page: facts.page.clone(),
        is_limited: facts.route == Route::Limited,
        persists: head.keep_alive() && link.may_persist(),
    };
    let kept = KeptAlive::new(plan, opening, facts.arrived);
    let look_at = kept.look_at(facts.arrived);
    link.keep_alive(kept);
    look_at
}

/// Takes the gateway's prefix off the model's name, in place.
fn strip(mut body: Vec<u8>, cut: Option<(Range<usize>, String)>) -> Vec<u8> {
    if let Some((span, model)) = cut {
        body.splice(span, model.into_bytes());
        body.shrink_to_fit();
    }
    body
}
