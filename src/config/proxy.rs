//! The URL of an HTTP proxy.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::secret::Secret;
use super::url::BaseUrl;

/// The URL of an HTTP proxy. `Debug` and `Display` leave out user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    base: BaseUrl,
    /// As it was written, percent-encoded: `user:password`.
    userinfo: Option<Secret>,
}

impl ProxyUrl {
    /// Reads `http://user:password@host:port`; without a scheme it is http, as for curl.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without repeating any part of it.
    pub fn parse(text: &str) -> Result<ProxyUrl, &'static str> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
        let (userinfo, host) = match rest.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, rest),
        };
        let base = BaseUrl::parse(&format!("{scheme}://{host}"))?;
        if !base.path().is_empty() {
            return Err("has a path");
        }
        let userinfo = userinfo.filter(|userinfo| !userinfo.is_empty());
        if userinfo.is_some_and(|userinfo| !userinfo.bytes().all(|b| b.is_ascii_graphic())) {
            return Err("has a blank or a letter that is not percent-encoded in its user or password");
        }
        Ok(ProxyUrl { base, userinfo: userinfo.map(Secret::new) })
    }

    /// Scheme, host and port.
    #[must_use]
    pub const fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// User and password, decoded, as `Proxy-Authorization` of the Basic scheme joins them (RFC 7617): `user:password`.
    #[must_use]
    pub fn credentials(&self) -> Option<Secret> {
        let userinfo = self.userinfo.as_ref()?.expose();
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        Some(Secret::new(format!("{}:{}", decoded(user), decoded(password))))
    }

    /// The whole URL, user and password included.
    pub(super) fn exposed(&self) -> Secret {
        Secret::new(self.written_with(self.userinfo.as_ref().map(Secret::expose)))
    }

    fn written_with(&self, userinfo: Option<&str>) -> String {
        let userinfo = userinfo.map(|userinfo| format!("{userinfo}@")).unwrap_or_default();
        self.base.origin().replacen("://", &format!("://{userinfo}"), 1)
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written_with(self.userinfo.as_ref().map(|_| "…")))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_decoded_for_the_proxy_and_shown_to_no_one_else() {
        let url = ProxyUrl::parse("http://al%40ice:s%3Acret%20@Proxy.lan:3128/").expect("valid");
        assert_eq!(format!("{url} {url:?}"), "http://…@proxy.lan:3128 http://…@proxy.lan:3128");
        assert_eq!(url.credentials(), Some(Secret::new("al@ice:s:cret ")));
        assert_eq!(ProxyUrl::parse(url.exposed().expose()), Ok(url));
        let bare = ProxyUrl::parse("proxy.lan:8080").expect("valid");
        assert_eq!((bare.base().port(), bare.credentials()), (8080, None));
        for text in ["https://[::1]", "http://proxy.lan", "http://proxy.lan:80"] {
            let url = ProxyUrl::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), ProxyUrl::parse(url.exposed().expose())), (text, Ok(url)));
        }
    }

    #[test]
    fn what_is_not_a_proxys_url_is_refused_with_its_reason() {
        for (text, reason) in [
            ("socks5://host:1080", "has a scheme other than http and https"),
            ("http://host/path", "has a path"),
            (
                "http://user:pass word@host",
                "has a blank or a letter that is not percent-encoded in its user or password",
            ),
            ("http://", "is not a URL"),
            ("user:secret@", "is not a URL"),
        ] {
            assert_eq!(ProxyUrl::parse(text), Err(reason), "{text}");
        }
    }
}
