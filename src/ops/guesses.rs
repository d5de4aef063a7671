//! Wrong admin tokens by address: after a few, so many are compared a minute and no more.

use crate::clock::Moment;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Wrong tokens in a row that cost nothing: an operator mistypes.
const FREE: u32 = 5;

/// What each further one costs its address.
const PENALTY: Duration = Duration::from_secs(1);

/// How often one address is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// How long an address is remembered after its last wrong token.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Addresses that are remembered. When there are more, the one that has been quiet for longest is forgotten.
const MOST_ADDRESSES: usize = 1024;

/// The addresses from which wrong tokens came.
#[derive(Debug, Default)]
pub(super) struct Guesses(HashMap<IpAddr, Guesser>);

#[derive(Debug)]
struct Guesser {
    wrong: u32,
    last: Moment,
    logged_at: Option<Moment>,
    unlogged: u64,
}

/// What follows from one more wrong token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// The operator is to hear of it, and of so many since the last time.
    ToBeLogged {
        /// Wrong tokens from this address, this one among them.
        wrong: u64,
    },
    /// It was logged a moment ago.
    Quiet,
}

impl Guesses {
    /// How long this address has to wait before another token of its is compared.
    pub(super) fn must_wait(&self, peer: IpAddr, now: Moment) -> Option<Duration> {
        let guesser = self.0.get(&network(peer))?;
        let next = guesser.last + PENALTY;
        (guesser.wrong >= FREE && next > now).then(|| next.since(now))
    }

    /// A wrong token came from this address.
    pub(super) fn wrong(&mut self, peer: IpAddr, now: Moment) -> Guess {
        self.0.retain(|_, guesser| now.since(guesser.last) < REMEMBERED);
        let peer = network(peer);
        if self.0.len() >= MOST_ADDRESSES && !self.0.contains_key(&peer) {
            let quietest = self.0.iter().min_by_key(|(_, guesser)| guesser.last).map(|(peer, _)| *peer);
            quietest.map(|peer| self.0.remove(&peer));
        }
        let guesser =
            self.0.entry(peer).or_insert(Guesser { wrong: 0, last: now, logged_at: None, unlogged: 0 });
        guesser.wrong = guesser.wrong.saturating_add(1);
        guesser.last = now;
        guesser.unlogged += 1;
        if guesser.logged_at.is_some_and(|at| now.since(at) < LOG_EVERY) {
            return Guess::Quiet;
        }
        guesser.logged_at = Some(now);
        Guess::ToBeLogged { wrong: std::mem::take(&mut guesser.unlogged) }
    }
}

/// One host may have a whole /64 of IPv6 addresses.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(secs)
    }

    #[test]
    fn a_few_are_free_and_then_one_a_second_is_compared() {
        let peer: IpAddr = "10.0.0.9".parse().unwrap();
        let mut guesses = Guesses::default();
        for _ in 0..FREE {
            assert_eq!(guesses.must_wait(peer, at(0.0)), None);
            guesses.wrong(peer, at(0.0));
        }
        assert_eq!(guesses.must_wait(peer, at(0.25)), Some(Duration::from_millis(750)));
        assert_eq!(guesses.must_wait(peer, at(1.0)), None);
        guesses.wrong(peer, at(1.0));
        assert!(guesses.must_wait(peer, at(1.5)).is_some());
        guesses.wrong("10.0.0.1".parse().unwrap(), at(62.0));
        assert_eq!(guesses.must_wait(peer, at(62.0)), None, "forgotten");
    }

    #[test]
    fn each_address_is_logged_once_a_minute_with_the_count_since() {
        let peer: IpAddr = "fd00::1".parse().unwrap();
        let neighbour: IpAddr = "fd00::2".parse().unwrap();
        let mut guesses = Guesses::default();
        assert_eq!(guesses.wrong(peer, at(0.0)), Guess::ToBeLogged { wrong: 1 });
        assert_eq!(guesses.wrong(neighbour, at(30.0)), Guess::Quiet, "of the same network");
        assert_eq!(guesses.wrong(peer, at(61.0)), Guess::ToBeLogged { wrong: 2 });
    }

    #[test]
    fn addresses_are_bounded() {
        let mut guesses = Guesses::default();
        for i in 0..5000_u32 {
            guesses.wrong(IpAddr::V4(i.into()), at(f64::from(i) / 1000.0));
        }
        assert_eq!(guesses.0.len(), MOST_ADDRESSES);
    }
}
