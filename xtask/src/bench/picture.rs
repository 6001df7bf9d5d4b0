// SPDX-License-Identifier: Apache-2.0
//! Charts as one SVG picture, side by side: lines on logarithmic axes, with their names at their ends.

use super::figure::Chart;

/// Of one chart, in pixels.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;
/// The least distance between two names.
const LINE_HEIGHT: f64 = 15.0;
/// Okabe and Ito's colours, which the colour-blind can tell apart.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// The picture of all charts that have something to draw.
#[must_use]
pub(super) fn svg(charts: &[Chart]) -> String {
    let charts: Vec<&Chart> = charts.iter().filter(|chart| points(chart).next().is_some()).collect();
    let columns = charts.len().clamp(1, 2);
    let rows = charts.len().div_ceil(columns).max(1);
    let (width, height) = (WIDTH * columns as f64, HEIGHT * rows as f64);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n"
    );
    for (number, chart) in charts.into_iter().enumerate() {
        let (x, y) = ((number % columns) as f64 * WIDTH, (number / columns) as f64 * HEIGHT);
        text.push_str(&format!("<g transform=\"translate({x} {y})\">\n{}</g>\n", draw(chart)));
    }
    text.push_str("</svg>\n");
    text
}

/// All that can stand on logarithmic axes.
fn points(chart: &Chart) -> impl Iterator<Item = (f64, f64)> {
    chart.lines.iter().flat_map(|(_, points)| points).copied().filter(|(x, y)| *x > 0.0 && *y > 0.0)
}

fn draw(chart: &Chart) -> String {
    let across = Axis::of(points(chart).map(|(x, _)| x), LEFT, WIDTH - RIGHT);
    let up = Axis::of(points(chart).map(|(_, y)| y), HEIGHT - BOTTOM, TOP);
    let (title, right, bottom) = (escaped(&chart.title), WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut text = format!("<text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n");
    text.push_str(&format!("<text x=\"{LEFT}\" y=\"36\" fill=\"#555\">{}</text>\n", escaped(chart.up)));
    let (middle, below) = ((LEFT + right) / 2.0, HEIGHT - 14.0);
    let across_name = escaped(chart.across);
    text.push_str(&format!(
        "<text x=\"{middle:.1}\" y=\"{below}\" fill=\"#555\" text-anchor=\"middle\">{across_name}</text>\n"
    ));
    for value in up.ticks() {
        let (y, label) = (up.at(value), tick(value));
        text.push_str(&format!(
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{label}</text>\n",
            LEFT - 6.0,
            y + 4.0
        ));
    }
    for value in across.ticks() {
        let (x, label) = (across.at(value), tick(value));
        text.push_str(&format!(
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{label}</text>\n",
            bottom + 16.0
        ));
    }
    text.push_str(&lines(chart, &across, &up));
    text
}

/// The lines, and their names beside their last points, moved apart where they would touch.
fn lines(chart: &Chart, across: &Axis, up: &Axis) -> String {
    let mut text = String::new();
    let mut names = Vec::new();
    for (number, (name, points)) in chart.lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let drawable = points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0);
        let places: Vec<(f64, f64)> = drawable.map(|(x, y)| (across.at(*x), up.at(*y))).collect();
        let Some(last) = places.last() else { continue };
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        text.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            path.join(" ")
        ));
        for (x, y) in &places {
            text.push_str(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\n"));
        }
        names.push((last.1, name, colour));
    }
    names.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut free = f64::MIN;
    for (y, name, colour) in names {
        let y = y.max(free);
        free = y + LINE_HEIGHT;
        let (x, y, name) = (WIDTH - RIGHT + 8.0, y + 4.0, escaped(name));
        text.push_str(&format!("<text x=\"{x}\" y=\"{y:.1}\" fill=\"{colour}\">{name}</text>\n"));
    }
    text
}

/// A logarithmic axis, from a power of ten to a power of ten.
struct Axis {
    powers: (i32, i32),
    from: f64,
    to: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), it| (low.min(it), high.max(it)));
        let first = low.log10().floor() as i32;
        let last = (high.log10().ceil() as i32).max(first + 1);
        Self { powers: (first, last), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let (first, last) = (f64::from(self.powers.0), f64::from(self.powers.1));
        self.from + (self.to - self.from) * (value.log10() - first) / (last - first)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.powers.0..=self.powers.1).map(|power| 10f64.powi(power))
    }
}

/// The power of ten at a tick.
fn tick(value: f64) -> String {
    match value {
        _ if value >= 0.9e9 => format!("{:.0} G", value / 1e9),
        _ if value >= 0.9e6 => format!("{:.0} M", value / 1e6),
        _ if value >= 0.9e3 => format!("{:.0} k", value / 1e3),
        _ if value >= 0.9 => format!("{value:.0}"),
        _ => format!("{:.*}", (-value.log10()).round() as usize, value),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(lines: Vec<(String, Vec<(f64, f64)>)>) -> Chart {
        Chart { title: "a < b".into(), across: "events", up: "seconds", lines }
    }

    #[test]
    fn a_tenfold_is_as_far_on_each_part_of_an_axis() {
        let axis = Axis::of([2.0, 500.0].into_iter(), 0.0, 300.0);
        assert_eq!(axis.ticks().map(tick).collect::<Vec<_>>(), ["1", "10", "100", "1 k"]);
        assert_eq!([1.0, 10.0, 100.0, 1000.0].map(|value| axis.at(value).round()), [0.0, 100.0, 200.0, 300.0]);
    }

    #[test]
    fn one_value_has_an_axis_too() {
        let axis = Axis::of([1.0].into_iter(), 0.0, 100.0);
        assert_eq!(axis.ticks().map(tick).collect::<Vec<_>>(), ["1", "10"]);
        assert_eq!(tick(0.01), "0.01");
    }

    #[test]
    fn each_line_is_drawn_with_its_name_and_its_points() {
        let lines = vec![("x & y".to_string(), vec![(1.0, 1.0), (10.0, 2.0)]), ("none".to_string(), vec![(0.0, 1.0)])];
        let picture = svg(&[chart(lines), chart(Vec::new())]);
        assert!(picture.contains(">a &lt; b<") && picture.contains(">x &amp; y<"), "{picture}");
        assert_eq!(picture.matches("<circle").count(), 2, "{picture}");
        // What is not above 0 is not there, nor is a chart of nothing.
        assert!(!picture.contains(">none<"));
        assert_eq!(picture.matches("<g ").count(), 1);
        assert!(picture.contains("viewBox=\"0 0 520 380\""));
    }

    #[test]
    fn names_at_one_place_stand_below_each_other() {
        let lines = (0..3).map(|number| (format!("name{number}"), vec![(1.0, 5.0)])).collect();
        let picture = svg(&[chart(lines)]);
        let place = |name: &str| {
            let line = picture.lines().find(|line| line.contains(name))?;
            line.split("y=\"").nth(1)?.split('"').next()?.parse::<f64>().ok()
        };
        let places = ["name0", "name1", "name2"].map(|name| place(name).unwrap_or_default());
        assert!(places[1] - places[0] >= LINE_HEIGHT && places[2] - places[1] >= LINE_HEIGHT, "{places:?}");
    }
}
