//! A run as a picture: the effective rate, the tickets and the 429s over time.

use std::fmt::Write as _;

use super::figures::Point;
use super::report::Run;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 50.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 40.0;

/// The picture as a self-contained SVG document.
#[must_use]
pub fn picture(run: &Run) -> String {
    let course = &run.figures.course;
    let minutes_a_point = run.figures.duration.as_secs_f64() / 60.0 / count(course.len());
    let per_minute = |number: u32| f64::from(number) / minutes_a_point;
    let highest = course
        .iter()
        .flat_map(|point| [per_minute(point.tickets), per_minute(point.refused), point.effective_rpm])
        .fold(1.0, f64::max)
        * 1.05;
    let x = |index: usize| LEFT + count(index) / count(course.len()) * (WIDTH - LEFT - 10.0);
    let y = |value: f64| HEIGHT - BOTTOM - value / highest * (HEIGHT - BOTTOM - TOP);
    let line = |value: &dyn Fn(&Point) -> f64| {
        let points =
            course.iter().enumerate().map(|(i, point)| format!("{:.1},{:.1}", x(i), y(value(point))));
        points.collect::<Vec<_>>().join(" ")
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"14\">{} ({}, seed {})</text>\n",
        run.scenario.title,
        run.scenario.settings.adaptive.as_str(),
        run.seed,
    );
    for part in 0..=4 {
        let value = highest * f64::from(part) / 4.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            WIDTH - 10.0,
            y(value),
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
        );
    }
    for (color, width, points) in [
        ("#9bd", 1.0, line(&|point| per_minute(point.tickets))),
        ("#c22", 1.5, line(&|point| per_minute(point.refused))),
        ("#222", 2.0, line(&|point| point.effective_rpm)),
    ] {
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" points=\"{points}\"/>"
        );
    }
    for (place, (color, name)) in
        (0..).zip([("#222", "effective rate"), ("#9bd", "tickets a minute"), ("#c22", "429s a minute")])
    {
        let at = LEFT + f64::from(place) * 150.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{at}\" y=\"24\" width=\"10\" height=\"10\" fill=\"{color}\"/><text x=\"{}\" y=\"33\">{name}</text>",
            at + 14.0,
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.0}\">0</text><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{:.1} h</text>\n</svg>",
        HEIGHT - 14.0,
        WIDTH - 10.0,
        HEIGHT - 14.0,
        run.figures.duration.as_secs_f64() / 3600.0,
    );
    svg
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}
