//! Whether facts about an array that are assumed together can be met by the items that are still to come.

use super::engine::{Atom, AtomId, Engine, Type};
use super::expr::{ExprId, FALSE, TRUE};
use super::frames::Class;
use super::solve::{Cube, Future, Judgement, Past};
use crate::ConstrainError;
use crate::hash::FastMap;

impl Engine {
    pub(super) fn judge_array(
        &mut self,
        cube: &Cube,
        past: &Past,
        roots: u32,
        len: u32,
    ) -> Result<Judgement, ConstrainError> {
        let mut goal = ArrayGoal {
            least: 0,
            most: u32::MAX,
            ..Default::default()
        };
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
        let possible = self.fill_array(
            &goal,
            shape.last_class,
            len,
            cube,
            past,
            &mut seen,
            &mut only,
        )?;
        Ok(match (possible, only) {
            (true, _) => Judgement::Possible,
            (false, Some(more)) => Judgement::Only(more),
            (false, None) => Judgement::Impossible,
        })
    }

    /// Whether items from `len` on can meet a goal. `last` is the index from which all items are alike.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn fill_array(
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
        let key = (
            ArrayGoal {
                least: goal.least.saturating_sub(len),
                most: if goal.most == u32::MAX {
                    goal.most
                } else {
                    goal.most.saturating_sub(len)
                },
                ..goal.clone()
            },
            place,
        );
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
            let chosen = goal
                .needs
                .iter()
                .enumerate()
                .filter(|&(i, _)| choice >> i & 1 == 1)
                .map(|(_, need)| need.1);
            let often = if place == last && kept_rules(choice, goal) {
                chosen.min().unwrap_or(1).max(1)
            } else {
                1
            };
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
                let open: Vec<_> = caps
                    .iter()
                    .filter(|cap| cap.1 > 0)
                    .map(|cap| cap.0)
                    .collect();
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
            if goal.repeat
                && self.fill_array(
                    &ArrayGoal {
                        repeat: false,
                        ..next.clone()
                    },
                    last,
                    len + 2,
                    cube,
                    past,
                    seen,
                    only,
                )?
            {
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
    pub(super) fn enough_values(
        &mut self,
        value: ExprId,
        goal: &ArrayGoal,
        len: u32,
    ) -> Result<bool, ConstrainError> {
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
    pub(super) fn few_values(&mut self, value: ExprId) -> Result<Option<u32>, ConstrainError> {
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
                        let held =
                            self.string_fact(facts, &super::strings::StringFact::Text(text))?;
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

/// What the rest of an array must come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct ArrayGoal {
    pub(super) all: Vec<AtomId>,
    pub(super) broken: Vec<AtomId>,
    pub(super) least: u32,
    pub(super) most: u32,
    /// At least so many items of a kind.
    pub(super) needs: Vec<(ExprId, u32)>,
    /// At most so many.
    pub(super) caps: Vec<(ExprId, u32)>,
    pub(super) unique: bool,
    /// Two items must be equal.
    pub(super) repeat: bool,
}

/// Whether a choice of wishes leaves the rules to be broken for later.
pub(super) fn kept_rules(choice: u32, goal: &ArrayGoal) -> bool {
    choice >> goal.needs.len().min(31) == 0
}
