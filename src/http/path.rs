//! A path as servers understand it: percent-decoded, without empty segments and path parameters.
//!
//! Servers and the proxies in front of them normalise paths differently. What two of them could take for different
//! resources is refused ([`check`]); what they could take for the same one is compared by its [`segments`].

use std::borrow::Cow;

/// Refuses a path in which a server may see other segments than the sidecar: `.` and `..` (RFC 3986 §5.2.4 removes them,
/// and with them a base path that was put in front), a backslash, which some take for a slash, and control characters,
/// at which some end the path.
///
/// # Errors
/// What is wrong with it, for the person who reads the client's log.
pub fn check(path: &str) -> Result<(), &'static str> {
    // Nearly all paths have none of these, and this is every request's way.
    if !path.contains(['%', '\\', '.']) {
        return Ok(());
    }
    let decoded = decode(path);
    if decoded.contains('\\') {
        return Err("the path has a backslash");
    }
    if decoded.contains(char::is_control) {
        return Err("the path has a percent-encoded control character");
    }
    if decoded.split('/').any(|segment| matches!(without_parameters(segment), "." | "..")) {
        return Err("the path has a segment `.` or `..`; send the path that is meant");
    }
    Ok(())
}

/// The segments of a path in lower case, as the most lenient server reads them: `/V1//Chat%2fcompletions;v=1/` has
/// `v1`, `chat` and `completions`.
#[must_use]
pub fn segments(path: &str) -> Vec<String> {
    let decoded = decode(path);
    decoded
        .split('/')
        .map(|segment| without_parameters(segment).to_lowercase())
        .filter(|segment| !segment.is_empty())
        .collect()
}

fn decode(path: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy()
}

/// A segment up to its parameters (RFC 3986 §3.3).
fn without_parameters(segment: &str) -> &str {
    segment.split(';').next().unwrap_or(segment).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_leave_the_base_path_are_refused() {
        for path in [
            "/v1/../admin",
            "/v1/%2e%2E/admin",
            "/v1/.%2e/admin",
            "/v1/..;a=b/admin",
            "/v1/./chat",
            "/..",
            "/v1/%2e",
            "/v1%2f..%2fadmin",
            "/v1\\..\\admin",
            "/v1/%5c..",
            "/v1/chat%00",
            "/v1/chat%0d%0aX:1",
            "/v1/%20../x",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
        for path in
            ["/v1/models", "/v1/models/a.b", "/v1/...", "/v1/a..b", "/v1/%20", "/v1/meta%2Fllama-3.1", "/"]
        {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn the_same_resource_has_the_same_segments() {
        let chat = ["v1", "chat", "completions"];
        for path in [
            "/v1/chat/completions",
            "/V1/Chat/Completions",
            "//v1//chat/completions/",
            "/v1/%63hat/completions",
            "/v1/chat%2Fcompletions",
            "/v1/chat/completions;v=1",
            "/v1;x/chat;/completions",
        ] {
            assert_eq!(segments(path), chat, "{path}");
        }
        assert!(segments("/").is_empty());
    }
}
