//! The upstream of limited requests.

use std::path::PathBuf;
use std::time::Duration;

use super::key::Reload::Live;
use super::key::Variable::{Own, Short};
use super::key::{Keys, Row, Section};
use super::kind::Optional;
use super::number::{CutSeconds, SHORTEST, Whole};
use super::retry_on::{RetryOn, Retrying};
use super::secret::Secret;
use super::text::{FilePath, Token, Url};
use super::url::BaseUrl;

/// The upstream of limited requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// `upstream_url`.
    pub url: BaseUrl,
    /// `upstream_api_key`; without one the client's own `Authorization` is passed on.
    pub api_key: Option<Secret>,
    /// `upstream_ca_file`: PEM certificates that sign the upstreams' own, in place of the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// `request_timeout`: the longest silence, before the head and between two pieces of the body.
    pub timeout: Duration,
    /// `max_attempts`: how often one request may be sent, the first time included.
    pub max_attempts: u32,
    /// `retry_on`.
    pub retry_on: RetryOn,
}

impl Section for Upstream {
    fn build(keys: &mut impl Keys<Upstream>) -> Upstream {
        Upstream {
            url: keys.key(&Row {
                name: "upstream_url",
                variable: Short("SIDECAR_UPSTREAM"),
                reload: Live,
                kind: Url,
                default: BaseUrl::nvidia(),
                of: |c| &c.url,
                text: "Where limited requests go: an http or https URL without user, query and fragment.",
            }),
            api_key: keys.key(&Row {
                name: "upstream_api_key",
                variable: Short("SIDECAR_API_KEY"),
                reload: Live,
                kind: Optional(Token),
                default: None,
                of: |c| &c.api_key,
                text: "The NVIDIA key. Without one, each client's own `Authorization` is passed on.",
            }),
            ca_file: keys.key(&Row {
                name: "upstream_ca_file",
                variable: Own,
                reload: Live,
                kind: Optional(FilePath),
                default: None,
                of: |c| &c.ca_file,
                text: "A file of PEM certificates that is trusted for https upstreams in place of the built-in public ones: for a NIM of your own. Read again on reload.",
            }),
            timeout: keys.key(&Row {
                name: "request_timeout",
                variable: Short("SIDECAR_TIMEOUT"),
                reload: Live,
                kind: CutSeconds(SHORTEST..=300.0),
                default: Duration::from_secs(60),
                of: |c| &c.timeout,
                text: "Seconds that the upstream may be silent, before its head and between two pieces of the body. Above 300 is cut to 300; 0 and below falls back to the default.",
            }),
            max_attempts: keys.key(&Row {
                name: "max_attempts",
                variable: Own,
                reload: Live,
                kind: Whole(1..=100),
                default: 5,
                of: |c| &c.max_attempts,
                text: "How often one request may be sent, the first time included, {range}.",
            }),
            retry_on: keys.key(&Row {
                name: "retry_on",
                variable: Own,
                reload: Live,
                kind: Retrying,
                default: RetryOn { statuses: vec![429], connect: true },
                of: |c| &c.retry_on,
                text: "After which failures a request is sent again: any of 429, 502, 503, 504 and `connect`.",
            }),
        }
    }
}
