//! The connection to Redis: where it leads, as whom, and one call of the script over it.

use super::protocol::{self, Answer, Request};
use crate::config::Secret;
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo,
    RedisError, RedisResult, ServerErrorKind, TlsCertificates, cmd,
};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// For so long one call, or the making of one connection, may take.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Where Redis is, and how it is entered.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// `redis://`, `rediss://` or `unix:`; with sentinels, how the nodes that they name are reached.
    pub url: Secret,
    /// The user of the ACL.
    pub user: Option<String>,
    /// The file with the password, read at each connection.
    pub password_file: Option<PathBuf>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `host:port` of each Sentinel.
    pub sentinels: Vec<String>,
    /// The name that Sentinel has for the fleet's Redis.
    pub master: Option<String>,
}

/// Why there is no answer. What it says holds no secret: Redis' own words, a path or the system's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// What Redis says of a command within a script that the ACL does not allow.
const NOT_IN_SCRIPT: &str = "The user executing the script can't run this command";

impl From<RedisError> for Unavailable {
    fn from(error: RedisError) -> Unavailable {
        let text = error.to_string();
        let is_forbidden =
            error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) || text.contains(NOT_IN_SCRIPT);
        Unavailable(match error.kind() {
            ErrorKind::AuthenticationFailed => {
                format!(
                    "Redis refuses the user or the password ({text}); see redis_user and redis_password_file"
                )
            }
            _ if is_forbidden => {
                format!(
                    "Redis' ACL does not allow what the fleet needs ({text}); docs/OPERATIONS.md has the line"
                )
            }
            ErrorKind::Server(ServerErrorKind::ReadOnly) => REPLICA.into(),
            _ if error.code() == Some("OOM") => format!("Redis has no memory left ({text}); raise maxmemory"),
            _ if error.is_timeout() => format!("Redis did not answer within {} ms", TIMEOUT.as_millis()),
            _ => text,
        })
    }
}

/// A server that only follows another.
const REPLICA: &str = "this Redis is a replica and takes no writes";

/// A connection to the server that takes writes.
pub struct Link {
    connection: Connection,
    /// Which server this is, in which of its lives: another one may lack the last writes.
    identity: String,
    keys: Vec<String>,
    sha: String,
}

impl Link {
    /// Connects, and makes sure that the server takes writes.
    ///
    /// # Errors
    /// When it cannot be reached or entered, or is a replica.
    pub fn open(server: &Server, keys: Vec<String>) -> Result<Link, Unavailable> {
        let info = server.info()?;
        let info = match &server.master {
            Some(master) => {
                let addr = server.ask_sentinels(master, info.addr())?;
                info.set_addr(addr)
            }
            None => info,
        };
        let mut connection = server.connect(info)?;
        let identity = identity(&mut connection)?;
        Ok(Link { connection, identity, keys, sha: protocol::script_sha() })
    }

    /// Which server this is.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Looks again at which server this is: the fleet's generation has changed.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub fn look_again(&mut self) -> Result<(), Unavailable> {
        self.identity = identity(&mut self.connection)?;
        Ok(())
    }

    /// Calls the script.
    ///
    /// # Errors
    /// When there is no answer, or none of the script. The call may have been executed all the same.
    pub fn call(&mut self, request: &Request) -> Result<Answer, Unavailable> {
        let text = serde_json::to_string(request).map_err(|error| Unavailable(error.to_string()))?;
        let by_sha = cmd("EVALSHA").arg(&self.sha).arg(self.keys.len()).arg(&self.keys).arg(&text).to_owned();
        let answer: RedisResult<String> = match by_sha.query(&mut self.connection) {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => cmd("EVAL")
                .arg(protocol::SCRIPT)
                .arg(self.keys.len())
                .arg(&self.keys)
                .arg(&text)
                .query(&mut self.connection),
            other => other,
        };
        serde_json::from_str(&answer?)
            .map_err(|error| Unavailable(format!("an answer that is not understood: {error}")))
    }
}

impl Server {
    /// Whether the settings can be used at all: the URL parses, the files can be read.
    ///
    /// # Errors
    /// When they cannot.
    pub fn check(&self) -> Result<(), Unavailable> {
        self.info()?;
        self.certificates().map(drop)
    }

    fn info(&self) -> Result<ConnectionInfo, Unavailable> {
        let info = self.url.expose().into_connection_info()?;
        let mut entry = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(user) = &self.user {
            entry = entry.set_username(user);
        }
        if let Some(path) = &self.password_file {
            let password = fs::read_to_string(path)
                .map_err(|error| Unavailable(format!("redis_password_file {}: {error}", path.display())))?;
            entry = entry.set_password(password.trim_end_matches(['\r', '\n']));
        }
        Ok(info.set_redis_settings(entry))
    }

    fn certificates(&self) -> Result<Option<TlsCertificates>, Unavailable> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let root = fs::read(path)
            .map_err(|error| Unavailable(format!("redis_ca_file {}: {error}", path.display())))?;
        Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(root) }))
    }

    fn connect(&self, info: ConnectionInfo) -> Result<Connection, Unavailable> {
        let client = match (info.addr(), self.certificates()?) {
            (ConnectionAddr::TcpTls { .. }, Some(certificates)) => {
                Client::build_with_tls(info, certificates)?
            }
            _ => Client::open(info)?,
        };
        let connection = client.get_connection_with_timeout(TIMEOUT)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        Ok(connection)
    }

    /// The address of the node that takes writes, from the first Sentinel that knows it.
    fn ask_sentinels(&self, master: &str, like: &ConnectionAddr) -> Result<ConnectionAddr, Unavailable> {
        let mut last = Unavailable("redis_sentinels is empty".into());
        for sentinel in &self.sentinels {
            match self.ask_sentinel(sentinel, master, like) {
                Ok(addr) => return Ok(addr),
                Err(Unavailable(why)) => last = Unavailable(format!("Sentinel {sentinel}: {why}")),
            }
        }
        Err(last)
    }

    fn ask_sentinel(
        &self,
        sentinel: &str,
        master: &str,
        like: &ConnectionAddr,
    ) -> Result<ConnectionAddr, Unavailable> {
        let (host, port) = sentinel
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .ok_or_else(|| Unavailable("not host:port".into()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let info = at(like, host, port).into_connection_info()?;
        let entry = info.redis_settings().clone().set_skip_set_lib_name();
        let mut connection = self.connect(info.set_redis_settings(entry))?;
        let found: Option<(String, u16)> =
            cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).query(&mut connection)?;
        let (host, port) =
            found.ok_or_else(|| Unavailable(format!("it does not know redis_master {master:?}")))?;
        Ok(at(like, &host, port))
    }
}

/// An address that is reached as another one is, with TLS or without.
fn at(like: &ConnectionAddr, host: &str, port: u16) -> ConnectionAddr {
    let host = host.to_owned();
    match like {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

/// The server's run and its history: a restart changes the first, a promotion or a demotion the second.
fn identity(connection: &mut Connection) -> Result<String, Unavailable> {
    let mut info = |section: &str| -> RedisResult<String> {
        String::from_redis_value(cmd("INFO").arg(section).query(connection)?).map_err(Into::into)
    };
    let text = info("server")? + &info("replication")?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .unwrap_or_default()
    };
    if field("role") != "master" {
        return Err(Unavailable(REPLICA.into()));
    }
    Ok(format!("{}/{}", field("run_id"), field("master_replid")))
}
