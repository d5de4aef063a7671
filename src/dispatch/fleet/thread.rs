//! The thread that talks to Redis for the limiter, which never waits for it.
//!
//! It takes what the limiter claims and says, calls the script when its [`Member`] wants it to, and passes grants on. It ends when the
//! limiter does, after signing off.

use super::connection::{Link, Server, Unavailable};
use super::handle::{Fleet, Note, Word};
use super::member::{Identity, Member, Terms};
use super::protocol::Peer;
use crate::clock::{Clock, Moment};
use crate::config::LiveConfig;
use crate::limiter::shared::{Grant, Sight, Standing, Use};
use crate::limiter::snapshot::Snapshot;
use crate::published::Published;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How often what others are shown of this sidecar is put together.
const ABOUT_EVERY: Duration = Duration::from_secs(1);
/// Calls that are tried to sign off.
const FAREWELLS: u32 = 2;

/// The fleet as it is shown.
#[derive(Clone, Debug, Default)]
pub struct FleetView {
    /// This sidecar's `replica_id`.
    pub id: String,
    /// How it stands.
    pub sight: Sight,
    /// Sidecars that are silent and for which a share is left.
    pub absent: u32,
    /// When Redis last answered.
    pub heard: Option<Moment>,
    /// Why Redis does not answer, if it does not.
    pub error: Option<String>,
    /// Calls that were answered, and calls or connections that failed.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// All sidecars, this one among them, as last listed, and when that was.
    pub replicas: Vec<Peer>,
    /// When they were listed.
    pub listed: Option<Moment>,
}

impl FleetView {
    /// How many sidecars were heard when they were last listed.
    #[must_use]
    pub fn live(&self) -> usize {
        self.replicas.iter().filter(|peer| peer.is_live()).count()
    }
}

/// What the thread is made of.
pub struct Parts {
    /// The running configuration: another upstream key is another fleet.
    pub live: Arc<LiveConfig>,
    /// Where Redis is.
    pub server: Server,
    /// Who this is.
    pub identity: Identity,
    /// The window and its bounds.
    pub terms: Terms,
    /// What the last life sent, as ages, where a state file is kept.
    pub file: Option<Vec<Duration>>,
    /// What is shown of this sidecar.
    pub snapshot: Arc<Published<Snapshot>>,
    /// Where the fleet is shown.
    pub view: Arc<Published<FleetView>>,
    /// The clock.
    pub clock: Clock,
}

/// The thread before it runs.
pub struct FleetThread {
    member: Member,
    identity: Identity,
    terms: Terms,
    live: Arc<LiveConfig>,
    server: Server,
    keys: Vec<String>,
    link: Option<Link>,
    generation: u64,
    notes: Receiver<Note>,
    words: Sender<Word>,
    snapshot: Arc<Published<Snapshot>>,
    view: Arc<Published<FleetView>>,
    shown: FleetView,
    told: Sight,
    about_at: Moment,
    clock: Clock,
}

impl FleetThread {
    /// A thread, and the limiter's way to it.
    #[must_use]
    pub fn new(parts: Parts) -> (FleetThread, Fleet) {
        let Parts { live, server, identity, terms, file, snapshot, view, clock } = parts;
        let (note_sender, notes) = unbounded();
        let (words, word_receiver) = unbounded();
        let now = clock.now();
        let shown = FleetView { id: identity.id.clone(), ..FleetView::default() };
        view.publish(shown.clone());
        let fleet = Fleet::new(note_sender, word_receiver, terms.clone());
        let keys = super::keys(&live.snapshot());
        let member = Member::new(identity.clone(), terms.clone(), file, now);
        let told = Sight::default();
        let thread = FleetThread {
            member,
            identity,
            terms,
            live,
            server,
            keys,
            link: None,
            generation: 0,
            notes,
            words,
            snapshot,
            view,
            shown,
            told,
            about_at: now,
            clock,
        };
        (thread, fleet)
    }

    /// Runs until the limiter has ended, then signs off.
    pub fn run(mut self) {
        while self.wait() {
            let now = self.clock.now();
            if let Some(grant) = self.member.share(now) {
                self.say(Word::Granted(grant));
            }
            if now >= self.member.due() {
                self.call();
            }
            self.show();
        }
        self.sign_off();
    }

    fn sign_off(&mut self) {
        self.member.leave(self.clock.now());
        for _ in 0..FAREWELLS {
            if self.ask().is_ok() && self.member.due() == Moment::NEVER {
                break;
            }
        }
    }

    /// The upstream or its key was changed: another fleet, whose last window nothing here vouches for.
    fn change_fleet(&mut self, keys: Vec<String>) {
        log::info!("the upstream's key has changed: leaving one fleet for another");
        self.sign_off();
        (self.link, self.keys, self.generation) = (None, keys, 0);
        let identity = self.identity.anew();
        self.member = Member::new(identity, self.terms.clone(), None, self.clock.now());
    }

    /// Takes what the limiter says until something is due; tells whether the limiter is still there.
    fn wait(&mut self) -> bool {
        let now = self.clock.now();
        let due = self.member.due().min(self.member.share_at(now)).min(self.member.silent_at(now));
        let deadline = self.clock.instant(due);
        let mut note = self.notes.recv_deadline(deadline);
        loop {
            match note {
                Ok(said) => self.take(said),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            note = match self.notes.try_recv() {
                Ok(said) => Ok(said),
                Err(_) => return true,
            };
        }
    }

    fn take(&mut self, note: Note) {
        let now = self.clock.now();
        match note {
            Note::Claim(claim) => self.member.claim(claim, now),
            Note::Terms(terms) => {
                self.terms = terms.clone();
                self.member.set_terms(terms);
            }
            Note::Used(uses) => {
                for used in uses {
                    match used {
                        Use::Sent { id, at } => self.member.sent(&id, at, now),
                        Use::GivenBack { id } => self.member.give_back(&id, now),
                    }
                }
            }
        }
    }

    fn call(&mut self) {
        let now = self.clock.now();
        if now >= self.about_at {
            self.about_at = now + ABOUT_EVERY;
            self.member.set_about(about(&self.snapshot.read()));
            let keys = super::keys(&self.live.snapshot());
            if keys != self.keys {
                return self.change_fleet(keys);
            }
        }
        match self.ask() {
            Ok(granted) => {
                self.shown.calls += 1;
                if let Some(why) = self.shown.error.take() {
                    log::info!("Redis answers again (it did not: {why})");
                }
                granted.into_iter().for_each(|grant| self.say(Word::Granted(grant)));
            }
            Err(why) => {
                self.link = None;
                self.member.failed(self.clock.now());
                self.shown.failures += 1;
                let why = why.to_string();
                if self.shown.error.as_ref() != Some(&why) {
                    log::warn!("the fleet's Redis cannot be used: {why}");
                }
                self.shown.error = Some(why);
            }
        }
    }

    fn ask(&mut self) -> Result<Option<Grant>, Unavailable> {
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.server, self.keys.clone())?,
        };
        let link = self.link.insert(link);
        let request = self.member.request(link.identity(), self.clock.now());
        let answer = link.call(&request)?;
        let generation = answer.generation;
        let granted = self.member.answered(answer, self.clock.now());
        if generation != self.generation && generation > 0 {
            // Somebody has found another server, or another life of this one.
            self.generation = generation;
            link.look_again()?;
        }
        Ok(granted)
    }

    /// Tells the limiter and the pages what has changed.
    fn show(&mut self) {
        let now = self.clock.now();
        let sight = self.member.sight(now);
        if sight != self.told {
            if sight.standing != self.told.standing {
                tell(self.told.standing, sight.standing);
            }
            self.told = sight;
            self.say(Word::Sight(sight));
        }
        let (heard, listed) = (self.member.heard(), self.member.listed());
        let stale = self.shown.sight.standing != sight.standing
            || listed != self.shown.listed
            || self.view.read().failures != self.shown.failures
            || self.view.read().error != self.shown.error;
        if stale {
            self.shown.sight = sight;
            self.shown.absent = self.member.absent();
            self.shown.heard = heard;
            self.shown.listed = listed;
            self.shown.replicas = self.member.roster().to_vec();
            self.view.publish(self.shown.clone());
        }
    }

    fn say(&self, word: Word) {
        // Fails only when the limiter has ended; the place is given back with the sign-off.
        let _ = self.words.send(word);
    }
}

/// What the others are shown of a sidecar.
fn about(snapshot: &Snapshot) -> String {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "depth": snapshot.queue.current_size + snapshot.queue.overflow,
        "in_flight": snapshot.in_flight,
        "effective_rpm": snapshot.retreat.effective_rpm,
        "retreat_state": snapshot.retreat.state.as_str(),
    })
    .to_string()
}

fn tell(from: Standing, to: Standing) {
    match to {
        Standing::Joined if from == Standing::Joining => log::info!("joined the fleet"),
        Standing::Joined => log::info!("the fleet's window is in force again"),
        Standing::Joining => {}
        Standing::Repairing => log::warn!(
            "the fleet gathers what was sent in the last window, since Redis cannot vouch for it; limited requests wait"
        ),
        Standing::Away => log::error!("Redis does not answer: no limited request is sent until it does"),
        Standing::Sharing => {
            log::error!("Redis does not answer: this sidecar sends its own share of the rate");
        }
        Standing::OtherVersion => log::error!(
            "the fleet's keys in Redis were written by another version with another layout: no limited request is sent until its sidecars are gone"
        ),
    }
}
