//! What the keywords say about a child, by the class of its name or its position.

use std::sync::Arc;

use super::engine::{Atom, AtomId, Cover, Engine, Type};
use super::expr::{ExprId, TRUE};
use super::frames::{Class, ClassId, ObjectShape, Unless};
use super::node::{NodeId, PatternId};
use super::product::NOWHERE;
use super::solve::covers_item;
use super::strings::StringFact;
use crate::ConstrainError;
use crate::hash::FastMap;

impl Engine {
    /// What a rule says about children of a class; and the conditions under which it says nothing.
    pub(super) fn child_of(
        &mut self,
        rule: AtomId,
        class: ClassId,
    ) -> Result<(ExprId, Arc<[Unless]>), ConstrainError> {
        if let Some((value, conditions)) = self.frames.children.get(&(rule, class)) {
            return Ok((*value, conditions.clone()));
        }
        let mut conditions = Vec::new();
        let value = match self.atom(rule) {
            Atom::Properties(node, scope) => self.property_child(node, scope, class)?,
            Atom::Items(node, scope) => {
                let Class::Item(index) = *self.frames.classes.get(class) else {
                    return Ok((TRUE, Arc::from([])));
                };
                let array = self.graph.nodes[node as usize].array.as_ref();
                let schema = array.and_then(|a| a.prefix.get(index as usize).copied().or(a.rest));
                schema.map_or(TRUE, |schema| self.literal(schema, scope))
            }
            Atom::OpenProperties(part) | Atom::OpenItems(part) => {
                let part = self.open_parts.get(part).clone();
                let mut value = part.value;
                for cover in &part.covered {
                    value = match *cover {
                        Cover::Matching(matching) => self.values.or([value, matching]),
                        _ if self.covers(cover, class)? => TRUE,
                        _ => value,
                    };
                }
                if value != TRUE {
                    for (condition, covers) in &part.conditional {
                        for cover in covers {
                            let matching = match *cover {
                                Cover::Matching(matching) => matching,
                                _ if self.covers(cover, class)? => TRUE,
                                _ => continue,
                            };
                            conditions.push(Unless {
                                condition: *condition,
                                matching,
                            });
                        }
                    }
                }
                value
            }
            _ => TRUE,
        };
        let conditions: Arc<[Unless]> = conditions.into();
        self.frames
            .children
            .insert((rule, class), (value, conditions.clone()));
        Ok((value, conditions))
    }

    pub(super) fn covers(&mut self, cover: &Cover, class: ClassId) -> Result<bool, ConstrainError> {
        match (cover, self.frames.classes.get(class).clone()) {
            (Cover::All, _) => Ok(true),
            (Cover::Named(node), _) => {
                let Some(object) = &self.graph.nodes[*node as usize].object else {
                    return Ok(false);
                };
                if let Class::Key(key) = self.frames.classes.get(class)
                    && object.property(*key).is_some()
                {
                    return Ok(true);
                }
                let patterns: Vec<PatternId> = object
                    .patterns
                    .iter()
                    .map(|&(pattern, _)| pattern)
                    .collect();
                for pattern in patterns {
                    if self.name_matches(pattern, class)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (cover, Class::Item(index)) => Ok(covers_item(cover, index)),
            _ => Ok(false),
        }
    }

    pub(super) fn property_child(
        &mut self,
        node: NodeId,
        scope: u32,
        class: ClassId,
    ) -> Result<ExprId, ConstrainError> {
        let Some(object) = &self.graph.nodes[node as usize].object else {
            return Ok(TRUE);
        };
        let additional = object.additional;
        let mut schemas: Vec<NodeId> = Vec::new();
        if let Class::Key(key) = self.frames.classes.get(class) {
            schemas.extend(object.property(*key));
        }
        if !object.patterns.is_empty() {
            for (pattern, schema) in object.patterns.clone() {
                if self.name_matches(pattern, class)? {
                    schemas.push(schema);
                }
            }
        }
        if schemas.is_empty() {
            schemas.extend(additional);
        }
        let literals: Vec<ExprId> = schemas
            .into_iter()
            .map(|schema| self.literal(schema, scope))
            .collect();
        Ok(self.values.and(literals))
    }

    pub(super) fn name_matches(
        &mut self,
        pattern: PatternId,
        class: ClassId,
    ) -> Result<bool, ConstrainError> {
        let leaf = self.atom_id(Atom::Pattern(pattern));
        match self.frames.classes.get(class) {
            Class::Open(facts) => Ok(facts.binary_search(&leaf).is_ok()),
            Class::Key(key) => {
                let key = *key;
                if let Some(&known) = self.frames.matches.get(&(leaf, key)) {
                    return Ok(known);
                }
                let text = self.graph.keys.get(key).to_owned();
                let held = self.pattern_holds(pattern, &text)?;
                self.frames.matches.insert((leaf, key), held);
                Ok(held)
            }
            Class::Item(_) => Ok(false),
        }
    }

    /// Whether names of a class satisfy a literal.
    pub(super) fn name_fits(
        &mut self,
        names: ExprId,
        class: ClassId,
    ) -> Result<bool, ConstrainError> {
        if let Some(&known) = self.frames.names.get(&(names, class)) {
            return Ok(known);
        }
        let facts = self.unfold(names, Type::String)?;
        let fits = match self.frames.classes.get(class).clone() {
            Class::Key(key) => {
                let text = self.graph.keys.get(key).to_owned();
                self.string_fact(facts, &StringFact::Text(&text))?
            }
            Class::Open(held) => self
                .facts
                .evaluate(facts, &mut |leaf| Some(held.binary_search(&leaf).is_ok()))
                .unwrap_or(false),
            Class::Item(_) => true,
        };
        self.frames.names.insert((names, class), fits);
        Ok(fits)
    }

    /// The class of names at a spot, of a length.
    pub(super) fn open_class(
        &mut self,
        shape: &ObjectShape,
        spot: u32,
        len: u32,
    ) -> Result<ClassId, ConstrainError> {
        let mut held = Vec::new();
        for &fact in &shape.name_facts {
            if self.string_atom(fact, &StringFact::Open(shape.product, spot, len))? {
                held.push(fact);
            }
        }
        Ok(self.frames.classes.intern(Class::Open(held.into())))
    }

    /// All classes of names that are not spelled out.
    pub(super) fn open_classes(
        &mut self,
        shape: &ObjectShape,
    ) -> Result<Arc<[ClassId]>, ConstrainError> {
        let start = self.product_start(shape.product);
        if shape.name_facts.is_empty() {
            return Ok(Arc::from([self.open_class(shape, start, 0)?]));
        }
        let key = self.frames.lists.intern(shape.name_facts.clone());
        if let Some(known) = self.frames.open_classes.get(&key) {
            return Ok(known.clone());
        }
        let classes = self.product_classes(shape.product);
        let mut found: Vec<ClassId> = Vec::new();
        let mut seen = FastMap::default();
        let mut queue = vec![(start, 0u32)];
        let mut empty = true;
        while let Some((spot, len)) = queue.pop() {
            self.spend(8)?;
            // The empty name is spelled out.
            if !std::mem::take(&mut empty) && self.between_characters(shape.product, spot) {
                let class = self.open_class(shape, spot, len)?;
                if !found.contains(&class) {
                    found.push(class);
                }
            }
            for &byte in &classes.samples {
                let next = self.product_next(shape.product, spot, byte)?;
                if next == NOWHERE {
                    continue;
                }
                let longer = (len + u32::from(byte & 0xc0 != 0x80)).min(shape.saturation);
                if seen.insert((next, longer), ()).is_none() {
                    queue.push((next, longer));
                }
            }
        }
        let found: Arc<[ClassId]> = found.into();
        self.frames.open_classes.insert(key, found.clone());
        Ok(found)
    }
}
