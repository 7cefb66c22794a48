//! Line charts as SVG text, without a drawing library.

use crate::evaluate::{LogitShift, Sweep};
use crate::make::LayerScore;

/// A chart of some lines over common axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// Its title.
    pub title: String,
    /// Name of the horizontal axis.
    pub x_label: String,
    /// Name of the vertical axis.
    pub y_label: String,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line of a chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its points; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// Ends of an interval about each point, where they are known.
    pub intervals: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Colours that people with colour blindness tell apart (Okabe & Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

impl Chart {
    /// The chart as a whole SVG document.
    pub fn to_svg(&self) -> String {
        let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
        let points = || {
            self.lines
                .iter()
                .flat_map(|line| line.points.iter().filter(finite))
        };
        let intervals = || {
            self.lines
                .iter()
                .flat_map(|line| line.intervals.iter().filter(finite))
        };
        let (x_low, x_high) = span(points().map(|p| p.0));
        let (y_low, y_high) = span(
            points()
                .map(|p| p.1)
                .chain(intervals().flat_map(|i| [i.0, i.1])),
        );
        let x = |value: f64| LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| {
            HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        };

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut put = |text: String| {
            svg.push_str(&text);
            svg.push('\n');
        };
        for tick in ticks(x_low, x_high) {
            let at = x(tick);
            put(format!(
                "<path d=\"M{at:.1} {TOP}V{:.1}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                short(tick)
            ));
        }
        for tick in ticks(y_low, y_high) {
            let at = y(tick);
            put(format!(
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                short(tick)
            ));
        }
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            for (point, ends) in line.points.iter().zip(&line.intervals) {
                if finite(&point) && finite(&ends) {
                    let (at, low, high) = (x(point.0), y(ends.0), y(ends.1));
                    put(format!(
                        "<path d=\"M{at:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.5\"/>"
                    ));
                }
            }
            let path: Vec<String> = line
                .points
                .iter()
                .filter(finite)
                .map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1)))
                .collect();
            put(format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            ));
            for point in &path {
                if let Some((cx, cy)) = point.split_once(',') {
                    put(format!(
                        "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{colour}\"/>"
                    ));
                }
            }
            let at = TOP + 14.0 * (index + 1) as f64;
            put(format!(
                "<text x=\"{:.1}\" y=\"{at:.1}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
                WIDTH - RIGHT - 6.0,
                escaped(&line.name)
            ));
        }
        put(format!(
            "<path d=\"M{LEFT} {TOP}V{0:.1}H{1:.1}\" fill=\"none\" stroke=\"black\"/>",
            HEIGHT - BOTTOM,
            WIDTH - RIGHT
        ));
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        let title = escaped(&self.title);
        put(format!(
            "<text x=\"{middle:.1}\" y=\"22\" text-anchor=\"middle\" font-size=\"15\">{title}</text>"
        ));
        let (x_label, y_label) = (escaped(&self.x_label), escaped(&self.y_label));
        put(format!(
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_label}</text>",
            HEIGHT - 12.0
        ));
        let half = (TOP + HEIGHT - BOTTOM) / 2.0;
        put(format!(
            "<text transform=\"translate(16 {half:.1}) rotate(-90)\" text-anchor=\"middle\">{y_label}</text>\n</svg>"
        ));
        svg
    }

    /// The shift of belief over the strength, with its intervals.
    pub fn of_shift(title: &str, shift: &LogitShift) -> Self {
        let points = &shift.points;
        Chart {
            title: title.to_owned(),
            x_label: "strength".to_owned(),
            y_label: "shift of ln p(wanted) − ln p(unwanted)".to_owned(),
            lines: vec![Line {
                name: "mean over pairs, 95 %".to_owned(),
                points: points
                    .iter()
                    .map(|p| (f64::from(p.strength), p.shift.mean))
                    .collect(),
                intervals: points.iter().map(|p| (p.shift.low, p.shift.high)).collect(),
            }],
        }
    }

    /// d′ on held-out pairs over the layers.
    pub fn of_layers(title: &str, scores: &[LayerScore]) -> Self {
        let mut points: Vec<(f64, f64)> = scores
            .iter()
            .map(|s| (s.point.layer as f64, s.d_prime))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Chart {
            title: title.to_owned(),
            x_label: "layer".to_owned(),
            y_label: "d′ of held-out pairs".to_owned(),
            lines: vec![Line {
                name: "d′".to_owned(),
                points,
                intervals: Vec::new(),
            }],
        }
    }

    /// Effect over strength, a line a layer.
    pub fn of_sweep(title: &str, sweep: &Sweep) -> Self {
        let mut lines: Vec<Line> = Vec::new();
        for cell in &sweep.cells {
            let name = cell.point.to_string();
            let at = lines
                .iter()
                .position(|line| line.name == name)
                .unwrap_or_else(|| {
                    lines.push(Line {
                        name,
                        ..Line::default()
                    });
                    lines.len() - 1
                });
            lines[at]
                .points
                .push((f64::from(cell.strength), cell.effect));
        }
        Chart {
            title: title.to_owned(),
            x_label: "strength".to_owned(),
            y_label: "effect".to_owned(),
            lines,
        }
    }
}

/// The span of some values, never empty and a little wider than they are.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
        (l.min(v), h.max(v))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let room = match high - low {
        width if width > 0.0 => width * 0.05,
        _ => low.abs().max(1.0) * 0.5,
    };
    (low - room, high + room)
}

/// About five round numbers.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    const ABOUT: f64 = 5.0;
    let rough = (high - low) / ABOUT;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    if !(step > 0.0 && step.is_finite()) {
        return Vec::new();
    }
    let first = (low / step).ceil();
    let count = ((high / step).floor() - first).clamp(0.0, 20.0) as usize;
    (0..=count).map(|i| (first + i as f64) * step).collect()
}

fn short(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    // −0 is printed as 0
    format!("{}", rounded + 0.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_draws_all_that_is_finite() {
        let line = Line {
            name: "a < b & c".to_owned(),
            points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)],
            intervals: vec![(0.5, 1.5), (0.0, 1.0), (2.0, 4.0)],
        };
        let chart = Chart {
            title: "t".to_owned(),
            lines: vec![line, Line::default()],
            ..Chart::default()
        };
        let svg = chart.to_svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b &amp; c"));
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("stroke-opacity").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(Chart::default().to_svg().contains("</svg>"));
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(-0.1, 4.2), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert!(ticks(0.0, 0.0).len() <= 21);
        assert!(!ticks(1e-9, 3e-9).is_empty());
    }
}
