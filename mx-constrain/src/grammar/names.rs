//! Names of rules: defined once, referenced anywhere, resolved at the end.

use std::collections::HashMap;

use crate::ConstrainError;

use super::{
    ir::{Body, Expr, Grammar, Rule, RuleId},
    source::Cursor,
};

/// Rules under construction. A reference makes the rule; the definition fills it.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<String, RuleId>,
    rules: Vec<Named>,
    schemas: Vec<serde_json::Value>,
}

#[derive(Debug)]
struct Named {
    name: String,
    body: Option<Body>,
    /// Where the rule was first named: the place of the error when it is never defined.
    first: usize,
}

impl Names {
    /// The rule of a name, which may be defined later.
    pub(super) fn refer(&mut self, name: &str, at: usize) -> RuleId {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = self.push(name.to_owned(), at);
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// A rule without a name of its own, called after where it stands.
    pub(super) fn anonymous(&mut self, name: String, body: Body) -> RuleId {
        let id = self.push(name, 0);
        self.rules[id].body = Some(body);
        id
    }

    /// A rule without a name of its own whose body comes later through [`Names::fill`].
    pub(super) fn reserve(&mut self, name: String) -> RuleId {
        self.push(name, 0)
    }

    /// A rule that derives what a JSON Schema allows.
    pub(super) fn schema(&mut self, name: String, schema: serde_json::Value) -> RuleId {
        let index = match self.schemas.iter().position(|known| *known == schema) {
            Some(index) => index,
            None => {
                self.schemas.push(schema);
                self.schemas.len() - 1
            }
        };
        self.anonymous(name, Body::Schema(index))
    }

    /// Gives a reserved rule its body.
    pub(super) fn fill(&mut self, id: RuleId, body: Body) {
        self.rules[id].body = Some(body);
    }

    /// What a rule derives, when it is defined already.
    pub(super) fn body(&self, id: RuleId) -> Option<&Body> {
        self.rules[id].body.as_ref()
    }

    /// Number of rules so far.
    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Gives a rule its body.
    pub(super) fn define(
        &mut self,
        cursor: &Cursor<'_>,
        name: &str,
        at: usize,
        body: Body,
    ) -> Result<RuleId, ConstrainError> {
        let id = self.refer(name, at);
        match self.rules[id].body.replace(body) {
            None => Ok(id),
            Some(_) => Err(cursor.error_at(at, format!("rule `{name}` is defined twice"))),
        }
    }

    /// The first of `names` that is defined.
    pub(super) fn start(&self, names: &[&str]) -> Option<RuleId> {
        names.iter().find_map(|name| {
            self.ids
                .get(*name)
                .copied()
                .filter(|&id| self.rules[id].body.is_some())
        })
    }

    /// The finished grammar.
    pub(super) fn finish(
        self,
        cursor: &Cursor<'_>,
        start: RuleId,
    ) -> Result<Grammar, ConstrainError> {
        let mut rules = Vec::with_capacity(self.rules.len());
        for rule in self.rules {
            match rule.body {
                Some(body) => rules.push(Rule {
                    name: rule.name,
                    body,
                }),
                None => {
                    return Err(
                        cursor.error_at(rule.first, format!("rule `{}` is not defined", rule.name))
                    );
                }
            }
        }
        Ok(Grammar {
            rules,
            start,
            schemas: self.schemas,
        })
    }

    fn push(&mut self, name: String, first: usize) -> RuleId {
        self.rules.push(Named {
            name,
            body: None,
            first,
        });
        self.rules.len() - 1
    }
}

/// Most counted repetitions that may stand directly on one another: like parentheses, they nest.
pub(super) const MOST_REPETITIONS: usize = 4;

/// Puts a suffix operator on the last expression of a sequence.
pub(super) fn repeat_last(
    cursor: &Cursor<'_>,
    at: usize,
    parts: &mut [Expr],
    min: u32,
    max: Option<u32>,
) -> Result<(), ConstrainError> {
    let Some(last) = parts.last_mut() else {
        return Err(cursor.error_at(at, "a repetition needs something before it"));
    };
    if let Some(max) = max
        && max < min
    {
        return Err(cursor.error_at(
            at,
            format!("repetition of at least {min} and at most {max} times"),
        ));
    }
    if last.repetitions() >= MOST_REPETITIONS {
        return Err(cursor.error_at(
            at,
            format!("more than {MOST_REPETITIONS} repetitions on one another"),
        ));
    }
    let of = std::mem::replace(last, Expr::Empty);
    *last = Expr::repeat(of, min, max);
    Ok(())
}
