//! The last hour in points of five seconds, for the dashboard's charts: a ring that never grows.

use std::collections::VecDeque;
use std::time::Duration;

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use crate::limiter::snapshot::RetreatState;
use crate::ops::state::State;
use crate::priority::Priority;
use crate::telemetry::waits::Percentiles;

/// Seconds that one point covers.
const STEP_SECS: u64 = 5;
/// Points that are kept: one hour, some 130 KiB.
const POINTS: usize = 720;
/// Points that make up the last minute.
const LAST_MINUTE: usize = 12;
/// The names of a point's figures, in the order in which it is written. More may come behind the last.
const COLUMNS: [&str; 24] = [
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
    "failed",
    "upstream_429",
    "depth_urgent",
    "depth_high",
    "depth_normal",
    "depth_low",
    "p50_urgent",
    "p50_high",
    "p50_normal",
    "p50_low",
    "p95_urgent",
    "p95_high",
    "p95_normal",
    "p95_low",
];

/// A figure a priority, in the order of [`Priority::ALL`].
type ByPriority<T> = [T; Priority::ALL.len()];

/// What is taken down once a second. Totals count from the start of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Limited requests that succeeded.
    pub ok_total: u64,
    /// Limited requests whose client got a 429.
    pub ratelimited_total: u64,
    /// Limited requests that failed otherwise.
    pub failed_total: u64,
    /// 429s of the upstream, those that were waited out included.
    pub upstream_429_total: u64,
    /// Finished pass-through requests.
    pub passthrough_total: u64,
    /// Requests that wait.
    pub depth: ByPriority<u32>,
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

/// Five seconds of the past. Written as an array, in the order of the history's `columns`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When it ended, Unix seconds.
    pub at: u64,
    /// Limited requests that succeeded within it.
    pub ok: u64,
    /// Limited requests within it whose client got a 429.
    pub ratelimited: u64,
    /// Limited requests within it that failed otherwise.
    pub failed: u64,
    /// 429s of the upstream within it.
    pub upstream_429: u64,
    /// Pass-through requests that finished within it.
    pub passthrough: u64,
    /// The deepest that the queue was, so that no peak is lost between two points.
    pub queue_depth: u64,
    /// The deepest that each priority was.
    pub depth: ByPriority<u32>,
    /// How long requests waited that got their tickets within it.
    pub waits: ByPriority<Option<Percentiles>>,
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
        let percentile =
            |of: fn(Percentiles) -> f32| self.waits.map(|waits| waits.map(|w| rounded(of(w).into())));
        let mut point = serializer.serialize_seq(Some(COLUMNS.len()))?;
        for count in [self.at, self.ok, self.ratelimited, self.passthrough, self.queue_depth] {
            point.serialize_element(&count)?;
        }
        for figure in [self.effective_rpm, self.base_rpm, self.tokens, self.upstream_429_rate] {
            point.serialize_element(&rounded(figure))?;
        }
        point.serialize_element(&self.state.code())?;
        for count in [self.failed, self.upstream_429] {
            point.serialize_element(&count)?;
        }
        for depth in self.depth {
            point.serialize_element(&depth)?;
        }
        for wait in percentile(|waits| waits.p50).into_iter().chain(percentile(|waits| waits.p95)) {
            point.serialize_element(&wait)?;
        }
        point.end()
    }
}

impl From<&State> for Sample {
    fn from(state: &State) -> Sample {
        let (totals, limiter) = (&state.totals, &state.limiter);
        Sample {
            ok_total: totals.nvidia_success,
            ratelimited_total: totals.nvidia_ratelimited,
            failed_total: totals.nvidia_failed,
            upstream_429_total: totals.upstream_429,
            passthrough_total: totals.passthrough,
            depth: limiter.queue.depth_by_priority.map(|depth| u32::try_from(depth).unwrap_or(u32::MAX)),
            effective_rpm: limiter.retreat.effective_rpm,
            base_rpm: limiter.retreat.base_rpm,
            tokens: state.bucket.tokens,
            upstream_429_rate: limiter.retreat.upstream_429_rate,
            state: limiter.retreat.state,
        }
    }
}

/// Three digits are more than a chart shows.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Requests that finished within the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LastMinute {
    /// Limited requests that succeeded.
    pub ok: u64,
    /// Limited requests whose client got a 429.
    pub ratelimited: u64,
    /// Limited requests that failed otherwise.
    pub failed: u64,
    /// 429s of the upstream, those that were waited out included.
    pub upstream_429: u64,
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
    /// The deepest of each priority since the last point.
    deepest_by_priority: ByPriority<u32>,
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
    /// missed makes a point cover more, never less. `waits` gives how long requests waited since the last point.
    ///
    /// Gives the point that this call completed, if it did.
    pub fn take(
        &mut self,
        sample: Sample,
        waits: impl FnOnce() -> ByPriority<Option<Percentiles>>,
        unix: Duration,
    ) -> Option<Point> {
        let step = unix.as_secs() / STEP_SECS;
        let depth: u64 = sample.depth.iter().copied().map(u64::from).sum();
        let Some(from) = self.from else {
            (self.from, self.step) = (Some(sample), step);
            (self.deepest, self.deepest_by_priority) = (depth, sample.depth);
            return None;
        };
        self.deepest = self.deepest.max(depth);
        for (deepest, depth) in self.deepest_by_priority.iter_mut().zip(sample.depth) {
            *deepest = depth.max(*deepest);
        }
        // A clock that was set back gives no points until it is where it was: they stay in order.
        if step <= self.step {
            return None;
        }
        let within = |total: fn(&Sample) -> u64| total(&sample).saturating_sub(total(&from));
        let point = Point {
            at: step * STEP_SECS,
            ok: within(|s| s.ok_total),
            ratelimited: within(|s| s.ratelimited_total),
            failed: within(|s| s.failed_total),
            upstream_429: within(|s| s.upstream_429_total),
            passthrough: within(|s| s.passthrough_total),
            queue_depth: self.deepest,
            depth: self.deepest_by_priority,
            waits: waits(),
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
        (self.from, self.step) = (Some(sample), step);
        (self.deepest, self.deepest_by_priority) = (depth, sample.depth);
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
            failed: sum.failed + p.failed,
            upstream_429: sum.upstream_429 + p.upstream_429,
            passthrough: sum.passthrough + p.passthrough,
        })
    }

    /// The JSON that `GET /api/dashboard/history` answers, some 70 KiB when the hour is full:
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

    fn no_waits() -> ByPriority<Option<Percentiles>> {
        [None; 4]
    }

    fn at(secs: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + secs)
    }

    #[test]
    fn a_point_holds_what_finished_within_it_and_the_deepest_queue() {
        let mut history = History::default();
        assert_eq!(history.take(Sample { ok_total: 100, ..Sample::default() }, no_waits, at(0)), None);
        history.take(Sample { ok_total: 103, depth: [0, 9, 0, 0], ..Sample::default() }, no_waits, at(3));
        let point = history
            .take(Sample { ok_total: 104, depth: [0, 2, 0, 0], ..Sample::default() }, no_waits, at(5))
            .unwrap();
        assert_eq!((point.at, point.ok, point.queue_depth), (at(5).as_secs(), 4, 9));
        assert_eq!(point.depth, [0, 9, 0, 0]);
        let next = history.take(Sample { ok_total: 104, ..Sample::default() }, no_waits, at(10)).unwrap();
        assert_eq!((next.ok, next.queue_depth), (0, 2));
    }

    #[test]
    fn the_last_minute_forgets_what_is_older() {
        let mut history = History::default();
        for i in 0..=20 {
            history.take(
                Sample { ok_total: i, passthrough_total: 2 * i, ..Sample::default() },
                no_waits,
                at(5 * i),
            );
        }
        assert_eq!(history.last_minute(), LastMinute { ok: 12, passthrough: 24, ..LastMinute::default() });
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_the_points_in_order() {
        let mut history = History::default();
        for secs in [100, 105, 50, 55, 110] {
            history.take(Sample::default(), no_waits, at(secs));
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
                depth: [u32::MAX; 4],
                ..Sample::default()
            };
            let waits = || [Some(Percentiles { p50: 1.0 / 3.0, p95: 600.0 }); 4];
            history.take(sample, waits, at(secs));
        }
        assert_eq!(history.points.len(), POINTS);
        assert!(history.points.capacity() * size_of::<Point>() < 256 * 1024);
        let json = history.to_json().unwrap();
        assert!(json.len() < 192 * 1024, "{} bytes", json.len());
    }

    #[test]
    fn the_columns_name_each_figure_of_a_point() {
        let mut history = History::default();
        history.take(Sample::default(), no_waits, at(0));
        let waits = || [None, None, None, Some(Percentiles { p50: 2.0, p95: 9.5 })];
        let sample = Sample {
            base_rpm: 40.0,
            depth: [1, 2, 3, 4],
            upstream_429_total: 6,
            state: RetreatState::Recover,
            ..Sample::default()
        };
        history.take(sample, waits, at(5));
        let json: serde_json::Value = serde_json::from_str(&history.to_json().unwrap()).unwrap();
        let column = |name: &str| COLUMNS.iter().position(|c| *c == name).unwrap();
        assert_eq!(json["points"][0].as_array().unwrap().len(), COLUMNS.len());
        assert_eq!(json["points"][0][column("base_rpm")], 40.0);
        assert_eq!(json["points"][0][column("retreat_state")], 2);
        assert_eq!(json["points"][0][column("upstream_429")], 6);
        assert_eq!(json["points"][0][column("depth_low")], 4);
        assert_eq!(json["points"][0][column("p95_urgent")], serde_json::Value::Null);
        assert_eq!(json["points"][0][column("p50_low")], 2.0);
        assert_eq!(json["points"][0][column("p95_low")], 9.5);
    }
}
