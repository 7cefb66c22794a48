//! Numbers: which digits may follow so that a combination of facts can still hold.
//!
//! The state of a number is a text that stands for all texts with the same future: digits that no bound and no divisor
//! can tell apart any more are replaced by the same digits.

use std::sync::Arc;

use super::decimal::{Decimal, Step};
use super::engine::{Atom, Engine, Interner};
use super::expr::{Expr, ExprId};
use super::options::Lexical;
use crate::ConstrainError;
use crate::hash::FastMap;

/// A combination of facts about one number.
pub(super) type NumberSpecId = u32;
/// Where the text of a number stands.
pub(super) type NumberState = u32;

/// What is asked of a number: its first fact must hold in the end, the others are reported.
#[derive(Debug)]
pub(super) struct NumberSpec {
    pub(super) facts: Vec<ExprId>,
    /// Numbers at which some fact changes, ascending.
    pub(super) points: Vec<Decimal>,
    pub(super) steps: Vec<Step>,
    /// A step that all steps divide, where it is not too large.
    pub(super) period: Option<Step>,
    /// Some fact asks for integers.
    pub(super) integers: bool,
    /// A point may follow.
    pub(super) fraction: bool,
    /// How exponents are read.
    pub(super) exponent: Exponent,
    /// Exponents may have a third digit. Beyond it few readers of JSON can follow.
    pub(super) large: bool,
    /// The text itself matters: the number is reported.
    pub(super) exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exponent {
    /// None are produced.
    Never,
    /// Any: no fact depends on more than the sign.
    Any,
    /// On short numbers, which are remembered digit by digit.
    Short,
}

/// All numbers of a schema.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) specs: Vec<Arc<NumberSpec>>,
    pub(super) ids: FastMap<(Vec<ExprId>, bool), NumberSpecId>,
    pub(super) states: Interner<(NumberSpecId, String)>,
    pub(super) alive: FastMap<NumberState, bool>,
}

/// Characters of a number behind which no exponent follows any more, where bounds are to be kept.
pub(super) const SHORT: usize = 20;
/// Marks a text whose digits stand for others, so that no exponent can follow.
pub(super) const STANDS: char = '!';

impl Numbers {
    pub(super) fn new() -> Self {
        Self {
            specs: Vec::new(),
            ids: FastMap::default(),
            states: Interner::new(),
            alive: FastMap::default(),
        }
    }

    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.states.len() * 120
    }
}

/// The parts of a number's text.
pub(super) struct Text<'a> {
    pub(super) negative: bool,
    pub(super) whole: &'a str,
    pub(super) fraction: Option<&'a str>,
    pub(super) exponent: Option<&'a str>,
}

pub(super) fn split(text: &str) -> Text<'_> {
    let text = text.strip_prefix(STANDS).unwrap_or(text);
    let (negative, rest) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = rest
        .split_once('e')
        .map_or((rest, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa
        .split_once('.')
        .map_or((mantissa, None), |(w, f)| (w, Some(f)));
    Text {
        negative,
        whole,
        fraction,
        exponent,
    }
}

pub(super) fn digits(text: &str) -> Vec<u8> {
    text.bytes().map(|b| b - b'0').collect()
}

pub(super) fn undigits(digits: &[u8]) -> String {
    digits.iter().map(|&d| char::from(b'0' + d)).collect()
}

/// The number after this one, of the same length where possible.
pub(super) fn successor(digits: &[u8]) -> Vec<u8> {
    let mut out = digits.to_vec();
    for d in out.iter_mut().rev() {
        if *d < 9 {
            *d += 1;
            return out;
        }
        *d = 0;
    }
    out.insert(0, 1);
    out
}

impl Engine {
    /// The specification for facts of which the first must hold.
    pub(super) fn number_spec(&mut self, facts: Vec<ExprId>, exact: bool) -> NumberSpecId {
        if let Some(&id) = self.numbers.ids.get(&(facts.clone(), exact)) {
            return id;
        }
        let mut leaves = Vec::new();
        for &fact in &facts {
            self.facts.leaves(fact, &mut |leaf| leaves.push(leaf));
        }
        let (mut points, mut steps, mut integers) = (Vec::new(), Vec::new(), false);
        for &leaf in &leaves {
            match self.atom(leaf) {
                Atom::AtLeast(bound) | Atom::Above(bound) => {
                    points.push(self.graph.decimals[bound as usize].clone())
                }
                Atom::Multiple(step) => steps.push(step),
                Atom::NumberIn(set) => {
                    points.extend(self.graph.number_sets[set as usize].iter().cloned())
                }
                _ => integers = true,
            }
        }
        points.sort_unstable();
        points.dedup();
        let period = steps.iter().try_fold(Step::ONE, |a, &b| a.lcm(b));
        let whole = self.demands_integer(facts[0]);
        let full = self.options.lexical == Lexical::Full;
        let only_sign =
            points.iter().all(Decimal::is_zero) && steps.is_empty() && !integers && !exact;
        let exponent = match (only_sign, full) {
            (true, _) => Exponent::Any,
            (false, true) => Exponent::Short,
            _ => Exponent::Never,
        };
        let spec = NumberSpec {
            facts: facts.clone(),
            points,
            steps,
            period,
            integers,
            fraction: full || !whole,
            exponent,
            large: full,
            exact,
        };
        let id = self.numbers.specs.len() as NumberSpecId;
        self.numbers.specs.push(Arc::new(spec));
        self.numbers.ids.insert((facts, exact), id);
        id
    }

    pub(super) fn demands_integer(&self, fact: ExprId) -> bool {
        let integer = |part: ExprId| {
            matches!(self.facts.get(part), Expr::Leaf(leaf, true)
                if matches!(self.atom(*leaf), Atom::Integer | Atom::IntegerText))
        };
        match self.facts.get(fact) {
            Expr::And(parts) => parts.iter().any(|&part| integer(part)),
            _ => integer(fact),
        }
    }

    /// The state before the first character.
    pub(super) fn number_start(&mut self, spec: NumberSpecId) -> NumberState {
        self.numbers.states.intern((spec, String::new()))
    }

    /// Whether any number has these facts.
    pub(super) fn number_exists(&mut self, facts: ExprId) -> Result<bool, ConstrainError> {
        let spec = self.number_spec(vec![facts], false);
        let start = self.number_start(spec);
        self.number_alive(start)
    }

    /// The state behind one more character.
    pub(super) fn number_next(
        &mut self,
        state: NumberState,
        byte: u8,
    ) -> Result<Option<NumberState>, ConstrainError> {
        let (id, text) = self.numbers.states.get(state).clone();
        let spec = self.numbers.specs[id as usize].clone();
        if !follows(&spec, &text, byte) {
            return Ok(None);
        }
        let mut text = text;
        text.push(char::from(byte.to_ascii_lowercase()));
        let text = spec.stand_in(text);
        let next = self.numbers.states.intern((id, text));
        Ok(self.number_alive(next)?.then_some(next))
    }

    /// The bytes that may follow by the syntax of numbers alone.
    pub(super) fn number_bytes(&self, state: NumberState) -> crate::ByteSet {
        let (id, text) = self.numbers.states.get(state);
        let spec = &self.numbers.specs[*id as usize];
        b"-+.eE0123456789"
            .iter()
            .copied()
            .filter(|&byte| follows(spec, text, byte))
            .collect()
    }

    /// Which facts hold for the finished number; `None` when it is unfinished or the first does not.
    pub(super) fn number_verdict(&mut self, state: NumberState) -> Option<(Vec<bool>, Decimal)> {
        let (id, text) = self.numbers.states.get(state).clone();
        let spec = self.numbers.specs[id as usize].clone();
        let (value, plain) = finished(&text)?;
        let held: Vec<bool> = spec
            .facts
            .iter()
            .map(|&fact| self.number_fact(fact, &value, plain))
            .collect();
        held[0].then(|| (held[1..].to_vec(), value))
    }

    pub(super) fn number_fact(&self, fact: ExprId, value: &Decimal, plain: bool) -> bool {
        let known = self.facts.evaluate(fact, &mut |leaf| {
            Some(match self.atom(leaf) {
                Atom::Integer => value.is_integer(),
                Atom::IntegerText => plain,
                Atom::AtLeast(bound) => *value >= self.graph.decimals[bound as usize],
                Atom::Above(bound) => *value > self.graph.decimals[bound as usize],
                Atom::Multiple(step) => value.is_multiple(&step),
                Atom::NumberIn(set) => self.graph.number_sets[set as usize]
                    .binary_search(value)
                    .is_ok(),
                _ => false,
            })
        });
        known.unwrap_or(false)
    }

    pub(super) fn number_alive(&mut self, state: NumberState) -> Result<bool, ConstrainError> {
        if let Some(&known) = self.numbers.alive.get(&state) {
            return Ok(known);
        }
        let (id, text) = self.numbers.states.get(state).clone();
        let spec = self.numbers.specs[id as usize].clone();
        let alive = self.number_can_end(&spec, &text)?;
        self.numbers.alive.insert(state, alive);
        Ok(alive)
    }
}

/// The value of a complete number, and whether it is written without point and exponent.
pub(super) fn finished(text: &str) -> Option<(Decimal, bool)> {
    let text = text.strip_prefix(STANDS).unwrap_or(text);
    if !text.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((Decimal::parse(text)?, !text.contains(['.', 'e'])))
}

/// Whether a character may follow by the syntax of numbers.
pub(super) fn follows(spec: &NumberSpec, text: &str, byte: u8) -> bool {
    let parts = split(text);
    if let Some(exponent) = parts.exponent {
        return match byte {
            b'+' | b'-' => exponent.is_empty(),
            b'0'..=b'9' => {
                let typed = exponent.trim_start_matches(['+', '-']);
                typed.len() < 2 || (spec.large && typed.len() < 3 && typed < "3")
            }
            _ => false,
        };
    }
    match (byte, parts.fraction) {
        (b'-', None) => text.is_empty(),
        (b'0'..=b'9', Some(_)) => true,
        (b'0'..=b'9', None) => parts.whole != "0",
        (b'.', None) => spec.fraction && !parts.whole.is_empty(),
        (b'e' | b'E', fraction) => {
            let allowed = match spec.exponent {
                Exponent::Never => false,
                Exponent::Any => true,
                Exponent::Short => !text.starts_with(STANDS),
            };
            allowed && !parts.whole.is_empty() && fraction != Some("")
        }
        _ => false,
    }
}
