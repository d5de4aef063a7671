//! The live picture: what the sidecar and the agents are doing, as lines of text for a terminal of a given size.

use std::net::SocketAddr;
use std::time::Duration;

use super::book::{Book, Page};
use super::cast::{CAST, Role};
use super::paint::{self, Paint};
use super::state::State;
use crate::clock::Moment;
use crate::priority::Priority;

/// Cells of a bar.
const BAR: usize = 14;
/// Waiting requests that fill a bar.
const BAR_OF_WAITING: f64 = 14.0;

/// All that the picture shows.
pub(super) struct Scene<'a> {
    /// The moment that it shows.
    pub(super) now: Moment,
    /// When the demo ends by itself.
    pub(super) ends: Option<Moment>,
    /// Where the sidecar listens.
    pub(super) sidecar: SocketAddr,
    /// Its state.
    pub(super) state: &'a State,
    /// What the agents experience.
    pub(super) book: &'a Book,
    /// Answers in each of the last seconds.
    pub(super) throughput: &'a [u32],
    /// Requests that the look-alike grants a minute.
    pub(super) rpm: usize,
    /// Requests that it refused with 429.
    pub(super) refused: u64,
}

/// The terminal's size in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Cells of a line.
    pub(super) columns: usize,
    /// Lines.
    pub(super) rows: usize,
}

/// The picture's lines: at most `size.rows`, none wider than `size.columns`, colours not counted.
pub(super) fn lines(scene: &Scene<'_>, size: Size) -> Vec<String> {
    let mut lines = head(scene);
    lines.extend(queue_and_tickets(scene));
    lines.push(throughput(scene));
    lines.push(around(scene.book));
    lines.push(Paint::Bold.on(format!(
        " {:<11} {:<8} {:<7} {:>5} {:>8} {:>14} {:>17}",
        "agent", "priority", "asks", "done", "waiting", "latest answer", "of that queued"
    )));
    lines.extend(scene.book.pages().iter().map(|page| agent(page, scene.now)));
    lines.truncate(size.rows);
    for line in &mut lines {
        *line = paint::cut(line, size.columns);
    }
    lines
}

fn head(scene: &Scene<'_>) -> Vec<String> {
    let elapsed = clock_face(scene.now.since(scene.book.started()));
    let left = scene.ends.map(|ends| format!(", {} left", clock_face(ends.since(scene.now))));
    let title =
        format!(" nvidia-sidecar demo: {} agents share a quota of {} a minute", CAST.len(), scene.rpm);
    vec![
        Paint::Bold.on(format!("{title:<62}{elapsed}{}", left.unwrap_or_default())),
        format!(" join in at http://{}/v1, state at /status; Ctrl-C ends it", scene.sidecar),
        String::new(),
    ]
}

/// The queue at the left, four lines about its way out at the right.
fn queue_and_tickets(scene: &Scene<'_>) -> impl Iterator<Item = String> {
    let State { token_bucket: tokens, window, retreat, in_flight, .. } = scene.state;
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let steady = retreat.effective_rpm >= retreat.base_rpm;
    let rate = format!("{}, {:.0} of {:.0} a minute", retreat.state, retreat.effective_rpm, retreat.base_rpm);
    let reached = scene.book.rate_limited();
    let paint = if reached == 0 { Paint::Green } else { Paint::Red };
    let right = [
        format!(
            "tickets {} {:.1} of {:.0}, {in_flight} in flight",
            paint::bar(share(tokens.tokens, tokens.capacity), BAR),
            tokens.tokens,
            tokens.capacity
        ),
        format!(
            "window  {} {} of {} in 60 s",
            paint::bar(share(window.used as f64, window.limit as f64), BAR),
            window.used,
            window.limit
        ),
        format!("rate    {}", if steady { rate } else { Paint::Yellow.on(rate) }),
        format!("429s    {} from upstream, {}", scene.refused, paint.on(format!("{reached} reached agents"))),
    ];
    let state = scene.state;
    Priority::ALL.into_iter().zip(right).map(move |(priority, right)| {
        let title = if priority == Priority::Urgent { "waiting" } else { "" };
        let depth = state.depth(priority);
        let bar = of(priority).on(paint::bar(depth as f64 / BAR_OF_WAITING, BAR));
        format!(" {title:<8} {:<7} {bar} {depth:>4}   {right}", priority.as_str())
    })
}

fn throughput(scene: &Scene<'_>) -> String {
    let seconds = scene.throughput;
    let total: u32 = seconds.iter().sum();
    let mean = f64::from(total) * 60.0 / seconds.len().max(1) as f64;
    format!(" answers  {} {mean:.0} a minute", paint::sparkline(seconds))
}

/// Why the upstream refuses although the sidecar keeps to the quota, once there is a reason.
fn around(book: &Book) -> String {
    match book.around() {
        0 => String::new(),
        count => Paint::Yellow
            .on(format!(" somebody else sent {count} requests with the same key, around the sidecar")),
    }
}

fn agent(page: &Page, now: Moment) -> String {
    let Role { name, priority, work, .. } = *page.role;
    let waiting = page.open.front().map_or_else(|| "-".into(), |since| seconds(now.since(*since)));
    let latest = |duration: Option<Duration>| duration.map_or_else(|| "-".into(), seconds);
    format!(
        " {name:<11} {} {:<7} {:>5} {waiting:>8} {:>14} {:>17}",
        of(priority).on(format!("{:<8}", priority.as_str())),
        work.as_str(),
        page.done,
        latest(page.latest),
        latest(page.latest_queued),
    )
}

const fn of(priority: Priority) -> Paint {
    match priority {
        Priority::Urgent => Paint::Red,
        Priority::High => Paint::Yellow,
        Priority::Normal => Paint::Green,
        Priority::Low => Paint::Blue,
    }
}

/// A duration as `0.4 s`.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A duration as `1:05`.
fn clock_face(duration: Duration) -> String {
    let secs = duration.as_secs();
    format!("{}:{:02}", secs / 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::book::End;
    use proptest::prelude::*;

    fn state() -> State {
        serde_json::from_value(serde_json::json!({
            "queue": {"depth_by_priority": {"urgent": 0, "high": 1, "normal": 9, "low": 400}},
            "token_bucket": {"tokens": 1.5, "capacity": 6.0},
            "window": {"used": 60, "limit": 120},
            "retreat": {"state": "retreat", "effective_rpm": 90.0, "base_rpm": 120.0},
            "in_flight": 3,
        }))
        .expect("a state")
    }

    fn drawn(size: Size) -> Vec<String> {
        let now = Moment::from_secs_f64(165.0);
        let mut book = Book::new(Moment::from_secs_f64(100.0));
        book.sent(0, Moment::from_secs_f64(160.0));
        let queued = Duration::from_millis(400);
        book.ended(0, Moment::from_secs_f64(160.0), End::Answered { queued }, Moment::from_secs_f64(161.2));
        book.sent_around();
        book.sent(8, Moment::from_secs_f64(155.0));
        let scene = Scene {
            now,
            ends: Some(Moment::from_secs_f64(190.0)),
            sidecar: ([127, 0, 0, 1], 4242).into(),
            state: &state(),
            book: &book,
            throughput: &[0, 1, 2, 3],
            rpm: 120,
            refused: 7,
        };
        lines(&scene, size).into_iter().map(|line| paint::plain(&line)).collect()
    }

    #[test]
    fn everything_is_there_on_the_smallest_usual_terminal() {
        let lines = drawn(Size { columns: 80, rows: 24 });
        let expected = "
 nvidia-sidecar demo: 12 agents share a quota of 120 a minute 1:05, 0:25 left
 join in at http://127.0.0.1:4242/v1, state at /status; Ctrl-C ends it

 waiting  urgent  ··············    0   tickets ███▌·········· 1.5 of 6, 3 in flight
          high    █·············    1   window  ███████······· 60 of 120 in 60 s
          normal  █████████·····    9   rate    retreat, 90 of 120 a minute
          low     ██████████████  400   429s    7 from upstream, 0 reached agents
 answers  ▁▄▆█ 90 a minute
 somebody else sent 1 requests with the same key, around the sidecar
 agent       priority asks     done  waiting  latest answer    of that queued
 operator    urgent   stream      1        -          1.2 s             0.4 s";
        let cut: Vec<&str> = expected.lines().skip(1).collect();
        for (line, expected) in lines.iter().zip(cut) {
            let expected: String = expected.chars().take(80).collect();
            assert_eq!(line.trim_end(), expected.trim_end());
        }
        assert_eq!(lines.len(), 10 + CAST.len());
        assert!(lines.iter().any(|line| line.contains("hog") && line.contains("10.0 s")), "{lines:#?}");
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn it_never_exceeds_the_terminal(columns in 0_usize..120, rows in 0_usize..40) {
            let lines = drawn(Size { columns, rows });
            prop_assert!(lines.len() <= rows);
            for line in lines {
                prop_assert!(line.chars().count() <= columns, "{line}");
            }
        }
    }
}
