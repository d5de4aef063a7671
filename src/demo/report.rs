//! The demo in plain lines: one each second where there is no terminal, and the summary at its end.

use std::fmt::Write;
use std::time::Duration;

use super::book::Book;
use super::cast::CAST;
use super::picture::{Scene, seconds};
use crate::priority::Priority;

/// What is happening, in one line.
pub(super) fn line(scene: &Scene<'_>) -> String {
    let Scene { now, state, book, refused, .. } = scene;
    let depths = Priority::ALL.map(|priority| format!("{} {}", priority.as_str(), state.depth(priority)));
    format!(
        "{:>4} s  answered {:<4} waiting: {}  window {}/{}  {} {:.0} rpm  429s: {refused} from upstream, {} reached agents",
        now.since(book.started()).as_secs(),
        book.answered(),
        depths.join(", "),
        state.window.used,
        state.window.limit,
        state.retreat.state,
        state.retreat.effective_rpm,
        book.rate_limited(),
    )
}

/// What happened, when it is over.
pub(super) fn summary(book: &Book, ran: Duration, rpm: usize, refused: u64) -> String {
    let mut text = format!(
        "{} agents shared a quota of {rpm} requests a minute for {} s.\n\n",
        CAST.len(),
        ran.as_secs()
    );
    // Writing to memory cannot fail.
    let _ = writeln!(text, "  requests answered           {:>6}", book.answered());
    let _ = writeln!(text, "  failed                      {:>6}", book.failed());
    let _ = writeln!(text, "  429s from the upstream      {refused:>6}");
    if book.around() > 0 {
        let _ = writeln!(
            text,
            "    somebody else sent {} requests with the same key, around the sidecar",
            book.around()
        );
    }
    let _ = writeln!(text, "  429s that reached an agent  {:>6}", book.rate_limited());
    let _ = writeln!(text, "\n  wait for a ticket   answered       p50       p99");
    for priority in Priority::ALL {
        let waits = book.waits(priority);
        let percentile = |percent| waits.percentile(percent).map_or_else(|| "-".into(), seconds);
        let (p50, p99) = (percentile(50), percentile(99));
        let _ = writeln!(text, "  {:<18} {:>9} {p50:>9} {p99:>9}", priority.as_str(), waits.count());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::demo::book::End;

    #[test]
    fn the_summary_tells_requests_refusals_and_waits_by_priority() {
        let mut book = Book::new(Moment::ZERO);
        let queued = Duration::from_millis(1500);
        book.ended(0, Moment::ZERO, End::Answered { queued }, Moment::ZERO);
        book.ended(0, Moment::ZERO, End::RateLimited, Moment::ZERO);
        let text = summary(&book, Duration::from_secs(5), 120, 9);
        assert_eq!(
            text,
            "12 agents shared a quota of 120 requests a minute for 5 s.

  requests answered                1
  failed                           0
  429s from the upstream           9
  429s that reached an agent       1

  wait for a ticket   answered       p50       p99
  urgent                     1     1.5 s     1.5 s
  high                       0         -         -
  normal                     0         -         -
  low                        0         -         -
"
        );
    }
}
