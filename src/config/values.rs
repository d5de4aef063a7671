//! The values of a configuration as its file would give them; what the rows of the key table are written with.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use super::raw::Raw;
use super::{Agent, Config, Secret};

pub(super) fn ip(address: IpAddr) -> Raw {
    Raw::Text(address.to_string())
}

pub(super) fn text(value: &impl Display) -> Raw {
    Raw::Text(value.to_string())
}

pub(super) fn word(value: &str) -> Raw {
    Raw::Text(value.to_owned())
}

pub(super) fn optional(value: Option<String>) -> Raw {
    value.map_or(Raw::Null, Raw::Text)
}

pub(super) fn secret(value: Option<&Secret>) -> Raw {
    value.map_or(Raw::Null, |secret| Raw::Secret(secret.clone()))
}

pub(super) fn size(value: usize) -> Raw {
    Raw::Whole(i128::try_from(value).unwrap_or(i128::MAX))
}

pub(super) fn seconds(value: Duration) -> Raw {
    Raw::Fraction(value.as_secs_f64())
}

pub(super) fn list(values: &[String]) -> Raw {
    Raw::List(values.iter().cloned().map(Raw::Text).collect())
}

pub(super) fn retry_on(config: &Config) -> Raw {
    let retry = &config.upstream.retry_on;
    let statuses = retry.statuses.iter().map(|status| Raw::from(*status));
    Raw::List(statuses.chain(retry.connect.then(|| word("connect"))).collect())
}

pub(super) fn tokens(config: &Config) -> Raw {
    let entry = |(name, token): (&String, &Secret)| (name.clone(), Raw::Secret(token.clone()));
    Raw::Map(config.clients.tokens.iter().map(entry).collect())
}

pub(super) fn agents(config: &Config) -> Raw {
    let agent = |agent: &Agent| {
        Raw::Map(vec![
            ("name".into(), word(&agent.name)),
            ("label".into(), word(&agent.label)),
            ("heartbeat_seconds".into(), seconds(agent.heartbeat)),
        ])
    };
    Raw::List(config.agents.iter().map(agent).collect())
}
