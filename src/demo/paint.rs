//! Strokes of the picture: colours, bars, sparklines, and lines cut to a width.

use std::fmt::Write;

const ESCAPE: char = '\x1b';
const RESET: &str = "\x1b[0m";
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A colour or weight of text (ECMA-48 §8.3.117, SGR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// Bold.
    Bold,
    /// Red.
    Red,
    /// Green.
    Green,
    /// Yellow.
    Yellow,
    /// Blue.
    Blue,
}

impl Paint {
    /// `text` in this colour.
    pub(super) fn on(self, text: impl AsRef<str>) -> String {
        let code = match self {
            Paint::Bold => 1,
            Paint::Red => 31,
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Blue => 34,
        };
        format!("{ESCAPE}[{code}m{}{RESET}", text.as_ref())
    }
}

/// A bar of `cells` cells, filled to `share` (0 to 1) in steps of half a cell.
pub(super) fn bar(share: f64, cells: usize) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let filled = share * cells as f64;
    let cell = |i: usize| match filled - i as f64 {
        rest if rest >= 0.75 => '█',
        rest if rest >= 0.25 => '▌',
        _ => '·',
    };
    (0..cells).map(cell).collect()
}

/// One character for each figure, as high as it is in proportion to the largest.
pub(super) fn sparkline(figures: &[u32]) -> String {
    let largest = figures.iter().copied().max().unwrap_or_default().max(1) as usize;
    let top = EIGHTHS.len() - 1;
    figures.iter().map(|figure| EIGHTHS[(*figure as usize * top).div_ceil(largest).min(top)]).collect()
}

/// `line` up to `columns` visible characters; what is painted stays painted and ends with the line.
pub(super) fn cut(line: &str, columns: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let mut seen = 0;
    for (visible, part) in parts(line) {
        if visible {
            let taken: String = part.chars().take(columns - seen).collect();
            seen += taken.chars().count();
            out.push_str(&taken);
        } else {
            let _ = out.write_str(part);
        }
    }
    out
}

/// `line` without its colours.
pub(super) fn plain(line: &str) -> String {
    parts(line).filter(|(visible, _)| *visible).map(|(_, part)| part).collect()
}

/// The line as runs of visible text and control sequences, in order.
fn parts(line: &str) -> impl Iterator<Item = (bool, &str)> {
    line.split_inclusive('m').flat_map(|piece| match piece.find(ESCAPE) {
        Some(at) => [(true, &piece[..at]), (false, &piece[at..])],
        None => [(true, piece), (false, "")],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bars_fill_in_half_cells_and_odd_shares_do_no_harm() {
        assert_eq!(bar(0.5, 4), "██··");
        assert_eq!(bar(0.375, 4), "█▌··");
        assert_eq!((bar(9.0, 2), bar(-1.0, 2), bar(f64::NAN, 2)), ("██".into(), "··".into(), "··".into()));
    }

    #[test]
    fn a_sparkline_scales_to_its_largest_figure() {
        assert_eq!(sparkline(&[0, 1, 2, 4]), "▁▃▅█");
        assert_eq!(sparkline(&[0, u32::MAX]), "▁█");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn a_painted_line_is_cut_by_what_is_seen_of_it() {
        let line = format!("a {} my moon", Paint::Red.on("mmm"));
        assert_eq!(plain(&line), "a mmm my moon");
        assert_eq!(cut(&line, 4), format!("a {ESCAPE}[31mmm{RESET}"));
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn cutting_leaves_a_beginning(text in "[a-zé█ ]{0,30}", columns in 0_usize..40) {
            let painted = format!("{text}{}", Paint::Bold.on(&text));
            let seen = plain(&cut(&painted, columns));
            let whole: String = format!("{text}{text}").chars().take(columns).collect();
            prop_assert_eq!(seen, whole);
        }
    }
}
