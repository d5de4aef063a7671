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
        && !nominated.iter().any(|o| o.eq_ignore_ascii_case(name.as_bytes()))
}

#[inline]
fn is_any<const N: usize>(name: &str, names: &[&str; N]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::framing::{Bounds, RequestReader, Step};
    use proptest::prelude::*;
    use ureq::http::HeaderName;

    fn head(fields: &[(String, String)]) -> Head {
        let mut text = "GET /v1/models HTTP/1.1\r\nHost: sidecar\r\n".to_owned();
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut reader = RequestReader::default();
        reader.feed((text + "\r\n").as_bytes());
        match reader.step(&Bounds { max_body_bytes: 0 }) {
            Ok(Step::Complete(request)) => request.head,
            other => panic!("not one request: {other:?}"),
        }
    }

    fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn to_upstream(fields: &[(&str, &str)], replace_authorization: bool) -> Vec<(String, Vec<u8>)> {
        let head = head(&owned(fields));
        let passed = upstream_fields(&head, replace_authorization);
        passed.map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
    }

    fn to_client(fields: &[(String, String)]) -> Vec<(String, Vec<u8>)> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a field's name");
            map.append(name, HeaderValue::from_str(value).expect("a field's value"));
        }
        client_fields(&map).map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
    }

    #[test]
    fn repeated_fields_pass_in_their_order() {
        let passed = to_upstream(&[("Cookie", "a"), ("Accept", "*/*"), ("Cookie", "b")], false);
        let names: Vec<_> = passed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Cookie", "Accept", "Cookie"]);
        assert_eq!((&passed[0].1[..], &passed[2].1[..]), (&b"a"[..], &b"b"[..]));
        let answered = to_client(&owned(&[("Set-Cookie", "a"), ("Set-Cookie", "b")]));
        assert_eq!(answered.iter().map(|(_, value)| &value[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    }

    #[test]
    fn latin_1_values_pass_to_the_client_byte_for_byte() {
        let mut map = HeaderMap::new();
        map.append("x-name", HeaderValue::from_bytes(b"M\xfcller").expect("a field's value"));
        assert_eq!(client_fields(&map).collect::<Vec<_>>(), [("x-name", &b"M\xfcller"[..])]);
    }

    #[test]
    fn the_clients_authorization_passes_unless_it_is_replaced() {
        assert_eq!(to_upstream(&[("Authorization", "Bearer a")], false).len(), 1);
        assert_eq!(to_upstream(&[("Authorization", "Bearer a")], true).len(), 0);
    }

    #[test]
    fn a_connection_field_cannot_take_away_what_is_meant_for_the_upstream() {
        let nominating = [("Connection", "X-Hop, Authorization, Content-Type"), ("X-Hop", "1")];
        let essential = [("Authorization", "Bearer a"), ("Content-Type", "application/json")];
        let passed = to_upstream(&[nominating, essential].concat(), false);
        assert_eq!(
            passed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["Authorization", "Content-Type"]
        );
    }

    /// Fields that pass, that stop, and that stop when one of the others nominates them; in any case of letters.
    fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
        let names = proptest::sample::select(vec![
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "trailer",
            "upgrade",
            "x-priority",
            "x-agent-id",
            "x-sidecar-max-wait",
            "x-sidecar-",
            "x-sidecars",
            "accept",
            "x-a",
            "x-b",
        ]);
        let name = (names, any::<u32>()).prop_map(|(name, upper)| {
            let flip = |(i, letter): (usize, char)| {
                if upper >> (i % 32) & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
            };
            name.chars().enumerate().map(flip).collect::<String>()
        });
        let value = prop_oneof!["(X-A|x-b|close|keep-alive|Te| |,){0,3}", "[a-z]{0,5}"];
        proptest::collection::vec((name, value.prop_map(|value| value.trim().to_owned())), 0..12)
    }

    /// What must stop, told as plainly as the RFC does.
    fn stops(name: &str, fields: &[(String, String)]) -> bool {
        let name = name.to_ascii_lowercase();
        let is_nominated = |(field, value): &(String, String)| {
            field.eq_ignore_ascii_case("connection")
                && value.to_lowercase().split(',').any(|option| option.trim() == name)
        };
        HOP_BY_HOP.contains(&name.as_str())
            || name.starts_with("x-sidecar-")
            || fields.iter().any(is_nominated)
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn neither_hop_by_hop_nor_own_fields_pass_and_all_others_do(fields in fields()) {
            let head = head(&fields);
            let passed: Vec<_> = upstream_fields(&head, false).map(|(name, _)| name.to_owned()).collect();
            let expected = fields.iter().map(|(name, _)| name.clone()).filter(|name| {
                !stops(name, &fields) && !["x-priority", "x-agent-id"].contains(&name.to_ascii_lowercase().as_str())
            });
            prop_assert_eq!(passed, expected.collect::<Vec<_>>());

            let mut answered: Vec<_> = to_client(&fields).into_iter().map(|(name, _)| name).collect();
            let expected = fields.iter().map(|(name, _)| name).filter(|name| !stops(name, &fields));
            let mut expected: Vec<_> = expected.map(|name| name.to_ascii_lowercase()).collect();
            answered.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(answered, expected);
        }
    }
}
