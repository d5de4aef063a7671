//! Who may change the running sidecar.

use crate::config::Secret;
use crate::front::access::{is_local_host, is_local_origin, same};
use crate::front::route::bearer;
use crate::http::Head;
use crate::ops::pages::Page;
use std::net::IpAddr;

/// Whether an operator's call is let in.
#[derive(Debug)]
pub enum Admission {
    /// It is.
    Granted,
    /// It is not, and this is what it is told.
    Refused(Page),
}

/// With a token configured, who has it. With none, this machine's own user: a peer on loopback whose `Host` and `Origin`
/// are local too, so that no web page can use the operator's browser (DNS rebinding, cross-site requests).
#[must_use]
pub fn admit(head: &Head, peer: IpAddr, token: Option<&Secret>) -> Admission {
    let Some(token) = token else {
        let text = |name| head.field(name).map(String::from_utf8_lossy);
        let local = peer.to_canonical().is_loopback()
            && text("host").is_some_and(|host| is_local_host(&host))
            && text("origin").is_none_or(|origin| is_local_origin(&origin));
        return if local {
            Admission::Granted
        } else {
            refused(403, "without an admin_token only this machine may do this; set one to allow others")
        };
    };
    match head.field("authorization").and_then(bearer) {
        Some(given) if bool::from(same(given, token)) => Admission::Granted,
        Some(_) => refused(403, "this is not the admin_token"),
        None => match refused(401, "the admin_token is required as a bearer token") {
            Admission::Refused(page) => Admission::Refused(page.with("www-authenticate", "Bearer")),
            granted @ Admission::Granted => granted,
        },
    }
}

fn refused(status: u16, message: &str) -> Admission {
    Admission::Refused(Page::refusal(status, message))
}
