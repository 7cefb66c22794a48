//! What a step gives back.

use crate::hooks::Captured;

/// Logits and captures of a step; reuse one value for many steps to reuse its memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepOutput {
    logits: Vec<f32>,
    vocab: usize,
    /// First logits row of each batch row, and the end.
    starts: Vec<usize>,
    captures: Vec<Captured>,
}

/// The logits of one row of the batch: one line of `vocab` values per wanted position.
#[derive(Debug, Clone, Copy)]
pub struct LogitRows<'a> {
    values: &'a [f32],
    vocab: usize,
}

impl StepOutput {
    /// An empty output.
    pub fn new() -> Self {
        StepOutput::default()
    }

    /// For engines: starts a step over a vocabulary of `vocab`.
    pub fn begin(&mut self, vocab: usize) {
        self.logits.clear();
        self.captures.clear();
        self.starts.clear();
        self.starts.push(0);
        self.vocab = vocab;
    }

    /// For engines: declares the next batch row, with `lines` lines of logits.
    pub fn push_row(&mut self, lines: usize) {
        let start = self.starts.last().copied().unwrap_or(0);
        self.starts.push(start + lines);
    }

    /// For engines: the logits of all rows, to be filled with `lines * vocab` values.
    pub fn logits_buffer(&mut self) -> &mut Vec<f32> {
        &mut self.logits
    }

    /// For engines: adds captured rows.
    pub fn push_capture(&mut self, captured: Captured) {
        self.captures.push(captured);
    }

    /// Number of rows of the batch.
    pub fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Length of a line of logits.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The logits of batch row `row`; without lines where none were wanted or there is no such row.
    pub fn logits(&self, row: usize) -> LogitRows<'_> {
        LogitRows {
            values: self.logits.get(self.range(row)).unwrap_or(&[]),
            vocab: self.vocab,
        }
    }

    /// The last line of logits of batch row `row`, to be processed in place.
    pub fn last_mut(&mut self, row: usize) -> Option<&mut [f32]> {
        let range = self.range(row);
        let start = range
            .end
            .checked_sub(self.vocab)
            .filter(|&start| start >= range.start)?;
        self.logits
            .get_mut(start..range.end)
            .filter(|line| !line.is_empty())
    }

    /// Line `index` of batch row `row`, to be processed in place.
    pub fn line_mut(&mut self, row: usize, index: usize) -> Option<&mut [f32]> {
        let range = self.range(row);
        let start = range.start + index * self.vocab;
        (start < range.end)
            .then(|| self.logits.get_mut(start..start + self.vocab))
            .flatten()
    }

    /// What was captured, in the order of the forward pass.
    pub fn captures(&self) -> &[Captured] {
        &self.captures
    }

    /// Takes what was captured.
    pub fn take_captures(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.captures)
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        match (self.starts.get(row), self.starts.get(row + 1)) {
            (Some(&start), Some(&end)) => start * self.vocab..end * self.vocab,
            _ => 0..0,
        }
    }
}

impl<'a> LogitRows<'a> {
    /// Number of lines: one per wanted position.
    pub fn len(&self) -> usize {
        self.values.len() / self.vocab.max(1)
    }

    /// Whether no logits were wanted.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The logits after the `index`-th wanted position, `vocab` values.
    pub fn get(&self, index: usize) -> Option<&'a [f32]> {
        self.values
            .get(index * self.vocab..(index + 1) * self.vocab)
            .filter(|line| !line.is_empty())
    }

    /// The logits after the row's last token.
    pub fn last(&self) -> Option<&'a [f32]> {
        self.len().checked_sub(1).and_then(|index| self.get(index))
    }

    /// All lines in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        self.values.chunks_exact(self.vocab.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_belong_to_their_rows() {
        let mut output = StepOutput::new();
        output.begin(2);
        for lines in [1, 0, 2] {
            output.push_row(lines);
        }
        output
            .logits_buffer()
            .extend([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(output.rows(), 3);
        assert_eq!(output.logits(0).last(), Some(&[1.0, 2.0][..]));
        assert!(output.logits(1).is_empty());
        assert_eq!(output.logits(2).get(0), Some(&[3.0, 4.0][..]));
        assert_eq!(
            output.last_mut(2).map(|line| line.to_vec()),
            Some(vec![5.0, 6.0])
        );
        assert_eq!(output.last_mut(1), None);
        assert_eq!(output.line_mut(2, 0), Some(&mut [3.0, 4.0][..]));
        assert_eq!(output.line_mut(2, 2), None);
        assert_eq!(output.line_mut(1, 0), None);
        assert!(output.logits(7).is_empty());
    }
}
