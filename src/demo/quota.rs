//! The look-alike's limit: so many requests in any 60 s, counted where NVIDIA counts them, on arrival.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;

const SPAN: Duration = Duration::from_secs(60);

/// Grants at most `limit` requests in any 60 s, and counts the refusals.
#[derive(Debug)]
pub(super) struct Quota {
    limit: usize,
    granted: VecDeque<Moment>,
    refused: u64,
}

impl Quota {
    pub(super) fn new(limit: usize) -> Quota {
        Quota { limit, granted: VecDeque::with_capacity(limit), refused: 0 }
    }

    /// Whether a request that arrives at `now` is granted. A refused one does not count against later ones.
    pub(super) fn admit(&mut self, now: Moment) -> bool {
        while self.granted.front().is_some_and(|at| now.since(*at) >= SPAN) {
            self.granted.pop_front();
        }
        let free = self.granted.len() < self.limit;
        if free {
            self.granted.push_back(now);
        } else {
            self.refused += 1;
        }
        free
    }

    /// Requests refused, ever.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn no_sixty_seconds_hold_more_than_the_limit_and_none_is_refused_below_it(
            gaps in proptest::collection::vec(0_u64..8_000, 1..200),
            limit in 1_usize..20,
        ) {
            let mut quota = Quota::new(limit);
            let (mut now, mut granted, mut refused) = (Moment::ZERO, Vec::new(), 0);
            for gap in gaps {
                now = now + Duration::from_millis(gap);
                let recent = granted.iter().filter(|at| now.since(**at) < SPAN).count();
                let admitted = quota.admit(now);
                prop_assert_eq!(admitted, recent < limit);
                if admitted { granted.push(now) } else { refused += 1 }
            }
            prop_assert_eq!(quota.refused(), refused);
        }
    }
}
