//! Header fields on their way across the proxy: what stops here and what passes, in both directions (RFC 9110 §7.6.1).

use ureq::http::header::{CONNECTION, HeaderMap, HeaderValue};

use super::head::list;
use super::request::Head;

/// Fields about one connection only; a proxy never forwards them.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that a `Connection` field cannot take away. RFC 9110 §7.6.1 forbids to nominate what is meant for the final
/// recipient; obeying such a nomination would turn the message into another one, so it is ignored.
const NEVER_NOMINATED: [&str; 3] = ["authorization", "content-type", "content-encoding"];

/// The sidecar's own fields share this prefix.
const OWN_PREFIX: &str = "x-sidecar-";

/// The client's fields that go to the upstream, in the order sent.
///
/// `Host` and `Content-Length` are left out because the upstream's request gets its own, and `Expect` because the sidecar
/// has met it. `Authorization` is left out when the caller replaces it.
pub fn upstream_fields(head: &Head, replace_authorization: bool) -> impl Iterator<Item = (&str, &[u8])> {
    let nominated = nominated(head.fields_named("connection"));
    head.fields().filter(move |(name, _)| {
        let stops = is_any(name, &["host", "content-length", "expect", "x-priority", "x-agent-id"])
            || replace_authorization && name.eq_ignore_ascii_case("authorization");
        !stops && passes(name, &nominated)
    })
}

/// The upstream's fields that go to the client, repeated ones as often as they came.
///
/// `Content-Length` is left out: [`answer_head`](super::write::answer_head) writes the one that fits the framing.
pub fn client_fields(fields: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    let nominated = nominated(fields.get_all(CONNECTION).into_iter().map(HeaderValue::as_bytes));
    let named = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    named.filter(move |(name, _)| *name != "content-length" && passes(name, &nominated))
}

/// The fields that the `Connection` fields declare to be about this connection only.
fn nominated<'a>(connection: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let is_field = |option: &&[u8]| {
        let is = |name: &&str| option.eq_ignore_ascii_case(name.as_bytes());
        // The usual options name no field; without them the list is empty and costs no memory.
        !(["close", "keep-alive"].iter().any(is) || NEVER_NOMINATED.iter().any(is))
    };
    connection.flat_map(list).filter(is_field).collect()
}

fn passes(name: &str, nominated: &[&[u8]]) -> bool {
    let is_own = name.get(..OWN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX));
    !is_own
        && !is_any(name, &HOP_BY_HOP)
        && !nominated.iter().any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
}

fn is_any(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}
