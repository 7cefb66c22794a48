//! A naive recogniser and random grammars: the twin that the machine is held against.

use super::ir::{Body, Expr, Grammar, Lexeme, Rule};

/// Random numbers that are the same on every machine (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// A text over the first `letters` letters.
    pub(super) fn text(&mut self, letters: usize, max: usize) -> Vec<u8> {
        (0..self.below(max + 1))
            .map(|_| b'a' + self.below(letters) as u8)
            .collect()
    }
}

/// A random expression that may refer to any of `rules` rules.
pub(super) fn random_expr(random: &mut Random, rules: usize, letters: usize, depth: usize) -> Expr {
    let kinds = if depth == 0 { 4 } else { 9 };
    match random.below(kinds) {
        0 => Expr::Bytes(random.text(letters, 2)),
        1 => {
            let low = random.below(letters) as u8;
            let high = low + random.below(letters - low as usize) as u8;
            Expr::class(vec![((b'a' + low) as char, (b'a' + high) as char)], false)
        }
        2 | 3 => Expr::Rule(random.below(rules)),
        4 | 5 => Expr::Seq(
            (0..2 + random.below(2))
                .map(|_| random_expr(random, rules, letters, depth - 1))
                .collect(),
        ),
        6 | 7 => Expr::Alt(
            (0..2 + random.below(2))
                .map(|_| random_expr(random, rules, letters, depth - 1))
                .collect(),
        ),
        _ => {
            let min = random.below(3) as u32;
            let max = if random.below(2) == 0 {
                None
            } else {
                Some(min + random.below(3) as u32)
            };
            Expr::repeat(random_expr(random, rules, letters, depth - 1), min, max)
        }
    }
}

/// A random grammar without terminals.
pub(super) fn random_grammar(random: &mut Random, letters: usize) -> Grammar {
    let count = 1 + random.below(4);
    let rules = (0..count)
        .map(|index| Rule {
            name: format!("r{index}"),
            body: Body::Expr(random_expr(random, count, letters, 2)),
        })
        .collect();
    Grammar {
        rules,
        start: 0,
        schemas: Vec::new(),
    }
}

/// Whether a grammar derives a text, by filling a table of spans until nothing is added.
pub(super) fn derives(grammar: &Grammar, text: &[u8]) -> bool {
    let width = text.len() + 1;
    let mut spans = vec![vec![false; width * width]; grammar.rules.len()];
    loop {
        let mut changed = false;
        for (id, rule) in grammar.rules.iter().enumerate() {
            for from in 0..width {
                let ends = match &rule.body {
                    Body::Expr(expr) => expr_ends(expr, text, from, &spans, width),
                    Body::Lexeme(lexeme) => lexeme_ends(lexeme, text, from),
                    Body::Schema(_) => unreachable!("random grammars hold no schemas"),
                };
                for (to, end) in ends.into_iter().enumerate() {
                    let span = &mut spans[id][from * width + to];
                    changed |= end && !*span;
                    *span |= end;
                }
            }
        }
        if !changed {
            return spans[grammar.start][text.len()];
        }
    }
}

/// Where an expression that begins at `from` can end.
fn expr_ends(
    expr: &Expr,
    text: &[u8],
    from: usize,
    spans: &[Vec<bool>],
    width: usize,
) -> Vec<bool> {
    let mut ends = vec![false; width];
    match expr {
        Expr::Empty => ends[from] = true,
        Expr::Bytes(bytes) => {
            if text[from..].starts_with(bytes) {
                ends[from + bytes.len()] = true;
            }
        }
        Expr::Chars(ranges) => {
            if let Some(&byte) = text.get(from) {
                ends[from + 1] = ranges
                    .iter()
                    .any(|&(low, high)| (low..=high).contains(&(byte as char)));
            }
        }
        Expr::Seq(parts) => {
            ends[from] = true;
            for part in parts {
                ends = after(part, text, &ends, spans, width);
            }
        }
        Expr::Alt(parts) => {
            for part in parts {
                merge(&mut ends, &expr_ends(part, text, from, spans, width));
            }
        }
        Expr::Repeat { of, min, max } => {
            let mut now = vec![false; width];
            now[from] = true;
            for _ in 0..*min {
                now = after(of, text, &now, spans, width);
            }
            merge(&mut ends, &now);
            // Beyond the length of the text only empty rounds are added.
            for _ in *min..max.unwrap_or(min + width as u32) {
                now = after(of, text, &now, spans, width);
                merge(&mut ends, &now);
            }
        }
        Expr::Rule(rule) => ends.copy_from_slice(&spans[*rule][from * width..(from + 1) * width]),
    }
    ends
}

fn after(
    expr: &Expr,
    text: &[u8],
    starts: &[bool],
    spans: &[Vec<bool>],
    width: usize,
) -> Vec<bool> {
    let mut ends = vec![false; width];
    for (from, _) in starts.iter().enumerate().filter(|(_, start)| **start) {
        merge(&mut ends, &expr_ends(expr, text, from, spans, width));
    }
    ends
}

fn merge(into: &mut [bool], from: &[bool]) {
    into.iter_mut()
        .zip(from)
        .for_each(|(into, from)| *into |= from);
}

/// The matches of a terminal: all, or the longest of those that read something; the empty match always counts.
fn lexeme_ends(lexeme: &Lexeme, text: &[u8], from: usize) -> Vec<bool> {
    let mut ends = vec![false; text.len() + 1];
    if lexeme.states.is_empty() {
        return ends;
    }
    let mut state = 0;
    let mut longest = None;
    ends[from] = lexeme.states[0].accept;
    for (index, byte) in text[from..].iter().enumerate() {
        let edges = &lexeme.states[state].edges;
        let Some(edge) = edges.iter().find(|edge| (edge.0..=edge.1).contains(byte)) else {
            break;
        };
        state = edge.2 as usize;
        if lexeme.states[state].accept {
            longest = Some(from + index + 1);
            ends[from + index + 1] |= !lexeme.longest;
        }
    }
    if let Some(end) = longest {
        ends[end] = true;
    }
    ends
}
