//! The figures to reach, and how a run stands against them.

use super::line::{Header, Line};
use super::summary::{Counts, Speed};

/// Vocabularies from this size on are judged by the bars of 262 144 tokens.
const LARGE: usize = 150_000;

/// One figure with its bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What is measured.
    pub name: &'static str,
    /// The figure.
    pub value: f64,
    /// What it must reach.
    pub wanted: f64,
    /// Whether a larger figure is better.
    pub larger: bool,
    /// Unit of both.
    pub unit: &'static str,
}

impl Bar {
    /// Whether the figure reaches its bar.
    pub fn holds(&self) -> bool {
        match self.larger {
            true => self.value >= self.wanted,
            false => self.value <= self.wanted,
        }
    }
}

/// A run against its bars.
pub fn bars(header: &Header, lines: &[Line]) -> Vec<Bar> {
    let (counts, speed) = (Counts::of(lines), Speed::of(lines));
    let at_most = |name, value, wanted, unit| Bar {
        name,
        value,
        wanted,
        larger: false,
        unit,
    };
    let large = header.vocab_size >= LARGE;
    let pick = |small, big| if large { big } else { small };
    vec![
        Bar {
            name: "schemas with all instances right",
            value: counts.pass_rate(),
            wanted: 98.0,
            larger: true,
            unit: "%",
        },
        at_most(
            "schemas that let an invalid instance through",
            counts.under as f64,
            0.0,
            "",
        ),
        at_most(
            "schemas that time out or crash",
            (counts.timeout + counts.crash) as f64,
            0.0,
            "",
        ),
        at_most("compile p50", speed.compile.p50 / 1e3, 0.25, "ms"),
        at_most("compile p99", speed.compile.p99 / 1e3, 5.0, "ms"),
        at_most("mask mean", speed.mask.mean, pick(2.0, 4.0), "µs"),
        at_most("mask p50", speed.mask.p50, pick(0.6, 1.0), "µs"),
        at_most("mask p99", speed.mask.p99, pick(20.0, 40.0), "µs"),
        at_most("mask p99.9", speed.mask.p999, pick(200.0, 500.0), "µs"),
        at_most("commit p50", speed.commit.p50, 0.2, "µs"),
        at_most("commit p99", speed.commit.p99, 3.0, "µs"),
        at_most(
            "vocabulary",
            header.init_ns as f64 / 1e6,
            pick(20.0, 120.0),
            "ms",
        ),
    ]
}

/// The bars as a table.
pub fn table(bars: &[Bar]) -> String {
    let mut text = format!("{:<46} {:>10} {:>12}\n", "bar", "measured", "wanted");
    for bar in bars {
        let sign = if bar.larger { "≥" } else { "≤" };
        let holds = if bar.holds() { "" } else { "  missed" };
        let wanted = format!("{sign} {} {}", bar.wanted, bar.unit);
        text += &format!("{:<46} {:>10.3} {wanted:>12}{holds}\n", bar.name, bar.value);
    }
    text
}
