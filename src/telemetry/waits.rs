//! How long requests waited for their tickets, by priority, between two looks: the median and the 95th percentile.

use crate::priority::Priority;

/// Waits that are kept a priority; of more, each has the same chance to be among the kept (Vitter's algorithm R).
const KEPT: usize = 512;

/// The waits since the last look.
#[derive(Debug, Default)]
pub struct Waits([Sample; Priority::ALL.len()]);

#[derive(Debug, Default)]
struct Sample {
    seconds: Vec<f32>,
    seen: usize,
}

/// The median and the 95th percentile, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// Half waited no longer.
    pub p50: f32,
    /// 19 of 20 waited no longer.
    pub p95: f32,
}

impl Waits {
    /// A request of this priority got its ticket after so many seconds. `chance` picks a number below its argument.
    pub fn add(&mut self, priority: Priority, seconds: f32, chance: impl FnOnce(usize) -> usize) {
        let sample = &mut self.0[priority.index()];
        sample.seen = sample.seen.saturating_add(1);
        if sample.seconds.len() < KEPT {
            sample.seconds.push(seconds);
        } else if let Some(kept) = sample.seconds.get_mut(chance(sample.seen)) {
            *kept = seconds;
        }
    }

    /// The percentiles of each priority since the last call, in the order of [`Priority::ALL`]; `None` where none came.
    pub fn take(&mut self) -> [Option<Percentiles>; Priority::ALL.len()] {
        std::mem::take(self).0.map(|mut sample| {
            sample.seconds.sort_by(f32::total_cmp);
            let last = sample.seconds.len().checked_sub(1)?;
            // The nearest rank: a wait that somebody had.
            let rank = |percent: usize| {
                sample.seconds[(sample.seconds.len() * percent).div_ceil(100).min(last + 1) - 1]
            };
            Some(Percentiles { p50: rank(50), p95: rank(95) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(_: usize) -> usize {
        0
    }

    #[test]
    fn percentiles_are_waits_that_occurred_and_begin_anew_after_each_look() {
        let mut waits = Waits::default();
        (1..=100_u8).rev().for_each(|n| waits.add(Priority::Low, f32::from(n), first));
        waits.add(Priority::Urgent, 7.0, first);
        let [urgent, high, _, low] = waits.take();
        assert_eq!(urgent, Some(Percentiles { p50: 7.0, p95: 7.0 }));
        assert_eq!((high, low), (None, Some(Percentiles { p50: 50.0, p95: 95.0 })));
        assert_eq!(waits.take(), [None; 4]);
    }

    #[test]
    fn a_flood_takes_no_more_room_and_is_still_seen() {
        let mut waits = Waits::default();
        let mut random = fastrand::Rng::with_seed(7);
        (0..100_000).for_each(|n| {
            waits.add(Priority::Normal, if n % 2 == 0 { 1.0 } else { 9.0 }, |of| random.usize(..of));
        });
        assert!(waits.0.iter().all(|sample| sample.seconds.len() <= KEPT));
        let normal = waits.take()[Priority::Normal.index()].unwrap();
        assert!((normal.p95 - 9.0).abs() < f32::EPSILON, "{normal:?}");
    }
}
