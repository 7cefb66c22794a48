//! The tokens so far and the tables that penalties keep about them.

use crate::penalties::{NgramIndex, WindowCounts};

/// The tokens of one sequence, prompt first. Growing and shrinking at the end is O(1) per token.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_len: usize,
    pub(crate) repetition: Option<WindowCounts>,
    pub(crate) frequency: Option<WindowCounts>,
    pub(crate) ngram: Option<NgramIndex>,
}

impl History {
    pub(crate) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }

    pub(crate) fn reserve(&mut self, additional: usize) {
        self.tokens.reserve(additional);
        for counts in [&mut self.repetition, &mut self.frequency]
            .into_iter()
            .flatten()
        {
            counts.reserve(additional);
        }
        if let Some(ngram) = &mut self.ngram {
            ngram.reserve(additional);
        }
    }

    pub(crate) fn push_prompt(&mut self, token: u32) {
        // Counting as prompt needs the new length before the tables look at it.
        self.prompt_len += 1;
        self.push(token);
    }

    pub(crate) fn push(&mut self, token: u32) {
        self.tokens.push(token);
        for counts in [&mut self.repetition, &mut self.frequency]
            .into_iter()
            .flatten()
        {
            counts.push(&self.tokens, self.prompt_len);
        }
        if let Some(ngram) = &mut self.ngram {
            ngram.push(&self.tokens);
        }
    }

    /// Takes back all but the first `length` tokens.
    pub(crate) fn truncate(&mut self, length: usize) {
        while self.tokens.len() > length {
            for counts in [&mut self.repetition, &mut self.frequency]
                .into_iter()
                .flatten()
            {
                counts.pop(&self.tokens, self.prompt_len);
            }
            if let Some(ngram) = &mut self.ngram {
                ngram.pop(&self.tokens);
            }
            self.tokens.pop();
        }
        self.prompt_len = self.prompt_len.min(length);
    }
}
