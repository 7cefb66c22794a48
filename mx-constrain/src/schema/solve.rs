//! Whether an object or array that has begun can still end well: a search over the facts that would have to hold.

use std::sync::Arc;

use super::engine::{Atom, AtomId, Cover, Engine, Type};
use super::expr::{Expr, ExprId, FALSE, TRUE};
use super::frames::{Class, ClassId};
use super::node::KeyId;
use super::options::PropertyOrder;
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
    facts: Vec<(AtomId, bool)>,
    held: FastMap<AtomId, bool>,
    /// Demands that were added on the way.
    asked: Vec<ExprId>,
}

impl Cube {
    fn assume(&mut self, atom: AtomId, sign: bool) -> bool {
        match self.held.get(&atom) {
            Some(&known) => known == sign,
            None => {
                self.held.insert(atom, sign);
                self.facts.push((atom, sign));
                true
            }
        }
    }

    fn retract(&mut self, len: usize) {
        for (atom, _) in self.facts.drain(len..) {
            self.held.remove(&atom);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AtomId, bool)> + '_ {
        self.facts.iter().copied()
    }
}

/// What the facts of a cube come to together.
enum Judgement {
    Possible,
    Impossible,
    /// Only if this holds as well.
    Only(ExprId),
    /// It depends on whether this holds.
    Split(ExprId),
}

/// Decisions that may be open at once: each takes stack.
const MAX_DECISIONS: usize = 300;

/// Called with each cube that is possible; answers whether the search may stop.
type Found<'f> = dyn FnMut(&mut Engine, &Cube) -> bool + 'f;

impl Engine {
    /// Whether some array or object has these facts.
    pub(super) fn composite_exists(&mut self, facts: ExprId, kind: Type) -> Result<bool, ConstrainError> {
        let facts = self.exclusive(facts)?;
        let (roots, watch) = self.watched(vec![facts]);
        let past = match kind {
            Type::Object => Past::Object { roots, now: roots, watch, used: Arc::from([]) },
            _ => Past::Array { roots, now: roots, watch, len: 0 },
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
    pub(super) fn demands(&mut self, facts: ExprId, past: &Past) -> Result<Vec<Vec<(ExprId, bool)>>, ConstrainError> {
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
            small.iter().all(|literal| large.binary_search(literal).is_ok())
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
        crate::Limits::check("max_alternatives", found.len(), self.limits.max_alternatives)?;
        Ok(found)
    }

    fn search(
        &mut self,
        facts: ExprId,
        past: &Past,
        prune: &mut dyn FnMut(&Engine, &Cube) -> bool,
        found: &mut Found<'_>,
    ) -> Result<(), ConstrainError> {
        self.branch(vec![facts], Vec::new(), &mut Cube::default(), past, prune, found, 0).map(|_| ())
    }

    fn known(&self, atom: AtomId, past: &Past) -> Option<bool> {
        let held = match (self.atom(atom), past) {
            (Atom::Present(key), Past::Object { used, .. }) => used.binary_search(&key).is_ok(),
            (Atom::CountGe(n), Past::Object { used, .. }) => used.len() as u64 >= u64::from(n),
            (Atom::ItemsGe(n), Past::Array { len, .. }) => *len >= n,
            _ => false,
        };
        held.then_some(true)
    }

    fn current(&self, expr: ExprId, cube: &Cube, past: &Past) -> Option<bool> {
        self.facts.evaluate(expr, &mut |leaf| cube.held.get(&leaf).copied().or_else(|| self.known(leaf, past)))
    }

    /// Assumes everything in `pending`, then decides the clauses one after the other.
    #[allow(clippy::too_many_arguments)]
    fn branch(
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
        crate::Limits::check("max_alternatives", depth, self.limits.max_alternatives.min(MAX_DECISIONS))?;
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

    fn forced(&self, clause: ExprId, cube: &Cube, past: &Past) -> Forced {
        match self.current(clause, cube, past) {
            Some(true) => return Forced::Held,
            Some(false) => return Forced::Failed,
            None => {}
        }
        if let Expr::Or(parts) = self.facts.get(clause) {
            let mut open = parts.iter().filter(|&&part| self.current(part, cube, past).is_none());
            if let (Some(&only), None) = (open.next(), open.next()) {
                return Forced::Must(only);
            }
        }
        Forced::Open
    }

    #[allow(clippy::too_many_arguments)]
    fn decide(
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
                let stop = match self.branch(vec![closed], clauses.clone(), cube, past, prune, found, depth + 1) {
                    Ok(false) => self.branch(vec![open], clauses, cube, past, prune, found, depth + 1),
                    other => other,
                };
                cube.asked.pop();
                return stop;
            }
            Judgement::Possible => {}
        }
        // What the child decides comes first, so that demands on it are found once and not for every way to meet the rest.
        let next = match clauses.iter().position(|&clause| self.is_about_child(clause)) {
            None if clauses.is_empty() => return Ok(found(self, cube)),
            at => at.unwrap_or(0),
        };
        let mut rest = clauses;
        let clause = rest.swap_remove(next);
        match self.facts.get(clause).clone() {
            Expr::Or(parts) => {
                for &part in &parts {
                    if self.branch(vec![part], rest.clone(), cube, past, prune, found, depth + 1)? {
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
                        if self.branch(vec![parts[i], parts[j]], rest.clone(), cube, past, prune, found, depth + 1)? {
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
    fn chosen(&mut self, parts: &[ExprId], which: &[usize]) -> Vec<ExprId> {
        let choice = (0..parts.len()).map(|i| if which.contains(&i) { parts[i] } else { self.facts.not(parts[i]) });
        // What must hold narrows most: it is assumed first.
        let mut choice: Vec<ExprId> = choice.collect();
        if let Some(&first) = which.first() {
            let last = choice.len() - 1;
            choice.swap(first, last);
        }
        choice
    }

    fn is_about_child(&self, clause: ExprId) -> bool {
        let mut about = false;
        self.facts.leaves(clause, &mut |leaf| about |= matches!(self.atom(leaf), Atom::Child(_)));
        about
    }

    fn judge(&mut self, cube: &Cube, past: &Past) -> Result<Judgement, ConstrainError> {
        self.spend(1 + cube.facts.len() as u64 / 8)?;
        let mut child = Vec::new();
        for (atom, sign) in cube.iter() {
            if let Atom::Child(value) = self.atom(atom) {
                child.push(if sign { value } else { self.values.not(value) });
            }
        }
        if !child.is_empty() {
            let child = self.values.and(child);
            if !self.possible_any(child)? {
                return Ok(Judgement::Impossible);
            }
        }
        match past {
            Past::Object { roots, used, .. } => self.judge_object(cube, past, *roots, used),
            Past::Array { roots, len, .. } => self.judge_array(cube, past, *roots, *len),
        }
    }

    fn judge_object(&mut self, cube: &Cube, past: &Past, roots: u32, used: &[KeyId]) -> Result<Judgement, ConstrainError> {
        let (mut all, mut broken) = (Vec::new(), Vec::new());
        let (mut required, mut forbidden) = (Vec::new(), Vec::new());
        let (mut least, mut most) = (0usize, usize::MAX);
        for (atom, sign) in cube.iter() {
            match (self.atom(atom), sign) {
                (Atom::Properties(..) | Atom::OpenProperties(_) | Atom::Names(_), true) => all.push(atom),
                (Atom::Properties(..) | Atom::OpenProperties(_) | Atom::Names(_), false) => broken.push(atom),
                (Atom::Present(key), true) => required.push(key),
                (Atom::Present(key), false) => forbidden.push(key),
                (Atom::CountGe(n), true) => least = least.max(n as usize),
                (Atom::CountGe(n), false) => most = most.min((n as usize).saturating_sub(1)),
                _ => {}
            }
        }
        if let Some(open) = self.undecided(&broken, cube, past) {
            return Ok(Judgement::Split(open));
        }
        let left = most.checked_sub(used.len());
        if left.is_none_or(|left| left < required.len()) {
            return Ok(Judgement::Impossible);
        }
        let mut plan: Vec<(ClassId, ExprId)> = Vec::new();
        for &key in &required {
            let class = self.frames.classes.intern(Class::Key(key));
            if !self.in_order(roots, key, used) {
                return Ok(Judgement::Impossible);
            }
            match self.future_child(&all, class, cube, past)? {
                Future::Value(value) if self.possible_any(value)? => plan.push((class, value)),
                Future::Only(more) => return Ok(Judgement::Only(more)),
                _ => return Ok(Judgement::Impossible),
            }
        }
        if broken.is_empty() && least <= used.len() + required.len() {
            return Ok(Judgement::Possible);
        }
        let room = left.unwrap_or(0) - required.len();
        let shape = self.object_shape(roots)?;
        let mut options: Vec<ClassId> = Vec::new();
        for &key in shape.trie.keys() {
            let free = used.binary_search(&key).is_err() && !forbidden.contains(&key) && !required.contains(&key);
            if free && self.in_order(roots, key, used) {
                options.push(self.frames.classes.intern(Class::Key(key)));
            }
        }
        let named = options.len();
        options.extend(self.open_classes(&shape)?.iter().copied());
        let mut spare = least.saturating_sub(used.len() + required.len());
        if !broken.is_empty() {
            let Some(extra) = self.break_rules(&broken, &all, &mut plan, &options, room, cube, past)? else {
                return Ok(Judgement::Impossible);
            };
            spare = spare.saturating_sub(extra);
        }
        for (i, &class) in options.iter().enumerate() {
            if spare == 0 {
                break;
            }
            match self.future_child(&all, class, cube, past)? {
                Future::Value(value) if self.possible_any(value)? => match i < named {
                    true => spare -= 1,
                    false => spare = 0,
                },
                Future::Only(more) => return Ok(Judgement::Only(more)),
                _ => {}
            }
        }
        Ok(if spare == 0 { Judgement::Possible } else { Judgement::Impossible })
    }

    /// Finds properties that break each rule of `broken`: among those planned, or new ones. The number of new ones.
    #[allow(clippy::too_many_arguments)]
    fn break_rules(
        &mut self,
        broken: &[AtomId],
        all: &[AtomId],
        plan: &mut Vec<(ClassId, ExprId)>,
        options: &[ClassId],
        room: usize,
        cube: &Cube,
        past: &Past,
    ) -> Result<Option<usize>, ConstrainError> {
        let Some((&rule, rest)) = broken.split_first() else { return Ok(Some(0)) };
        self.spend(2)?;
        // Texts and numbers are cheap to compare: they are tried first.
        let mut order: Vec<usize> = (0..plan.len()).collect();
        let mut costs = Vec::with_capacity(plan.len());
        for &(_, value) in plan.iter() {
            costs.push(self.may_be_composite(value)?);
        }
        order.sort_by_key(|&i| costs[i]);
        for i in order {
            let (class, value) = plan[i];
            if let Some(breaking) = self.breaking_child(rule, class, cube, past)? {
                let both = self.values.and([value, breaking]);
                if self.possible_any(both)? {
                    plan[i].1 = both;
                    if let Some(extra) = self.break_rules(rest, all, plan, options, room, cube, past)? {
                        return Ok(Some(extra));
                    }
                    plan[i].1 = value;
                }
            }
        }
        if room > 0 {
            for &class in options {
                // An open class has many names; a named one is used once.
                let taken = plan.iter().any(|&(c, _)| c == class);
                if taken && matches!(self.frames.classes.get(class), Class::Key(_)) {
                    continue;
                }
                let Some(breaking) = self.breaking_child(rule, class, cube, past)? else { continue };
                // A rule about names that is broken needs no value of its own.
                let others: Vec<AtomId> = all.iter().copied().filter(|&atom| atom != rule).collect();
                let Future::Value(value) = self.future_child(&others, class, cube, past)? else { continue };
                let both = self.values.and([value, breaking]);
                if !self.possible_any(both)? {
                    continue;
                }
                plan.push((class, both));
                if let Some(extra) = self.break_rules(rest, all, plan, options, room - 1, cube, past)? {
                    return Ok(Some(extra + 1));
                }
                plan.pop();
            }
        }
        Ok(None)
    }

    fn may_be_composite(&mut self, value: ExprId) -> Result<bool, ConstrainError> {
        Ok(self.unfold(value, Type::Object)? != FALSE || self.unfold(value, Type::Array)? != FALSE)
    }

    /// What a child of a class must be so that a rule about all children is broken; `None` when it cannot be.
    fn breaking_child(&mut self, rule: AtomId, class: ClassId, cube: &Cube, past: &Past) -> Result<Option<ExprId>, ConstrainError> {
        match self.atom(rule) {
            Atom::Names(names) => Ok((!self.name_fits(names, class)?).then_some(TRUE)),
            _ => {
                let (value, conditions) = self.child_of(rule, class)?;
                let mut breaking = self.values.not(value);
                for unless in conditions.iter() {
                    if self.condition_now(unless.condition, cube, past) != Some(false) {
                        let missed = self.values.not(unless.matching);
                        breaking = self.values.and([breaking, missed]);
                    }
                }
                Ok((breaking != FALSE).then_some(breaking))
            }
        }
    }

    /// What a future child of a class must be so that rules about all children hold.
    fn future_child(&mut self, all: &[AtomId], class: ClassId, cube: &Cube, past: &Past) -> Result<Future, ConstrainError> {
        let mut values = Vec::with_capacity(all.len());
        let mut open = Vec::new();
        for &rule in all {
            if let Atom::Names(names) = self.atom(rule) {
                if !self.name_fits(names, class)? {
                    return Ok(Future::Never);
                }
                continue;
            }
            let (value, conditions) = self.child_of(rule, class)?;
            if conditions.is_empty() {
                values.push(value);
            } else {
                open.push((value, conditions));
            }
        }
        let mut value = self.values.and(values);
        for (part, conditions) in open {
            let mut ways = vec![part];
            let mut undecided = Vec::new();
            for unless in conditions.iter() {
                match self.condition_now(unless.condition, cube, past) {
                    Some(true) => ways.push(unless.matching),
                    Some(false) => {}
                    None => undecided.push(self.condition_left(unless.condition, past)),
                }
            }
            let way = self.values.or(ways);
            let both = self.values.and([value, way]);
            if self.possible_any(both)? {
                value = both;
                continue;
            }
            let more = self.facts.or(undecided);
            return Ok(if more == FALSE { Future::Never } else { Future::Only(more) });
        }
        Ok(Future::Value(value))
    }

    /// A condition that says whether one of these rules is broken, while it is open.
    fn undecided(&self, broken: &[AtomId], cube: &Cube, past: &Past) -> Option<ExprId> {
        broken.iter().find_map(|&rule| match self.atom(rule) {
            Atom::OpenProperties(part) | Atom::OpenItems(part) => self
                .open_parts
                .get(part)
                .conditional
                .iter()
                .find(|(condition, _)| self.condition_now(*condition, cube, past).is_none())
                .map(|&(condition, _)| self.condition_left(condition, past)),
            _ => None,
        })
    }

    /// What is left of a condition after what was read.
    fn condition_left(&self, condition: ExprId, past: &Past) -> ExprId {
        let (Past::Object { now, watch, .. } | Past::Array { now, watch, .. }) = past;
        self.watched_now(*now, *watch, condition)
    }

    fn condition_now(&self, condition: ExprId, cube: &Cube, past: &Past) -> Option<bool> {
        self.current(self.condition_left(condition, past), cube, past)
    }

    /// Whether a property may still come, by the order of properties.
    fn in_order(&mut self, roots: u32, key: KeyId, used: &[KeyId]) -> bool {
        if self.options.property_order == PropertyOrder::Any {
            return true;
        }
        let Ok(shape) = self.object_shape(roots) else { return true };
        let rank = |key: &KeyId| shape.order.get(key).copied().unwrap_or(u32::MAX);
        used.iter().map(rank).max().is_none_or(|last| last < rank(&key) || last == u32::MAX && rank(&key) == u32::MAX)
    }

    fn judge_array(&mut self, cube: &Cube, past: &Past, roots: u32, len: u32) -> Result<Judgement, ConstrainError> {
        let mut goal = ArrayGoal { least: 0, most: u32::MAX, ..Default::default() };
        for (atom, sign) in cube.iter() {
            match (self.atom(atom), sign) {
                (Atom::Items(..) | Atom::OpenItems(_), true) => goal.all.push(atom),
                (Atom::Items(..) | Atom::OpenItems(_), false) => goal.broken.push(atom),
                (Atom::ItemsGe(n), true) => goal.least = goal.least.max(n),
                (Atom::ItemsGe(n), false) => goal.most = goal.most.min(n.saturating_sub(1)),
                (Atom::Contains(value, n), true) => goal.needs.push((value, n)),
                (Atom::Contains(value, n), false) => goal.caps.push((value, n.saturating_sub(1))),
                (Atom::Unique, true) => goal.unique = true,
                (Atom::Unique, false) => goal.repeat = true,
                _ => {}
            }
        }
        if len > goal.most {
            return Ok(Judgement::Impossible);
        }
        if let Some(open) = self.undecided(&goal.broken, cube, past) {
            return Ok(Judgement::Split(open));
        }
        let shape = self.array_shape(roots);
        let mut seen = FastMap::default();
        let mut only = None;
        let possible = self.fill_array(&goal, shape.last_class, len, cube, past, &mut seen, &mut only)?;
        Ok(match (possible, only) {
            (true, _) => Judgement::Possible,
            (false, Some(more)) => Judgement::Only(more),
            (false, None) => Judgement::Impossible,
        })
    }

    /// Whether items from `len` on can meet a goal. `last` is the index from which all items are alike.
    #[allow(clippy::too_many_arguments)]
    fn fill_array(
        &mut self,
        goal: &ArrayGoal,
        last: u32,
        len: u32,
        cube: &Cube,
        past: &Past,
        seen: &mut FastMap<(ArrayGoal, u32), ()>,
        only: &mut Option<ExprId>,
    ) -> Result<bool, ConstrainError> {
        self.spend(2)?;
        let settled = goal.needs.is_empty() && goal.broken.is_empty() && !goal.repeat;
        if settled && len >= goal.least {
            return Ok(true);
        }
        if len >= goal.most {
            return Ok(false);
        }
        // Positions that are alike are looked at once; only how many are left to fill differs.
        let place = len.min(last);
        let fixed = settled && goal.caps.is_empty();
        if fixed && len > last {
            // The same items again: the first of them was possible.
            return Ok(true);
        }
        let key = (ArrayGoal { least: goal.least.saturating_sub(len), most: if goal.most == u32::MAX { goal.most } else { goal.most.saturating_sub(len) }, ..goal.clone() }, place);
        if seen.insert(key, ()).is_some() {
            return Ok(false);
        }
        let class = self.frames.classes.intern(Class::Item(place));
        let base = match self.future_child(&goal.all, class, cube, past)? {
            Future::Value(value) => value,
            Future::Only(more) => {
                *only = Some(more);
                return Ok(false);
            }
            Future::Never => return Ok(false),
        };
        let mut forbidden: Vec<ExprId> = Vec::new();
        for &(value, _) in &goal.caps {
            if !goal.needs.iter().any(|&(need, _)| need == value) {
                forbidden.push(self.values.not(value));
            }
        }
        // One item may serve several needs: try the most at once first.
        let wishes = goal.needs.len() + goal.broken.len();
        let choices: Vec<u32> = match wishes {
            0 => vec![0],
            1..=4 => (0..1u32 << wishes).rev().collect(),
            _ => (0..wishes as u32).map(|i| 1 << i).chain([0]).collect(),
        };
        for choice in choices {
            self.spend(1)?;
            let mut next = goal.clone();
            let mut parts = vec![base];
            parts.extend(&forbidden);
            let mut fits = true;
            // Behind the last place that differs, one item can be had as often as it is needed.
            let chosen = goal.needs.iter().enumerate().filter(|&(i, _)| choice >> i & 1 == 1).map(|(_, need)| need.1);
            let often = if place == last && kept_rules(choice, goal) { chosen.min().unwrap_or(1).max(1) } else { 1 };
            if goal.most - len < often {
                continue;
            }
            for (i, &(value, n)) in goal.needs.iter().enumerate() {
                if choice >> i & 1 == 1 {
                    parts.push(value);
                    next.needs[i].1 = n - often;
                    for cap in next.caps.iter_mut().filter(|cap| cap.0 == value) {
                        fits &= cap.1 >= often;
                        cap.1 = cap.1.saturating_sub(often);
                    }
                } else if goal.caps.iter().any(|cap| cap.0 == value) {
                    parts.push(self.values.not(value));
                }
            }
            next.needs.retain(|need| need.1 > 0);
            let mut kept = Vec::new();
            for (i, &rule) in goal.broken.iter().enumerate() {
                if choice >> (goal.needs.len() + i) & 1 == 1 {
                    match self.breaking_child(rule, class, cube, past)? {
                        Some(breaking) => parts.push(breaking),
                        None => fits = false,
                    }
                } else {
                    kept.push(rule);
                }
            }
            next.broken = kept;
            if !fits {
                continue;
            }
            let mut value = self.values.and(parts);
            if !self.possible_any(value)? {
                // Perhaps every item counts for a cap that is not used up.
                let caps = next.caps.clone();
                let open: Vec<_> = caps.iter().filter(|cap| cap.1 > 0).map(|cap| cap.0).collect();
                if open.is_empty() || !forbidden.iter().any(|&f| f != TRUE) {
                    continue;
                }
                value = base;
                if !self.possible_any(value)? {
                    continue;
                }
                for cap in &mut next.caps {
                    cap.1 = match cap.1.checked_sub(1) {
                        Some(left) => left,
                        None => {
                            fits = false;
                            0
                        }
                    };
                }
                if !fits {
                    continue;
                }
            }
            if goal.unique && !self.enough_values(value, goal, len)? {
                continue;
            }
            if goal.repeat && self.fill_array(&ArrayGoal { repeat: false, ..next.clone() }, last, len + 2, cube, past, seen, only)? {
                return Ok(true);
            }
            // Behind the last place that differs, to put everything off gets nowhere.
            if place == last && !settled && next == *goal {
                continue;
            }
            if settled && place == last && next.caps == goal.caps {
                // The same item again and again.
                return Ok(true);
            }
            if self.fill_array(&next, last, len + often, cube, past, seen, only)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there are as many different values as an array of unique items needs, where values are few.
    fn enough_values(&mut self, value: ExprId, goal: &ArrayGoal, len: u32) -> Result<bool, ConstrainError> {
        let wanted = goal.least.saturating_sub(len);
        if wanted < 2 || value == TRUE {
            return Ok(true);
        }
        match self.few_values(value)? {
            Some(count) => Ok(count >= wanted),
            None => Ok(true),
        }
    }

    /// The number of values with some facts, where it is small and easily known.
    fn few_values(&mut self, value: ExprId) -> Result<Option<u32>, ConstrainError> {
        let mut count = 0;
        for kind in Type::ALL {
            let facts = self.unfold(value, kind)?;
            match (facts, kind) {
                (FALSE, _) => {}
                (_, Type::Null | Type::No | Type::Yes) => count += 1,
                (TRUE, _) => return Ok(None),
                (_, Type::String) => {
                    let id = self.string_spec(vec![facts], false)?;
                    let spec = self.strings.all[id as usize].clone();
                    if spec.open.is_some() {
                        return Ok(None);
                    }
                    for text in spec.trie.strings() {
                        let held = self.string_fact(facts, &super::strings::StringFact::Text(text))?;
                        count += u32::from(held);
                    }
                }
                (_, Type::Number) => match self.few_numbers(facts) {
                    Some(numbers) => count += numbers,
                    None => return Ok(None),
                },
                (_, Type::Array | Type::Object) => {
                    if self.possible(value, kind)? {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(count))
    }
}

enum Forced {
    Held,
    Failed,
    Must(ExprId),
    Open,
}

enum Future {
    Value(ExprId),
    Only(ExprId),
    Never,
}

/// What the rest of an array must come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct ArrayGoal {
    all: Vec<AtomId>,
    broken: Vec<AtomId>,
    least: u32,
    most: u32,
    /// At least so many items of a kind.
    needs: Vec<(ExprId, u32)>,
    /// At most so many.
    caps: Vec<(ExprId, u32)>,
    unique: bool,
    /// Two items must be equal.
    repeat: bool,
}

/// Whether a choice of wishes leaves the rules to be broken for later.
fn kept_rules(choice: u32, goal: &ArrayGoal) -> bool {
    choice >> goal.needs.len().min(31) == 0
}

/// Whether a cover includes an item or property; the caller knows about names.
pub(super) fn covers_item(cover: &Cover, index: u32) -> bool {
    match cover {
        Cover::All => true,
        Cover::First(n) => index < *n,
        Cover::Named(_) | Cover::Matching(_) => false,
    }
}
