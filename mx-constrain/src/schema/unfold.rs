//! A literal as facts about values of one type.

use std::collections::BTreeSet;

use super::engine::{Atom, Engine, Literal, Scalar, ScopeId, Type, UsedId};
use super::expr::{Expr, ExprId, Exprs, FALSE, TRUE};
use super::node::{Integer, NodeId, SetId};
use crate::{ConstrainError, Limits};

impl Engine {
    /// A combination of literals for values of one type.
    pub(super) fn unfold(&mut self, value: ExprId, kind: Type) -> Result<ExprId, ConstrainError> {
        self.unfold_at(value, kind, 0)
    }

    pub(super) fn unfold_at(
        &mut self,
        value: ExprId,
        kind: Type,
        depth: usize,
    ) -> Result<ExprId, ConstrainError> {
        match value {
            TRUE => return Ok(TRUE),
            FALSE => return Ok(FALSE),
            _ => {}
        }
        if let Some(&known) = self.unfolded.get(&(value, kind)) {
            return Ok(known);
        }
        Limits::check("max_nesting", depth, self.limits.max_nesting)?;
        self.spend(1)?;
        let out = match self.values.get(value).clone() {
            Expr::Const(constant) => Exprs::constant(constant),
            Expr::Leaf(leaf, sign) => {
                let out = match *self.literals.get(leaf) {
                    Literal::Schema(node, scope) => self.unfold_node(node, scope, kind, depth)?,
                    Literal::Used(used) => self.unfold_used(used, kind),
                };
                if sign { out } else { self.facts.not(out) }
            }
            Expr::And(parts) => {
                let parts = self.unfold_all(&parts, kind, depth)?;
                self.facts.and(parts)
            }
            Expr::Or(parts) => {
                let parts = self.unfold_all(&parts, kind, depth)?;
                self.facts.or(parts)
            }
            Expr::One(parts, sign) => {
                let parts = self.unfold_all(&parts, kind, depth)?;
                let one = self.facts.one(parts);
                if sign { one } else { self.facts.not(one) }
            }
        };
        self.unfolded.insert((value, kind), out);
        Ok(out)
    }

    pub(super) fn unfold_all(
        &mut self,
        parts: &[ExprId],
        kind: Type,
        depth: usize,
    ) -> Result<Vec<ExprId>, ConstrainError> {
        parts
            .iter()
            .map(|&part| self.unfold_at(part, kind, depth + 1))
            .collect()
    }

    pub(super) fn unfold_schema(
        &mut self,
        node: NodeId,
        scope: ScopeId,
        kind: Type,
        depth: usize,
    ) -> Result<ExprId, ConstrainError> {
        let literal = self.literal(node, scope);
        self.unfold_at(literal, kind, depth + 1)
    }

    pub(super) fn unfold_used(&mut self, used: UsedId, kind: Type) -> ExprId {
        let values = self.used_values.get(used).clone();
        match kind {
            Type::Null => Exprs::constant(values.contains(&Scalar::Null)),
            Type::No => Exprs::constant(values.contains(&Scalar::No)),
            Type::Yes => Exprs::constant(values.contains(&Scalar::Yes)),
            Type::Number => {
                let set: BTreeSet<_> = values
                    .iter()
                    .filter_map(|v| {
                        if let Scalar::Number(n) = v {
                            Some(n.clone())
                        } else {
                            None
                        }
                    })
                    .collect();
                if set.is_empty() {
                    return FALSE;
                }
                self.graph.number_sets.push(set.into_iter().collect());
                self.fact(Atom::NumberIn(self.graph.number_sets.len() as SetId - 1))
            }
            Type::String => {
                let set: BTreeSet<Box<str>> = values
                    .iter()
                    .filter_map(|v| {
                        if let Scalar::Text(t) = v {
                            Some(self.graph.keys.get(*t).into())
                        } else {
                            None
                        }
                    })
                    .collect();
                if set.is_empty() {
                    return FALSE;
                }
                self.graph.string_sets.push(set.into_iter().collect());
                self.fact(Atom::StringIn(self.graph.string_sets.len() as SetId - 1))
            }
            // Composite values are compared when they close.
            Type::Array | Type::Object => FALSE,
        }
    }

    pub(super) fn unfold_node(
        &mut self,
        id: NodeId,
        scope: ScopeId,
        kind: Type,
        depth: usize,
    ) -> Result<ExprId, ConstrainError> {
        let node = &self.graph.nodes[id as usize];
        if let Some(constant) = node.constant {
            return Ok(Exprs::constant(constant));
        }
        if node.types & kind.bit() == 0 {
            return Ok(FALSE);
        }
        let mut parts = Vec::new();
        self.own_facts(id, scope, kind, &mut parts)?;
        self.own_values(id, scope, kind, depth, &mut parts)?;
        if parts.contains(&FALSE) {
            return Ok(FALSE);
        }
        self.applied_facts(id, scope, kind, depth, &mut parts)?;
        if parts.contains(&FALSE) {
            return Ok(FALSE);
        }
        match kind {
            Type::Object => self.open_properties(id, scope, &mut parts)?,
            Type::Array => self.open_items(id, scope, &mut parts)?,
            _ => {}
        }
        Ok(self.facts.and(parts))
    }

    /// What the keywords of a schema say themselves about values of a type.
    pub(super) fn own_facts(
        &mut self,
        id: NodeId,
        scope: ScopeId,
        kind: Type,
        parts: &mut Vec<ExprId>,
    ) -> Result<(), ConstrainError> {
        let mut atoms: Vec<(Atom, bool)> = Vec::new();
        let node = &self.graph.nodes[id as usize];
        match kind {
            Type::Number => {
                match node.integer {
                    Some(Integer::ByValue) => atoms.push((Atom::Integer, true)),
                    Some(Integer::ByText) => atoms.push((Atom::IntegerText, true)),
                    None => {}
                }
                if let Some(number) = &node.number {
                    let lower = number
                        .minimum
                        .iter()
                        .map(|&(bound, excluded)| match excluded {
                            true => (Atom::Above(bound), true),
                            false => (Atom::AtLeast(bound), true),
                        });
                    atoms.extend(lower);
                    let upper = number
                        .maximum
                        .iter()
                        .map(|&(bound, excluded)| match excluded {
                            true => (Atom::AtLeast(bound), false),
                            false => (Atom::Above(bound), false),
                        });
                    atoms.extend(upper);
                    atoms.extend(number.multiple_of.map(|step| (Atom::Multiple(step), true)));
                }
            }
            Type::String => {
                if let Some(string) = &node.string {
                    if string.min_length > 0 {
                        atoms.push((Atom::LengthGe(string.min_length), true));
                    }
                    if let Some(max) = string.max_length {
                        atoms.push((Atom::LengthGe(max + 1), false));
                    }
                    atoms.extend(string.patterns.iter().map(|&p| (Atom::Pattern(p), true)));
                }
            }
            Type::Array => {
                if let Some(array) = &node.array {
                    if !array.prefix.is_empty() || array.rest.is_some() {
                        atoms.push((Atom::Items(id, scope), true));
                    }
                    if array.min_items > 0 {
                        atoms.push((Atom::ItemsGe(array.min_items), true));
                    }
                    if let Some(max) = array.max_items {
                        atoms.push((Atom::ItemsGe(max + 1), false));
                    }
                    if array.unique {
                        atoms.push((Atom::Unique, true));
                    }
                    if let Some((schema, min, max)) = array.contains {
                        let literal = self.literal(schema, scope);
                        if min > 0 {
                            atoms.push((Atom::Contains(literal, min), true));
                        }
                        if let Some(max) = max {
                            atoms.push((Atom::Contains(literal, max + 1), false));
                        }
                    }
                }
            }
            Type::Object => {
                if let Some(object) = &node.object {
                    if object.has_children() {
                        atoms.push((Atom::Properties(id, scope), true));
                    }
                    if object.min_properties > 0 {
                        atoms.push((Atom::CountGe(object.min_properties), true));
                    }
                    if let Some(max) = object.max_properties {
                        atoms.push((Atom::CountGe(max + 1), false));
                    }
                    atoms.extend(
                        object
                            .required
                            .iter()
                            .map(|&key| (Atom::Present(key), true)),
                    );
                    let dependent = object.dependent_required.clone();
                    if let Some(names) = object.names {
                        match self.literal(names, scope) {
                            TRUE => {}
                            literal => atoms.push((Atom::Names(literal), true)),
                        }
                    }
                    for (key, others) in dependent {
                        let present = self.fact(Atom::Present(key));
                        let absent = self.facts.not(present);
                        let others: Vec<_> = others
                            .into_iter()
                            .map(|other| self.fact(Atom::Present(other)))
                            .collect();
                        let all = self.facts.and(others);
                        parts.push(self.facts.or([absent, all]));
                    }
                }
            }
            _ => {}
        }
        for (atom, sign) in atoms {
            let fact = self.fact(atom);
            parts.push(if sign { fact } else { self.facts.not(fact) });
        }
        Ok(())
    }

    /// `enum` and `const`.
    pub(super) fn own_values(
        &mut self,
        id: NodeId,
        scope: ScopeId,
        kind: Type,
        depth: usize,
        parts: &mut Vec<ExprId>,
    ) -> Result<(), ConstrainError> {
        for i in 0..self.graph.nodes[id as usize].values.len() {
            let values = &self.graph.nodes[id as usize].values[i];
            let fact = match kind {
                Type::Null => Exprs::constant(values.null),
                Type::No => Exprs::constant(values.no),
                Type::Yes => Exprs::constant(values.yes),
                Type::Number => match values.numbers {
                    Some(set) => self.fact(Atom::NumberIn(set)),
                    None => FALSE,
                },
                Type::String => match values.strings {
                    Some(set) => self.fact(Atom::StringIn(set)),
                    None => FALSE,
                },
                Type::Array | Type::Object => {
                    let list = if kind == Type::Array {
                        values.arrays.clone()
                    } else {
                        values.objects.clone()
                    };
                    let mut any = Vec::with_capacity(list.len());
                    for schema in list {
                        any.push(self.unfold_schema(schema, scope, kind, depth)?);
                    }
                    self.facts.or(any)
                }
            };
            parts.push(fact);
        }
        Ok(())
    }

    /// The schemas that a schema applies to the same value.
    pub(super) fn applied_facts(
        &mut self,
        id: NodeId,
        scope: ScopeId,
        kind: Type,
        depth: usize,
        parts: &mut Vec<ExprId>,
    ) -> Result<(), ConstrainError> {
        if kind == Type::Object
            && let Some(object) = &self.graph.nodes[id as usize].object
        {
            for (key, schema) in object.dependent_schemas.clone() {
                let present = self.fact(Atom::Present(key));
                let absent = self.facts.not(present);
                let held = self.unfold_schema(schema, scope, kind, depth)?;
                parts.push(self.facts.or([absent, held]));
            }
        }
        if self.graph.nodes[id as usize].apply.is_none() {
            return Ok(());
        }
        let targets = self.targets(id, scope);
        for target in targets {
            parts.push(self.unfold_schema(target, scope, kind, depth)?);
        }
        let Some(apply) = &self.graph.nodes[id as usize].apply else {
            return Ok(());
        };
        let (any_of, one_of, not) = (apply.any_of.clone(), apply.one_of.clone(), apply.not);
        let (condition, then, otherwise) = (apply.condition, apply.then, apply.otherwise);
        if let Some(list) = any_of {
            let mut any = Vec::with_capacity(list.len());
            for schema in list {
                any.push(self.unfold_schema(schema, scope, kind, depth)?);
            }
            parts.push(self.facts.or(any));
        }
        if let Some(list) = one_of {
            let mut one = Vec::with_capacity(list.len());
            for schema in list {
                one.push(self.unfold_schema(schema, scope, kind, depth)?);
            }
            parts.push(self.facts.one(one));
        }
        if let Some(schema) = not {
            let held = self.unfold_schema(schema, scope, kind, depth)?;
            parts.push(self.facts.not(held));
        }
        if let Some(condition) = condition
            && (then.is_some() || otherwise.is_some())
        {
            let held = self.unfold_schema(condition, scope, kind, depth)?;
            let failed = self.facts.not(held);
            if let Some(then) = then {
                let then = self.unfold_schema(then, scope, kind, depth)?;
                parts.push(self.facts.or([failed, then]));
            }
            if let Some(otherwise) = otherwise {
                let otherwise = self.unfold_schema(otherwise, scope, kind, depth)?;
                parts.push(self.facts.or([held, otherwise]));
            }
        }
        Ok(())
    }

    /// `$ref`, `$dynamicRef` and `allOf`: schemas that must hold whenever this one does.
    pub(super) fn targets(&self, id: NodeId, scope: ScopeId) -> Vec<NodeId> {
        let Some(apply) = &self.graph.nodes[id as usize].apply else {
            return Vec::new();
        };
        let mut targets: Vec<NodeId> = apply.refs.iter().chain(&apply.all_of).copied().collect();
        for reference in &apply.dynamic_refs {
            let outermost = self
                .scopes
                .get(scope)
                .iter()
                .find_map(|resource| reference.targets.get(resource));
            targets.push(outermost.copied().unwrap_or(reference.fallback));
        }
        targets
    }
}
