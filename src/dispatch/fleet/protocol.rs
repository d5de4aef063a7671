//! What a sidecar and the script say to one another: the request, the answer, and the names of the keys.
//!
//! Times are whole milliseconds. Ages are rounded down and waits up, so that a place never counts from before its time.

use ring::digest;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The script; its head states what it holds to.
pub const SCRIPT: &str = include_str!("take.lua");

/// A sidecar that is not heard for so long is away: for itself, and for the others.
pub const SILENCE: Duration = Duration::from_secs(3);

/// The number of the key's own window among the quotas of a request, as Lua counts.
pub const KEY_QUOTA: usize = 1;

/// One call of the script.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// What is asked.
    pub op: Op,
    /// This sidecar, in this life: `replica_id~nonce`.
    pub me: String,
    /// Its `replica_id`.
    pub id: String,
    /// The identity of the server that the connection leads to.
    pub server: String,
    /// The highest generation that this sidecar has seen; 0 for one that knows nothing.
    pub generation: u64,
    /// The highest sequence number that it has seen in that generation.
    pub sequence: u64,
    /// The number of this call, from 1.
    pub call: u64,
    /// The number of its last call whose answer came.
    pub answered: u64,
    /// What Redis' clock shows at most when this call is executed in time; 0 is unknown.
    pub expect: u64,
    /// The most that the fleet's time can be; 0 is unbounded.
    pub cap: u64,
    /// For so long a grant may be used.
    pub validity: u64,
    /// A sidecar that is not heard for so long is away.
    pub silence: u64,
    /// One that is not heard for so long and did not sign off is forgotten.
    pub forget: u64,
    /// For so long nothing may be granted, as far as this sidecar knows.
    pub hold: u64,
    /// Whether it has something to tell of its last life.
    pub remembers: bool,
    /// A best claim whose sidecar does not come for its place for so long is passed over.
    pub patience: u64,
    /// A sidecar that has just joined is granted nothing for so long, until the others know of it.
    pub probation: u64,
    /// For so long it has been a member, as far as it knows.
    pub known: u64,
    /// How soon one that was not the best may ask again.
    pub poll: u64,
    /// The quotas that this call names, the key's first.
    pub quotas: Vec<Quota>,
    /// The bucket: milliseconds between two places, 0 is off.
    pub interval: f64,
    /// The bucket: places at once.
    pub burst: u32,
    /// Places kept for URGENT.
    pub reserve: u32,
    /// The most sidecars that the fleet may have, 0 is unknown.
    pub fleet_max: u32,
    /// Places that are held and not yet used.
    pub held: Vec<String>,
    /// Places that were used: which, how long ago, of which quotas.
    pub sent: Vec<(String, i64, Vec<usize>)>,
    /// The best request that waits here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimOf>,
    /// This sidecar's own window, told again after writes were lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tell: Option<Tell>,
    /// What the other sidecars are shown of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Whether to list the fleet.
    pub roster: bool,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Look at the clock and at whether others are there; changes nothing.
    Listen,
    /// Everything else.
    Call,
    /// Sign off.
    Leave,
}

/// A window with its limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quota {
    /// Places in it.
    pub limit: u32,
    /// Its length with the margin.
    pub window: u64,
    /// Places that a sidecar may take by itself when it is cut off.
    pub share: u32,
}

/// A waiting request's claim to the next place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimOf {
    /// Its priority after aging, 0 is URGENT.
    pub class: usize,
    /// For how long it has waited.
    pub waited: u64,
    /// A hash of its client.
    pub client: String,
    /// The quotas that it draws on.
    pub draws: Vec<usize>,
}

/// A sidecar's own last window.
#[derive(Clone, Debug, Serialize)]
pub struct Tell {
    /// The generation that it is told for.
    pub generation: u64,
    /// Places, how long ago they were used (negative: may still be used for so long), of which quotas.
    pub own: Vec<(String, i64, Vec<usize>)>,
    /// Ages of what its last life sent, newest first, if it has a state file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Vec<u64>>,
    /// The sidecars that it has heard of: name, `replica_id`, how long ago it signed off (-1: it did not), whether it may send
    /// a share by itself.
    pub peers: Vec<(String, String, i64, bool)>,
}

/// The script's answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// What it comes to.
    pub state: State,
    /// Redis' clock.
    pub raw: u64,
    /// The fleet's time.
    #[serde(default)]
    pub now: u64,
    /// When the fleet's time was last written, for one that listens; `None` where nothing was.
    #[serde(default)]
    pub last: Option<u64>,
    /// The generation.
    #[serde(default)]
    pub generation: u64,
    /// The sequence number.
    #[serde(default)]
    pub sequence: u64,
    /// The place that is granted.
    #[serde(default)]
    pub id: Option<String>,
    /// How long to wait before asking again.
    #[serde(default)]
    pub wait: Option<f64>,
    /// The places of the key's window, as the whole fleet has it.
    #[serde(default)]
    pub limit: u32,
    /// How many of them are in use.
    #[serde(default)]
    pub used: u32,
    /// For so long nothing is granted because nothing vouches for what was sent before.
    #[serde(default)]
    pub hold: u64,
    /// For how many silent sidecars a share is left.
    #[serde(default)]
    pub absent: u32,
    /// Another sidecar's claim goes before this one's.
    #[serde(default)]
    pub behind: bool,
    /// The layout's version, where it is another one.
    #[serde(default)]
    pub version: u64,
    /// The fleet, if it was asked for.
    #[serde(default)]
    pub roster: Option<Vec<Peer>>,
}

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// To one that listens.
    Listen,
    /// The call came too late, or the clock jumped: nothing was changed.
    Late,
    /// A later call of this sidecar came first: nothing was changed.
    Overtaken,
    /// The keys have another layout: nothing was changed.
    Version,
    /// Tell your last window first.
    Tell,
    /// Others have to tell theirs.
    Repair,
    /// Nothing was claimed.
    Idle,
    /// No place yet.
    Wait,
    /// A place.
    Grant,
}

/// One sidecar of the fleet, as the others see it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Peer {
    /// Its name in this life.
    pub name: String,
    /// Its `replica_id`.
    pub id: String,
    /// Milliseconds since it was heard.
    pub silent: i64,
    /// Whether it has signed off.
    pub left: bool,
    /// Whether it may send a share by itself.
    pub shares: bool,
    /// What it says of itself.
    #[serde(default)]
    pub about: Option<String>,
}

impl Peer {
    /// Whether it is there.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.left && self.silent <= i64::try_from(SILENCE.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The keys of one fleet, with one hash tag: a hash of the upstream and the key that they share.
#[must_use]
pub fn keys(upstream_host: &str, api_key: &str) -> Vec<String> {
    let tag = digest(&[upstream_host.as_bytes(), b"\n", api_key.as_bytes()]);
    ["meta", "replicas", "claims", "served", "key"]
        .map(|key| format!("nvidia-sidecar:{{{tag}}}:{key}"))
        .into()
}

/// A short name for a client, which is nobody's business in Redis.
#[must_use]
pub fn client_hash(client: &str) -> String {
    digest(&[client.as_bytes()])
}

fn digest(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    hex(&context.finish().as_ref()[..8])
}

/// The name under which Redis keeps the script.
#[must_use]
pub fn script_sha() -> String {
    hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, SCRIPT.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
