//! The request as it goes to the upstream: where to, with which fields.

use crate::config::{BaseUrl, Config, Secret};
use crate::downstream::job::Destination;
use crate::http::Head;
use crate::http::headers::upstream_fields;
use ureq::http::uri::InvalidUri;
use ureq::http::{self, Request, Uri, header};

/// Where a request goes and with which key.
#[must_use]
pub fn target(destination: Destination, config: &Config) -> (&BaseUrl, Option<&Secret>) {
    match (destination, &config.passthrough.url) {
        (Destination::Other, Some(url)) => (url, config.passthrough.api_key.as_ref()),
        _ => (&config.upstream.url, config.upstream.api_key.as_ref()),
    }
}

/// The path and query behind a base: unchanged but for the join, where a base that ends in `/v1` and a path that starts
/// with `/v1` give one `/v1`.
///
/// # Errors
/// When the result is no URI.
pub fn join(base: &BaseUrl, target: &str) -> Result<Uri, InvalidUri> {
    let rest = match target.strip_prefix("/v1") {
        Some(rest) if base.path().ends_with("/v1") && (rest.is_empty() || rest.starts_with(['/', '?'])) => {
            rest
        }
        _ => target,
    };
    let rest = if rest == "*" { "" } else { rest };
    format!("{}{}{rest}", base.origin(), base.path()).parse()
}

/// The request for ureq, with `body` as it came. With `owns_authorization` the client's `Authorization` stops here.
///
/// # Errors
/// When ureq's types refuse the method or the target.
pub fn request<'a>(
    head: &Head,
    body: &'a [u8],
    base: &BaseUrl,
    key: Option<&Secret>,
    owns_authorization: bool,
) -> Result<Request<&'a [u8]>, http::Error> {
    let mut request = Request::builder().method(head.method()).uri(join(base, head.target())?);
    for (name, value) in upstream_fields(head, owns_authorization) {
        request = request.header(name, value);
    }
    if let Some(key) = key {
        let mut value = header::HeaderValue::from_str(&format!("Bearer {}", key.expose()))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(body)
}

/// The most bytes that a request's head takes on the wire, with what ureq adds (`Host`, `Content-Length`).
#[must_use]
pub fn head_bytes<T>(request: &Request<T>) -> usize {
    /// The method, the version, the names of added fields and all line ends.
    const OTHERS: usize = 256;
    let field =
        |(name, value): (&header::HeaderName, &header::HeaderValue)| name.as_str().len() + value.len() + 4;
    let fields: usize = request.headers().iter().map(field).sum();
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    request.method().as_str().len() + target + uri.host().map_or(0, str::len) + fields + OTHERS
}

/// Whether a request without content says so with `Content-Length: 0`: methods that usually have content do
/// (RFC 9110 §8.6).
#[must_use]
pub fn has_content(head: &Head, body: &[u8]) -> bool {
    !body.is_empty() || matches!(head.method(), "POST" | "PUT" | "PATCH")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, target: &str) -> String {
        join(&BaseUrl::parse(base).unwrap(), target).unwrap().to_string()
    }

    #[test]
    fn one_v1_is_left_of_two() {
        assert_eq!(joined("https://h/v1", "/v1/models?a=b"), "https://h/v1/models?a=b");
        assert_eq!(joined("https://h/v1", "/v1"), "https://h/v1");
        assert_eq!(joined("https://h/v1", "/v1?x"), "https://h/v1?x");
        assert_eq!(joined("https://h/api/v1", "/v1/chat/completions"), "https://h/api/v1/chat/completions");
    }

    #[test]
    fn any_other_path_is_kept_as_it_is() {
        assert_eq!(joined("https://h/v1", "/chat/completions"), "https://h/v1/chat/completions");
        assert_eq!(joined("https://h/v1", "/v1beta/models"), "https://h/v1/v1beta/models");
        assert_eq!(joined("http://h:8000", "/v1/models"), "http://h:8000/v1/models");
        assert_eq!(joined("http://h", "/a//b/../%7e?q=%20+"), "http://h/a//b/../%7e?q=%20+");
    }
}
