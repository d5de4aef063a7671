//! One quota for several sidecars: where the Redis is that they share, and what holds when it is away.

use std::path::PathBuf;

use redis::IntoConnectionInfo;

use super::key::Reload::Restart;
use super::key::Variable::Own;
use super::key::{Keys, Row, Section};
use super::kind::{Kind, Misfit, Optional, as_text};
use super::list::{List, Name};
use super::number::Whole;
use super::raw::Raw;
use super::secret::Secret;
use super::spelling::shown_text;
use super::text::FilePath;
use super::word::{Words, choice};

/// The most sidecars of one fleet.
const MAX_FLEET: u32 = 64;
/// The most Sentinels that are asked.
const MAX_SENTINELS: usize = 16;

/// The fleet's keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// `redis_url`; without one the sidecar has its windows for itself.
    pub url: Option<Secret>,
    /// `redis_user`.
    pub user: Option<String>,
    /// `redis_password_file`.
    pub password_file: Option<PathBuf>,
    /// `redis_ca_file`.
    pub ca_file: Option<PathBuf>,
    /// `redis_sentinels`, each `host:port`.
    pub sentinels: Vec<String>,
    /// `redis_master`, the name under which Sentinel knows it.
    pub master: Option<String>,
    /// `fleet_max`: the most sidecars that ever run at one time; 0 is unknown.
    pub max: u32,
    /// `replica_id`; `None` is the host's name.
    pub replica_id: Option<String>,
    /// `redis_away`; `None` is `share` with a `fleet_max` and `pause` without.
    pub away: Option<RedisAway>,
}

/// What limited requests do while Redis is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisAway {
    /// They are refused.
    Pause,
    /// Each sidecar sends its share of the rate.
    Share,
}

impl Words for RedisAway {
    const WORDS: &'static [(&'static str, RedisAway)] =
        &[("pause", RedisAway::Pause), ("share", RedisAway::Share)];
}

impl Fleet {
    /// How many sidecars share the rate when Redis is away; 0 where none sends then.
    #[must_use]
    pub fn sharers(&self) -> u32 {
        if self.away == Some(RedisAway::Pause) { 0 } else { self.max }
    }
}

impl Section for Fleet {
    fn build(keys: &mut impl Keys<Fleet>) -> Fleet {
        Fleet {
            url: keys.key(&Row {
                name: "redis_url",
                variable: Own,
                reload: Restart,
                kind: Optional(RedisUrl),
                default: None,
                of: |c| &c.url,
                text: "Redis from 6 on or Valkey, in which sidecars with the same key share its windows: `redis://`, `rediss://` (TLS) or `unix:`. Without one, a sidecar has them for itself.",
            }),
            user: keys.key(&Row {
                name: "redis_user",
                variable: Own,
                reload: Restart,
                kind: Optional(Name),
                default: None,
                of: |c| &c.user,
                text: "The user of Redis' ACL.",
            }),
            password_file: keys.key(&Row {
                name: "redis_password_file",
                variable: Own,
                reload: Restart,
                kind: Optional(FilePath),
                default: None,
                of: |c| &c.password_file,
                text: "The file with that user's password, read at each connection.",
            }),
            ca_file: keys.key(&Row {
                name: "redis_ca_file",
                variable: Own,
                reload: Restart,
                kind: Optional(FilePath),
                default: None,
                of: |c| &c.ca_file,
                text: "Certificates to trust for `rediss://` instead of the system's, as PEM.",
            }),
            sentinels: keys.key(&Row {
                name: "redis_sentinels",
                variable: Own,
                reload: Restart,
                kind: List { most: MAX_SENTINELS, item: HostPort },
                default: Vec::new(),
                of: |c| &c.sentinels,
                text: "Sentinels as `host:port`, asked for the node that takes writes. `redis_url` then says how that node is reached; its host is not used.",
            }),
            master: keys.key(&Row {
                name: "redis_master",
                variable: Own,
                reload: Restart,
                kind: Optional(Name),
                default: None,
                of: |c| &c.master,
                text: "The name under which the Sentinels know it.",
            }),
            max: keys.key(&Row {
                name: "fleet_max",
                variable: Own,
                reload: Restart,
                kind: Whole(0..=MAX_FLEET),
                default: 0,
                of: |c| &c.max,
                text: "The most sidecars that ever run at one time, those that start during an upgrade among them; 0 is unknown.",
            }),
            replica_id: keys.key(&Row {
                name: "replica_id",
                variable: Own,
                reload: Restart,
                kind: Optional(Name),
                default: None,
                of: |c| &c.replica_id,
                text: "This sidecar's name in its fleet, unique in it; the host's name where none is given.",
            }),
            away: keys.key(&Row {
                name: "redis_away",
                variable: Own,
                reload: Restart,
                kind: Optional(choice()),
                default: None,
                of: |c| &c.away,
                text: "What limited requests do when Redis does not answer: `pause` refuses them, `share` sends `rate_rpm / fleet_max` a minute once the common minute is over. Without a value, `share` where `fleet_max` is given, else `pause`.",
            }),
        }
    }
}

/// The URL of a Redis, which may hold a password.
struct RedisUrl;

impl Kind for RedisUrl {
    type Value = Secret;

    fn read(&self, given: &Raw) -> Result<Secret, Misfit> {
        let text = as_text(given).unwrap_or_default();
        let insecure = text.ends_with("#insecure");
        if insecure || text.into_connection_info().is_err() {
            // Never repeated: it may hold a password.
            return Err(Misfit::new(
                "is not the URL of a Redis",
                "give one such as redis://host:6379, rediss://host:6380/0 or unix:/run/redis/redis.sock",
            ));
        }
        Ok(Secret::new(text))
    }

    fn show(&self, value: &Secret) -> Raw {
        Raw::Secret { shown: value.to_string(), exposed: value.clone() }
    }
}

/// An address with its port.
struct HostPort;

impl Kind for HostPort {
    type Value = String;

    fn read(&self, given: &Raw) -> Result<String, Misfit> {
        let text = as_text(given).unwrap_or_default();
        let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains(['/', '@', ' '])
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if valid {
            return Ok(text.to_owned());
        }
        Err(Misfit::new(
            format!("lists {}, which is not host:port", shown_text(text)),
            "give host:port, such as sentinel-1:26379",
        ))
    }

    fn show(&self, value: &String) -> Raw {
        Raw::Text(value.clone())
    }
}
