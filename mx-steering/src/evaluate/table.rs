//! Tables of numbers for people.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Columns with names, rows of numbers; printed as Markdown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows of as many numbers.
    pub rows: Vec<Vec<f64>>,
}

impl Table {
    /// A table without rows.
    pub fn new<const N: usize>(columns: [&str; N]) -> Self {
        Table {
            columns: columns.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push<const N: usize>(&mut self, row: [f64; N]) {
        self.rows.push(row.to_vec());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|x| number(*x)).collect())
            .collect();
        let width = |column: usize| {
            let cells = texts
                .iter()
                .filter_map(|row| row.get(column).map(String::len));
            cells
                .chain([self.columns[column].chars().count(), 3])
                .max()
                .unwrap_or(3)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut line = |cells: &[String]| {
            let padded: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(c, w)| format!("{c:>w$}"))
                .collect();
            writeln!(f, "| {} |", padded.join(" | "))
        };
        line(&self.columns)?;
        let rules: Vec<String> = widths
            .iter()
            .map(|w| format!("{}:", "-".repeat(w - 1)))
            .collect();
        line(&rules)?;
        texts.iter().try_for_each(|row| line(row))
    }
}

/// Whole numbers as such, others with four significant digits.
fn number(x: f64) -> String {
    if x == x.trunc() && x.abs() < 1e9 {
        return format!("{x:.0}");
    }
    let digits = 3 - x.abs().log10().floor().clamp(-6.0, 3.0) as i32;
    format!("{x:.*}", digits.max(0) as usize)
}
