//! A resolver that remembers its answers for a short while, because ureq resolves on every request, also when the
//! connection comes from its pool.

use crate::clock::{Clock, Moment};
use parking_lot::Mutex;
use std::fmt;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How long an address is used before it is looked up again.
const TTL: Duration = Duration::from_secs(30);

/// Hosts remembered at once: the upstream's and the pass-through's, and what a reload adds.
const MAX_HOSTS: usize = 8;

/// The system's resolver with a memory of a few hosts. When a look-up fails, an address that is known from before is
/// used, however old: a resolver that is down for a moment does not take the upstream with it.
pub struct CachingResolver {
    inner: DefaultResolver,
    clock: Clock,
    known: Mutex<Vec<Known>>,
}

struct Known {
    scheme: String,
    authority: String,
    at: Moment,
    addrs: ResolvedSocketAddrs,
}

impl CachingResolver {
    /// An empty memory in front of the system's resolver.
    #[must_use]
    pub fn new(clock: Clock) -> CachingResolver {
        CachingResolver { inner: DefaultResolver::default(), clock, known: Mutex::default() }
    }
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CachingResolver")
    }
}

impl Resolver for CachingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (scheme, authority) =
            (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
        let now = self.clock.now();
        let is_this = |k: &Known| k.scheme == scheme && k.authority == authority;
        let remembered = self.known.lock().iter().find(|k| is_this(k)).map(|k| (k.at, k.addrs.clone()));
        if let Some((at, addrs)) = &remembered
            && now.since(*at) < TTL
        {
            return Ok(addrs.clone());
        }
        let addrs = match (self.inner.resolve(uri, config, timeout), remembered) {
            (Ok(addrs), _) => addrs,
            (Err(_), Some((_, addrs))) => addrs,
            (Err(error), None) => return Err(error),
        };
        let mut known = self.known.lock();
        known.retain(|k| !is_this(k));
        if known.len() >= MAX_HOSTS {
            known.remove(0);
        }
        known.push(Known {
            scheme: scheme.into(),
            authority: authority.into(),
            at: now,
            addrs: addrs.clone(),
        });
        Ok(addrs)
    }
}
