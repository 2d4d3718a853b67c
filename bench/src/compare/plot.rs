//! The pictures: SVG, without any font or library of the system.

use super::Outcome;
use plotters::prelude::*;
use std::path::Path;

/// Pixels of a bar with its gap.
const BAR: u32 = 34;
const WIDTH: u32 = 900;
/// Colours of the curves, in turn.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0x1f, 0x77, 0xb4), RGBColor(0xd6, 0x27, 0x28), RGBColor(0x2c, 0xa0, 0x2c), RGBColor(0x94, 0x67, 0xbd)];

fn text(error: impl std::fmt::Debug) -> String {
    format!("drawing: {error:?}")
}

/// A bar for each ratio, on a logarithmic scale from 1: to the right where ours is faster. The thin line is the spread.
pub fn ratios(path: &Path, outcomes: &[Outcome], caption: &str) -> Result<(), String> {
    let rows = outcomes.len() as u32;
    let root = SVGBackend::new(path, (WIDTH, 110 + BAR * rows)).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let values = outcomes.iter().flat_map(|outcome| [outcome.ratio, outcome.spread.0, outcome.spread.1]);
    let (least, most) = values.fold((0.5_f64, 2.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let mut chart = ChartBuilder::on(&root)
        .caption("isis / rival, deliveries a second at the slowest member", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(300)
        .build_cartesian_2d((least * 0.8..most * 1.25).log_scale(), 0.0..f64::from(rows))
        .map_err(text)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_desc(caption)
        .x_label_formatter(&|value| format!("{value}"))
        .draw()
        .map_err(text)?;
    for (row, outcome) in outcomes.iter().enumerate() {
        let y = f64::from(rows) - row as f64;
        let colour = if outcome.ratio >= 1.0 { COLOURS[2] } else { COLOURS[1] };
        let (left, right) = (outcome.ratio.min(1.0), outcome.ratio.max(1.0));
        let bar = Rectangle::new([(left, y - 0.2), (right, y - 0.8)], colour.filled());
        let spread = PathElement::new(vec![(outcome.spread.0, y - 0.5), (outcome.spread.1, y - 0.5)], BLACK);
        chart.draw_series([bar]).map_err(text)?;
        chart.draw_series([spread]).map_err(text)?;
        let label = format!("{}: {:.2}", outcome.name, outcome.ratio);
        let (_, middle) = chart.plotting_area().map_coordinate(&(1.0, y - 0.5));
        root.draw(&Text::new(label, (14, middle - 6), ("sans-serif", 13))).map_err(text)?;
    }
    let one = PathElement::new(vec![(1.0, 0.0), (1.0, f64::from(rows))], BLACK.stroke_width(2));
    chart.draw_series([one]).map_err(text)?;
    root.present().map_err(text)
}

/// Curves of latency (microseconds) against offered rate (messages a second), both logarithmic: a name and points each.
pub fn curves(path: &Path, curves: &[(String, Vec<(f64, f64)>)], title: &str, caption: &str) -> Result<(), String> {
    let points = || curves.iter().flat_map(|(_, points)| points.iter().copied());
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (x, y) = (range(&mut points().map(|point| point.0)), range(&mut points().map(|point| point.1)));
    if points().next().is_none() {
        return Err("there is nothing to draw".to_owned());
    }
    let root = SVGBackend::new(path, (WIDTH, 520)).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(56)
        .y_label_area_size(70)
        .build_cartesian_2d((x.0 * 0.9..x.1 * 1.1).log_scale(), (y.0 * 0.8..y.1 * 1.25).log_scale())
        .map_err(text)?;
    chart
        .configure_mesh()
        .x_desc(format!("offered, messages a second of all senders ({caption})"))
        .y_desc("due to own delivery, µs")
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()
        .map_err(text)?;
    for (index, (name, points)) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        let drawn = chart.draw_series(line).map_err(text)?;
        drawn.label(name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2)));
        let dots = points.iter().map(|&point| Circle::new(point, 3, colour.filled()));
        chart.draw_series(dots).map_err(text)?;
    }
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(BLACK).draw().map_err(text)?;
    drop(legend);
    root.present().map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_hold_what_was_measured() {
        let directory = isis_processes::Directory::new("isis-plot-").expect("a directory");
        let path = directory.path().join("ratios.svg");
        let one = |name: &str, ratio| Outcome { name: name.to_owned(), ratio, spread: (ratio * 0.9, ratio * 1.1) };
        ratios(&path, &[one("first rival", 0.25), one("second rival", 8.0)], "a host").expect("drawn");
        let svg = std::fs::read_to_string(&path).expect("a file");
        for part in ["<svg", "first rival: 0.25", "second rival: 8.00", "a host", "</svg>"] {
            assert!(svg.contains(part), "{part} is missing");
        }
        let path = directory.path().join("curves.svg");
        let lines = [("p50".to_owned(), vec![(1e3, 10.0), (1e4, 20.0)]), ("p99".to_owned(), vec![(1e3, 50.0)])];
        curves(&path, &lines, "a title", "a host").expect("drawn");
        let svg = std::fs::read_to_string(&path).expect("a file");
        for part in ["a title", "p50", "p99", "polyline"] {
            assert!(svg.contains(part), "{part} is missing");
        }
        assert!(curves(&path, &[], "a title", "a host").is_err());
    }
}
