//! What this sidecar's monotonic clock knows of Redis' clock and of the fleet's time.

use crate::clock::Moment;
use std::time::Duration;

/// A call that is executed later than this is void: its answer would not be trusted anyway.
const LATE: Duration = Duration::from_millis(100);

/// The last moment at which both clocks were seen.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    raw: Option<(u64, Moment)>,
    fleet: Option<(u64, Moment)>,
    jumped: bool,
}

impl Timeline {
    /// An answer to a call of `asked`, received at `now`, shows Redis' clock.
    pub fn saw_raw(&mut self, raw: u64, asked: Moment) {
        self.raw = Some((raw, asked));
    }

    /// It shows the fleet's time as well.
    pub fn saw_fleet(&mut self, fleet: u64, now: Moment) {
        self.fleet = Some((fleet, now));
        self.jumped = false;
    }

    /// Redis' clock was further ahead than it can be: the next call brings a bound.
    pub fn jumped(&mut self) {
        self.jumped = true;
    }

    /// What Redis' clock shows at most when a call of `asked` is executed in time.
    #[must_use]
    pub fn expect(&self, asked: Moment) -> u64 {
        self.raw.map_or(0, |(raw, at)| raw + millis(asked.since(at) + LATE) + 2)
    }

    /// The fleet's time at `asked`, never more than it is; 0 where no bound is needed.
    #[must_use]
    pub fn cap(&self, asked: Moment) -> u64 {
        match self.fleet {
            Some((fleet, at)) if self.jumped => fleet + millis(asked.since(at)),
            _ => 0,
        }
    }
}

/// Whole milliseconds, rounded down.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(secs)
    }

    #[test]
    fn a_bound_is_given_only_after_a_jump_and_is_never_above_the_truth() {
        let mut line = Timeline::default();
        assert_eq!((line.expect(at(1.0)), line.cap(at(1.0))), (0, 0));
        line.saw_raw(5_000, at(1.0));
        line.saw_fleet(4_000, at(1.2));
        assert_eq!((line.expect(at(2.0)), line.cap(at(2.0))), (6_102, 0));
        line.jumped();
        // The answer was seen at 1.2 s, the script ran between 1.0 and 1.2 s: at least 0.8 s have passed.
        assert_eq!(line.cap(at(2.0)), 4_800);
        line.saw_fleet(4_800, at(2.1));
        assert_eq!(line.cap(at(2.2)), 0);
    }
}
