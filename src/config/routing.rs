//! What makes a request limited.

use super::key::Reload::Live;
use super::key::Variable::Own;
use super::key::{Keys, Row, Section};
use super::kind::{Kind, Misfit, as_text, shown};
use super::list::{List, MAX_NAME, MAX_WORDS};
use super::raw::Raw;
use super::word::{Flag, Words, choice};

/// What makes a request limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// `nvidia_gateways`, lower-case: the model prefixes that mean NVIDIA.
    pub gateways: Vec<String>,
    /// `strip_gateway_prefix`: whether the prefix is taken off before the request is sent.
    pub strip_prefix: bool,
    /// `limit_unmatched`.
    pub limit_unmatched: LimitUnmatched,
    /// `nvidia_hosts`: whether paths that NVIDIA serves from another host go there.
    pub nvidia_hosts: NvidiaHosts,
}

/// Whether paths that NVIDIA serves from another host go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvidiaHosts {
    /// When the upstream is NVIDIA's own.
    Auto,
    /// Never.
    Off,
}

impl Words for NvidiaHosts {
    const WORDS: &'static [(&'static str, NvidiaHosts)] =
        &[("auto", NvidiaHosts::Auto), ("off", NvidiaHosts::Off)];
}

/// Whether an inference request without a known prefix is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitUnmatched {
    /// When it would go to a host under `nvidia.com`.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Words for LimitUnmatched {
    const WORDS: &'static [(&'static str, LimitUnmatched)] = &[
        ("auto", LimitUnmatched::Auto),
        ("always", LimitUnmatched::Always),
        ("never", LimitUnmatched::Never),
    ];
}

impl Section for Routing {
    fn build(keys: &mut impl Keys<Routing>) -> Routing {
        Routing {
            gateways: keys.key(&Row {
                name: "nvidia_gateways",
                variable: Own,
                reload: Live,
                kind: List { most: MAX_WORDS, item: Gateway },
                default: ["nvidia", "nvidia-gateway", "nvidiavx", "nvidiavx18088980513"]
                    .map(String::from)
                    .to_vec(),
                of: |c| &c.gateways,
                text: "The prefixes of `model` (what comes before its first `/`) that make a request limited, in upper or lower case.",
            }),
            strip_prefix: keys.key(&Row {
                name: "strip_gateway_prefix",
                variable: Own,
                reload: Live,
                kind: Flag,
                default: false,
                of: |c| &c.strip_prefix,
                text: "Whether that prefix is taken off the model before the request is sent.",
            }),
            limit_unmatched: keys.key(&Row {
                name: "limit_unmatched",
                variable: Own,
                reload: Live,
                kind: choice(),
                default: LimitUnmatched::Auto,
                of: |c| &c.limit_unmatched,
                text: "Whether an inference request without a known prefix is limited: `always`, `never`, or `auto`, which limits it when it would go to a host under nvidia.com.",
            }),
            nvidia_hosts: keys.key(&Row {
                name: "nvidia_hosts",
                variable: Own,
                reload: Live,
                kind: choice(),
                default: NvidiaHosts::Auto,
                of: |c| &c.nvidia_hosts,
                text: "With integrate.api.nvidia.com as the upstream, `auto` sends what NVIDIA serves from another host there: /v1/retrieval, /v1/genai, /v1/cv, /v1/vlm and /v1/biology to ai.api.nvidia.com. `off` sends everything to `upstream_url`.",
            }),
        }
    }
}

/// The prefix of a model.
struct Gateway;

impl Kind for Gateway {
    type Value = String;

    fn read(&self, given: &Raw) -> Result<String, Misfit> {
        let name = as_text(given).unwrap_or_default().to_ascii_lowercase();
        let fits = !name.is_empty() && name.len() <= MAX_NAME;
        if !fits || name.contains('/') || name.chars().any(char::is_control) {
            let problem = format!("lists {}, which is not a prefix of a model", shown(given));
            return Err(Misfit::new(problem, "list what stands before the first `/`, such as nvidia"));
        }
        Ok(name)
    }

    fn show(&self, value: &String) -> Raw {
        Raw::Text(value.clone())
    }
}
