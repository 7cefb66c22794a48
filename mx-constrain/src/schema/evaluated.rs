//! Which children other keywords evaluate, for `unevaluatedProperties` and `unevaluatedItems`.

use super::engine::{Atom, Cover, Engine, OpenPart, ScopeId, Type};
use super::expr::{ExprId, FALSE, TRUE};
use super::node::NodeId;
use crate::{ConstrainError, Limits};

impl Engine {
    pub(super) fn open_properties(
        &mut self,
        id: NodeId,
        scope: ScopeId,
        parts: &mut Vec<ExprId>,
    ) -> Result<(), ConstrainError> {
        let Some(schema) = self.graph.nodes[id as usize]
            .object
            .as_ref()
            .and_then(|o| o.unevaluated)
        else {
            return Ok(());
        };
        let value = self.literal(schema, scope);
        let mut part = OpenPart {
            value,
            covered: Vec::new(),
            conditional: Vec::new(),
        };
        self.cover(id, scope, Type::Object, TRUE, true, 0, &mut part)?;
        if value != TRUE && !part.covered.contains(&Cover::All) {
            let part = self.open_parts.intern(part.tidy());
            parts.push(self.fact(Atom::OpenProperties(part)));
        }
        Ok(())
    }

    pub(super) fn open_items(
        &mut self,
        id: NodeId,
        scope: ScopeId,
        parts: &mut Vec<ExprId>,
    ) -> Result<(), ConstrainError> {
        let Some(schema) = self.graph.nodes[id as usize]
            .array
            .as_ref()
            .and_then(|a| a.unevaluated)
        else {
            return Ok(());
        };
        let value = self.literal(schema, scope);
        let mut part = OpenPart {
            value,
            covered: Vec::new(),
            conditional: Vec::new(),
        };
        self.cover(id, scope, Type::Array, TRUE, true, 0, &mut part)?;
        if value != TRUE && !part.covered.contains(&Cover::All) {
            let part = self.open_parts.intern(part.tidy());
            parts.push(self.fact(Atom::OpenItems(part)));
        }
        Ok(())
    }

    /// Collects what a schema evaluates where `condition` holds.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn cover(
        &mut self,
        id: NodeId,
        scope: ScopeId,
        kind: Type,
        condition: ExprId,
        top: bool,
        depth: usize,
        out: &mut OpenPart,
    ) -> Result<(), ConstrainError> {
        Limits::check("max_nesting", depth, self.limits.max_nesting)?;
        self.spend(1)?;
        let scope = self.enter(scope, id);
        let node = &self.graph.nodes[id as usize];
        let mut own = Vec::new();
        let mut dependent = Vec::new();
        if kind == Type::Object
            && let Some(object) = &node.object
        {
            if object.additional.is_some() || (object.unevaluated.is_some() && !top) {
                own.push(Cover::All);
            } else if object.has_children() {
                own.push(Cover::Named(id));
            }
            dependent.clone_from(&object.dependent_schemas);
        }
        if kind == Type::Array
            && let Some(array) = &node.array
        {
            if array.rest.is_some() || (array.unevaluated.is_some() && !top) {
                own.push(Cover::All);
            } else if !array.prefix.is_empty() {
                own.push(Cover::First(array.prefix.len() as u32));
            }
            if let Some((schema, ..)) = array.contains.filter(|_| array.contains_evaluates) {
                own.push(Cover::Matching(self.literal(schema, scope)));
            }
        }
        match condition {
            TRUE => out.covered.extend(own),
            FALSE => return Ok(()),
            _ if own.is_empty() => {}
            _ => out.conditional.push((condition, own)),
        }
        for target in self.targets(id, scope) {
            self.cover(target, scope, kind, condition, false, depth + 1, out)?;
        }
        for (key, schema) in dependent {
            let present = self.fact(Atom::Present(key));
            let condition = self.facts.and([condition, present]);
            self.cover(schema, scope, kind, condition, false, depth + 1, out)?;
        }
        let Some(apply) = &self.graph.nodes[id as usize].apply else {
            return Ok(());
        };
        let branches: Vec<NodeId> = apply
            .any_of
            .iter()
            .chain(&apply.one_of)
            .flatten()
            .copied()
            .collect();
        let (test, then, otherwise) = (apply.condition, apply.then, apply.otherwise);
        for branch in branches {
            let held = self.unfold_schema(branch, scope, kind, depth)?;
            let condition = self.facts.and([condition, held]);
            self.cover(branch, scope, kind, condition, false, depth + 1, out)?;
        }
        if let Some(test) = test {
            let held = self.unfold_schema(test, scope, kind, depth)?;
            let failed = self.facts.not(held);
            let (yes, no) = (
                self.facts.and([condition, held]),
                self.facts.and([condition, failed]),
            );
            self.cover(test, scope, kind, yes, false, depth + 1, out)?;
            if let Some(then) = then {
                self.cover(then, scope, kind, yes, false, depth + 1, out)?;
            }
            if let Some(otherwise) = otherwise {
                self.cover(otherwise, scope, kind, no, false, depth + 1, out)?;
            }
        }
        Ok(())
    }
}
