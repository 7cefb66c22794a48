//! Whether an object or array that has begun can still end well: a search over the facts that would have to hold.

use std::sync::Arc;

use super::engine::{Atom, AtomId, Cover, Engine, Type};
use super::expr::{Expr, ExprId};
use super::node::KeyId;
use crate::ConstrainError;
use crate::hash::FastMap;

/// What an object or array has had so far.
#[derive(Debug, Clone)]
pub(super) enum Past {
    Object {
        /// The facts asked for (see [`Engine::object_shape`]).
        roots: u32,
        /// The same with what the child that is read now decides: a list.
        now: u32,
        watch: u32,
        /// Sorted.
        used: Arc<[KeyId]>,
    },
    Array {
        roots: u32,
        /// The same with what the child that is read now decides: a list.
        now: u32,
        watch: u32,
        len: u32,
    },
}

/// Facts that are assumed, in the order of assumption.
#[derive(Debug, Default, Clone)]
pub(super) struct Cube {
    pub(super) facts: Vec<(AtomId, bool)>,
    pub(super) held: FastMap<AtomId, bool>,
    /// Demands that were added on the way.
    pub(super) asked: Vec<ExprId>,
}

impl Cube {
    pub(super) fn assume(&mut self, atom: AtomId, sign: bool) -> bool {
        match self.held.get(&atom) {
            Some(&known) => known == sign,
            None => {
                self.held.insert(atom, sign);
                self.facts.push((atom, sign));
                true
            }
        }
    }

    pub(super) fn retract(&mut self, len: usize) {
        for (atom, _) in self.facts.drain(len..) {
            self.held.remove(&atom);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AtomId, bool)> + '_ {
        self.facts.iter().copied()
    }
}

/// What the facts of a cube come to together.
pub(super) enum Judgement {
    Possible,
    Impossible,
    /// Only if this holds as well.
    Only(ExprId),
    /// It depends on whether this holds.
    Split(ExprId),
}

/// Decisions that may be open at once: each takes stack.
pub(super) const MAX_DECISIONS: usize = 300;

/// Called with each cube that is possible; answers whether the search may stop.
pub(super) type Found<'f> = dyn FnMut(&mut Engine, &Cube) -> bool + 'f;

impl Engine {
    /// Whether some array or object has these facts.
    pub(super) fn composite_exists(
        &mut self,
        facts: ExprId,
        kind: Type,
    ) -> Result<bool, ConstrainError> {
        let facts = self.exclusive(facts)?;
        let (roots, watch) = self.watched(vec![facts]);
        let past = match kind {
            Type::Object => Past::Object {
                roots,
                now: roots,
                watch,
                used: Arc::from([]),
            },
            _ => Past::Array {
                roots,
                now: roots,
                watch,
                len: 0,
            },
        };
        self.can_hold(facts, &past)
    }

    /// Whether facts can hold in the end.
    pub(super) fn can_hold(&mut self, facts: ExprId, past: &Past) -> Result<bool, ConstrainError> {
        let mut any = false;
        self.search(facts, past, &mut |_, _| false, &mut |_, _| {
            any = true;
            true
        })?;
        Ok(any)
    }

    /// The weakest demands on the child that is being read, each a set of literals with signs: one of them must be met.
    pub(super) fn demands(
        &mut self,
        facts: ExprId,
        past: &Past,
    ) -> Result<Vec<Vec<(ExprId, bool)>>, ConstrainError> {
        let found: std::cell::RefCell<Vec<Vec<(ExprId, bool)>>> = std::cell::RefCell::default();
        let of = |engine: &Engine, cube: &Cube| {
            let mut demand: Vec<(ExprId, bool)> = cube
                .iter()
                .filter_map(|(atom, sign)| match engine.atom(atom) {
                    Atom::Child(value) => Some((value, sign)),
                    _ => None,
                })
                .collect();
            demand.sort_unstable();
            demand
        };
        let covers = |small: &Vec<(ExprId, bool)>, large: &[(ExprId, bool)]| {
            small
                .iter()
                .all(|literal| large.binary_search(literal).is_ok())
        };
        self.search(
            facts,
            past,
            &mut |engine, cube| {
                let found = found.borrow();
                !found.is_empty() && {
                    let demand = of(engine, cube);
                    found.iter().any(|known| covers(known, &demand))
                }
            },
            &mut |engine, cube| {
                let demand = of(engine, cube);
                let done = demand.is_empty();
                let mut found = found.borrow_mut();
                found.retain(|known| !covers(&demand, known));
                found.push(demand);
                done
            },
        )?;
        let found = found.into_inner();
        crate::Limits::check(
            "max_alternatives",
            found.len(),
            self.limits.max_alternatives,
        )?;
        Ok(found)
    }

    pub(super) fn search(
        &mut self,
        facts: ExprId,
        past: &Past,
        prune: &mut dyn FnMut(&Engine, &Cube) -> bool,
        found: &mut Found<'_>,
    ) -> Result<(), ConstrainError> {
        self.branch(
            vec![facts],
            Vec::new(),
            &mut Cube::default(),
            past,
            prune,
            found,
            0,
        )
        .map(|_| ())
    }

    pub(super) fn known(&self, atom: AtomId, past: &Past) -> Option<bool> {
        let held = match (self.atom(atom), past) {
            (Atom::Present(key), Past::Object { used, .. }) => used.binary_search(&key).is_ok(),
            (Atom::CountGe(n), Past::Object { used, .. }) => used.len() as u64 >= u64::from(n),
            (Atom::ItemsGe(n), Past::Array { len, .. }) => *len >= n,
            _ => false,
        };
        held.then_some(true)
    }

    pub(super) fn current(&self, expr: ExprId, cube: &Cube, past: &Past) -> Option<bool> {
        self.facts.evaluate(expr, &mut |leaf| {
            cube.held
                .get(&leaf)
                .copied()
                .or_else(|| self.known(leaf, past))
        })
    }

    /// Assumes everything in `pending`, then decides the clauses one after the other.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn branch(
        &mut self,
        mut pending: Vec<ExprId>,
        mut clauses: Vec<ExprId>,
        cube: &mut Cube,
        past: &Past,
        prune: &mut dyn FnMut(&Engine, &Cube) -> bool,
        found: &mut Found<'_>,
        depth: usize,
    ) -> Result<bool, ConstrainError> {
        self.spend(1)?;
        crate::Limits::check(
            "max_alternatives",
            depth,
            self.limits.max_alternatives.min(MAX_DECISIONS),
        )?;
        let mark = cube.facts.len();
        while let Some(expr) = pending.pop() {
            let consistent = match self.facts.get(expr) {
                Expr::Const(held) => *held,
                Expr::Leaf(leaf, sign) => match self.known(*leaf, past) {
                    Some(known) => known == *sign,
                    None => cube.assume(*leaf, *sign),
                },
                Expr::And(parts) => {
                    pending.extend_from_slice(parts);
                    true
                }
                Expr::Or(_) | Expr::One(..) => {
                    clauses.push(expr);
                    true
                }
            };
            if !consistent {
                cube.retract(mark);
                return Ok(false);
            }
            if pending.is_empty() {
                // Clauses of which only one part is left are no choice.
                let mut i = 0;
                while i < clauses.len() {
                    match self.forced(clauses[i], cube, past) {
                        Forced::Held => {
                            clauses.swap_remove(i);
                        }
                        Forced::Failed => {
                            cube.retract(mark);
                            return Ok(false);
                        }
                        Forced::Must(part) => {
                            clauses.swap_remove(i);
                            pending.push(part);
                        }
                        Forced::Open => i += 1,
                    }
                }
            }
        }
        let stop = self.decide(clauses, cube, past, prune, found, depth);
        cube.retract(mark);
        stop
    }

    pub(super) fn forced(&self, clause: ExprId, cube: &Cube, past: &Past) -> Forced {
        match self.current(clause, cube, past) {
            Some(true) => return Forced::Held,
            Some(false) => return Forced::Failed,
            None => {}
        }
        if let Expr::Or(parts) = self.facts.get(clause) {
            let mut open = parts
                .iter()
                .filter(|&&part| self.current(part, cube, past).is_none());
            if let (Some(&only), None) = (open.next(), open.next()) {
                return Forced::Must(only);
            }
        }
        Forced::Open
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn decide(
        &mut self,
        clauses: Vec<ExprId>,
        cube: &mut Cube,
        past: &Past,
        prune: &mut dyn FnMut(&Engine, &Cube) -> bool,
        found: &mut Found<'_>,
        depth: usize,
    ) -> Result<bool, ConstrainError> {
        if prune(self, cube) {
            return Ok(false);
        }
        match self.judge(cube, past)? {
            Judgement::Impossible => return Ok(false),
            // What was asked before is among the clauses still.
            Judgement::Only(more) if cube.asked.contains(&more) => {}
            Judgement::Only(more) => {
                cube.asked.push(more);
                let stop = self.branch(vec![more], clauses, cube, past, prune, found, depth + 1);
                cube.asked.pop();
                return stop;
            }
            Judgement::Split(open) if cube.asked.contains(&open) => {}
            Judgement::Split(open) => {
                cube.asked.push(open);
                let closed = self.facts.not(open);
                let stop = match self.branch(
                    vec![closed],
                    clauses.clone(),
                    cube,
                    past,
                    prune,
                    found,
                    depth + 1,
                ) {
                    Ok(false) => {
                        self.branch(vec![open], clauses, cube, past, prune, found, depth + 1)
                    }
                    other => other,
                };
                cube.asked.pop();
                return stop;
            }
            Judgement::Possible => {}
        }
        // What the child decides comes first, so that demands on it are found once and not for every way to meet the rest.
        let next = match clauses
            .iter()
            .position(|&clause| self.is_about_child(clause))
        {
            None if clauses.is_empty() => return Ok(found(self, cube)),
            at => at.unwrap_or(0),
        };
        let mut rest = clauses;
        let clause = rest.swap_remove(next);
        match self.facts.get(clause).clone() {
            Expr::Or(parts) => {
                for &part in &parts {
                    if self.branch(
                        vec![part],
                        rest.clone(),
                        cube,
                        past,
                        prune,
                        found,
                        depth + 1,
                    )? {
                        return Ok(true);
                    }
                }
            }
            Expr::One(parts, true) => {
                for i in 0..parts.len() {
                    let choice = self.chosen(&parts, &[i]);
                    if self.branch(choice, rest.clone(), cube, past, prune, found, depth + 1)? {
                        return Ok(true);
                    }
                }
            }
            Expr::One(parts, false) => {
                let none = self.chosen(&parts, &[]);
                if self.branch(none, rest.clone(), cube, past, prune, found, depth + 1)? {
                    return Ok(true);
                }
                for i in 0..parts.len() {
                    for j in i + 1..parts.len() {
                        if self.branch(
                            vec![parts[i], parts[j]],
                            rest.clone(),
                            cube,
                            past,
                            prune,
                            found,
                            depth + 1,
                        )? {
                            return Ok(true);
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(false)
    }

    /// These parts hold, and no others.
    pub(super) fn chosen(&mut self, parts: &[ExprId], which: &[usize]) -> Vec<ExprId> {
        let choice = (0..parts.len()).map(|i| {
            if which.contains(&i) {
                parts[i]
            } else {
                self.facts.not(parts[i])
            }
        });
        // What must hold narrows most: it is assumed first.
        let mut choice: Vec<ExprId> = choice.collect();
        if let Some(&first) = which.first() {
            let last = choice.len() - 1;
            choice.swap(first, last);
        }
        choice
    }

    pub(super) fn is_about_child(&self, clause: ExprId) -> bool {
        let mut about = false;
        self.facts.leaves(clause, &mut |leaf| {
            about |= matches!(self.atom(leaf), Atom::Child(_))
        });
        about
    }
}

pub(super) enum Forced {
    Held,
    Failed,
    Must(ExprId),
    Open,
}

pub(super) enum Future {
    Value(ExprId),
    Only(ExprId),
    Never,
}

/// Whether a cover includes an item or property; the caller knows about names.
pub(super) fn covers_item(cover: &Cover, index: u32) -> bool {
    match cover {
        Cover::All => true,
        Cover::First(n) => index < *n,
        Cover::Named(_) | Cover::Matching(_) => false,
    }
}
