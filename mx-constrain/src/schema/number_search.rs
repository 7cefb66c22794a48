//! Whether digits that were written can be completed to a number with some facts: exact arithmetic on intervals.

use super::decimal::{Decimal, Step};
use super::engine::{Atom, Engine};
use super::expr::{Expr, ExprId, Exprs, FALSE, TRUE};
use super::numbers::{Exponent, NumberSpec, STANDS, Text, digits, finished, split, successor};
use crate::ConstrainError;

impl Engine {
    pub(super) fn number_can_end(
        &mut self,
        spec: &NumberSpec,
        text: &str,
    ) -> Result<bool, ConstrainError> {
        self.spend(4)?;
        if let Some((value, plain)) = finished(text)
            && self.number_fact(spec.facts[0], &value, plain)
        {
            return Ok(true);
        }
        let parts = split(text);
        if spec.exponent == Exponent::Short
            && !text.starts_with(STANDS)
            && self.exponent_helps(spec, text, &parts)
        {
            return Ok(true);
        }
        if parts.exponent.is_some() {
            return Ok(match spec.exponent {
                Exponent::Any => {
                    let mantissa = text.split('e').next().unwrap_or_default();
                    Decimal::parse(mantissa)
                        .is_some_and(|value| self.number_fact(spec.facts[0], &value, false))
                }
                _ => false,
            });
        }
        let between = |low: Decimal, high: Decimal, closed: bool| match parts.negative {
            true => Interval {
                low: Some((high.neg(), false)),
                high: Some((low.neg(), closed)),
            },
            false => Interval {
                low: Some((low, closed)),
                high: Some((high, false)),
            },
        };
        if let Some(fraction) = parts.fraction {
            let all: Vec<u8> = digits(parts.whole)
                .into_iter()
                .chain(digits(fraction))
                .collect();
            let exponent = -(fraction.len() as i64);
            let interval = between(
                Decimal::from_digits(&all, exponent),
                Decimal::from_digits(&successor(&all), exponent),
                true,
            );
            return self.number_between(spec, &interval, false);
        }
        match parts.whole {
            "" if !parts.negative => self.number_between(
                spec,
                &Interval {
                    low: None,
                    high: None,
                },
                true,
            ),
            "" => self.number_between(
                spec,
                &Interval {
                    low: None,
                    high: Some((Decimal::zero(), true)),
                },
                true,
            ),
            "0" => match spec.fraction {
                true => self.number_between(
                    spec,
                    &between(Decimal::zero(), Decimal::scaled(1, 0), true),
                    false,
                ),
                false => Ok(false),
            },
            whole => {
                let whole = digits(whole);
                let longest = spec
                    .points
                    .iter()
                    .map(Decimal::whole_len)
                    .max()
                    .unwrap_or(0);
                let period = spec
                    .steps
                    .iter()
                    .map(|s| s.units.to_string().len() + s.places)
                    .sum::<usize>();
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
    pub(super) fn exponent_helps(&self, spec: &NumberSpec, text: &str, parts: &Text<'_>) -> bool {
        let Some(mantissa) = text.split('e').next().and_then(Decimal::parse) else {
            return false;
        };
        let held = |power: i64| {
            let factor = Decimal::scaled(1, power);
            let (whole, places) = mantissa.abs().parts();
            let all: Vec<u8> = whole.into_iter().chain(places.iter().copied()).collect();
            let value = Decimal::from_digits(&all, power - places.len() as i64);
            let value = if mantissa.is_negative() {
                value.neg()
            } else {
                value
            };
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
    pub(super) fn number_between(
        &mut self,
        spec: &NumberSpec,
        interval: &Interval,
        plain: bool,
    ) -> Result<bool, ConstrainError> {
        let must = spec.facts[0];
        let mut edges: Vec<Option<Decimal>> =
            vec![interval.low.as_ref().map(|(low, _)| low.clone())];
        let inside = spec.points.iter().filter(|point| interval.contains(point));
        for point in inside {
            self.spend(1)?;
            let whole = plain && point.is_integer();
            if (whole || spec.fraction || point.is_integer())
                && (self.number_fact(must, point, whole)
                    || (spec.fraction && self.number_fact(must, point, false)))
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
    pub(super) fn number_gap(
        &mut self,
        spec: &NumberSpec,
        low: Option<&Decimal>,
        high: Option<&Decimal>,
        plain: bool,
    ) -> bool {
        let mut leaves = Vec::new();
        self.facts
            .leaves(spec.facts[0], &mut |leaf| leaves.push(leaf));
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
            decided
                .iter()
                .find(|(l, _)| *l == leaf)
                .map(|&(_, held)| Exprs::constant(held))
        });
        match rest {
            TRUE => return true,
            FALSE => return false,
            _ => {}
        }
        let needed = self.needed_step(rest);
        let mut candidates: Vec<Step> = match needed {
            Some(step) => vec![step],
            None => spec
                .steps
                .iter()
                .copied()
                .chain([Step::ONE])
                .chain(spec.period)
                .collect(),
        };
        candidates.dedup();
        for step in candidates {
            let mut at = match (low, high) {
                (Some(low), _) => low.next_multiple(&step),
                (None, Some(high)) => high.next_multiple(&step).add(&step.value().neg()),
                (None, None) => Decimal::zero(),
            };
            let direction = if low.is_none() && high.is_some() {
                step.value().neg()
            } else {
                step.value()
            };
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
    pub(super) fn fraction_fits(
        &self,
        rest: ExprId,
        low: Option<&Decimal>,
        high: Option<&Decimal>,
    ) -> bool {
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
            let Expr::Leaf(leaf, sign) = self.facts.get(part) else {
                continue;
            };
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
            return Some(
                self.graph.number_sets[set as usize]
                    .iter()
                    .filter(|value| fits(value))
                    .count() as u32,
            );
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
    pub(super) fn needed_step(&self, fact: ExprId) -> Option<Step> {
        let step = |part: ExprId| match self.facts.get(part) {
            Expr::Leaf(leaf, true) => match self.atom(*leaf) {
                Atom::Integer | Atom::IntegerText => Some(Step::ONE),
                Atom::Multiple(step) => Some(step),
                _ => None,
            },
            _ => None,
        };
        match self.facts.get(fact) {
            Expr::And(parts) => parts.iter().filter_map(|&part| step(part)).try_fold(
                None,
                |all: Option<Step>, one| match all {
                    None => Some(Some(one)),
                    Some(all) => all.lcm(one).map(Some),
                },
            )?,
            _ => step(fact),
        }
    }
}

/// Greatest exponent that is tried on short numbers.
pub(super) const SHORT_EXPONENT: i64 = 40;

/// Multiples that are tried in an interval.
pub(super) const TRIES: usize = 2_000;

pub(super) struct Interval {
    /// Bound, and whether it belongs to the interval.
    pub(super) low: Option<(Decimal, bool)>,
    pub(super) high: Option<(Decimal, bool)>,
}

impl Interval {
    fn contains(&self, value: &Decimal) -> bool {
        self.low
            .as_ref()
            .is_none_or(|(low, closed)| value > low || (*closed && value == low))
            && self
                .high
                .as_ref()
                .is_none_or(|(high, closed)| value < high || (*closed && value == high))
    }
}
