//! Boolean expressions, each kept once: equal expressions have equal numbers.

use crate::hash::FastMap;

/// An expression.
pub(super) type ExprId = u32;

/// A variable of an expression; what it stands for is the caller's business.
pub(super) type Leaf = u32;

/// The expression that always holds.
pub(super) const TRUE: ExprId = 0;
/// The expression that never holds.
pub(super) const FALSE: ExprId = 1;

/// One expression in negation normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Expr {
    /// Always (`true`) or never.
    Const(bool),
    /// A variable, or its negation.
    Leaf(Leaf, bool),
    /// All of them; sorted, without repetition.
    And(Box<[ExprId]>),
    /// At least one of them; sorted, without repetition.
    Or(Box<[ExprId]>),
    /// Exactly one of them (`true`), or any other number.
    One(Box<[ExprId]>, bool),
}

/// All expressions of one kind.
#[derive(Debug)]
pub(super) struct Exprs {
    all: Vec<Expr>,
    ids: FastMap<Expr, ExprId>,
    negations: FastMap<ExprId, ExprId>,
}

impl Exprs {
    pub(super) fn new() -> Self {
        let mut new = Self {
            all: Vec::new(),
            ids: FastMap::default(),
            negations: FastMap::default(),
        };
        new.intern(Expr::Const(true));
        new.intern(Expr::Const(false));
        new
    }

    fn intern(&mut self, expr: Expr) -> ExprId {
        if let Some(&id) = self.ids.get(&expr) {
            return id;
        }
        let id = self.all.len() as ExprId;
        self.all.push(expr.clone());
        self.ids.insert(expr, id);
        id
    }

    /// The expression behind a number.
    pub(super) fn get(&self, id: ExprId) -> &Expr {
        &self.all[id as usize]
    }

    /// Number of expressions.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// A variable.
    pub(super) fn leaf(&mut self, leaf: Leaf) -> ExprId {
        self.intern(Expr::Leaf(leaf, true))
    }

    /// A constant.
    pub(super) fn constant(value: bool) -> ExprId {
        if value { TRUE } else { FALSE }
    }

    /// All of them.
    pub(super) fn and(&mut self, parts: impl IntoIterator<Item = ExprId>) -> ExprId {
        self.junction(parts, true)
    }

    /// At least one of them.
    pub(super) fn or(&mut self, parts: impl IntoIterator<Item = ExprId>) -> ExprId {
        self.junction(parts, false)
    }

    fn junction(&mut self, parts: impl IntoIterator<Item = ExprId>, and: bool) -> ExprId {
        let (neutral, absorbing) = if and { (TRUE, FALSE) } else { (FALSE, TRUE) };
        let mut flat = Vec::new();
        for part in parts {
            if part == absorbing {
                return absorbing;
            }
            match (self.get(part), and) {
                _ if part == neutral => {}
                (Expr::And(inner), true) | (Expr::Or(inner), false) => {
                    flat.extend_from_slice(inner)
                }
                _ => flat.push(part),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        let opposed = flat.iter().any(|&part| {
            self.negations
                .get(&part)
                .is_some_and(|negation| flat.binary_search(negation).is_ok())
        });
        match (opposed, flat.as_slice()) {
            (true, _) => absorbing,
            (_, []) => neutral,
            (_, [one]) => *one,
            _ if and => self.intern(Expr::And(flat.into())),
            _ => self.intern(Expr::Or(flat.into())),
        }
    }

    /// Exactly one of them. Parts that are equal count each for itself.
    pub(super) fn one(&mut self, parts: impl IntoIterator<Item = ExprId>) -> ExprId {
        let mut open: Vec<ExprId> = parts.into_iter().filter(|&part| part != FALSE).collect();
        let held = open.iter().filter(|&&part| part == TRUE).count();
        open.retain(|&part| part != TRUE);
        match (held, open.len()) {
            (2.., _) => FALSE,
            (1, _) => {
                let none: Vec<ExprId> = open.into_iter().map(|part| self.not(part)).collect();
                self.and(none)
            }
            (_, 0) => FALSE,
            (_, 1) => open[0],
            _ => {
                open.sort_unstable();
                self.intern(Expr::One(open.into(), true))
            }
        }
    }

    /// The negation.
    pub(super) fn not(&mut self, id: ExprId) -> ExprId {
        if let Some(&negation) = self.negations.get(&id) {
            return negation;
        }
        let negation = match self.get(id).clone() {
            Expr::Const(value) => Self::constant(!value),
            Expr::Leaf(leaf, sign) => self.intern(Expr::Leaf(leaf, !sign)),
            Expr::And(parts) => {
                let parts: Vec<_> = parts.iter().map(|&part| self.not(part)).collect();
                self.or(parts)
            }
            Expr::Or(parts) => {
                let parts: Vec<_> = parts.iter().map(|&part| self.not(part)).collect();
                self.and(parts)
            }
            Expr::One(parts, sign) => self.intern(Expr::One(parts, !sign)),
        };
        self.negations.insert(id, negation);
        self.negations.insert(negation, id);
        negation
    }

    /// Puts expressions in the place of variables. `with` gets the variable and answers for its positive form.
    pub(super) fn substitute(
        &mut self,
        id: ExprId,
        with: &mut dyn FnMut(&mut Self, Leaf) -> Option<ExprId>,
    ) -> ExprId {
        match self.get(id).clone() {
            Expr::Const(_) => id,
            Expr::Leaf(leaf, sign) => match (with(self, leaf), sign) {
                (None, _) => id,
                (Some(new), true) => new,
                (Some(new), false) => self.not(new),
            },
            Expr::And(parts) => {
                let parts: Vec<_> = parts
                    .iter()
                    .map(|&part| self.substitute(part, with))
                    .collect();
                self.and(parts)
            }
            Expr::Or(parts) => {
                let parts: Vec<_> = parts
                    .iter()
                    .map(|&part| self.substitute(part, with))
                    .collect();
                self.or(parts)
            }
            Expr::One(parts, sign) => {
                let parts: Vec<_> = parts
                    .iter()
                    .map(|&part| self.substitute(part, with))
                    .collect();
                let one = self.one(parts);
                if sign { one } else { self.not(one) }
            }
        }
    }

    /// The value where `value` knows enough variables.
    pub(super) fn evaluate(
        &self,
        id: ExprId,
        value: &mut dyn FnMut(Leaf) -> Option<bool>,
    ) -> Option<bool> {
        match self.get(id) {
            Expr::Const(known) => Some(*known),
            Expr::Leaf(leaf, sign) => value(*leaf).map(|v| v == *sign),
            Expr::And(parts) => self.decide(parts, false, value),
            Expr::Or(parts) => self.decide(parts, true, value),
            Expr::One(parts, sign) => {
                let (mut held, mut open) = (0, 0);
                for &part in parts {
                    match self.evaluate(part, value) {
                        Some(true) => held += 1,
                        Some(false) => {}
                        None => open += 1,
                    }
                    if held > 1 {
                        return Some(!sign);
                    }
                }
                (open == 0).then_some((held == 1) == *sign)
            }
        }
    }

    fn decide(
        &self,
        parts: &[ExprId],
        stop: bool,
        value: &mut dyn FnMut(Leaf) -> Option<bool>,
    ) -> Option<bool> {
        let mut known = true;
        for &part in parts {
            match self.evaluate(part, value) {
                Some(held) if held == stop => return Some(stop),
                Some(_) => {}
                None => known = false,
            }
        }
        known.then_some(!stop)
    }

    /// Calls `visit` for every occurrence of a variable. Variables below an `One` count as both signs.
    pub(super) fn leaves(&self, id: ExprId, visit: &mut dyn FnMut(Leaf)) {
        match self.get(id) {
            Expr::Const(_) => {}
            Expr::Leaf(leaf, _) => visit(*leaf),
            Expr::And(parts) | Expr::Or(parts) | Expr::One(parts, _) => {
                for &part in parts {
                    self.leaves(part, visit);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_simplified_and_shared() {
        let mut e = Exprs::new();
        let (a, b) = (e.leaf(0), e.leaf(1));
        let (ab, ba) = (e.and([a, b]), e.and([b, TRUE, a, a]));
        assert_eq!(ab, ba);
        let not_a = e.not(a);
        assert_eq!(e.and([a, not_a]), FALSE);
        assert_eq!(e.or([a, not_a]), TRUE);
        let one = e.one([a, b]);
        assert_eq!(
            e.substitute(one, &mut |_, leaf| (leaf == 0).then_some(TRUE)),
            e.not(b)
        );
        let not_one = e.not(one);
        assert_eq!(e.evaluate(not_one, &mut |_| Some(true)), Some(true));
        assert_eq!(
            e.evaluate(one, &mut |leaf| (leaf == 0).then_some(true)),
            None
        );
    }
}
