//! The base URL of an upstream.

use std::fmt;
use std::net::Ipv6Addr;

use ureq::http::Uri;

/// An `http` or `https` URL with a host, without userinfo, query and fragment, and without slashes at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    https: bool,
    host: String,
    port: Option<u16>,
    path: String,
}

impl BaseUrl {
    /// NVIDIA's hosted API, the default upstream.
    #[must_use]
    pub fn nvidia() -> BaseUrl {
        BaseUrl { https: true, host: "integrate.api.nvidia.com".into(), port: None, path: "/v1".into() }
    }

    /// Reads a base URL.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without repeating any part that could hold a password.
    pub fn parse(text: &str) -> Result<BaseUrl, &'static str> {
        if text.contains('#') {
            return Err("has a fragment");
        }
        let uri: Uri = text.trim().parse().map_err(|_| "is not a URL")?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err("has a scheme other than http and https"),
            None => return Err("has no scheme"),
        };
        let authority = uri.authority().ok_or("has no host")?.as_str();
        if authority.contains('@') {
            return Err("has a user name or a password in it");
        }
        if uri.query().is_some() {
            return Err("has a query");
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        check_host(&host)?;
        let port = match authority.get(host.len()..).unwrap_or_default() {
            "" => None,
            rest => {
                let port = rest.strip_prefix(':').and_then(|digits| digits.parse().ok());
                Some(port.filter(|port| *port != 0).ok_or("has no valid port")?)
            }
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(BaseUrl { https, host, port, path })
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// The host in lower case, an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own where none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// The path that comes before a request's own: empty, or with a slash at its start and none at its end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Scheme, host and port, as a URL starts.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{}{port}", self.host)
    }

    /// Whether the host is `domain` or lies under it.
    #[must_use]
    pub fn is_under(&self, domain: &str) -> bool {
        let host = self.host.trim_end_matches('.');
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// Whether the host is one of NVIDIA's: there a request draws on the quota.
    #[must_use]
    pub fn is_nvidia(&self) -> bool {
        self.is_under("nvidia.com")
    }

    /// Whether the host is this machine by name or address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if let Some(v6) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().map(drop).map_err(|_| "has no valid IPv6 address");
    }
    if host.is_empty() {
        return Err("has no host");
    }
    let valid = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if valid { Ok(()) } else { Err("has no valid host") }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_loses_its_last_slashes_and_keeps_the_rest() {
        let url = BaseUrl::parse("HTTP://Example.COM:8080/api/v1//").expect("valid");
        assert_eq!(url.to_string(), "http://example.com:8080/api/v1");
        assert_eq!((url.host(), url.port(), url.path()), ("example.com", 8080, "/api/v1"));
        let url = BaseUrl::parse("https://[::1]/").expect("valid");
        assert_eq!((url.host(), url.port(), url.path()), ("[::1]", 443, ""));
        assert!(url.is_loopback());
        assert_eq!(BaseUrl::parse("https://integrate.api.nvidia.com/v1"), Ok(BaseUrl::nvidia()));
    }

    #[test]
    fn what_is_not_a_base_url_is_refused_with_its_reason() {
        for (text, reason) in [
            ("integrate.api.nvidia.com", "has no scheme"),
            ("/v1", "has no scheme"),
            ("ftp://host/", "has a scheme other than http and https"),
            ("https://user:secret@host/", "has a user name or a password in it"),
            ("https://host/?key=secret", "has a query"),
            ("https://host/#top", "has a fragment"),
            ("https://:443/", "has no host"),
            ("https://host:99999/", "has no valid port"),
            ("https://host:0/", "has no valid port"),
            ("https://host:/", "has no valid port"),
            ("http://", "is not a URL"),
            ("https://ho st/", "is not a URL"),
            ("", "is not a URL"),
        ] {
            assert_eq!(BaseUrl::parse(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_domain_holds_its_own_names_and_no_look_alikes() {
        let under = |text: &str| BaseUrl::parse(text).expect("valid").is_under("nvidia.com");
        assert!(under("https://nvidia.com"));
        assert!(under("https://integrate.api.nvidia.com./v1"));
        assert!(!under("https://notnvidia.com"));
        assert!(!under("https://nvidia.com.example.org"));
    }
}
