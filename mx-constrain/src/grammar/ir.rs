//! What every notation becomes: rules over bytes, character classes, repetition and references.

use crate::{ByteSet, ConstrainError, Limits};

/// Index of a rule in [`Grammar::rules`].
pub(super) type RuleId = usize;

/// A grammar whose references are resolved.
#[derive(Debug)]
pub(super) struct Grammar {
    pub(super) rules: Vec<Rule>,
    pub(super) start: RuleId,
    /// JSON Schemas that stand in the grammar.
    pub(super) schemas: Vec<serde_json::Value>,
}

/// A named rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) body: Body,
}

/// What a rule derives.
#[derive(Debug)]
pub(super) enum Body {
    /// An expression over other rules.
    Expr(Expr),
    /// A terminal, as a deterministic automaton over bytes.
    Lexeme(Lexeme),
    /// What one of [`Grammar::schemas`] allows.
    Schema(usize),
}

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Expr {
    /// The empty text.
    Empty,
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// One character out of these ranges (sorted, apart). No range at all derives nothing.
    Chars(Vec<(char, char)>),
    /// One after the other.
    Seq(Vec<Expr>),
    /// One of these. Empty derives nothing.
    Alt(Vec<Expr>),
    /// Between `min` and `max` times.
    Repeat {
        of: Box<Expr>,
        min: u32,
        max: Option<u32>,
    },
    /// What a rule derives.
    Rule(RuleId),
}

impl Expr {
    pub(super) fn seq(mut parts: Vec<Expr>) -> Self {
        match parts.len() {
            0 => Self::Empty,
            1 => parts.swap_remove(0),
            _ => Self::Seq(parts),
        }
    }

    pub(super) fn alt(mut parts: Vec<Expr>) -> Self {
        match parts.len() {
            1 => parts.swap_remove(0),
            _ => Self::Alt(parts),
        }
    }

    /// `of` between `min` and `max` times. Repetitions of repetitions by `?`, `*` and `+` become one.
    pub(super) fn repeat(of: Expr, min: u32, max: Option<u32>) -> Self {
        match (of, min, max) {
            (_, _, Some(0)) => Self::Empty,
            (of, 1, Some(1)) => of,
            (
                Self::Repeat {
                    of,
                    min: inner_min @ 0..=1,
                    max: inner_max @ (None | Some(1)),
                },
                0..=1,
                None | Some(1),
            ) => {
                let max = if max.is_none() || inner_max.is_none() {
                    None
                } else {
                    Some(1)
                };
                Self::Repeat {
                    of,
                    min: min.min(inner_min),
                    max,
                }
            }
            (of, min, max) => Self::Repeat {
                of: Box::new(of),
                min,
                max,
            },
        }
    }

    /// How many repetitions stand directly on one another.
    pub(super) fn repetitions(&self) -> usize {
        let (mut count, mut at) = (0, self);
        while let Self::Repeat { of, .. } = at {
            count += 1;
            at = of;
        }
        count
    }

    /// Every Unicode scalar value.
    pub(super) fn any_char() -> Self {
        Self::Chars(vec![('\0', '\u{d7ff}'), ('\u{e000}', char::MAX)])
    }

    /// A class from ranges in any order, or its complement.
    pub(super) fn class(ranges: Vec<(char, char)>, negated: bool) -> Self {
        let ranges = ranges
            .into_iter()
            .map(|(low, high)| regex_syntax::hir::ClassUnicodeRange::new(low, high));
        let mut class = regex_syntax::hir::ClassUnicode::new(ranges);
        if negated {
            class.negate();
        }
        Self::Chars(
            class
                .ranges()
                .iter()
                .map(|range| (range.start(), range.end()))
                .collect(),
        )
    }

    /// `text` with every letter in either case.
    pub(super) fn ignoring_case(text: &str) -> Self {
        let letters = text.chars().map(|c| {
            let range = regex_syntax::hir::ClassUnicodeRange::new(c, c);
            let mut class = regex_syntax::hir::ClassUnicode::new([range]);
            // Fails only without the case tables, which this crate's features include.
            let _ = class.try_case_fold_simple();
            match class.ranges() {
                [only] if only.start() == only.end() => Self::Bytes(c.to_string().into_bytes()),
                ranges => Self::Chars(
                    ranges
                        .iter()
                        .map(|range| (range.start(), range.end()))
                        .collect(),
                ),
            }
        });
        Self::seq(letters.collect())
    }
}

/// A terminal: a deterministic automaton over bytes in which every state can reach an accepting one.
#[derive(Debug, Clone, Default)]
pub(super) struct Lexeme {
    /// The first state is the start. Without states the terminal matches nothing.
    pub(super) states: Vec<LexemeState>,
    /// Whether a match must be the longest that the text offers from where it began.
    pub(super) longest: bool,
    /// Whether the terminal wins as soon as it matches: whatever else the text could be is given up.
    pub(super) wins: bool,
}

/// One state of a [`Lexeme`].
#[derive(Debug, Clone, Default)]
pub(super) struct LexemeState {
    pub(super) accept: bool,
    /// Byte ranges, sorted and apart, and where they lead.
    pub(super) edges: Vec<(u8, u8, u32)>,
}

/// What is needed to compile: the alphabet, the limits, and the work that is left.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) alphabet: &'a ByteSet,
    pub(super) limits: &'a Limits,
    spent: u64,
}

impl<'a> Context<'a> {
    pub(super) fn new(alphabet: &'a ByteSet, limits: &'a Limits) -> Self {
        Self {
            alphabet,
            limits,
            spent: 0,
        }
    }

    /// Accounts for `steps` of work.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), ConstrainError> {
        self.spent = self.spent.saturating_add(steps as u64);
        match self.spent > self.limits.max_compile_steps {
            true => Err(ConstrainError::Limit {
                limit: "max_compile_steps",
                max: self.limits.max_compile_steps,
            }),
            false => Ok(()),
        }
    }
}
