//! The upstream of limited requests.

use std::path::PathBuf;
use std::time::Duration;

use super::key::Reload::Live;
use super::key::Variable::{Own, Short};
use super::key::{Keys, Row, Section};
use super::kind::{Optional, OrDefault};
use super::number::{CutSeconds, HOUR, Seconds, Whole};
use super::outbound::{OutboundProxy, Proxies, Proxying};
use super::retry_on::{RetryOn, Retrying};
use super::secret::Secret;
use super::text::{FilePath, Token, Url};
use super::url::BaseUrl;
use super::word::Flag;

/// The upstream of limited requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// `upstream_url`.
    pub url: BaseUrl,
    /// `upstream_api_key`; without one the client's own `Authorization` is passed on.
    pub api_key: Option<Secret>,
    /// `upstream_ca_file`: PEM certificates that are trusted beside the public ones and the system's.
    pub ca_file: Option<PathBuf>,
    /// `upstream_ca_only`: whether only `ca_file` is trusted.
    pub ca_only: bool,
    /// `outbound_proxy`: how connections to the upstreams leave this host.
    pub outbound_proxy: OutboundProxy,
    /// `request_timeout`: only chooses the two below where they are not given; kept to be shown.
    pub request_timeout: Option<Duration>,
    /// `first_byte_timeout`: the longest silence before the head of an answer.
    pub first_byte_timeout: Duration,
    /// `stream_idle_timeout`: the longest silence between two pieces of its body.
    pub stream_idle_timeout: Duration,
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
                text: "A file of PEM certificates that are trusted for https upstreams beside the public ones and the system's: those of the authority that issued the upstream's, or the upstream's own. Read again on reload.",
            }),
            ca_only: keys.key(&Row {
                name: "upstream_ca_only",
                variable: Own,
                reload: Live,
                kind: Flag,
                default: false,
                of: |c| &c.ca_only,
                text: "Whether only the certificates in `upstream_ca_file` are trusted, and not the public ones or the system's.",
            }),
            outbound_proxy: keys.key(&Row {
                name: "outbound_proxy",
                variable: Own,
                reload: Live,
                kind: Proxying,
                default: OutboundProxy::Env(Proxies::default()),
                of: |c| &c.outbound_proxy,
                text: "How connections to the upstreams leave this host: `none` directly, a URL such as http://user:password@proxy:3128 through that proxy, `env` as `HTTPS_PROXY`, `ALL_PROXY` (for http upstreams `http_proxy`) and `NO_PROXY` say. Never for loopback.",
            }),
            request_timeout: keys.key(&Row {
                name: "request_timeout",
                variable: Short("SIDECAR_TIMEOUT"),
                reload: Live,
                kind: OrDefault(Optional(CutSeconds {
                    range: 1.0..=300.0,
                    beyond: "first_byte_timeout and stream_idle_timeout may be longer",
                })),
                default: None,
                of: |c| &c.request_timeout,
                text: "Stands for `first_byte_timeout` and `stream_idle_timeout` where they are not set. Above 300 is cut to 300, below 1 counts as not set.",
            }),
            first_byte_timeout: keys.key(&Row {
                name: "first_byte_timeout",
                variable: Own,
                reload: Live,
                kind: Seconds(1.0..=HOUR),
                // NIM needs up to 330 s for the first byte of a long prompt.
                default: Duration::from_secs(330),
                of: |c| &c.first_byte_timeout,
                text: "Seconds that the upstream may be silent before the head of its answer, {range}.",
            }),
            stream_idle_timeout: keys.key(&Row {
                name: "stream_idle_timeout",
                variable: Own,
                reload: Live,
                kind: Seconds(1.0..=HOUR),
                default: Duration::from_secs(180),
                of: |c| &c.stream_idle_timeout,
                text: "Seconds that it may be silent between two pieces of the answer's body, {range}.",
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
