//! The share of hits within a rolling window, in the same room for any number of them.

use std::time::Duration;

use crate::clock::Moment;

/// The window is the agent's interval, and no less than this.
const SHARE_WINDOW_MIN: Duration = Duration::from_secs(60);
/// Slices of that window; the oldest is forgotten as a whole.
const SLICES: u32 = 12;

/// The share of hits within a rolling window, kept in slices so that it takes the same room for any number of requests.
#[derive(Debug)]
pub(super) struct RecentShare {
    slice: Duration,
    /// For each slice which one it is, counted from the clock's origin, and what it has seen.
    slices: [Slice; SLICES as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    number: u64,
    hits: u32,
    all: u32,
}

impl RecentShare {
    pub(super) fn new(interval: Duration) -> RecentShare {
        let slice = interval.max(SHARE_WINDOW_MIN) / SLICES;
        RecentShare { slice, slices: [Slice::default(); SLICES as usize] }
    }

    fn number(&self, now: Moment) -> u64 {
        now.as_nanos() / u64::try_from(self.slice.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn add(&mut self, hit: bool, now: Moment) {
        let number = self.number(now);
        let index = usize::try_from(number % u64::from(SLICES)).unwrap_or_default();
        let slice = &mut self.slices[index];
        if slice.number != number {
            *slice = Slice { number, ..Slice::default() };
        }
        slice.hits = slice.hits.saturating_add(u32::from(hit));
        slice.all = slice.all.saturating_add(1);
    }

    pub(super) fn value(&self, now: Moment) -> f64 {
        let number = self.number(now);
        let live = self.slices.iter().filter(|slice| number.saturating_sub(slice.number) < u64::from(SLICES));
        let (hits, all) =
            live.fold((0.0, 0.0), |(hits, all), s| (hits + f64::from(s.hits), all + f64::from(s.all)));
        if all > 0.0 { hits / all } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    proptest::proptest! {
        #[test]
        fn the_share_agrees_with_a_list_of_all_requests(
            events in proptest::collection::vec((0_u64..400, proptest::bool::ANY), 0..200)
        ) {
            let mut share = RecentShare::new(Duration::from_secs(120));
            let mut now = 0;
            let mut seen = Vec::new();
            for (pause, hit) in events {
                now += pause / 10;
                share.add(hit, at(now));
                seen.push((now, hit));
                // Slices of 10 s: the window holds the present one and the eleven before it.
                let live: Vec<_> = seen.iter().filter(|(t, _)| t / 10 + 12 > now / 10).collect();
                let hits = live.iter().filter(|(_, hit)| *hit).count();
                #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
                let expected = hits as f64 / live.len() as f64;
                proptest::prop_assert!((share.value(at(now)) - expected).abs() < 1e-9);
            }
        }
    }
}
