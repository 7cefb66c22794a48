//! Keywords about arrays and objects, and those that apply other schemas.

use serde_json::{Map, Value};

use super::load::{At, Loader, escape};
use super::node::{Applicators, ArrayKeywords, ObjectKeywords};
use super::options::Draft;
use crate::ConstrainError;

impl<'a> Loader<'a> {
    pub(super) fn array(&mut self, at: &At<'a>) -> Result<Option<ArrayKeywords>, ConstrainError> {
        let draft = at.dialect.draft;
        let mut out = ArrayKeywords::default();
        let items = at.object.get("items");
        if draft >= Draft::Draft202012 {
            out.prefix = self.list(at, "prefixItems")?.unwrap_or_default();
        }
        match items {
            Some(Value::Array(list)) if draft <= Draft::Draft201909 || at.dialect.lenient => {
                out.prefix = self.children(list, at, "items")?;
                out.rest = self.single(at, "additionalItems")?;
            }
            Some(_) => out.rest = self.single(at, "items")?,
            None => {}
        }
        if at.dialect.validation {
            out.min_items = self.count(at, "minItems")?.unwrap_or(0);
            out.max_items = self.count(at, "maxItems")?;
            out.unique = match at.object.get("uniqueItems") {
                None | Some(Value::Bool(false)) => false,
                Some(Value::Bool(true)) => true,
                Some(_) => return Err(self.wrong(at, "uniqueItems", "must be a boolean")),
            };
        }
        if draft > Draft::Draft4
            && let Some(contains) = self.single(at, "contains")?
        {
            let counted = draft >= Draft::Draft201909 && at.dialect.validation;
            let min = if counted {
                self.count(at, "minContains")?
            } else {
                None
            };
            let max = if counted {
                self.count(at, "maxContains")?
            } else {
                None
            };
            out.contains = Some((contains, min.unwrap_or(1), max));
            out.contains_evaluates = draft >= Draft::Draft202012;
        }
        if draft >= Draft::Draft201909 {
            out.unevaluated = self.single(at, "unevaluatedItems")?;
        }
        let used = !out.prefix.is_empty()
            || out.rest.is_some()
            || out.contains.is_some()
            || out.min_items > 0
            || out.max_items.is_some()
            || out.unique
            || out.unevaluated.is_some();
        Ok(used.then_some(out))
    }

    pub(super) fn object(&mut self, at: &At<'a>) -> Result<Option<ObjectKeywords>, ConstrainError> {
        let draft = at.dialect.draft;
        let mut out = ObjectKeywords::default();
        for (key, value) in self.map(at, "properties")?.into_iter().flatten() {
            let id = self.graph.keys.intern(key);
            let node = self.child(value, at, &format!("/properties/{}", escape(key)))?;
            out.properties.push((id, node));
            out.declared.push(id);
        }
        out.properties.sort_unstable();
        for (source, value) in self.map(at, "patternProperties")?.into_iter().flatten() {
            let node = self.child(value, at, &format!("/patternProperties/{}", escape(source)))?;
            match self.pattern(at, "patternProperties", source)? {
                Some(pattern) => out.patterns.push((pattern, node)),
                None => {
                    let id = self.automaton(at, "patternProperties", "", false)?;
                    out.patterns.push((id, node));
                }
            }
        }
        out.additional = self.single(at, "additionalProperties")?;
        if draft > Draft::Draft4 {
            out.names = self.single(at, "propertyNames")?;
        }
        if at.dialect.validation {
            self.object_counts(at, &mut out)?;
        }
        if draft >= Draft::Draft201909 {
            for (key, value) in self.map(at, "dependentSchemas")?.into_iter().flatten() {
                let node = self.child(value, at, &format!("/dependentSchemas/{}", escape(key)))?;
                out.dependent_schemas
                    .push((self.graph.keys.intern(key), node));
            }
            out.unevaluated = self.single(at, "unevaluatedProperties")?;
        }
        if draft <= Draft::Draft7 || at.dialect.lenient {
            for (key, value) in self.map(at, "dependencies")?.into_iter().flatten() {
                let id = self.graph.keys.intern(key);
                match value {
                    Value::Array(list) => {
                        let list = self.names(at, "dependencies", list)?;
                        out.dependent_required.push((id, list));
                    }
                    Value::String(one) => {
                        let one = self.graph.keys.intern(one);
                        out.dependent_required.push((id, vec![one]));
                    }
                    _ => {
                        let node =
                            self.child(value, at, &format!("/dependencies/{}", escape(key)))?;
                        out.dependent_schemas.push((id, node));
                    }
                }
            }
        }
        let used = out.has_children()
            || out.names.is_some()
            || !out.required.is_empty()
            || out.min_properties > 0
            || out.max_properties.is_some()
            || !out.dependent_required.is_empty()
            || !out.dependent_schemas.is_empty()
            || out.unevaluated.is_some();
        Ok(used.then_some(out))
    }

    pub(super) fn object_counts(
        &mut self,
        at: &At<'a>,
        out: &mut ObjectKeywords,
    ) -> Result<(), ConstrainError> {
        match at.object.get("required") {
            None => {}
            // Draft 3 wrote `required: true` beside a property; it says nothing in the drafts that are read here.
            Some(Value::Bool(_)) if at.dialect.draft == Draft::Draft4 || at.dialect.lenient => {}
            Some(Value::Array(list)) => {
                out.required = self.names(at, "required", list)?;
                out.required.sort_unstable();
                out.required.dedup();
            }
            Some(_) => return Err(self.wrong(at, "required", "must be an array of strings")),
        }
        out.min_properties = self.count(at, "minProperties")?.unwrap_or(0);
        out.max_properties = self.count(at, "maxProperties")?;
        if at.dialect.draft >= Draft::Draft201909 {
            for (key, value) in self.map(at, "dependentRequired")?.into_iter().flatten() {
                let Value::Array(list) = value else {
                    return Err(self.wrong(
                        at,
                        "dependentRequired",
                        "must map names to arrays of strings",
                    ));
                };
                let list = self.names(at, "dependentRequired", list)?;
                out.dependent_required
                    .push((self.graph.keys.intern(key), list));
            }
        }
        Ok(())
    }

    pub(super) fn names(
        &mut self,
        at: &At<'a>,
        keyword: &str,
        list: &'a [Value],
    ) -> Result<Vec<u32>, ConstrainError> {
        list.iter()
            .map(|name| match name {
                Value::String(name) => Ok(self.graph.keys.intern(name)),
                _ => Err(self.wrong(at, keyword, "must be an array of strings")),
            })
            .collect()
    }

    pub(super) fn map(
        &self,
        at: &At<'a>,
        keyword: &str,
    ) -> Result<Option<&'a Map<String, Value>>, ConstrainError> {
        match at.object.get(keyword) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.wrong(at, keyword, "must be an object")),
        }
    }

    pub(super) fn applicators(
        &mut self,
        at: &At<'a>,
        out: &mut Applicators,
    ) -> Result<(), ConstrainError> {
        out.all_of = self.list(at, "allOf")?.unwrap_or_default();
        out.any_of = self.list(at, "anyOf")?;
        out.one_of = self.list(at, "oneOf")?;
        out.not = self.single(at, "not")?;
        if at.dialect.draft >= Draft::Draft7 {
            out.condition = self.single(at, "if")?;
            if out.condition.is_some() {
                out.then = self.single(at, "then")?;
                out.otherwise = self.single(at, "else")?;
            }
        }
        Ok(())
    }
}
