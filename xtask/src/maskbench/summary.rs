//! Lines to tables: counts by set and by keyword, and percentiles against the bars.

use super::case::Case;
use super::line::{Header, Line, Status};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Rows of the table of keywords: the most frequent ones, after those with failures.
const KEYWORDS: usize = 40;

/// How many schemas ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them.
    pub schemas: usize,
    /// All instances right.
    pub pass: usize,
    /// With a valid instance refused.
    pub over: usize,
    /// With an invalid instance let through.
    pub under: usize,
    /// Refused at compile time.
    pub compile_error: usize,
    /// Not done in time.
    pub timeout: usize,
    /// The worker was lost, or panicked.
    pub crash: usize,
    /// A mask or a commit failed.
    pub runtime_error: usize,
}

impl Counts {
    /// Counts lines.
    pub fn of<'l>(lines: impl IntoIterator<Item = &'l Line>) -> Self {
        let mut counts = Counts::default();
        lines.into_iter().for_each(|line| counts.add(line));
        counts
    }

    /// The counts by set, in order of names, with their sum.
    pub fn table(lines: &[Line]) -> String {
        let mut text = head("dataset");
        text += &groups(lines.iter().map(|line| (line.dataset.as_str(), line)), true);
        text + &Counts::of(lines).row("all")
    }

    /// A line of counts with column names above it.
    pub fn titled(&self, name: &str) -> String {
        head("") + &self.row(name)
    }

    /// Share of schemas that pass, in per cent.
    pub fn pass_rate(&self) -> f64 {
        100.0 * self.pass as f64 / self.schemas.max(1) as f64
    }

    fn add(&mut self, line: &Line) {
        self.schemas += 1;
        self.pass += usize::from(line.passes());
        self.over += usize::from(line.is_over());
        self.under += usize::from(line.is_under());
        let other = match line.status {
            Status::Ok => return,
            Status::CompileError => &mut self.compile_error,
            Status::Timeout => &mut self.timeout,
            Status::Crash => &mut self.crash,
            Status::RuntimeError => &mut self.runtime_error,
        };
        *other += 1;
    }

    /// A line of counts.
    pub(crate) fn row(&self, name: &str) -> String {
        format!(
            "{name:<34} {:>7} {:>6} {:>6.1}% {:>6} {:>6} {:>8} {:>8} {:>6} {:>8}\n",
            self.schemas,
            self.pass,
            self.pass_rate(),
            self.over,
            self.under,
            self.compile_error,
            self.timeout,
            self.crash,
            self.runtime_error
        )
    }
}

fn head(what: &str) -> String {
    format!(
        "{what:<34} {:>7} {:>6} {:>7} {:>6} {:>6} {:>8} {:>8} {:>6} {:>8}\n",
        "schemas", "pass", "", "over", "under", "refused", "timeout", "crash", "runtime"
    )
}

/// Mean and percentiles of times, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Times {
    /// How many there are.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Half are at most this.
    pub p50: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Times {
    /// The percentiles of times in nanoseconds, by nearest rank.
    pub fn of(times: impl IntoIterator<Item = u64>) -> Self {
        let mut sorted: Vec<u64> = times.into_iter().collect();
        sorted.sort_unstable();
        let Some(&max) = sorted.last() else {
            return Times::default();
        };
        let count = sorted.len();
        let rank = |share: f64| {
            let rank = (share * count as f64).ceil() as usize;
            sorted[rank.clamp(1, count) - 1] as f64 / 1e3
        };
        Times {
            count,
            mean: sorted.iter().map(|&time| time as f64).sum::<f64>() / count as f64 / 1e3,
            p50: rank(0.5),
            p99: rank(0.99),
            p999: rank(0.999),
            max: max as f64 / 1e3,
        }
    }

    fn row(&self, name: &str) -> String {
        let Times {
            count,
            mean,
            p50,
            p99,
            p999,
            max,
        } = self;
        format!(
            "{name:<16} {count:>9} {mean:>10.2} {p50:>10.2} {p99:>10.2} {p999:>10.2} {max:>10.2}\n"
        )
    }
}

/// The times of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Speed {
    /// Compiling, of the schemas that compile.
    pub compile: Times,
    /// Compiling and the first mask.
    pub ttfm: Times,
    /// All masks.
    pub mask: Times,
    /// All commits.
    pub commit: Times,
}

impl Speed {
    /// The times of lines.
    pub fn of<'l>(lines: impl IntoIterator<Item = &'l Line> + Clone) -> Self {
        let lines = || lines.clone().into_iter();
        Speed {
            compile: Times::of(
                lines()
                    .filter(|l| l.first_mask_ns > 0)
                    .map(|l| l.compile_ns),
            ),
            ttfm: Times::of(lines().filter_map(Line::ttfm_ns)),
            mask: Times::of(lines().flat_map(Line::masks)),
            commit: Times::of(lines().flat_map(|l| l.commit_ns.iter().copied())),
        }
    }

    /// The times as a table, in microseconds.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<16} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}\n",
            "µs", "count", "mean", "p50", "p99", "p99.9", "max"
        );
        text += &self.compile.row("compile");
        text += &self.ttfm.row("to first mask");
        text += &self.mask.row("mask");
        text += &self.commit.row("commit");
        text
    }
}

/// The tables of a run.
pub fn report(header: &Header, cases: &[Case], lines: &[Line]) -> String {
    let mut text = format!(
        "{} {} on {} ({} ids): {}\n",
        header.engine, header.version, header.vocab, header.vocab_size, header.options
    );
    let peak = lines.iter().map(|line| line.peak_rss_kb).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "vocabulary {:.1} ms; memory {} MB after it, peak {} MB; clock {} ns a reading, included\n",
        header.init_ns as f64 / 1e6,
        header.init_rss_kb / 1024,
        peak.max(header.init_rss_kb) / 1024,
        header.clock_ns
    );
    text += &Counts::table(lines);
    let empty = lines.iter().filter(|line| line.is_empty_schema()).count();
    if empty > 0 {
        let _ = writeln!(
            text,
            "{empty} of them proved at compile time to have no valid value: every instance refused"
        );
    }
    let features = cases
        .iter()
        .zip(lines)
        .flat_map(|(case, line)| case.features.iter().map(move |name| (name.as_str(), line)));
    let keywords = groups(features, false);
    if !keywords.is_empty() {
        text += "\n";
        text += &head("keyword");
        text += &keywords;
    }
    text += "\n";
    text += &Speed::of(lines).table();
    text
}

/// A row for every name; either all by name, or the worst and most frequent.
fn groups<'l>(named: impl Iterator<Item = (&'l str, &'l Line)>, all: bool) -> String {
    let mut groups: BTreeMap<&str, Counts> = BTreeMap::new();
    for (name, line) in named {
        groups.entry(name).or_default().add(line);
    }
    let mut rows: Vec<(&str, Counts)> = groups.into_iter().collect();
    if !all {
        rows.sort_by_key(|(_, counts)| {
            let failed = counts.schemas - counts.pass;
            (std::cmp::Reverse((failed, counts.schemas)), 0)
        });
        rows.truncate(KEYWORDS);
    }
    rows.iter().map(|(name, counts)| counts.row(name)).collect()
}

/// What went wrong, one line a schema: id, how, and which instance or why.
pub fn failures(cases: &[Case], lines: &[Line]) -> String {
    let mut text = String::new();
    for (case, line) in cases.iter().zip(lines).filter(|(_, line)| !line.passes()) {
        if let Some(error) = &line.error {
            let status = format!("{:?}", line.status);
            let _ = writeln!(text, "{} {status}: {}", line.id, short(error));
        }
        for (instance, verdict) in case.tests.iter().zip(&line.tests) {
            let how = match (verdict.is_over(), verdict.is_under()) {
                (true, _) => format!("over at token {} of {}", verdict.stop, verdict.n_tok),
                (_, true) => format!("under, {}", instance.why.as_deref().unwrap_or("invalid")),
                _ => continue,
            };
            let _ = writeln!(text, "{} {}: {}", line.id, how, short(&instance.text));
        }
    }
    text
}

fn short(text: &str) -> String {
    const MOST: usize = 300;
    let flat: String = text
        .chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .take(MOST)
        .collect();
    flat
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = Times::of((1..=1000).map(|micros| micros * 1000));
        assert_eq!(
            (times.p50, times.p99, times.p999, times.max),
            (500.0, 990.0, 999.0, 1000.0)
        );
        assert_eq!((times.count, times.mean), (1000, 500.5));
        assert_eq!(Times::of([7000]).p999, 7.0);
        assert_eq!(Times::of([]).count, 0);
    }
}
