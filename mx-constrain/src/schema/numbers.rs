//! Numbers: which digits may follow so that a combination of facts can still hold.
//!
//! The state of a number is a text that stands for all texts with the same future: digits that no bound and no divisor
//! can tell apart any more are replaced by the same digits.

use std::sync::Arc;

use super::decimal::{Decimal, Step};
use super::engine::{Atom, Engine, Interner};
use super::expr::{Expr, ExprId, Exprs, FALSE, TRUE};
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
    facts: Vec<ExprId>,
    /// Numbers at which some fact changes, ascending.
    points: Vec<Decimal>,
    steps: Vec<Step>,
    /// A step that all steps divide, where it is not too large.
    period: Option<Step>,
    /// Some fact asks for integers.
    integers: bool,
    /// A point may follow.
    fraction: bool,
    /// How exponents are read.
    exponent: Exponent,
    /// Exponents may have a third digit. Beyond it few readers of JSON can follow.
    large: bool,
    /// The text itself matters: the number is reported.
    exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exponent {
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
    specs: Vec<Arc<NumberSpec>>,
    ids: FastMap<(Vec<ExprId>, bool), NumberSpecId>,
    states: Interner<(NumberSpecId, String)>,
    alive: FastMap<NumberState, bool>,
}

/// Characters of a number behind which no exponent follows any more, where bounds are to be kept.
const SHORT: usize = 20;
/// Greatest exponent that is tried on short numbers.
const SHORT_EXPONENT: i64 = 40;
/// Multiples that are tried in an interval.
const TRIES: usize = 2_000;
/// Marks a text whose digits stand for others, so that no exponent can follow.
const STANDS: char = '!';

impl Numbers {
    pub(super) fn new() -> Self {
        Self { specs: Vec::new(), ids: FastMap::default(), states: Interner::new(), alive: FastMap::default() }
    }

    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.states.len() * 120
    }
}

/// The parts of a number's text.
struct Text<'a> {
    negative: bool,
    whole: &'a str,
    fraction: Option<&'a str>,
    exponent: Option<&'a str>,
}

fn split(text: &str) -> Text<'_> {
    let text = text.strip_prefix(STANDS).unwrap_or(text);
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = rest.split_once('e').map_or((rest, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    Text { negative, whole, fraction, exponent }
}

fn digits(text: &str) -> Vec<u8> {
    text.bytes().map(|b| b - b'0').collect()
}

fn undigits(digits: &[u8]) -> String {
    digits.iter().map(|&d| char::from(b'0' + d)).collect()
}

/// The number after this one, of the same length where possible.
fn successor(digits: &[u8]) -> Vec<u8> {
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
                Atom::AtLeast(bound) | Atom::Above(bound) => points.push(self.graph.decimals[bound as usize].clone()),
                Atom::Multiple(step) => steps.push(step),
                Atom::NumberIn(set) => points.extend(self.graph.number_sets[set as usize].iter().cloned()),
                _ => integers = true,
            }
        }
        points.sort_unstable();
        points.dedup();
        let period = steps.iter().try_fold(Step::ONE, |a, &b| a.lcm(b));
        let whole = self.demands_integer(facts[0]);
        let full = self.options.lexical == Lexical::Full;
        let only_sign = points.iter().all(Decimal::is_zero) && steps.is_empty() && !integers && !exact;
        let exponent = match (only_sign, full) {
            (true, _) => Exponent::Any,
            (false, true) => Exponent::Short,
            _ => Exponent::Never,
        };
        let spec = NumberSpec { facts: facts.clone(), points, steps, period, integers, fraction: full || !whole, exponent, large: full, exact };
        let id = self.numbers.specs.len() as NumberSpecId;
        self.numbers.specs.push(Arc::new(spec));
        self.numbers.ids.insert((facts, exact), id);
        id
    }

    fn demands_integer(&self, fact: ExprId) -> bool {
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
    pub(super) fn number_next(&mut self, state: NumberState, byte: u8) -> Result<Option<NumberState>, ConstrainError> {
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
        b"-+.eE0123456789".iter().copied().filter(|&byte| follows(spec, text, byte)).collect()
    }

    /// Which facts hold for the finished number; `None` when it is unfinished or the first does not.
    pub(super) fn number_verdict(&mut self, state: NumberState) -> Option<(Vec<bool>, Decimal)> {
        let (id, text) = self.numbers.states.get(state).clone();
        let spec = self.numbers.specs[id as usize].clone();
        let (value, plain) = finished(&text)?;
        let held: Vec<bool> = spec.facts.iter().map(|&fact| self.number_fact(fact, &value, plain)).collect();
        held[0].then(|| (held[1..].to_vec(), value))
    }

    fn number_fact(&self, fact: ExprId, value: &Decimal, plain: bool) -> bool {
        let known = self.facts.evaluate(fact, &mut |leaf| {
            Some(match self.atom(leaf) {
                Atom::Integer => value.is_integer(),
                Atom::IntegerText => plain,
                Atom::AtLeast(bound) => *value >= self.graph.decimals[bound as usize],
                Atom::Above(bound) => *value > self.graph.decimals[bound as usize],
                Atom::Multiple(step) => value.is_multiple(&step),
                Atom::NumberIn(set) => self.graph.number_sets[set as usize].binary_search(value).is_ok(),
                _ => false,
            })
        });
        known.unwrap_or(false)
    }

    fn number_alive(&mut self, state: NumberState) -> Result<bool, ConstrainError> {
        if let Some(&known) = self.numbers.alive.get(&state) {
            return Ok(known);
        }
        let (id, text) = self.numbers.states.get(state).clone();
        let spec = self.numbers.specs[id as usize].clone();
        let alive = self.number_can_end(&spec, &text)?;
        self.numbers.alive.insert(state, alive);
        Ok(alive)
    }

    fn number_can_end(&mut self, spec: &NumberSpec, text: &str) -> Result<bool, ConstrainError> {
        self.spend(4)?;
        if let Some((value, plain)) = finished(text)
            && self.number_fact(spec.facts[0], &value, plain)
        {
            return Ok(true);
        }
        let parts = split(text);
        if spec.exponent == Exponent::Short && !text.starts_with(STANDS) && self.exponent_helps(spec, text, &parts) {
            return Ok(true);
        }
        if parts.exponent.is_some() {
            return Ok(match spec.exponent {
                Exponent::Any => {
                    let mantissa = text.split('e').next().unwrap_or_default();
                    Decimal::parse(mantissa).is_some_and(|value| self.number_fact(spec.facts[0], &value, false))
                }
                _ => false,
            });
        }
        let between = |low: Decimal, high: Decimal, closed: bool| match parts.negative {
            true => Interval { low: Some((high.neg(), false)), high: Some((low.neg(), closed)) },
            false => Interval { low: Some((low, closed)), high: Some((high, false)) },
        };
        if let Some(fraction) = parts.fraction {
            let all: Vec<u8> = digits(parts.whole).into_iter().chain(digits(fraction)).collect();
            let exponent = -(fraction.len() as i64);
            let interval = between(Decimal::from_digits(&all, exponent), Decimal::from_digits(&successor(&all), exponent), true);
            return self.number_between(spec, &interval, false);
        }
        match parts.whole {
            "" if !parts.negative => self.number_between(spec, &Interval { low: None, high: None }, true),
            "" => self.number_between(spec, &Interval { low: None, high: Some((Decimal::zero(), true)) }, true),
            "0" => match spec.fraction {
                true => self.number_between(spec, &between(Decimal::zero(), Decimal::scaled(1, 0), true), false),
                false => Ok(false),
            },
            whole => {
                let whole = digits(whole);
                let longest = spec.points.iter().map(Decimal::whole_len).max().unwrap_or(0);
                let period = spec.steps.iter().map(|s| s.units.to_string().len() + s.places).sum::<usize>();
                let more = (longest + period + 2).saturating_sub(whole.len()).max(1);
                for zeros in 0..=more as i64 {
                    let low = Decimal::from_digits(&whole, zeros);
                    let high = Decimal::from_digits(&successor(&whole), zeros);
                    if self.number_between(spec, &between(low, high, true), true)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Whether some exponent behind a short number makes the facts true.
    fn exponent_helps(&self, spec: &NumberSpec, text: &str, parts: &Text<'_>) -> bool {
        let Some(mantissa) = text.split('e').next().and_then(Decimal::parse) else { return false };
        let held = |power: i64| {
            let factor = Decimal::scaled(1, power);
            let (whole, places) = mantissa.abs().parts();
            let all: Vec<u8> = whole.into_iter().chain(places.iter().copied()).collect();
            let value = Decimal::from_digits(&all, power - places.len() as i64);
            let value = if mantissa.is_negative() { value.neg() } else { value };
            !factor.is_zero() && self.number_fact(spec.facts[0], &value, false)
        };
        match parts.exponent {
            None if parts.fraction == Some("") => false,
            None => (-SHORT_EXPONENT..=SHORT_EXPONENT).any(held),
            Some(exponent) => {
                let (signs, typed): (&[i64], &str) = match exponent.strip_prefix('-') {
                    Some(rest) => (&[-1], rest),
                    None => match exponent.strip_prefix('+') {
                        Some(rest) => (&[1], rest),
                        None if exponent.is_empty() => (&[1, -1], ""),
                        None => (&[1], exponent),
                    },
                };
                let tails = std::iter::once(String::new())
                    .chain((0..10).map(|n| n.to_string()))
                    .chain((0..100).map(|n| format!("{n:02}")));
                tails
                    .map(|tail| format!("{typed}{tail}"))
                    .filter(|all| all.len() < 3 || (all.len() == 3 && all.as_str() < "3"))
                    .filter_map(|all| all.parse::<i64>().ok())
                    .any(|power| signs.iter().any(|sign| held(sign * power)))
            }
        }
    }

    /// Whether some number of an interval has the facts.
    fn number_between(&mut self, spec: &NumberSpec, interval: &Interval, plain: bool) -> Result<bool, ConstrainError> {
        let must = spec.facts[0];
        let mut edges: Vec<Option<Decimal>> = vec![interval.low.as_ref().map(|(low, _)| low.clone())];
        let inside = spec.points.iter().filter(|point| interval.contains(point));
        for point in inside {
            self.spend(1)?;
            let whole = plain && point.is_integer();
            if (whole || spec.fraction || point.is_integer())
                && (self.number_fact(must, point, whole) || (spec.fraction && self.number_fact(must, point, false)))
            {
                return Ok(true);
            }
            edges.push(Some(point.clone()));
        }
        if let Some((low, true)) = &interval.low
            && self.number_fact(must, low, plain && low.is_integer())
        {
            return Ok(true);
        }
        if let Some((high, true)) = &interval.high
            && self.number_fact(must, high, plain && high.is_integer())
        {
            return Ok(true);
        }
        edges.push(interval.high.as_ref().map(|(high, _)| high.clone()));
        for pair in edges.windows(2) {
            self.spend(2)?;
            if let (Some(low), Some(high)) = (&pair[0], &pair[1])
                && low >= high
            {
                continue;
            }
            // The first edge, where there is none below, and the last, where there is none above, are open.
            if self.number_gap(spec, pair[0].as_ref(), pair[1].as_ref(), plain) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether some number strictly between two neighbouring points has the facts.
    fn number_gap(&mut self, spec: &NumberSpec, low: Option<&Decimal>, high: Option<&Decimal>, plain: bool) -> bool {
        let mut leaves = Vec::new();
        self.facts.leaves(spec.facts[0], &mut |leaf| leaves.push(leaf));
        let decided: Vec<(u32, bool)> = leaves
            .into_iter()
            .filter_map(|leaf| match self.atom(leaf) {
                Atom::AtLeast(bound) | Atom::Above(bound) => {
                    let bound = &self.graph.decimals[bound as usize];
                    Some((leaf, low.is_some_and(|low| bound <= low)))
                }
                Atom::NumberIn(_) => Some((leaf, false)),
                _ => None,
            })
            .collect();
        let rest = self.facts.substitute(spec.facts[0], &mut |_, leaf| {
            decided.iter().find(|(l, _)| *l == leaf).map(|&(_, held)| Exprs::constant(held))
        });
        match rest {
            TRUE => return true,
            FALSE => return false,
            _ => {}
        }
        let needed = self.needed_step(rest);
        let mut candidates: Vec<Step> = match needed {
            Some(step) => vec![step],
            None => spec.steps.iter().copied().chain([Step::ONE]).chain(spec.period).collect(),
        };
        candidates.dedup();
        for step in candidates {
            let mut at = match (low, high) {
                (Some(low), _) => low.next_multiple(&step),
                (None, Some(high)) => high.next_multiple(&step).add(&step.value().neg()),
                (None, None) => Decimal::zero(),
            };
            let direction = if low.is_none() && high.is_some() { step.value().neg() } else { step.value() };
            for _ in 0..TRIES {
                let within = low.is_none_or(|low| at > *low) && high.is_none_or(|high| at < *high);
                if within
                    && (self.number_fact(rest, &at, plain && at.is_integer())
                        || (spec.fraction && self.number_fact(rest, &at, false)))
                {
                    return true;
                }
                let past = match low.is_none() && high.is_some() {
                    true => false,
                    false => high.is_some_and(|high| at >= *high),
                };
                if past {
                    break;
                }
                at = at.add(&direction);
            }
        }
        needed.is_none() && spec.fraction && self.fraction_fits(rest, low, high)
    }

    /// Whether some number that is not round has the facts.
    fn fraction_fits(&self, rest: ExprId, low: Option<&Decimal>, high: Option<&Decimal>) -> bool {
        let wide = Decimal::scaled(1, 3);
        let (low, high) = match (low, high) {
            (Some(low), Some(high)) => (low.clone(), high.clone()),
            (Some(low), None) => (low.clone(), low.add(&wide)),
            (None, Some(high)) => (high.add(&wide.neg()), high.clone()),
            (None, None) => (Decimal::zero(), wide),
        };
        let mut at = high;
        for _ in 0..24 {
            at = low.add(&at).half();
            if self.number_fact(rest, &at, false) {
                return true;
            }
        }
        false
    }

    /// How many numbers have the facts, where they are few and easily counted.
    pub(super) fn few_numbers(&mut self, facts: ExprId) -> Option<u32> {
        const MANY: usize = 1_000;
        let parts: Vec<ExprId> = match self.facts.get(facts) {
            Expr::And(parts) => parts.to_vec(),
            _ => vec![facts],
        };
        let (mut low, mut high, mut listed) = (None::<Decimal>, None::<Decimal>, None);
        for part in parts {
            let Expr::Leaf(leaf, sign) = self.facts.get(part) else { continue };
            match (self.atom(*leaf), sign) {
                (Atom::AtLeast(b) | Atom::Above(b), true) => {
                    let bound = self.graph.decimals[b as usize].clone();
                    low = Some(low.map_or(bound.clone(), |low| low.max(bound)));
                }
                (Atom::AtLeast(b) | Atom::Above(b), false) => {
                    let bound = self.graph.decimals[b as usize].clone();
                    high = Some(high.map_or(bound.clone(), |high| high.min(bound)));
                }
                (Atom::NumberIn(set), true) => listed = Some(set),
                _ => {}
            }
        }
        let fits = |value: &Decimal| self.number_fact(facts, value, value.is_integer());
        if let Some(set) = listed {
            return Some(self.graph.number_sets[set as usize].iter().filter(|value| fits(value)).count() as u32);
        }
        let (low, high, step) = (low?, high?, self.needed_step(facts)?);
        let mut at = low.next_multiple(&step);
        let mut count = 0;
        for _ in 0..MANY {
            if at > high {
                return Some(count);
            }
            count += u32::from(fits(&at));
            at = at.add(&step.value());
        }
        None
    }

    /// The step of which every number with the facts is a multiple, where they say so.
    fn needed_step(&self, fact: ExprId) -> Option<Step> {
        let step = |part: ExprId| match self.facts.get(part) {
            Expr::Leaf(leaf, true) => match self.atom(*leaf) {
                Atom::Integer | Atom::IntegerText => Some(Step::ONE),
                Atom::Multiple(step) => Some(step),
                _ => None,
            },
            _ => None,
        };
        match self.facts.get(fact) {
            Expr::And(parts) => parts.iter().filter_map(|&part| step(part)).try_fold(None, |all: Option<Step>, one| {
                match all {
                    None => Some(Some(one)),
                    Some(all) => all.lcm(one).map(Some),
                }
            })?,
            _ => step(fact),
        }
    }
}

struct Interval {
    /// Bound, and whether it belongs to the interval.
    low: Option<(Decimal, bool)>,
    high: Option<(Decimal, bool)>,
}

impl Interval {
    fn contains(&self, value: &Decimal) -> bool {
        self.low.as_ref().is_none_or(|(low, closed)| value > low || (*closed && value == low))
            && self.high.as_ref().is_none_or(|(high, closed)| value < high || (*closed && value == high))
    }
}

/// The value of a complete number, and whether it is written without point and exponent.
fn finished(text: &str) -> Option<(Decimal, bool)> {
    let text = text.strip_prefix(STANDS).unwrap_or(text);
    if !text.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((Decimal::parse(text)?, !text.contains(['.', 'e'])))
}

/// Whether a character may follow by the syntax of numbers.
fn follows(spec: &NumberSpec, text: &str, byte: u8) -> bool {
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

impl NumberSpec {
    /// A text with the same future.
    fn stand_in(&self, text: String) -> String {
        if self.exact {
            return text;
        }
        if self.exponent == Exponent::Any {
            return short_of_sign(&text);
        }
        let parts = split(&text);
        if parts.exponent.is_some() {
            return text;
        }
        let marked = text.starts_with(STANDS);
        if self.exponent == Exponent::Short && !marked && text.len() <= SHORT {
            return text;
        }
        let mut out = String::new();
        if self.exponent == Exponent::Short {
            out.push(STANDS);
        }
        if parts.negative {
            out.push('-');
        }
        match parts.fraction {
            None => out.push_str(&self.whole_stand_in(parts.negative, parts.whole)),
            Some(fraction) => {
                out.push_str(parts.whole);
                out.push('.');
                out.push_str(&self.fraction_stand_in(parts.negative, parts.whole, fraction));
            }
        }
        out
    }

    fn points_of(&self, negative: bool) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.points.iter().filter(move |p| p.is_zero() || p.is_negative() == negative).map(Decimal::parts)
    }

    fn whole_stand_in(&self, negative: bool, whole: &str) -> String {
        if whole.is_empty() || whole == "0" {
            return whole.to_owned();
        }
        let given = digits(whole);
        let points: Vec<Vec<u8>> = self.points_of(negative).map(|(whole, _)| whole).collect();
        let longest = points.iter().map(Vec::len).max().unwrap_or(0);
        let one = Decimal::scaled(1, 0);
        if !self.steps.iter().all(|step| one.is_multiple(step)) {
            let Some(period) = self.period else { return whole.to_owned() };
            let len = longest + period.units.to_string().len() + 2;
            if given.len() <= len {
                return whole.to_owned();
            }
            let residue = |digits: &[u8]| digits.iter().fold(0u128, |r, &d| (r * 10 + u128::from(d)) % period.units);
            let mut base = vec![0; len];
            base[0] = 1;
            let missing = (residue(&given) + period.units - residue(&base)) % period.units;
            let sum = Decimal::from_digits(&base, 0).add(&Decimal::scaled(missing, 0));
            return undigits(&sum.parts().0);
        }
        if given.len() > longest {
            return undigits(&std::iter::once(1).chain(std::iter::repeat_n(0, longest)).collect::<Vec<_>>());
        }
        let prefixes = points.iter().filter(|p| p.len() >= given.len()).map(|p| p[..given.len()].to_vec());
        let mut lowest = vec![0; given.len()];
        lowest[0] = 1;
        undigits(&nearest(&given, prefixes, lowest))
    }

    fn fraction_stand_in(&self, negative: bool, whole: &str, fraction: &str) -> String {
        let given = digits(fraction);
        let trimmed: Vec<u8> = digits(whole).into_iter().skip_while(|&d| d == 0).collect();
        let mut points: Vec<Vec<u8>> =
            self.points_of(negative).filter(|(whole, _)| *whole == trimmed).map(|(_, fraction)| fraction).collect();
        if self.integers {
            points.push(Vec::new());
        }
        let places = self.steps.iter().map(|s| s.places).max().unwrap_or(0);
        let kept = points.iter().map(Vec::len).max().unwrap_or(0).max(places);
        let (head, tail) = given.split_at(given.len().min(kept));
        // Every number of so many places is a multiple of a step such as 0.01.
        let mut out = match self.steps.iter().all(|step| step.units == 1) {
            false => head.to_vec(),
            true => {
                let prefixes = points.iter().map(|p| {
                    let mut p = p.clone();
                    p.resize(p.len().max(head.len()), 0);
                    p.truncate(head.len());
                    p
                });
                nearest(head, prefixes, vec![0; head.len()])
            }
        };
        if tail.iter().any(|&d| d != 0) {
            // With no step and no point near, what follows changes nothing.
            let matters = !points.is_empty() || !self.steps.is_empty();
            out.push(u8::from(matters));
        } else if out.is_empty() && !given.is_empty() {
            out.push(0);
        }
        undigits(&out)
    }
}

/// The smallest text between the same two points.
fn nearest(given: &[u8], points: impl Iterator<Item = Vec<u8>>, lowest: Vec<u8>) -> Vec<u8> {
    let below = points.filter(|p| p.as_slice() <= given).max();
    match below {
        Some(point) if point == given => point,
        Some(point) => successor(&point),
        None => lowest,
    }
}

/// For numbers of which only the sign matters: whether they are zero, and where their text stands.
fn short_of_sign(text: &str) -> String {
    let parts = split(text);
    let nonzero = |part: &str| part.bytes().any(|b| (b'1'..=b'9').contains(&b));
    let mut out = String::new();
    if parts.negative {
        out.push('-');
    }
    if parts.exponent.is_some() {
        out.push(if nonzero(parts.whole) || parts.fraction.is_some_and(nonzero) { '1' } else { '0' });
    } else {
        out.push_str(match parts.whole {
            "" => "",
            whole if nonzero(whole) => "1",
            _ => "0",
        });
        if let Some(fraction) = parts.fraction {
            out.push('.');
            if !fraction.is_empty() {
                out.push(if nonzero(fraction) { '1' } else { '0' });
            }
        }
    }
    if let Some(exponent) = parts.exponent {
        out.push('e');
        out.push_str(match exponent {
            "" => "",
            "+" | "-" => "+",
            digits => {
                let digits = digits.trim_start_matches(['+', '-']);
                match (digits < "3", digits.len()) {
                    (true, 1) => "1",
                    (true, 2) => "10",
                    (false, 1) => "9",
                    (false, 2) => "90",
                    _ => "100",
                }
            }
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_of_signs() {
        for (text, short) in [("-120", "-1"), ("0.00", "0.0"), ("0.01e-7", "1e9"), ("2e27", "1e10"), ("-", "-"), ("3.", "1."), ("0e-", "0e+")] {
            assert_eq!(short_of_sign(text), short);
        }
        assert_eq!(successor(&[9, 9]), [1, 0, 0]);
    }
}
