//! The request target: its four forms, and the characters that may stand in it (RFC 9112 §3.2).

use super::malformed::Malformed;
use super::path;

/// Where the parts of a valid target lie, as offsets into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Path and query, or `*`, as it stands.
    Origin,
    /// `http://authority/path?query`; the rest begins at `authority_end` and may lack its path.
    Absolute { authority_start: usize, authority_end: usize },
}

/// Tells the form of `target` and refuses what may not be forwarded.
pub(super) fn classify(method: &str, target: &str) -> Result<Target, Malformed> {
    if method == "CONNECT" {
        return Err(Malformed::new(501, "the method CONNECT is not supported: this is not a forward proxy"));
    }
    // An echo of the request would show its sender the key that the sidecar puts in (RFC 9110 §9.3.8). TRACK is the
    // same under another name, and some servers take methods in any case.
    if method.eq_ignore_ascii_case("TRACE") || method.eq_ignore_ascii_case("TRACK") {
        return Err(Malformed::new(405, "the method TRACE is not allowed: it would show the API key"));
    }
    if !target.bytes().all(is_target_char) {
        return Err(Malformed::new(400, "the request target has a character that must be percent-encoded"));
    }
    if target.starts_with('/') {
        check_path(target)?;
        return Ok(Target::Origin);
    }
    if target == "*" && method == "OPTIONS" {
        return Ok(Target::Origin);
    }
    let Some((scheme, rest)) = target.split_once("://") else {
        return Err(Malformed::new(400, "the request target must be a path that starts with `/`"));
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Malformed::new(400, "the scheme of the request target must be http or https"));
    }
    let authority = rest.find(['/', '?']).map_or(rest, |end| &rest[..end]);
    if authority.is_empty() || !is_authority(authority.as_bytes()) {
        return Err(Malformed::new(400, "the host in the request target is invalid"));
    }
    check_path(&rest[authority.len()..])?;
    let authority_start = scheme.len() + "://".len();
    Ok(Target::Absolute { authority_start, authority_end: authority_start + authority.len() })
}

fn check_path(target: &str) -> Result<(), Malformed> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    path::check(path).map_err(|reason| Malformed::new(400, reason))
}

/// Visible ASCII but for the fragment's `#`, which is never sent, and those that `http::Uri` refuses in a path or query.
/// Brackets, braces and bars are not in RFC 3986 either, but clients send them as they are and servers understand.
const fn is_target_char(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'`')
}

/// Whether `host` has only characters of `uri-host [":" port]` (RFC 3986 §3.2.2): no user info, path or white space.
pub(super) fn is_authority(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::uri::PathAndQuery;

    #[test]
    fn each_form_is_told_from_the_others() {
        assert_eq!(classify("GET", "/v1/models?limit=2"), Ok(Target::Origin));
        assert_eq!(classify("OPTIONS", "*"), Ok(Target::Origin));
        let absolute = Target::Absolute { authority_start: 7, authority_end: 13 };
        assert_eq!(classify("GET", "http://nim:80/v1"), Ok(absolute));
        assert!(classify("GET", "HTTPS://nim?x=1").is_ok());
    }

    #[test]
    fn what_is_no_target_for_a_gateway_is_refused() {
        for (target, status) in [
            ("v1/models", 400),
            ("*", 400),
            ("ftp://nim/", 400),
            ("http:///v1", 400),
            ("http://me@nim/", 400),
        ] {
            assert_eq!(classify("GET", target).map_err(|refusal| refusal.status), Err(status), "{target}");
        }
        assert_eq!(classify("CONNECT", "nim:443").map_err(|refusal| refusal.status), Err(501));
    }

    #[test]
    fn every_accepted_character_reaches_the_upstream_as_it_was_sent() {
        for byte in 0..=u8::MAX {
            let character = char::from(byte);
            for target in [format!("/{character}"), format!("/?{character}")] {
                if classify("GET", &target).is_ok() {
                    assert_eq!(target.parse::<PathAndQuery>().map(|t| t.to_string()).ok(), Some(target));
                }
            }
        }
        assert!(
            classify("GET", "/a<b").is_err()
                && classify("GET", "/?`").is_err()
                && classify("GET", "/ü").is_err()
        );
    }
}
