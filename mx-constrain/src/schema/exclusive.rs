//! `oneOf` whose branches exclude each other is `anyOf`, which is cheaper to follow.

use super::engine::{Atom, AtomId, Engine, Scalar, Type};
use super::expr::{Expr, ExprId, FALSE, TRUE};
use super::frames::Class;
use super::node::KeyId;
use crate::ConstrainError;
use crate::hash::FastMap;

impl Engine {
    /// The same facts about an object, with "exactly one" turned into "at least one" where no two can hold together:
    /// because a required property has a different value in each.
    pub(super) fn exclusive(&mut self, facts: ExprId) -> Result<ExprId, ConstrainError> {
        if let Some(&known) = self.frames.exclusive.get(&facts) {
            return Ok(known);
        }
        let parts: Vec<ExprId> = match self.facts.get(facts) {
            Expr::And(parts) => parts.to_vec(),
            _ => vec![facts],
        };
        let mut context = Vec::new();
        for &part in &parts {
            if let Expr::Leaf(leaf, true) = self.facts.get(part) {
                context.push(*leaf);
            }
        }
        let mut out = Vec::with_capacity(parts.len());
        for &part in &parts {
            out.push(match self.facts.get(part).clone() {
                Expr::One(branches, true) if self.excluded(&branches, &context)? => {
                    self.facts.or(branches.to_vec())
                }
                _ => part,
            });
        }
        let out = self.facts.and(out);
        self.frames.exclusive.insert(facts, out);
        self.frames.exclusive.insert(out, out);
        Ok(out)
    }

    fn excluded(
        &mut self,
        branches: &[ExprId],
        context: &[AtomId],
    ) -> Result<bool, ConstrainError> {
        let mut held: Vec<Vec<AtomId>> = Vec::with_capacity(branches.len());
        for &branch in branches {
            let mut leaves = context.to_vec();
            match self.facts.get(branch) {
                Expr::Leaf(leaf, true) => leaves.push(*leaf),
                Expr::And(parts) => {
                    leaves.extend(parts.iter().filter_map(|&part| match self.facts.get(part) {
                        Expr::Leaf(leaf, true) => Some(*leaf),
                        _ => None,
                    }));
                }
                _ => {}
            }
            held.push(leaves);
        }
        let Some(first) = held.first() else {
            return Ok(false);
        };
        let keys: Vec<KeyId> = first
            .iter()
            .filter_map(|&leaf| match self.atom(leaf) {
                Atom::Present(key) => Some(key),
                _ => None,
            })
            .collect();
        'keys: for key in keys {
            let present = self.atom_id(Atom::Present(key));
            let class = self.frames.classes.intern(Class::Key(key));
            let mut owners: FastMap<Scalar, usize> = FastMap::default();
            for (i, leaves) in held.iter().enumerate() {
                if !leaves.contains(&present) {
                    continue 'keys;
                }
                let mut values = Vec::new();
                for &leaf in leaves {
                    if let Atom::Properties(..) = self.atom(leaf) {
                        values.push(self.child_of(leaf, class)?.0);
                    }
                }
                let value = self.values.and(values);
                let Some(list) = self.listed_values(value)? else {
                    continue 'keys;
                };
                for scalar in list {
                    if owners.insert(scalar, i).is_some_and(|owner| owner != i) {
                        continue 'keys;
                    }
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// All values with some facts, and perhaps more, where they are listed; `None` where they are not.
    fn listed_values(&mut self, value: ExprId) -> Result<Option<Vec<Scalar>>, ConstrainError> {
        let mut list = Vec::new();
        for (kind, scalar) in [
            (Type::Null, Scalar::Null),
            (Type::No, Scalar::No),
            (Type::Yes, Scalar::Yes),
        ] {
            if self.unfold(value, kind)? != FALSE {
                list.push(scalar);
            }
        }
        for kind in [Type::Array, Type::Object] {
            if self.unfold(value, kind)? != FALSE {
                return Ok(None);
            }
        }
        for kind in [Type::String, Type::Number] {
            let facts = self.unfold(value, kind)?;
            match facts {
                FALSE => continue,
                TRUE => return Ok(None),
                _ => {}
            }
            let parts: Vec<ExprId> = match self.facts.get(facts) {
                Expr::And(parts) => parts.to_vec(),
                _ => vec![facts],
            };
            let set = parts
                .into_iter()
                .find_map(|part| match self.facts.get(part) {
                    Expr::Leaf(leaf, true) => match self.atom(*leaf) {
                        Atom::StringIn(set) | Atom::NumberIn(set) => Some(set as usize),
                        _ => None,
                    },
                    _ => None,
                });
            let Some(set) = set else { return Ok(None) };
            if kind == Type::String {
                for text in self.graph.string_sets[set].clone() {
                    list.push(Scalar::Text(self.graph.keys.intern(&text)));
                }
            } else {
                list.extend(
                    self.graph.number_sets[set]
                        .iter()
                        .cloned()
                        .map(Scalar::Number),
                );
            }
        }
        Ok(Some(list))
    }
}
