//! From expressions to a non-deterministic automaton per rule, with calls and with edges that read nothing.

use regex_syntax::utf8::Utf8Sequences;

use crate::{ConstrainError, Limits};

use super::ir::{Body, Context, Expr, Grammar, Lexeme};

/// Automata of all rules in one numbering.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) states: Vec<DraftState>,
    pub(super) rules: Vec<DraftRule>,
    pub(super) start: u32,
}

/// A state before the edges that read nothing are taken out.
#[derive(Debug, Default, Clone)]
pub(super) struct DraftState {
    pub(super) rule: u32,
    /// The rule may end here.
    pub(super) accept: bool,
    /// The rule is a terminal whose match must be the longest.
    pub(super) longest: bool,
    /// The rule is a terminal that wins over everything else when it ends here.
    pub(super) wins: bool,
    /// Byte ranges and where they lead.
    pub(super) bytes: Vec<(u8, u8, u32)>,
    /// Rules called and where the caller goes on.
    pub(super) calls: Vec<(u32, u32)>,
    /// One more than the index of a machine that reads here until the rule ends, or 0.
    pub(super) foreign: u32,
    /// States reached without reading.
    pub(super) empty: Vec<u32>,
}

/// A rule and where it begins.
#[derive(Debug, Clone)]
pub(super) struct DraftRule {
    pub(super) name: String,
    pub(super) entry: u32,
    /// Whether the rule derives the empty text.
    pub(super) nullable: bool,
    pub(super) terminal: bool,
}

/// Writes out the rules of a grammar.
pub(super) fn draft(grammar: &Grammar, context: &mut Context<'_>) -> Result<Draft, ConstrainError> {
    let mut draft = Draft {
        start: grammar.start as u32,
        ..Draft::default()
    };
    for (id, rule) in grammar.rules.iter().enumerate() {
        let id = id as u32;
        let entry = draft.state(id, context)?;
        let terminal = matches!(rule.body, Body::Lexeme(_) | Body::Schema(_));
        draft.rules.push(DraftRule {
            name: rule.name.clone(),
            entry,
            nullable: false,
            terminal,
        });
        match &rule.body {
            Body::Expr(expr) => {
                let end = draft.state(id, context)?;
                draft.states[end as usize].accept = true;
                draft.write(id, expr, entry, end, context)?;
            }
            Body::Lexeme(lexeme) => draft.copy(id, lexeme, entry, context)?,
            Body::Schema(index) => draft.states[entry as usize].foreign = *index as u32 + 1,
        }
    }
    draft.find_nullable(context)?;
    Ok(draft)
}

impl Draft {
    pub(super) fn state(
        &mut self,
        rule: u32,
        context: &mut Context<'_>,
    ) -> Result<u32, ConstrainError> {
        Limits::check("max_nodes", self.states.len() + 1, context.limits.max_nodes)?;
        context.spend(1)?;
        self.states.push(DraftState {
            rule,
            ..DraftState::default()
        });
        Ok((self.states.len() - 1) as u32)
    }

    fn link(&mut self, from: u32, to: u32) {
        self.states[from as usize].empty.push(to);
    }

    /// Puts `expr` between two states. The nesting of expressions is bounded by the parsers.
    fn write(
        &mut self,
        rule: u32,
        expr: &Expr,
        from: u32,
        to: u32,
        context: &mut Context<'_>,
    ) -> Result<(), ConstrainError> {
        context.spend(1)?;
        match expr {
            Expr::Empty => self.link(from, to),
            Expr::Bytes(bytes) => {
                let ranges: Vec<_> = bytes.iter().map(|&byte| (byte, byte)).collect();
                self.chain(rule, &ranges, from, to, context)?;
            }
            Expr::Chars(ranges) => {
                for &(low, high) in ranges {
                    for sequence in Utf8Sequences::new(low, high) {
                        let ranges: Vec<_> = sequence
                            .as_slice()
                            .iter()
                            .map(|range| (range.start, range.end))
                            .collect();
                        self.chain(rule, &ranges, from, to, context)?;
                    }
                }
            }
            Expr::Seq(parts) => {
                let mut at = from;
                for (index, part) in parts.iter().enumerate() {
                    let next = if index + 1 == parts.len() {
                        to
                    } else {
                        self.state(rule, context)?
                    };
                    self.write(rule, part, at, next, context)?;
                    at = next;
                }
            }
            Expr::Alt(parts) => {
                let mut texts: Vec<&[u8]> = Vec::new();
                for part in parts {
                    match part {
                        Expr::Bytes(bytes) => texts.push(bytes),
                        part => self.write(rule, part, from, to, context)?,
                    }
                }
                self.write_texts(rule, texts, from, to, context)?;
            }
            Expr::Repeat { of, min, max } => {
                let mut at = from;
                for _ in 0..*min {
                    let next = self.state(rule, context)?;
                    self.write(rule, of, at, next, context)?;
                    at = next;
                }
                match max {
                    None => {
                        let around = self.state(rule, context)?;
                        let again = self.state(rule, context)?;
                        self.link(at, around);
                        self.write(rule, of, around, again, context)?;
                        self.link(again, around);
                        self.link(around, to);
                    }
                    Some(max) => {
                        for _ in *min..*max {
                            let next = self.state(rule, context)?;
                            self.link(at, to);
                            self.write(rule, of, at, next, context)?;
                            at = next;
                        }
                        self.link(at, to);
                    }
                }
            }
            Expr::Rule(callee) => self.states[from as usize].calls.push((*callee as u32, to)),
        }
        Ok(())
    }

    /// One of some texts. Beginnings that they share are written once, so that long lists of words stay deterministic.
    fn write_texts(
        &mut self,
        rule: u32,
        mut texts: Vec<&[u8]>,
        from: u32,
        to: u32,
        context: &mut Context<'_>,
    ) -> Result<(), ConstrainError> {
        texts.sort_unstable();
        texts.dedup();
        // The states behind each byte of the text before.
        let mut path = vec![from];
        let mut before: &[u8] = &[];
        for text in texts {
            let shared = text.iter().zip(before).take_while(|(a, b)| a == b).count();
            path.truncate(shared + 1);
            for &byte in &text[shared..] {
                let next = self.state(rule, context)?;
                self.edge(
                    path.last().copied().unwrap_or(from),
                    byte,
                    byte,
                    next,
                    context,
                );
                path.push(next);
            }
            self.link(path.last().copied().unwrap_or(from), to);
            before = text;
        }
        Ok(())
    }

    /// One byte range after the other.
    fn chain(
        &mut self,
        rule: u32,
        ranges: &[(u8, u8)],
        from: u32,
        to: u32,
        context: &mut Context<'_>,
    ) -> Result<(), ConstrainError> {
        let Some((last, front)) = ranges.split_last() else {
            self.link(from, to);
            return Ok(());
        };
        let mut at = from;
        for &(low, high) in front {
            let next = self.state(rule, context)?;
            self.edge(at, low, high, next, context);
            at = next;
        }
        self.edge(at, last.0, last.1, to, context);
        Ok(())
    }

    /// The part of a byte range that the alphabet has.
    fn edge(&mut self, from: u32, low: u8, high: u8, to: u32, context: &Context<'_>) {
        let bytes = &mut self.states[from as usize].bytes;
        let mut open = None;
        for byte in low..=high {
            match (context.alphabet.contains(byte), open) {
                (true, None) => open = Some(byte),
                (false, Some(first)) => {
                    bytes.push((first, byte - 1, to));
                    open = None;
                }
                _ => {}
            }
        }
        if let Some(first) = open {
            bytes.push((first, high, to));
        }
    }

    /// The automaton of a terminal behind an entry. Its empty match is left to the callers, which may skip it.
    fn copy(
        &mut self,
        rule: u32,
        lexeme: &Lexeme,
        entry: u32,
        context: &mut Context<'_>,
    ) -> Result<(), ConstrainError> {
        let base = self.states.len() as u32;
        for state in &lexeme.states {
            let id = self.state(rule, context)?;
            context.spend(state.edges.len())?;
            self.states[id as usize].accept = state.accept;
            self.states[id as usize].longest = lexeme.longest;
            self.states[id as usize].wins = lexeme.wins && state.accept;
            for &(low, high, to) in &state.edges {
                self.edge(id, low, high, base + to, context);
            }
        }
        if !lexeme.states.is_empty() {
            self.link(entry, base);
        }
        Ok(())
    }

    /// Marks the rules that derive the empty text.
    fn find_nullable(&mut self, context: &mut Context<'_>) -> Result<(), ConstrainError> {
        let mut callers = vec![Vec::new(); self.rules.len()];
        for state in &self.states {
            for &(callee, _) in &state.calls {
                if callers[callee as usize].last() != Some(&state.rule) {
                    callers[callee as usize].push(state.rule);
                }
            }
        }
        let mut seen = vec![0u32; self.states.len()];
        let mut round = 0;
        let mut work: Vec<u32> = (0..self.rules.len() as u32).collect();
        while let Some(rule) = work.pop() {
            if self.rules[rule as usize].nullable {
                continue;
            }
            round += 1;
            let mut stack = vec![self.rules[rule as usize].entry];
            while let Some(state) = stack.pop() {
                if std::mem::replace(&mut seen[state as usize], round) == round {
                    continue;
                }
                let state = &self.states[state as usize];
                context.spend(1 + state.empty.len() + state.calls.len())?;
                if state.accept {
                    self.rules[rule as usize].nullable = true;
                    work.extend_from_slice(&callers[rule as usize]);
                    break;
                }
                stack.extend_from_slice(&state.empty);
                let skipped = state
                    .calls
                    .iter()
                    .filter(|(callee, _)| self.rules[*callee as usize].nullable);
                stack.extend(skipped.map(|&(_, to)| to));
            }
        }
        Ok(())
    }
}
