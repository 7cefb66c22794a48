//! Which child may come next, and what is asked of it.

use std::sync::Arc;

use super::engine::{Atom, AtomId, Engine, Scalar, UsedId};
use super::expr::{ExprId, FALSE, TRUE};
use super::frames::{
    ANY_KEY, ArrayShape, Class, ClassId, Core, CoreId, Goal, GoalId, ObjectShape, Place, PlaceId,
    Unless,
};
use super::node::KeyId;
use super::options::PropertyOrder;
use super::solve::Past;
use crate::ConstrainError;

impl Engine {
    /// Whether a property of a class may come next in an object.
    pub(super) fn allowed(&mut self, core: CoreId, class: ClassId) -> Result<bool, ConstrainError> {
        let held = self.frames.cores.get(core);
        let (roots, used) = (held.roots, held.used);
        let shape = self.object_shape(roots)?;
        let used = self.frames.lists.get(used);
        let key = match self.frames.classes.get(class) {
            Class::Key(key) => Some(*key),
            _ => None,
        };
        if key.is_some_and(|key| used.binary_search(&key).is_ok()) {
            return Ok(false);
        }
        if self.options.property_order == PropertyOrder::Declared {
            let used = used.clone();
            let rank = |key: &KeyId| shape.order.get(key).copied().unwrap_or(u32::MAX);
            let mine = key.map_or(u32::MAX, |key| rank(&key));
            if used.iter().any(|key| rank(key) > mine) {
                return Ok(false);
            }
            if let Some(simple) = &shape.simple
                && simple
                    .required
                    .iter()
                    .any(|r| rank(r) < mine && used.binary_search(r).is_err())
            {
                return Ok(false);
            }
        }
        if let Some(simple) = &shape.simple {
            let used = self.frames.lists.get(self.frames.cores.get(core).used);
            if key.is_some_and(|key| simple.forbidden.contains(&key)) {
                return Ok(false);
            }
            if simple.most != usize::MAX {
                let missing = simple
                    .required
                    .iter()
                    .filter(|k| used.binary_search(k).is_err())
                    .count();
                let needed = key.is_some_and(|key| simple.required.contains(&key));
                if used.len() + missing + usize::from(!needed) > simple.most {
                    return Ok(false);
                }
            }
            return Ok(self.simple_goal(roots, &shape, class)?.is_some());
        }
        if let Some(&known) = self.frames.allowed.get(&(core, class)) {
            return Ok(known);
        }
        let watch = self.frames.cores.get(core).watch;
        let depends = self.pending_object(roots, watch, &shape, class)?;
        let must = self.frames.lists.get(depends)[0];
        let past = self.past_with(core, depends, key);
        let answer = must != FALSE && self.can_hold(must, &past)?;
        self.frames.allowed.insert((core, class), answer);
        Ok(answer)
    }

    pub(super) fn past_with(&mut self, core: CoreId, now: u32, key: Option<KeyId>) -> Past {
        let held = self.frames.cores.get(core);
        let mut used = self.frames.lists.get(held.used).clone();
        // Which open name it will be does not matter; that there is one more does.
        let key = key.unwrap_or(ANY_KEY);
        let at = used.binary_search(&key).unwrap_or_else(|at| at);
        used.insert(at, key);
        Past::Object {
            roots: held.roots,
            now,
            watch: held.watch,
            used: used.into(),
        }
    }

    pub(super) fn simple_goal(
        &mut self,
        roots: u32,
        shape: &ObjectShape,
        class: ClassId,
    ) -> Result<Option<GoalId>, ConstrainError> {
        if let Some(&known) = self.frames.goals_of.get(&(roots, class)) {
            return Ok(known);
        }
        let mut values = Vec::with_capacity(shape.rules.len());
        let mut fits = true;
        for &rule in &shape.rules {
            match self.atom(rule) {
                Atom::Names(names) => fits &= self.name_fits(names, class)?,
                _ => values.push(self.child_of(rule, class)?.0),
            }
        }
        let must = self.values.and(values);
        let goal = match fits && self.possible_any(must)? {
            true => Some(self.frames.goals.intern(Goal {
                must,
                reports: Vec::new(),
                track: false,
            })),
            false => None,
        };
        self.frames.goals_of.insert((roots, class), goal);
        Ok(goal)
    }

    /// The facts asked of an object, with a child of a class as variable.
    pub(super) fn pending_object(
        &mut self,
        roots: u32,
        watch: u32,
        shape: &ObjectShape,
        class: ClassId,
    ) -> Result<u32, ConstrainError> {
        if let Some(&known) = self.frames.pending.get(&(roots, class, 0)) {
            return Ok(known);
        }
        let mut with: Vec<(AtomId, ExprId)> = Vec::new();
        let mut open: Vec<(AtomId, ExprId, Arc<[Unless]>)> = Vec::new();
        for &rule in &shape.rules {
            if let Atom::Names(names) = self.atom(rule) {
                if !self.name_fits(names, class)? {
                    with.push((rule, FALSE));
                }
                continue;
            }
            let (value, conditions) = self.child_of(rule, class)?;
            self.ask_child(rule, value, conditions, &mut with, &mut open);
        }
        self.ask_unless(roots, watch, open, &mut with);
        let pending = self.replaced(&shape.roots, &with);
        let id = self.frames.lists.intern(pending);
        self.frames.pending.insert((roots, class, 0), id);
        Ok(id)
    }

    pub(super) fn ask_child(
        &mut self,
        rule: AtomId,
        value: ExprId,
        conditions: Arc<[Unless]>,
        with: &mut Vec<(AtomId, ExprId)>,
        open: &mut Vec<(AtomId, ExprId, Arc<[Unless]>)>,
    ) {
        if value == TRUE {
            return;
        }
        if !conditions.is_empty() {
            open.push((rule, value, conditions));
            return;
        }
        let child = self.child_fact(value);
        let leaf = self.facts.leaf(rule);
        with.push((rule, self.facts.and([leaf, child])));
    }

    /// Rules about what nothing else evaluates: the conditions may depend on the same child.
    pub(super) fn ask_unless(
        &mut self,
        roots: u32,
        watch: u32,
        mut open: Vec<(AtomId, ExprId, Arc<[Unless]>)>,
        with: &mut Vec<(AtomId, ExprId)>,
    ) {
        // An inner rule is settled before an outer one, whose conditions may name it.
        open.sort_unstable_by_key(|&(rule, ..)| rule);
        for (rule, value, conditions) in open {
            let mut either = vec![self.child_fact(value)];
            for unless in conditions.iter() {
                let now = self.watched_now(roots, watch, unless.condition);
                let now = self.replaced(&[now], with)[0];
                let matching = self.child_fact(unless.matching);
                either.push(self.facts.and([now, matching]));
            }
            let either = self.facts.or(either);
            let leaf = self.facts.leaf(rule);
            with.push((rule, self.facts.and([leaf, either])));
        }
    }

    pub(super) fn child_fact(&mut self, value: ExprId) -> ExprId {
        match value {
            TRUE | FALSE => value,
            _ => self.fact(Atom::Child(value)),
        }
    }

    pub(super) fn replaced(&mut self, roots: &[ExprId], with: &[(AtomId, ExprId)]) -> Vec<ExprId> {
        roots
            .iter()
            .map(|&root| {
                self.facts.substitute(root, &mut |_, leaf| {
                    with.iter()
                        .find(|(atom, _)| *atom == leaf)
                        .map(|&(_, new)| new)
                })
            })
            .collect()
    }

    /// The place of the value of a property; `None` when the property is not allowed.
    pub(super) fn property_place(
        &mut self,
        core: CoreId,
        class: ClassId,
        key: KeyId,
    ) -> Result<Option<PlaceId>, ConstrainError> {
        if !self.allowed(core, class)? {
            return Ok(None);
        }
        let held = self.frames.cores.get(core).clone();
        let mut used = self.frames.lists.get(held.used).clone();
        // Behind a name that is not told from others, no other open name is safe.
        let open = !matches!(self.frames.classes.get(class), Class::Key(_));
        if open && used.last() == Some(&ANY_KEY) {
            return Ok(None);
        }
        match used.binary_search(&key) {
            Ok(_) => return Ok(None),
            Err(at) => used.insert(at, key),
        }
        let shape = self.object_shape(held.roots)?;
        let list = self.frames.lists.intern(used.clone());
        let open_names = held.open_names || open;
        let after = self.frames.cores.intern(Core {
            used: list,
            open_names,
            ..held.clone()
        });
        let name = if held.hash.is_some() { key } else { 0 };
        if shape.simple.is_some() {
            let Some(goal) = self.simple_goal(held.roots, &shape, class)? else {
                return Ok(None);
            };
            let goal = self.tracked(goal, held.hash.is_some());
            let place = Place {
                goal,
                core: Some(after),
                depends: None,
                fixed: Vec::new(),
                name,
            };
            return Ok(Some(self.frames.places.intern(place)));
        }
        let depends = self.pending_object(held.roots, held.watch, &shape, class)?;
        let past = Past::Object {
            roots: held.roots,
            now: depends,
            watch: held.watch,
            used: used.into(),
        };
        self.dependent_place(depends, &past, after, name, held.hash.is_some())
    }

    pub(super) fn tracked(&mut self, goal: GoalId, track: bool) -> GoalId {
        if !track {
            return goal;
        }
        let goal = Goal {
            track,
            ..self.frames.goals.get(goal).clone()
        };
        self.frames.goals.intern(goal)
    }

    pub(super) fn dependent_place(
        &mut self,
        depends: u32,
        past: &Past,
        after: CoreId,
        name: KeyId,
        track: bool,
    ) -> Result<Option<PlaceId>, ConstrainError> {
        let roots = self.frames.lists.get(depends).clone();
        let demands = self.demands(roots[0], past)?;
        if demands.is_empty() {
            return Ok(None);
        }
        let mut fixed = demands[0].clone();
        fixed.retain(|literal| {
            demands
                .iter()
                .all(|demand| demand.binary_search(literal).is_ok())
        });
        let ways: Vec<ExprId> = demands
            .iter()
            .map(|demand| {
                let parts: Vec<ExprId> = demand
                    .iter()
                    .map(|&(value, sign)| if sign { value } else { self.values.not(value) })
                    .collect();
                self.values.and(parts)
            })
            .collect();
        let must = self.values.or(ways);
        let mut children = Vec::new();
        for root in &roots {
            self.facts.leaves(*root, &mut |leaf| children.push(leaf));
        }
        children.sort_unstable();
        children.dedup();
        let reports: Vec<ExprId> = children
            .into_iter()
            .filter_map(|leaf| match self.atom(leaf) {
                Atom::Child(value) if fixed.iter().all(|&(known, _)| known != value) => Some(value),
                _ => None,
            })
            .collect();
        let goal = self.frames.goals.intern(Goal {
            must,
            reports,
            track,
        });
        let place = Place {
            goal,
            core: Some(after),
            depends: Some(depends),
            fixed,
            name,
        };
        Ok(Some(self.frames.places.intern(place)))
    }

    /// The place of the next item; `None` when there may be no further item.
    pub(super) fn item_place(&mut self, core: CoreId) -> Result<Option<PlaceId>, ConstrainError> {
        let held = self.frames.cores.get(core).clone();
        let shape = self.array_shape(held.roots);
        let class = self
            .frames
            .classes
            .intern(Class::Item(held.len.min(shape.last_class)));
        if let Some(&known) = self.frames.placed.get(&(core, class)) {
            return Ok(known);
        }
        let len = (held.len + 1).min(shape.last_index.saturating_add(1));
        let after = self.frames.cores.intern(Core {
            len,
            ..held.clone()
        });
        let place = match shape.simple {
            Some(most) if held.len >= most => None,
            Some(_) => {
                let mut values = Vec::new();
                for &rule in &shape.rules {
                    values.push(self.child_of(rule, class)?.0);
                }
                let must = self.values.and(values);
                match self.possible_any(must)? {
                    true => {
                        let goal = self.frames.goals.intern(Goal {
                            must,
                            reports: Vec::new(),
                            track: held.hash.is_some(),
                        });
                        let place = Place {
                            goal,
                            core: Some(after),
                            depends: None,
                            fixed: Vec::new(),
                            name: 0,
                        };
                        Some(self.frames.places.intern(place))
                    }
                    false => None,
                }
            }
            None => {
                let depends =
                    self.pending_array(held.roots, held.watch, &shape, class, held.used)?;
                let past = Past::Array {
                    roots: held.roots,
                    now: depends,
                    watch: held.watch,
                    len,
                };
                self.dependent_place(
                    depends,
                    &past,
                    after,
                    0,
                    held.hash.is_some() || shape.unique,
                )?
            }
        };
        self.frames.placed.insert((core, class), place);
        Ok(place)
    }

    pub(super) fn pending_array(
        &mut self,
        roots: u32,
        watch: u32,
        shape: &ArrayShape,
        class: ClassId,
        used: UsedId,
    ) -> Result<u32, ConstrainError> {
        if let Some(&known) = self.frames.pending.get(&(roots, class, used)) {
            return Ok(known);
        }
        let mut with: Vec<(AtomId, ExprId)> = Vec::new();
        let mut open: Vec<(AtomId, ExprId, Arc<[Unless]>)> = Vec::new();
        for &rule in &shape.rules {
            let leaf = self.facts.leaf(rule);
            if let Atom::Contains(value, n) = self.atom(rule) {
                let matched = self.child_fact(value);
                let missed = self.facts.not(matched);
                let fewer = if n <= 1 {
                    TRUE
                } else {
                    self.fact(Atom::Contains(value, n - 1))
                };
                let (yes, no) = (
                    self.facts.and([matched, fewer]),
                    self.facts.and([missed, leaf]),
                );
                with.push((rule, self.facts.or([yes, no])));
                continue;
            }
            let (value, conditions) = self.child_of(rule, class)?;
            self.ask_child(rule, value, conditions, &mut with, &mut open);
        }
        self.ask_unless(roots, watch, open, &mut with);
        if shape.unique
            && self
                .used_values
                .get(used)
                .iter()
                .any(|v| !matches!(v, Scalar::Composite(_)))
        {
            let repeated = self.used(used);
            let repeated = self.child_fact(repeated);
            let new = self.facts.not(repeated);
            let unique = self.atom_id(Atom::Unique);
            let leaf = self.facts.leaf(unique);
            with.push((unique, self.facts.and([leaf, new])));
        }
        let pending = self.replaced(&shape.roots, &with);
        let id = self.frames.lists.intern(pending);
        self.frames.pending.insert((roots, class, used), id);
        Ok(id)
    }
}
