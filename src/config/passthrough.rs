//! The upstream of requests that are not limited.

use super::key::Reload::Live;
use super::key::Variable::Own;
use super::key::{Keys, Row, Section};
use super::kind::Optional;
use super::limiter::MAX_WORKERS;
use super::number::Whole;
use super::secret::Secret;
use super::text::{Token, Url};
use super::url::BaseUrl;

/// The upstream of requests that are not limited.
#[derive(Clone, Debug, PartialEq)]
pub struct Passthrough {
    /// `passthrough_url`; `None` is the same upstream as limited requests.
    pub url: Option<BaseUrl>,
    /// `passthrough_api_key`, sent to `url` only. The NVIDIA key never goes to a `url` that is set here.
    pub api_key: Option<Secret>,
    /// `passthrough_max_in_flight`: workers for pass-through requests.
    pub max_in_flight: usize,
}

impl Section for Passthrough {
    fn build(keys: &mut impl Keys<Passthrough>) -> Passthrough {
        Passthrough {
            url: keys.key(&Row {
                name: "passthrough_url",
                variable: Own,
                reload: Live,
                kind: Optional(Url),
                default: None,
                of: |c| &c.url,
                text: "Where requests go that are not limited. Without one, to `upstream_url`.",
            }),
            api_key: keys.key(&Row {
                name: "passthrough_api_key",
                variable: Own,
                reload: Live,
                kind: Optional(Token),
                default: None,
                of: |c| &c.api_key,
                text: "The key for `passthrough_url`. Without one, the client's own `Authorization` is passed on there.",
            }),
            max_in_flight: keys.key(&Row {
                name: "passthrough_max_in_flight",
                variable: Own,
                reload: Live,
                kind: Whole(1..=MAX_WORKERS as usize),
                default: 256,
                of: |c| &c.max_in_flight,
                text: "Pass-through requests at one time, {range}; each has a thread.",
            }),
        }
    }
}
