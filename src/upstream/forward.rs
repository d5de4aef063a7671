//! The request as it goes to the upstream: where to, with which fields.

use crate::config::{BaseUrl, Config, NvidiaHosts, Secret};
use crate::downstream::job::Destination;
use crate::http::Head;
use crate::http::headers::upstream_fields;
use crate::http::path;
use std::time::Duration;
use ureq::http::uri::InvalidUri;
use ureq::http::{self, HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

/// Where a request goes and with which key.
#[must_use]
pub fn target(destination: Destination, config: &Config) -> (&BaseUrl, Option<&Secret>) {
    match (destination, &config.passthrough.url) {
        (Destination::Other, Some(url)) => (url, config.passthrough.api_key.as_ref()),
        _ => (&config.upstream.url, config.upstream.api_key.as_ref()),
    }
}

/// Where NVIDIA serves this path, if that is not the host of its language models: `nvidia_hosts`.
#[must_use]
pub fn other_host(base: &BaseUrl, path: &str, hosts: NvidiaHosts) -> Option<BaseUrl> {
    const ELSEWHERE: [&str; 5] = ["retrieval", "genai", "cv", "vlm", "biology"];
    if hosts == NvidiaHosts::Off || base.host() != BaseUrl::nvidia().host() {
        return None;
    }
    let first = path::segments(path).into_iter().find(|segment| *segment != "v1")?;
    ELSEWHERE.contains(&first.as_str()).then(|| BaseUrl::parse("https://ai.api.nvidia.com/v1").ok())?
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
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(body)
}

/// The sidecar's name in `Via` (RFC 9110 §7.6.3), another one in each process, so that a sidecar in front of a sidecar is
/// no loop.
#[derive(Clone, Debug)]
pub struct Pseudonym {
    name: String,
    field: HeaderValue,
}

impl Pseudonym {
    /// A name that no other process has.
    #[must_use]
    pub fn new() -> Pseudonym {
        let name = format!("nvidia-sidecar-{:016x}", fastrand::u64(..));
        let field = HeaderValue::try_from(format!("1.1 {name}"));
        Pseudonym { name, field: field.unwrap_or_else(|_| HeaderValue::from_static("1.1 nvidia-sidecar")) }
    }

    /// Whether a request has come through this process already.
    #[must_use]
    pub fn is_in(&self, head: &Head) -> bool {
        let name = self.name.as_bytes();
        head.fields_named("via").any(|via| via.windows(name.len()).any(|part| part == name))
    }
}

impl Default for Pseudonym {
    fn default() -> Pseudonym {
        Pseudonym::new()
    }
}

/// Fields that the sidecar adds: its `Via`, and to NVIDIA how long the client waits, where that is longer than NVIDIA
/// itself would; its own 504 comes before ours then.
pub fn announce(fields: &mut HeaderMap, base: &BaseUrl, first_byte: Duration, via: &Pseudonym) {
    const POLL_SECONDS: HeaderName = HeaderName::from_static("nvcf-poll-seconds");
    /// What NVIDIA waits without being told.
    const USUAL: Duration = Duration::from_secs(330);
    const HEAD_START_SECS: u64 = 10;
    fields.append(header::VIA, via.field.clone());
    if base.is_nvidia() && first_byte > USUAL && !fields.contains_key(POLL_SECONDS) {
        fields.insert(POLL_SECONDS, HeaderValue::from(first_byte.as_secs() - HEAD_START_SECS));
    }
}

/// The most bytes that a request's head takes on the wire, with what ureq adds (`Host`, `Content-Length`).
#[must_use]
pub fn head_bytes<T>(request: &Request<T>) -> usize {
    /// The method, the version, the names of added fields and all line ends.
    const OTHERS: usize = 256;
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
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
    use crate::http::samples::request as sample;

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
    fn only_nvidia_is_told_how_long_the_client_waits_and_only_where_that_is_unusual() {
        let polled = |base: &str, secs, own: Option<&'static str>| {
            let mut fields = HeaderMap::new();
            own.map(|own| fields.insert("nvcf-poll-seconds", HeaderValue::from_static(own)));
            let base = BaseUrl::parse(base).unwrap();
            announce(&mut fields, &base, Duration::from_secs(secs), &Pseudonym::new());
            fields.get("nvcf-poll-seconds").map(|value| value.to_str().unwrap().to_owned())
        };
        let nvidia = "https://integrate.api.nvidia.com/v1";
        assert_eq!(polled(nvidia, 600, None).as_deref(), Some("590"));
        assert_eq!(polled(nvidia, 600, Some("5")).as_deref(), Some("5"), "the client's own");
        assert_eq!(polled(nvidia, 330, None), None);
        assert_eq!(polled("https://nim.example", 600, None), None);
    }

    #[test]
    fn a_request_that_came_through_this_process_is_known_by_its_via() {
        let (one, other) = (Pseudonym::new(), Pseudonym::new());
        let head = |via: &str| sample("GET", "/", via, "").head;
        let of = |name: &Pseudonym| format!("Via: 1.0 fred, {}\r\n", name.field.to_str().unwrap());
        assert!(one.is_in(&head(&of(&one))));
        assert!(!one.is_in(&head(&of(&other))) && !one.is_in(&head("")));
    }

    #[test]
    fn what_nvidia_serves_elsewhere_goes_there_and_only_from_its_own_host() {
        let host = |base: &str, path: &str, hosts| {
            other_host(&BaseUrl::parse(base).unwrap(), path, hosts).map(|url| url.host().to_owned())
        };
        let nvidia = "https://integrate.api.nvidia.com/v1";
        for path in
            ["/v1/genai/black-forest-labs/flux", "/v1/retrieval/nvidia/reranking", "/vlm/x", "/v1/cv/y"]
        {
            assert_eq!(host(nvidia, path, NvidiaHosts::Auto).as_deref(), Some("ai.api.nvidia.com"), "{path}");
            assert_eq!(host(nvidia, path, NvidiaHosts::Off), None);
            assert_eq!(host("https://nim.example/v1", path, NvidiaHosts::Auto), None);
        }
        for path in ["/v1/chat/completions", "/v1/models", "/v1/status/x", "/", "/v1/x/genai"] {
            assert_eq!(host(nvidia, path, NvidiaHosts::Auto), None, "{path}");
        }
    }

    #[test]
    fn any_other_path_is_kept_as_it_is() {
        assert_eq!(joined("https://h/v1", "/chat/completions"), "https://h/v1/chat/completions");
        assert_eq!(joined("https://h/v1", "/v1beta/models"), "https://h/v1/v1beta/models");
        assert_eq!(joined("http://h:8000", "/v1/models"), "http://h:8000/v1/models");
        assert_eq!(joined("http://h", "/a//b/../%7e?q=%20+"), "http://h/a//b/../%7e?q=%20+");
    }
}
