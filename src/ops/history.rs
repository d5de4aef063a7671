//! The last hour in points of five seconds, for the dashboard's charts: a ring that never grows.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::limiter::snapshot::RetreatState;
use crate::ops::state::State;

/// Seconds that one point covers.
const STEP_SECS: u64 = 5;
/// Points that are kept: one hour, some 60 KiB.
const POINTS: usize = 720;
/// Points that make up the last minute.
const LAST_MINUTE: usize = 12;
/// The names of a point's figures, in the order in which it is written.
const COLUMNS: [&str; 10] = [
    "at",
    "ok",
    "ratelimited",
    "passthrough",
    "queue_depth",
    "effective_rpm",
    "base_rpm",
    "tokens",
    "upstream_429_rate",
    "retreat_state",
];

/// What is taken down once a second. Totals count from the start of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Limited requests that succeeded.
    pub ok_total: u64,
    /// Limited requests whose client got a 429.
    pub ratelimited_total: u64,
    /// Finished pass-through requests.
    pub passthrough_total: u64,
    /// Requests that wait.
    pub queue_depth: u64,
    /// The rate in force, requests a minute.
    pub effective_rpm: f64,
    /// The configured rate, requests a minute.
    pub base_rpm: f64,
    /// Tokens in the bucket.
    pub tokens: f64,
    /// Share of the upstream's answers that refused the key.
    pub upstream_429_rate: f64,
    /// The retreat's state.
    pub state: RetreatState,
}

impl From<&State> for Sample {
    fn from(state: &State) -> Sample {
        let (totals, limiter) = (&state.totals, &state.limiter);
        Sample {
            ok_total: totals.nvidia_success,
            ratelimited_total: totals.nvidia_ratelimited,
            passthrough_total: totals.passthrough,
            queue_depth: limiter.queue.waiting() as u64,
            effective_rpm: limiter.retreat.effective_rpm,
            base_rpm: limiter.retreat.base_rpm,
            tokens: state.bucket.tokens,
            upstream_429_rate: limiter.retreat.upstream_429_rate,
            state: limiter.retreat.state,
        }
    }
}

/// Five seconds of the past. Written as an array, in the order of the history's `columns`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When it ended, Unix seconds.
    pub at: u64,
    /// Limited requests that succeeded within it.
    pub ok: u64,
    /// Limited requests within it whose client got a 429.
    pub ratelimited: u64,
    /// Pass-through requests that finished within it.
    pub passthrough: u64,
    /// The deepest that the queue was, so that no peak is lost between two points.
    pub queue_depth: u64,
    /// The rate in force at its end.
    pub effective_rpm: f64,
    /// The configured rate at its end.
    pub base_rpm: f64,
    /// Tokens at its end.
    pub tokens: f64,
    /// The share of refusals at its end.
    pub upstream_429_rate: f64,
    /// The retreat's state at its end.
    pub state: RetreatState,
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (
            self.at,
            self.ok,
            self.ratelimited,
            self.passthrough,
            self.queue_depth,
            rounded(self.effective_rpm),
            rounded(self.base_rpm),
            rounded(self.tokens),
            rounded(self.upstream_429_rate),
            self.state.code(),
        )
            .serialize(serializer)
    }
}

/// Four digits are more than a chart shows.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Requests that finished within the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LastMinute {
    /// Limited requests that succeeded.
    pub ok: u64,
    /// Limited requests whose client got a 429.
    pub ratelimited: u64,
    /// Pass-through requests.
    pub passthrough: u64,
}

/// The last hour.
#[derive(Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
    /// The sample that the present point's differences are taken from.
    from: Option<Sample>,
    /// Which step of calendar time the present point is.
    step: u64,
    deepest: u64,
}

/// What `GET /api/dashboard/history` answers.
#[derive(Serialize)]
struct Document<'a> {
    step_seconds: u64,
    columns: [&'static str; COLUMNS.len()],
    points: &'a VecDeque<Point>,
}

impl History {
    /// Takes down the state at `unix` (time since the Unix epoch). To be called about once a second; a call that is
    /// missed makes a point cover more, never less.
    ///
    /// Gives the point that this call completed, if it did.
    pub fn take(&mut self, sample: Sample, unix: Duration) -> Option<Point> {
        let step = unix.as_secs() / STEP_SECS;
        let Some(from) = self.from else {
            (self.from, self.step, self.deepest) = (Some(sample), step, sample.queue_depth);
            return None;
        };
        self.deepest = self.deepest.max(sample.queue_depth);
        // A clock that was set back gives no points until it is where it was: they stay in order.
        if step <= self.step {
            return None;
        }
        let point = Point {
            at: step * STEP_SECS,
            ok: sample.ok_total.saturating_sub(from.ok_total),
            ratelimited: sample.ratelimited_total.saturating_sub(from.ratelimited_total),
            passthrough: sample.passthrough_total.saturating_sub(from.passthrough_total),
            queue_depth: self.deepest,
            effective_rpm: sample.effective_rpm,
            base_rpm: sample.base_rpm,
            tokens: sample.tokens,
            upstream_429_rate: sample.upstream_429_rate,
            state: sample.state,
        };
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(point);
        (self.from, self.step, self.deepest) = (Some(sample), step, sample.queue_depth);
        Some(point)
    }

    /// The newest complete point.
    #[must_use]
    pub fn latest(&self) -> Option<Point> {
        self.points.back().copied()
    }

    /// What finished within the last minute, to the nearest point.
    #[must_use]
    pub fn last_minute(&self) -> LastMinute {
        let Some(newest) = self.latest() else { return LastMinute::default() };
        let recent = self.points.iter().rev().take(LAST_MINUTE).filter(|p| p.at + 60 > newest.at);
        recent.fold(LastMinute::default(), |sum, p| LastMinute {
            ok: sum.ok + p.ok,
            ratelimited: sum.ratelimited + p.ratelimited,
            passthrough: sum.passthrough + p.passthrough,
        })
    }

    /// The JSON that `GET /api/dashboard/history` answers, some 35 KiB when the hour is full:
    /// `{"step_seconds":5,"columns":["at",…],"points":[[…],…]}`, oldest first.
    ///
    /// # Errors
    /// When the serializer fails, which numbers do not make it do.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Document { step_seconds: STEP_SECS, columns: COLUMNS, points: &self.points })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + secs)
    }

    #[test]
    fn a_point_holds_what_finished_within_it_and_the_deepest_queue() {
        let mut history = History::default();
        assert_eq!(history.take(Sample { ok_total: 100, ..Sample::default() }, at(0)), None);
        history.take(Sample { ok_total: 103, queue_depth: 9, ..Sample::default() }, at(3));
        let point =
            history.take(Sample { ok_total: 104, queue_depth: 2, ..Sample::default() }, at(5)).unwrap();
        assert_eq!((point.at, point.ok, point.queue_depth), (at(5).as_secs(), 4, 9));
        let next = history.take(Sample { ok_total: 104, ..Sample::default() }, at(10)).unwrap();
        assert_eq!((next.ok, next.queue_depth), (0, 2));
    }

    #[test]
    fn the_last_minute_forgets_what_is_older() {
        let mut history = History::default();
        for i in 0..=20 {
            history.take(Sample { ok_total: i, passthrough_total: 2 * i, ..Sample::default() }, at(5 * i));
        }
        assert_eq!(history.last_minute(), LastMinute { ok: 12, ratelimited: 0, passthrough: 24 });
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_the_points_in_order() {
        let mut history = History::default();
        for secs in [100, 105, 50, 55, 110] {
            history.take(Sample::default(), at(secs));
        }
        assert!(history.points.iter().map(|p| p.at).is_sorted());
        assert_eq!(history.points.len(), 2);
    }

    #[test]
    fn a_week_takes_no_more_room_than_an_hour() {
        let mut history = History::default();
        for secs in 0..7 * 24 * 3600 {
            let sample = Sample {
                ok_total: secs * 1000,
                effective_rpm: 1.0 / 3.0,
                tokens: 2.0 / 3.0,
                queue_depth: u64::from(u32::MAX),
                ..Sample::default()
            };
            history.take(sample, at(secs));
        }
        assert_eq!(history.points.len(), POINTS);
        assert!(history.points.capacity() * size_of::<Point>() < 128 * 1024);
        let json = history.to_json().unwrap();
        assert!(json.len() < 64 * 1024, "{} bytes", json.len());
    }

    #[test]
    fn the_columns_name_each_figure_of_a_point() {
        let mut history = History::default();
        history.take(Sample::default(), at(0));
        history.take(Sample { base_rpm: 40.0, state: RetreatState::Recover, ..Sample::default() }, at(5));
        let json: serde_json::Value = serde_json::from_str(&history.to_json().unwrap()).unwrap();
        let column = |name: &str| COLUMNS.iter().position(|c| *c == name).unwrap();
        assert_eq!(json["points"][0].as_array().unwrap().len(), COLUMNS.len());
        assert_eq!(json["points"][0][column("base_rpm")], 40.0);
        assert_eq!(json["points"][0][column("retreat_state")], 2);
    }
}
