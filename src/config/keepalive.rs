//! Signs of life to a client whose answer takes long.

use std::time::Duration;

use super::key::Reload::Live;
use super::key::Variable::Own;
use super::key::{Keys, Row, Section};
use super::kind::OrOff;
use super::number::{HOUR, Seconds};
use super::word::{Words, choice};

/// The shortest wait for a sign. Below a second is of use to tests alone, whose clients' time-outs are scaled down.
const SOONEST: f64 = 0.1;

/// Signs of life to a client whose answer takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// `keepalive`: the form of the frames.
    pub mode: KeepaliveMode,
    /// `keepalive_after`: how long nothing is sent, so that what is known by then keeps its true status.
    pub after: Duration,
    /// `keepalive_interval`: the longest silence towards the client from then on.
    pub interval: Duration,
    /// `keepalive_json`: after how long, and how often, an answer that is not a stream is kept alive with a newline.
    pub json: Option<Duration>,
}

/// The form of the frames that say that a stream is alive; a client may ask for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepaliveMode {
    /// What the endpoint's clients count as progress.
    Auto,
    /// Comments, as an event stream defines them.
    Comment,
    /// None.
    Off,
}

impl Words for KeepaliveMode {
    const WORDS: &'static [(&'static str, KeepaliveMode)] =
        &[("auto", KeepaliveMode::Auto), ("comment", KeepaliveMode::Comment), ("off", KeepaliveMode::Off)];
}

impl KeepaliveMode {
    /// The mode of that name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<KeepaliveMode> {
        KeepaliveMode::of_word(name)
    }
}

impl Section for Keepalive {
    fn build(keys: &mut impl Keys<Keepalive>) -> Keepalive {
        Keepalive {
            mode: keys.key(&Row {
                name: "keepalive",
                variable: Own,
                reload: Live,
                kind: choice(),
                default: KeepaliveMode::Auto,
                of: |c| &c.mode,
                text: "Signs of life in an event stream whose answer takes long: `auto` in the form that the endpoint's clients count as progress, `comment` as comments, `off`. A request's `X-Sidecar-Keepalive` comes first.",
            }),
            after: keys.key(&Row {
                name: "keepalive_after",
                variable: Own,
                reload: Live,
                kind: Seconds(SOONEST..=HOUR),
                default: Duration::from_secs(40),
                of: |c| &c.after,
                text: "Seconds until the first of them, {range}; what is known before keeps its true status. Sooner for a client that says it is less patient.",
            }),
            interval: keys.key(&Row {
                name: "keepalive_interval",
                variable: Own,
                reload: Live,
                kind: Seconds(SOONEST..=300.0),
                default: Duration::from_secs(15),
                of: |c| &c.interval,
                text: "Seconds of silence towards the client after which the next follows, {range}.",
            }),
            json: keys.key(&Row {
                name: "keepalive_json",
                variable: Own,
                reload: Live,
                kind: OrOff(Seconds(1.0..=HOUR)),
                default: None,
                of: |c| &c.json,
                text: "Seconds, {range}, after which an answer that is not a stream gets its 200 and then a newline every so many seconds, for clients that give up on silence; `off` keeps the true status.",
            }),
        }
    }
}
