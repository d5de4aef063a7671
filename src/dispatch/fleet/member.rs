//! A sidecar's side of the protocol: what to ask of Redis next, and what to make of the answer. Time is handed in.
//!
//! A shell does four things: it calls the script with [`request`](Member::request) when [`due`](Member::due) has come, hands back
//! the [answer](Member::answered) or the [failure](Member::failed), tells what became of each grant, and passes on what
//! the limiter [claims](Member::claim). One call is under way at a time.
//!
//! A life: *listening*, until it is known whether others watch the clock; then *joined*. In any generation that is new to it, a
//! sidecar first tells its own last window. It is *away* when no answer came for [`SILENCE`]; then it grants itself its share if
//! it may, once everything that the fleet granted before has left the window: the others have kept that share free since.

use super::ledger::Ledger;
use super::protocol::{Answer, ClaimOf, Op, Peer, Quota, Request, SILENCE, State, Tell, client_hash};
use super::timeline::{Timeline, millis};
use crate::clock::Moment;
use crate::limiter::shared::{Claim, Grant, Sight, Standing};
use std::time::Duration;

/// A grant may be used for so long, where the window is not shorter than a minute.
const VALIDITY: Duration = Duration::from_secs(10);
/// One that went without a word is forgotten, and its share with it.
const FORGET: Duration = Duration::from_secs(24 * 3600);
/// A best claim is passed over when its sidecar does not come for so long.
const PATIENCE: Duration = Duration::from_millis(150);
/// For so long one that joins is granted nothing: until each of the others has listed the fleet, and a replica of Redis has it.
const PROBATION: Duration = Duration::from_millis(2500);
/// One that was not the best asks again.
const POLL: Duration = Duration::from_millis(10);
/// How often it calls at least, and lists the fleet.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often it asks while a claim waits: a place may be given back, a peer may go.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long a sending may wait to be told with the next claim.
const TELL_WITHIN: Duration = Duration::from_millis(100);
/// How long one that joins listens for others.
const LISTEN: Duration = Duration::from_secs(2);
/// The first and the longest wait after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// What a sidecar is in its fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Its `replica_id`.
    pub id: String,
    /// That with a nonce for this life.
    pub name: String,
}

impl Identity {
    /// A sidecar of this name, or of the host's.
    #[must_use]
    pub fn new(replica_id: Option<&str>) -> Identity {
        let host = rustix::system::uname();
        let id = replica_id.map_or_else(|| host.nodename().to_string_lossy(), Into::into);
        // What the script takes names apart by.
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-:@".contains(c) { c } else { '_' };
        Identity { id: id.chars().map(plain).collect(), name: String::new() }.anew()
    }

    /// The same in another life.
    #[must_use]
    pub fn anew(&self) -> Identity {
        Identity { id: self.id.clone(), name: format!("{}~{:08x}", self.id, fastrand::u32(..)) }
    }
}

/// What the limiter and the configuration ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// Places in the window.
    pub limit: u32,
    /// The window, with the margin for uneven travel.
    pub window: Duration,
    /// Places at once.
    pub burst: u32,
    /// Places kept for URGENT.
    pub reserve: u32,
    /// The most sidecars that the fleet has; 0 is unknown.
    pub fleet_max: u32,
    /// How many sidecars share the rate when Redis is away; 0 is none.
    pub sharers: u32,
    /// Places of the window that each of them may take then.
    pub share: u32,
}

impl Terms {
    /// How long a grant may be used.
    #[must_use]
    pub fn validity(&self) -> Duration {
        VALIDITY.min(self.window / 6)
    }

    fn interval_ms(&self) -> f64 {
        self.window.as_secs_f64() * 1000.0 / f64::from(self.limit.max(1))
    }
}

#[derive(Clone, Debug)]
enum Phase {
    /// Since when, and when the fleet's time was last written by somebody.
    Listening(Option<(Moment, Option<u64>)>),
    Joined,
}

#[derive(Clone, Debug)]
struct Asked {
    at: Moment,
    op: Op,
    claim: Option<Claim>,
    sent: Vec<String>,
    told: bool,
}

/// One sidecar of a fleet.
#[derive(Clone, Debug)]
pub struct Member {
    identity: Identity,
    terms: Terms,
    phase: Phase,
    line: Timeline,
    ledger: Ledger,
    claim: Option<Claim>,
    /// The generation and sequence that it has seen, and the generation that it has told its window for.
    generation: u64,
    sequence: u64,
    told: u64,
    call: u64,
    answered: u64,
    first_cap: u64,
    asked: Option<Asked>,
    /// When the last call was made that was answered.
    heard: Option<Moment>,
    repairing: bool,
    behind: bool,
    hold_until: Moment,
    other_version: bool,
    due: Moment,
    failures: u32,
    roster: Vec<Peer>,
    roster_at: Option<Moment>,
    roster_due: Moment,
    about: Option<String>,
    file: Option<Vec<(Duration, Moment)>>,
    started: Moment,
    /// When its first call was answered.
    joined_at: Option<Moment>,
    shares: u64,
    leaving: bool,
    seen: (u32, u32, u32),
}

impl Member {
    /// One that joins. `file` has what its last life sent and how long ago that was at `now`, if it has a state file.
    #[must_use]
    pub fn new(identity: Identity, terms: Terms, file: Option<Vec<Duration>>, now: Moment) -> Member {
        Member {
            identity,
            terms,
            phase: Phase::Listening(None),
            line: Timeline::default(),
            ledger: Ledger::default(),
            claim: None,
            generation: 0,
            sequence: 0,
            told: 0,
            call: 0,
            answered: 0,
            first_cap: 0,
            asked: None,
            heard: None,
            repairing: false,
            behind: false,
            hold_until: now,
            other_version: false,
            due: now,
            failures: 0,
            roster: Vec::new(),
            roster_at: None,
            roster_due: now,
            about: None,
            file: file.map(|ages| ages.into_iter().map(|age| (age, now)).collect()),
            started: now,
            joined_at: None,
            shares: 0,
            leaving: false,
            seen: (0, 0, 0),
        }
    }

    /// When the next call is due.
    #[must_use]
    pub fn due(&self) -> Moment {
        self.due
    }

    /// The best request that waits now, if any does.
    pub fn claim(&mut self, claim: Option<Claim>, now: Moment) {
        if claim.is_some() && claim != self.claim && self.failures == 0 {
            self.due = self.due.min(now);
        }
        self.claim = claim;
    }

    /// Other terms.
    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// What the others are shown of this sidecar.
    pub fn set_about(&mut self, about: String) {
        self.about = Some(about);
    }

    /// The request of a grant was sent.
    pub fn sent(&mut self, id: &str, at: Moment, now: Moment) {
        self.ledger.sent(id, at);
        if self.failures == 0 {
            self.due = self.due.min(now + TELL_WITHIN);
        }
    }

    /// A grant was not used.
    pub fn give_back(&mut self, id: &str, now: Moment) {
        if self.ledger.give_back(id) && self.failures == 0 {
            self.due = self.due.min(now);
        }
    }

    /// Signs off with the next call.
    pub fn leave(&mut self, now: Moment) {
        self.leaving = true;
        self.claim = None;
        self.due = now;
    }

    /// The next call, for a server with this identity.
    pub fn request(&mut self, server: &str, now: Moment) -> Request {
        self.ledger.expire(self.terms.window, now);
        let listening = matches!(self.phase, Phase::Listening(_));
        let op = match (listening, self.leaving) {
            (true, _) => Op::Listen,
            (false, true) => Op::Leave,
            (false, false) => Op::Call,
        };
        let claim = self.claim.clone().filter(|_| self.told == self.generation && op == Op::Call);
        let tell = self.told != self.generation && self.generation > 0 && op != Op::Listen;
        let roster = now >= self.roster_due;
        self.call += 1;
        self.asked =
            Some(Asked { at: now, op, claim: claim.clone(), sent: self.ledger.sent_untold(), told: tell });
        let cap = match self.line.cap(now) {
            0 if self.answered == 0 => self.first_cap,
            cap => cap,
        };
        Request {
            op,
            me: self.identity.name.clone(),
            id: self.identity.id.clone(),
            server: server.to_owned(),
            generation: self.told,
            sequence: self.sequence,
            call: self.call,
            answered: self.answered,
            expect: self.line.expect(now),
            cap,
            validity: millis(self.terms.validity()),
            silence: millis(SILENCE),
            forget: millis(FORGET),
            hold: millis(self.hold_until.since(now)),
            remembers: self.file.as_ref().is_some_and(|file| !file.is_empty()),
            patience: millis(PATIENCE),
            probation: millis(PROBATION.min(self.terms.window / 2)),
            known: self.joined_at.map_or(0, |at| millis(now.since(at))),
            poll: millis(POLL),
            quotas: vec![Quota {
                limit: self.terms.limit,
                window: millis(self.terms.window) + 1,
                share: self.terms.share,
            }],
            interval: self.terms.interval_ms(),
            burst: self.terms.burst,
            reserve: self.terms.reserve.min(self.terms.limit / 2),
            fleet_max: self.terms.fleet_max,
            held: self.ledger.held(),
            sent: self.ledger.untold(now),
            claim: claim.map(|claim| ClaimOf {
                class: claim.class,
                waited: millis(now.since(claim.arrived)),
                client: client_hash(&claim.client),
                draws: vec![super::protocol::KEY_QUOTA],
            }),
            tell: tell.then(|| self.tell(now)),
            about: self.about.clone().filter(|_| roster),
            roster,
        }
    }

    /// The answer to the last request.
    pub fn answered(&mut self, answer: Answer, now: Moment) -> Option<Grant> {
        let asked = self.asked.take()?;
        self.failures = 0;
        self.other_version = answer.state == State::Version;
        self.line.saw_raw(answer.raw, asked.at);
        match answer.state {
            State::Listen => {
                self.listened(&answer, now);
                return None;
            }
            State::Late => {
                self.line.jumped();
                self.due = now;
                return None;
            }
            State::Overtaken => {
                self.due = now;
                return None;
            }
            State::Version => {
                self.due = now + HEARTBEAT;
                return None;
            }
            State::Tell | State::Repair | State::Idle | State::Wait | State::Grant => {}
        }
        self.line.saw_fleet(answer.now, now);
        self.heard = Some(asked.at);
        self.joined_at.get_or_insert(now);
        self.answered = self.call;
        self.ledger.told(&asked.sent);
        self.sequence = answer.sequence;
        self.hold_until = now + Duration::from_millis(answer.hold);
        self.seen = (answer.limit, answer.used, answer.absent);
        if self.generation != answer.generation {
            self.generation = answer.generation;
        } else if asked.told {
            self.told = self.generation;
            self.file = None;
        }
        // What was known before writes were lost is told first.
        if let Some(roster) = answer.roster.filter(|_| self.told == self.generation) {
            self.roster = roster;
            self.roster_at = Some(asked.at);
            self.roster_due = now + HEARTBEAT;
        }
        self.behind = answer.behind;
        self.repairing = matches!(answer.state, State::Tell | State::Repair);
        let wait = answer.wait.map_or(ASK_AGAIN, |millis| Duration::from_secs_f64(millis.max(0.0) / 1000.0));
        self.due = match answer.state {
            State::Tell => now,
            State::Repair => now + ASK_AGAIN.min(wait),
            State::Wait => now + wait.min(ASK_AGAIN),
            _ if asked.op == Op::Leave => Moment::NEVER,
            _ if self.claim.is_some() && asked.claim.is_none() => now,
            _ => now + HEARTBEAT,
        };
        let id = answer.id.filter(|_| answer.state == State::Grant)?;
        let valid_until = asked.at + self.terms.validity();
        self.ledger.granted(id.clone(), valid_until, false);
        // The limiter claims anew when it has used this one.
        let urgent = asked.claim.is_some_and(|claim| claim.class == 0);
        self.claim = None;
        Some(Grant { id: id.into(), valid_until, urgent })
    }

    /// The last request had no answer. Tells when the next try may be made.
    pub fn failed(&mut self, now: Moment) {
        self.asked = None;
        let (first, most) = BACK_OFF;
        self.due = now + first.saturating_mul(1 << self.failures.min(8)).min(most);
        self.failures = self.failures.saturating_add(1);
    }

    /// A place out of its own share, where it may and something waits.
    pub fn share(&mut self, now: Moment) -> Option<Grant> {
        if self.standing(now) != Standing::Sharing {
            return None;
        }
        self.ledger.expire(self.terms.window, now);
        let share = self.terms.share.min(self.terms.limit) as usize;
        let claim = self.claim.take_if(|_| self.ledger.used() < share)?;
        self.shares += 1;
        let id = format!(
            "{}.s{}|{}|{}",
            self.generation,
            self.shares,
            client_hash(&claim.client),
            self.identity.name
        );
        let valid_until = now + self.terms.validity();
        self.ledger.granted(id.clone(), valid_until, true);
        Some(Grant { id: id.into(), valid_until, urgent: false })
    }

    /// When [`share`](Member::share) may have another place, or may begin.
    #[must_use]
    pub fn share_at(&self, now: Moment) -> Moment {
        let share = self.terms.share.min(self.terms.limit) as usize;
        if share == 0 || self.claim.is_none() {
            return Moment::NEVER;
        }
        match self.standing(now) {
            Standing::Sharing => (self.ledger.used() + 1)
                .checked_sub(share)
                .and_then(|nth| self.ledger.nth_leaves(nth, self.terms.window))
                .map_or(now, |leaves| leaves.max(now)),
            Standing::Away => self.shares_from(),
            _ => Moment::NEVER,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self, now: Moment) -> Standing {
        let silent = now.since(self.heard.unwrap_or(self.started)) > SILENCE;
        match self.phase {
            _ if self.other_version => Standing::OtherVersion,
            _ if silent && self.terms.share > 0 && now >= self.shares_from() => Standing::Sharing,
            _ if silent && self.failures > 0 => Standing::Away,
            Phase::Listening(_) => Standing::Joining,
            Phase::Joined if self.told == 0 => Standing::Joining,
            Phase::Joined if self.repairing => Standing::Repairing,
            Phase::Joined => Standing::Joined,
        }
    }

    /// What the limiter is told.
    #[must_use]
    pub fn sight(&self, now: Moment) -> Sight {
        let (limit, used, _) = self.seen;
        let standing = self.standing(now);
        let refuses = match standing {
            Standing::Away => self.terms.share == 0,
            standing => standing == Standing::OtherVersion,
        };
        Sight { standing, limit, used, behind: self.behind, refuses }
    }

    /// For how many silent sidecars a share is left.
    #[must_use]
    pub fn absent(&self) -> u32 {
        self.seen.2
    }

    /// The next moment at which the standing changes by itself.
    #[must_use]
    pub fn silent_at(&self, now: Moment) -> Moment {
        let at = self.heard.unwrap_or(self.started) + SILENCE + Duration::from_millis(1);
        if at > now { at } else { self.shares_from() }
    }

    /// The fleet as last heard.
    #[must_use]
    pub fn roster(&self) -> &[Peer] {
        &self.roster
    }

    /// When the fleet was last listed.
    #[must_use]
    pub fn listed(&self) -> Option<Moment> {
        self.roster_at
    }

    /// When the last call was made that Redis answered.
    #[must_use]
    pub fn heard(&self) -> Option<Moment> {
        self.heard
    }

    /// From when on the share may be used: nothing that was granted before it was cut off counts any more.
    fn shares_from(&self) -> Moment {
        match self.heard {
            // The others know of it, and keep its share free, only once it has joined.
            Some(heard) if self.told > 0 => heard + self.terms.window + self.terms.validity() + SILENCE,
            _ => Moment::NEVER,
        }
    }

    fn listened(&mut self, answer: &Answer, now: Moment) {
        let Phase::Listening(since) = &mut self.phase else { return };
        let (began, last) = *since.get_or_insert((now, answer.last));
        let others = answer.last != last;
        let alone = now.since(began) >= LISTEN.min(self.terms.window / 2);
        self.due = now + LISTEN / 20;
        if answer.last.is_some() && !others && !alone {
            return;
        }
        // Nobody has watched the clock: it may have jumped since, by so much at most.
        let slack = millis(self.terms.window / 4);
        self.first_cap = match answer.last {
            Some(last) if !others => last.max(answer.now.saturating_sub(slack)),
            _ => 0,
        };
        if answer.last.is_some() {
            self.line.saw_fleet(answer.now, now);
        }
        self.phase = Phase::Joined;
        self.due = now;
    }

    fn tell(&self, now: Moment) -> Tell {
        let since_roster = self.roster_at.map_or(Duration::ZERO, |at| now.since(at));
        let peer = |peer: &Peer| {
            let silent = peer.silent + i64::try_from(millis(since_roster)).unwrap_or(i64::MAX);
            let left = if peer.left { silent } else { -1 };
            (peer.name.clone(), peer.id.clone(), left, peer.shares)
        };
        let file = self.file.as_ref().map(|file| {
            let mut ages: Vec<_> = file.iter().map(|&(age, at)| millis(age + now.since(at))).collect();
            ages.sort_unstable();
            ages
        });
        Tell {
            generation: self.generation,
            own: self.ledger.all(now),
            file,
            peers: self.roster.iter().filter(|peer| peer.name != self.identity.name).map(peer).collect(),
        }
    }
}

#[cfg(test)]
#[path = "member_tests.rs"]
mod tests;
