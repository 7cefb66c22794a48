//! Whether facts about an object that are assumed together can be met by the properties that are still to come.

use super::engine::{Atom, AtomId, Engine, Type};
use super::expr::{ExprId, FALSE, TRUE};
use super::frames::{Class, ClassId};
use super::node::KeyId;
use super::options::PropertyOrder;
use super::solve::{Cube, Future, Judgement, Past};
use crate::ConstrainError;

impl Engine {
    pub(super) fn judge(&mut self, cube: &Cube, past: &Past) -> Result<Judgement, ConstrainError> {
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

    pub(super) fn judge_object(
        &mut self,
        cube: &Cube,
        past: &Past,
        roots: u32,
        used: &[KeyId],
    ) -> Result<Judgement, ConstrainError> {
        let (mut all, mut broken) = (Vec::new(), Vec::new());
        let (mut required, mut forbidden) = (Vec::new(), Vec::new());
        let (mut least, mut most) = (0usize, usize::MAX);
        for (atom, sign) in cube.iter() {
            match (self.atom(atom), sign) {
                (Atom::Properties(..) | Atom::OpenProperties(_) | Atom::Names(_), true) => {
                    all.push(atom)
                }
                (Atom::Properties(..) | Atom::OpenProperties(_) | Atom::Names(_), false) => {
                    broken.push(atom)
                }
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
            let free = used.binary_search(&key).is_err()
                && !forbidden.contains(&key)
                && !required.contains(&key);
            if free && self.in_order(roots, key, used) {
                options.push(self.frames.classes.intern(Class::Key(key)));
            }
        }
        let named = options.len();
        options.extend(self.open_classes(&shape)?.iter().copied());
        let mut spare = least.saturating_sub(used.len() + required.len());
        if !broken.is_empty() {
            let Some(extra) =
                self.break_rules(&broken, &all, &mut plan, &options, room, cube, past)?
            else {
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
        Ok(if spare == 0 {
            Judgement::Possible
        } else {
            Judgement::Impossible
        })
    }

    /// Finds properties that break each rule of `broken`: among those planned, or new ones. The number of new ones.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn break_rules(
        &mut self,
        broken: &[AtomId],
        all: &[AtomId],
        plan: &mut Vec<(ClassId, ExprId)>,
        options: &[ClassId],
        room: usize,
        cube: &Cube,
        past: &Past,
    ) -> Result<Option<usize>, ConstrainError> {
        let Some((&rule, rest)) = broken.split_first() else {
            return Ok(Some(0));
        };
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
                    if let Some(extra) =
                        self.break_rules(rest, all, plan, options, room, cube, past)?
                    {
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
                let Some(breaking) = self.breaking_child(rule, class, cube, past)? else {
                    continue;
                };
                // A rule about names that is broken needs no value of its own.
                let others: Vec<AtomId> =
                    all.iter().copied().filter(|&atom| atom != rule).collect();
                let Future::Value(value) = self.future_child(&others, class, cube, past)? else {
                    continue;
                };
                let both = self.values.and([value, breaking]);
                if !self.possible_any(both)? {
                    continue;
                }
                plan.push((class, both));
                if let Some(extra) =
                    self.break_rules(rest, all, plan, options, room - 1, cube, past)?
                {
                    return Ok(Some(extra + 1));
                }
                plan.pop();
            }
        }
        Ok(None)
    }

    pub(super) fn may_be_composite(&mut self, value: ExprId) -> Result<bool, ConstrainError> {
        Ok(self.unfold(value, Type::Object)? != FALSE || self.unfold(value, Type::Array)? != FALSE)
    }

    /// What a child of a class must be so that a rule about all children is broken; `None` when it cannot be.
    pub(super) fn breaking_child(
        &mut self,
        rule: AtomId,
        class: ClassId,
        cube: &Cube,
        past: &Past,
    ) -> Result<Option<ExprId>, ConstrainError> {
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
    pub(super) fn future_child(
        &mut self,
        all: &[AtomId],
        class: ClassId,
        cube: &Cube,
        past: &Past,
    ) -> Result<Future, ConstrainError> {
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
            return Ok(if more == FALSE {
                Future::Never
            } else {
                Future::Only(more)
            });
        }
        Ok(Future::Value(value))
    }

    /// A condition that says whether one of these rules is broken, while it is open.
    pub(super) fn undecided(&self, broken: &[AtomId], cube: &Cube, past: &Past) -> Option<ExprId> {
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
    pub(super) fn condition_left(&self, condition: ExprId, past: &Past) -> ExprId {
        let (Past::Object { now, watch, .. } | Past::Array { now, watch, .. }) = past;
        self.watched_now(*now, *watch, condition)
    }

    pub(super) fn condition_now(
        &self,
        condition: ExprId,
        cube: &Cube,
        past: &Past,
    ) -> Option<bool> {
        self.current(self.condition_left(condition, past), cube, past)
    }

    /// Whether a property may still come, by the order of properties.
    pub(super) fn in_order(&mut self, roots: u32, key: KeyId, used: &[KeyId]) -> bool {
        if self.options.property_order == PropertyOrder::Any {
            return true;
        }
        let Ok(shape) = self.object_shape(roots) else {
            return true;
        };
        let rank = |key: &KeyId| shape.order.get(key).copied().unwrap_or(u32::MAX);
        used.iter()
            .map(rank)
            .max()
            .is_none_or(|last| last < rank(&key) || last == u32::MAX && rank(&key) == u32::MAX)
    }
}
