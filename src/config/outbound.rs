//! How connections to the upstreams leave this host: directly, or through a proxy.

use super::kind::{Kind, Misfit, as_text};
use super::no_proxy::{NoProxy, is_loopback};
use super::placeholder;
use super::proxy::ProxyUrl;
use super::raw::Raw;
use super::url::BaseUrl;

/// How connections to the upstreams leave this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundProxy {
    /// As the variables of the environment say that curl and others read, too.
    Env(Proxies),
    /// Directly.
    None,
    /// Through this one.
    Url(ProxyUrl),
}

impl OutboundProxy {
    /// The proxy before `host`, if there is one. What is on this host is reached without.
    #[must_use]
    pub fn before(&self, is_https: bool, host: &str, port: u16) -> Option<&ProxyUrl> {
        let proxy = match self {
            OutboundProxy::None => None,
            OutboundProxy::Url(url) => Some(url),
            OutboundProxy::Env(proxies) => {
                let proxy = if is_https { &proxies.https } else { &proxies.http };
                proxy.as_ref().filter(|_| !proxies.except.matches(host, port))
            }
        };
        proxy.filter(|_| !is_loopback(host))
    }

    /// Through which proxy an upstream is reached, in words; `None` where through none.
    #[must_use]
    pub fn way_to(&self, url: &BaseUrl) -> Option<String> {
        let proxy = self.before(url.is_https(), url.host(), url.port())?;
        Some(format!("{url} is reached through the proxy {proxy}"))
    }
}

/// The proxies that the environment names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Before `https://` upstreams.
    pub https: Option<ProxyUrl>,
    /// Before `http://` upstreams.
    pub http: Option<ProxyUrl>,
    /// Hosts that are reached without one.
    pub except: NoProxy,
}

impl Proxies {
    /// What the environment says, as curl and Python's requests read it: `HTTPS_PROXY`, `https_proxy` and then `ALL_PROXY`,
    /// `all_proxy` for `https://`; `http_proxy` and then the latter for `http://`. `HTTP_PROXY` is left alone, since a CGI
    /// program's client can set it. Also says which variables cannot be used, and why.
    #[must_use]
    pub(super) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> (Proxies, Vec<Unusable>) {
        let mut problems: Vec<Unusable> = Vec::new();
        let mut first = |names: &[&'static str]| {
            let given = |name: &&'static str| Some((*name, variable(name).filter(|v| !v.trim().is_empty())?));
            let (name, value) = names.iter().find_map(given)?;
            ProxyUrl::parse(&value).map_err(|problem| problems.push(Unusable { name, problem })).ok()
        };
        let https = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let http = first(&["http_proxy", "ALL_PROXY", "all_proxy"]);
        problems.dedup();
        let except =
            NoProxy::parse(&variable("NO_PROXY").or_else(|| variable("no_proxy")).unwrap_or_default());
        (Proxies { https, http, except }, problems)
    }
}

/// A variable of the environment that names a proxy which cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    /// The variable.
    pub(super) name: &'static str,
    /// What is wrong with its value, without repeating it.
    pub(super) problem: &'static str,
}

/// `env`, `none` or the URL of a proxy. Notices never repeat a URL, for it may hold a password.
pub(super) struct Proxying;

impl Kind for Proxying {
    type Value = OutboundProxy;

    fn read(&self, given: &Raw) -> Result<OutboundProxy, Misfit> {
        let remedy = "give env, none, or a URL such as http://proxy.example.org:3128";
        let text = as_text(given).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| Misfit::new("is not the URL of a proxy", remedy))?;
        if placeholder::is_placeholder(text) {
            return Err(Misfit::new("still holds an example's placeholder", remedy));
        }
        match text.to_ascii_lowercase().as_str() {
            "env" => Ok(OutboundProxy::Env(Proxies::default())),
            "none" => Ok(OutboundProxy::None),
            _ => ProxyUrl::parse(text)
                .map(OutboundProxy::Url)
                .map_err(|problem| Misfit::new(format!("is a URL that {problem}"), remedy)),
        }
    }

    fn show(&self, value: &OutboundProxy) -> Raw {
        match value {
            OutboundProxy::Env(_) => Raw::Text("env".into()),
            OutboundProxy::None => Raw::Text("none".into()),
            OutboundProxy::Url(url) => Raw::Secret { shown: url.to_string(), exposed: url.exposed() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &'static [(&str, &str)]) -> (OutboundProxy, Vec<Unusable>) {
        let (proxies, problems) = Proxies::from_environment(move |name| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        });
        (OutboundProxy::Env(proxies), problems)
    }

    fn host<'a>(proxy: &'a OutboundProxy, is_https: bool, host: &str) -> Option<&'a str> {
        proxy.before(is_https, host, 443).map(|url| url.base().host())
    }

    #[test]
    fn the_environment_names_a_proxy_for_each_scheme() {
        let (proxies, problems) = environment(&[("https_proxy", "http://a:1"), ("ALL_PROXY", "http://b:2")]);
        assert!(problems.is_empty());
        assert_eq!(host(&proxies, true, "h.example"), Some("a"));
        assert_eq!(host(&proxies, false, "h.example"), Some("b"));
        let (proxies, _) = environment(&[("HTTP_PROXY", "http://a:1")]);
        assert_eq!(host(&proxies, false, "h.example"), None);
        let (proxies, problems) = environment(&[("ALL_PROXY", "socks5://u:secret@s:1")]);
        assert_eq!(host(&proxies, true, "h.example"), None);
        assert_eq!(
            problems,
            [Unusable { name: "ALL_PROXY", problem: "has a scheme other than http and https" }]
        );
        let (proxies, _) = environment(&[("HTTPS_PROXY", "a:1"), ("no_proxy", "nvidia.com")]);
        assert_eq!(host(&proxies, true, "integrate.api.nvidia.com"), None);
        assert_eq!(host(&proxies, true, "example.com"), Some("a"));
    }

    #[test]
    fn what_is_on_this_host_never_goes_through_a_proxy() {
        let proxy = OutboundProxy::Url(ProxyUrl::parse("p:1").unwrap());
        for name in
            ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert_eq!(host(&proxy, false, name), None, "{name}");
        }
        assert_eq!(host(&proxy, false, "192.168.1.1"), Some("p"));
        assert_eq!(host(&proxy, true, "notlocalhost"), Some("p"));
        assert_eq!(host(&OutboundProxy::None, true, "example.com"), None);
    }
}
