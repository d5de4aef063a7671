//! Who may use the sidecar.

use std::collections::BTreeMap;

use super::key::Reload::Live;
use super::key::Variable::Own;
use super::key::{Keys, Row, Section};
use super::kind::{Kind, Misfit, as_text, shown};
use super::list::{List, MAX_WORDS, Name, split};
use super::raw::Raw;
use super::secret::Secret;
use super::text::Token;

/// Clients with a token of their own.
const MAX_CLIENTS: usize = 1000;
/// The longest name of a host (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;

/// Who may use the sidecar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clients {
    /// `client_tokens`: name → bearer token, all distinct; empty lets anyone in.
    pub tokens: BTreeMap<String, Secret>,
    /// `cors_origins`, lower-case: browser origins that may call; empty means the local ones, `*` all.
    pub cors_origins: Vec<String>,
    /// `allowed_hosts`, lower-case: names under which the operator's pages may be asked for, beside those that cannot be
    /// public.
    pub allowed_hosts: Vec<String>,
}

impl Section for Clients {
    fn build(keys: &mut impl Keys<Clients>) -> Clients {
        Clients {
            tokens: keys.key(&Row {
                name: "client_tokens",
                variable: Own,
                reload: Live,
                kind: Tokens,
                default: BTreeMap::new(),
                of: |c| &c.tokens,
                text: "Names and bearer tokens of clients. When there are any, every proxied request needs one of them.",
            }),
            cors_origins: keys.key(&Row {
                name: "cors_origins",
                variable: Own,
                reload: Live,
                kind: List { most: MAX_WORDS, item: Origin },
                default: Vec::new(),
                of: |c| &c.cors_origins,
                text: "Browser origins that may call. With none, the local ones may (localhost, 127.0.0.1, [::1], app://, file://, tauri://, vscode-webview://), `*` allows all.",
            }),
            allowed_hosts: keys.key(&Row {
                name: "allowed_hosts",
                variable: Own,
                reload: Live,
                kind: List { most: MAX_WORDS, item: HostName },
                default: Vec::new(),
                of: |c| &c.allowed_hosts,
                text: "Public names under which the operator's pages may be asked for: a `Host` that is neither an address, a name without a dot, nor under .local, .lan, .internal or .home.arpa is refused there unless it is listed.",
            }),
        }
    }
}

/// A browser's `Origin` is scheme, host and port; those of desktop apps may be a scheme alone.
struct Origin;

impl Kind for Origin {
    type Value = String;

    fn read(&self, given: &Raw) -> Result<String, Misfit> {
        let text = as_text(given).unwrap_or_default().to_ascii_lowercase();
        let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty() && text.len() <= 256 && !host.contains(['/', '?', '#', '@', ','])
        });
        if text == "*" || (is_origin && text.bytes().all(|b| b.is_ascii_graphic())) {
            return Ok(text);
        }
        let problem = format!("lists {}, which is not an origin", shown(given));
        Err(Misfit::new(problem, "list `*`, or origins such as https://chat.example.org, without a path"))
    }

    fn show(&self, value: &String) -> Raw {
        Raw::Text(value.clone())
    }
}

/// The name of a host as a `Host` field has it, without the port.
struct HostName;

impl Kind for HostName {
    type Value = String;

    fn read(&self, given: &Raw) -> Result<String, Misfit> {
        let name = as_text(given).unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > MAX_HOST || !name.bytes().all(letter) {
            let problem = format!("lists {}, which is not the name of a host", shown(given));
            return Err(Misfit::new(
                problem,
                "list names such as sidecar.example.org, without scheme and port",
            ));
        }
        Ok(name)
    }

    fn show(&self, value: &String) -> Raw {
        Raw::Text(value.clone())
    }
}

/// Names and their tokens: a map in the file, `name=token` pairs in a variable.
struct Tokens;

impl Kind for Tokens {
    type Value = BTreeMap<String, Secret>;

    fn read(&self, given: &Raw) -> Result<Self::Value, Misfit> {
        let entries = entries(given)?;
        if entries.len() > MAX_CLIENTS {
            let problem = format!("has {} entries", entries.len());
            return Err(Misfit::new(problem, format!("give at most {MAX_CLIENTS}")));
        }
        let mut tokens: BTreeMap<String, Secret> = BTreeMap::new();
        for (client, token) in entries {
            let client = Name.read(&Raw::Text(client))?;
            let token = Token
                .read(&token)
                .map_err(|misfit| Misfit::new(format!("of `{client}` {}", misfit.problem), misfit.remedy))?;
            if let Some((other, _)) = tokens.iter().find(|(_, known)| **known == token) {
                let problem = format!("gives `{other}` and `{client}` the same token");
                return Err(Misfit::new(problem, "give each client its own"));
            }
            if tokens.contains_key(&client) {
                return Err(Misfit::new(format!("names `{client}` twice"), "keep one of them"));
            }
            tokens.insert(client, token);
        }
        Ok(tokens)
    }

    fn show(&self, value: &Self::Value) -> Raw {
        Raw::Map(value.iter().map(|(name, token)| (name.clone(), Token.show(token))).collect())
    }
}

fn entries(given: &Raw) -> Result<Vec<(String, Raw)>, Misfit> {
    let pair = |part: &str| {
        let (name, token) = part
            .split_once('=')
            .ok_or_else(|| Misfit::new("has a part without `=`", "write name=token, separated by commas"))?;
        Ok((name.trim().to_owned(), Raw::Untyped(token.to_owned())))
    };
    match given {
        Raw::Map(entries) => Ok(entries.clone()),
        Raw::Untyped(text) => split(text).map(pair).collect(),
        _ => Err(Misfit::new("is not a map of names to tokens", "write `name: token`, one a line, indented")),
    }
}
