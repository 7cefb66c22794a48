//! Reads schema documents into a [`Graph`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::decimal::Decimal;
use super::documents::{Dialect, Documents, Place, metaschemas};
use super::node::{Applicators, DynamicRef, Graph, Node, NodeId, Pattern, PatternId, ResourceId};
use super::options::{Draft, SchemaOptions};
use crate::exactness::Restriction;
use crate::hash::FastMap;
use crate::lexical::{DEAD, Dfa, RegexMode, RegexSyntax, utf8};
use crate::{ByteSet, ConstrainError, Limits};

/// What a document says, and which of it is honoured in part only.
pub(super) struct Loaded {
    pub(super) graph: Graph,
    pub(super) restrictions: Vec<Restriction>,
}

/// Reads a schema and every schema that it refers to.
///
/// # Errors
/// What is said wrongly or cannot be honoured, with its place; a limit.
pub(super) fn load(
    root: &Value,
    options: &SchemaOptions,
    alphabet: &ByteSet,
    limits: &Limits,
) -> Result<Loaded, ConstrainError> {
    let none = BTreeMap::new();
    match Loader::read(root, options, &none, alphabet, limits)? {
        Some(loaded) => Ok(loaded),
        None => {
            let known = metaschemas();
            let again = Loader::read(root, options, &known, alphabet, limits)?;
            again.ok_or_else(|| error("", "$ref", "names a metaschema that is not known"))
        }
    }
}

pub(super) fn error(pointer: &str, keyword: &str, reason: impl Into<String>) -> ConstrainError {
    ConstrainError::Schema {
        pointer: pointer.to_owned(),
        keyword: keyword.to_owned(),
        reason: reason.into(),
    }
}

/// What a reference keyword leads to.
pub(super) enum Target<'a> {
    Found(Place<'a>),
    /// Perhaps there, once the metaschemas are read.
    Metaschema,
}

pub(super) struct Loader<'a> {
    pub(super) graph: Graph,
    pub(super) documents: Documents<'a>,
    pub(super) options: &'a SchemaOptions,
    pub(super) alphabet: ByteSet,
    pub(super) limits: &'a Limits,
    /// Schemas by the address of their value.
    pub(super) by_address: FastMap<usize, NodeId>,
    /// Schemas that have a number but are not read yet.
    pub(super) queue: Vec<(NodeId, Place<'a>)>,
    pub(super) decimals: FastMap<Decimal, u32>,
    pub(super) patterns: FastMap<(String, bool), PatternId>,
    pub(super) restrictions: Vec<Restriction>,
    /// Set when a reference needs the metaschemas, which were not given.
    pub(super) wants_metaschemas: bool,
    pub(super) has_metaschemas: bool,
}

impl<'a> Loader<'a> {
    pub(super) fn read(
        root: &'a Value,
        options: &'a SchemaOptions,
        metaschemas: &'a BTreeMap<String, Value>,
        alphabet: &ByteSet,
        limits: &'a Limits,
    ) -> Result<Option<Loaded>, ConstrainError> {
        let (documents, place) = Documents::new(root, options, metaschemas, limits)?;
        let mut loader = Loader {
            graph: Graph::default(),
            documents,
            options,
            alphabet: *alphabet,
            limits,
            by_address: FastMap::default(),
            queue: Vec::new(),
            decimals: FastMap::default(),
            patterns: FastMap::default(),
            restrictions: Vec::new(),
            wants_metaschemas: false,
            has_metaschemas: !metaschemas.is_empty(),
        };
        let root = loader.node(place, 0, "")?;
        loader.graph.root = root;
        while let Some((id, place)) = loader.queue.pop() {
            let node = loader.parse(id, place)?;
            loader.graph.nodes[id as usize] = node;
            if loader.wants_metaschemas {
                return Ok(None);
            }
        }
        loader.refuse_loops()?;
        Ok(Some(Loaded {
            graph: loader.graph,
            restrictions: loader.restrictions,
        }))
    }

    /// The number of the schema at a place; it is read later.
    pub(super) fn node(
        &mut self,
        place: Place<'a>,
        parent: NodeId,
        segment: &str,
    ) -> Result<NodeId, ConstrainError> {
        let address = std::ptr::from_ref(place.value) as usize;
        if let Some(&id) = self.by_address.get(&address) {
            return Ok(id);
        }
        let id = self.graph.nodes.len() as NodeId;
        Limits::check("max_nodes", id as usize + 1, self.limits.max_nodes)?;
        self.by_address.insert(address, id);
        self.graph
            .nodes
            .push(Node::anything(parent, segment, place.resource));
        self.queue.push((id, place));
        Ok(id)
    }

    pub(super) fn child(
        &mut self,
        value: &'a Value,
        of: &At<'a>,
        segment: &str,
    ) -> Result<NodeId, ConstrainError> {
        let place = self.documents.within(value, of.resource);
        self.node(place, of.id, segment)
    }

    pub(super) fn children(
        &mut self,
        list: &'a [Value],
        at: &At<'a>,
        keyword: &str,
    ) -> Result<Vec<NodeId>, ConstrainError> {
        list.iter()
            .enumerate()
            .map(|(i, value)| self.child(value, at, &format!("/{keyword}/{i}")))
            .collect()
    }

    pub(super) fn single(
        &mut self,
        at: &At<'a>,
        keyword: &str,
    ) -> Result<Option<NodeId>, ConstrainError> {
        match at.object.get(keyword) {
            Some(value) => self.child(value, at, &format!("/{keyword}")).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn list(
        &mut self,
        at: &At<'a>,
        keyword: &str,
    ) -> Result<Option<Vec<NodeId>>, ConstrainError> {
        match at.object.get(keyword) {
            None => Ok(None),
            Some(Value::Array(list)) => self.children(list, at, keyword).map(Some),
            Some(_) => Err(self.wrong(at, keyword, "must be an array of schemas")),
        }
    }

    pub(super) fn wrong(
        &self,
        at: &At<'_>,
        keyword: &str,
        reason: impl Into<String>,
    ) -> ConstrainError {
        error(&self.graph.pointer(at.id), keyword, reason)
    }

    pub(super) fn parse(&mut self, id: NodeId, place: Place<'a>) -> Result<Node, ConstrainError> {
        let held = &self.graph.nodes[id as usize];
        let mut node = Node::anything(held.parent, &held.segment, place.resource);
        let object = match place.value {
            Value::Bool(constant) => {
                node.constant = Some(*constant);
                return Ok(node);
            }
            Value::Object(object) => object,
            _ => {
                return Err(error(
                    &self.graph.pointer(id),
                    "",
                    "must be an object or a boolean to be a schema",
                ));
            }
        };
        let dialect = self.documents.resources[place.resource as usize].dialect;
        let at = At {
            id,
            resource: place.resource,
            object,
            dialect,
        };
        let mut apply = Applicators::default();
        let draft = dialect.draft;
        self.references(&at, &mut apply)?;
        let alone = draft <= Draft::Draft7 && object.get("$ref").is_some_and(Value::is_string);
        if !alone {
            if dialect.validation {
                self.types(&at, &mut node)?;
                self.values(&at, &mut node)?;
                node.number = self.number(&at)?.map(Box::new);
                node.string = self.string(&at)?.map(Box::new);
            }
            node.array = self.array(&at)?.map(Box::new);
            node.object = self.object(&at)?.map(Box::new);
            self.applicators(&at, &mut apply)?;
        }
        if apply.is_used() {
            node.apply = Some(Box::new(apply));
        }
        Ok(node)
    }

    pub(super) fn references(
        &mut self,
        at: &At<'a>,
        apply: &mut Applicators,
    ) -> Result<(), ConstrainError> {
        let draft = at.dialect.draft;
        if let Some(reference) = at.object.get("$ref").and_then(Value::as_str) {
            match self.target(at, "$ref", reference)? {
                Target::Found(place) => {
                    let target =
                        self.node(place, 0, &format!("{}#", reference.trim_start_matches('#')))?;
                    self.name(target, reference);
                    apply.refs.push(target);
                }
                Target::Metaschema => self.wants_metaschemas = true,
            }
        }
        if draft >= Draft::Draft202012
            && let Some(reference) = at.object.get("$dynamicRef").and_then(Value::as_str)
        {
            match self.target(at, "$dynamicRef", reference)? {
                Target::Found(place) => {
                    let anchor = reference
                        .split_once('#')
                        .map_or("", |(_, fragment)| fragment);
                    self.dynamic(at, place, Some(anchor), apply)?;
                }
                Target::Metaschema => self.wants_metaschemas = true,
            }
        }
        if draft == Draft::Draft201909
            && let Some(reference) = at.object.get("$recursiveRef").and_then(Value::as_str)
        {
            match self.target(at, "$recursiveRef", reference)? {
                Target::Found(place) => self.dynamic(at, place, None, apply)?,
                Target::Metaschema => self.wants_metaschemas = true,
            }
        }
        Ok(())
    }

    /// Gives a referred schema the pointer under which it was named.
    pub(super) fn name(&mut self, target: NodeId, reference: &str) {
        let held = &mut self.graph.nodes[target as usize];
        if held.parent == 0 && held.segment.ends_with('#') {
            held.parent = target;
            held.segment = reference.strip_prefix('#').unwrap_or(reference).into();
        }
    }

    pub(super) fn target(
        &mut self,
        at: &At<'a>,
        keyword: &str,
        reference: &str,
    ) -> Result<Target<'a>, ConstrainError> {
        if let Some(place) = self.documents.find(at.resource, reference, self.limits)? {
            return Ok(Target::Found(place));
        }
        match !self.has_metaschemas && self.documents.is_metaschema(at.resource, reference) {
            true => Ok(Target::Metaschema),
            false => Err(self.wrong(
                at,
                keyword,
                format!("names `{reference}`, which is neither in this document nor registered; nothing is fetched"),
            )),
        }
    }

    /// A dynamic reference that is plain when its target has no dynamic anchor.
    pub(super) fn dynamic(
        &mut self,
        at: &At<'a>,
        place: Place<'a>,
        anchor: Option<&str>,
        apply: &mut Applicators,
    ) -> Result<(), ConstrainError> {
        let fallback = self.node(place, at.id, "")?;
        let resource = &self.documents.resources[place.resource as usize];
        let takes_part = match anchor {
            Some(anchor) => resource
                .dynamic_anchors
                .get(anchor)
                .is_some_and(|v| std::ptr::eq(*v, place.value)),
            None => resource.recursive,
        };
        if !takes_part {
            apply.refs.push(fallback);
            return Ok(());
        }
        self.graph.dynamic = true;
        let candidates: Vec<(ResourceId, Place<'a>)> = self
            .documents
            .resources
            .iter()
            .enumerate()
            .filter_map(|(i, resource)| {
                let value = match anchor {
                    Some(anchor) => *resource.dynamic_anchors.get(anchor)?,
                    None => resource.recursive.then_some(resource.root)?,
                };
                Some((
                    i as ResourceId,
                    Place {
                        value,
                        resource: i as ResourceId,
                    },
                ))
            })
            .collect();
        let mut targets = BTreeMap::new();
        for (resource, place) in candidates {
            targets.insert(resource, self.node(place, at.id, "")?);
        }
        apply.dynamic_refs.push(DynamicRef { fallback, targets });
        Ok(())
    }

    /// A pattern that is searched for; `None` when every string has a match.
    pub(super) fn pattern(
        &mut self,
        at: &At<'a>,
        keyword: &str,
        source: &str,
    ) -> Result<Option<PatternId>, ConstrainError> {
        match source {
            "" | "^" | "$" | ".*" | "^.*" | ".*$" => Ok(None),
            _ => {
                let id = self.automaton(at, keyword, source, false)?;
                let matches_all = takes_everything(&mut self.graph.patterns[id as usize].dfa)?;
                Ok(if matches_all { None } else { Some(id) })
            }
        }
    }

    pub(super) fn automaton(
        &mut self,
        at: &At<'a>,
        keyword: &str,
        source: &str,
        full: bool,
    ) -> Result<PatternId, ConstrainError> {
        let key = (source.to_owned(), full);
        if let Some(&id) = self.patterns.get(&key) {
            return Ok(id);
        }
        let mode = if full {
            RegexMode::Full
        } else {
            RegexMode::Search
        };
        let syntax = if full {
            RegexSyntax::Rust
        } else {
            RegexSyntax::Ecma262
        };
        let mut dfa = Dfa::from_regex(source, syntax, mode, self.limits).map_err(|e| match e {
            ConstrainError::Pattern { position, reason, .. } => {
                self.wrong(at, keyword, format!("has the pattern `{source}`, which cannot be honoured: {reason} (at byte {position})"))
            }
            other => other,
        })?;
        let writable = self
            .alphabet
            .union(&ByteSet::range(0, 0x1f))
            .union(&ByteSet::of(b'"'))
            .union(&ByteSet::of(b'\\'));
        let wanted = ByteSet::range(0, 0x7f)
            .union(&ByteSet::range(0x80, 0xbf))
            .union(&ByteSet::range(0xc2, 0xf4));
        if !wanted.is_subset(&writable) {
            dfa = dfa.restrict(&writable, self.limits)?;
        }
        let id = self.graph.patterns.len() as PatternId;
        self.graph.patterns.push(Pattern {
            source: source.to_owned(),
            dfa,
        });
        self.patterns.insert(key, id);
        Ok(id)
    }

    /// Refuses schemas that apply to themselves without going into the value: they mean nothing.
    pub(super) fn refuse_loops(&self) -> Result<(), ConstrainError> {
        // 0 unseen, 1 on the path, 2 done.
        let mut colours = vec![0u8; self.graph.nodes.len()];
        for start in 0..self.graph.nodes.len() as NodeId {
            if colours[start as usize] != 0 {
                continue;
            }
            colours[start as usize] = 1;
            let mut path = vec![(start, self.applied(start))];
            while let Some((node, open)) = path.last_mut() {
                match open.pop() {
                    None => {
                        colours[*node as usize] = 2;
                        path.pop();
                    }
                    Some(next) if colours[next as usize] == 1 => {
                        let reason =
                            "leads back to the same schema and the same value: it never ends";
                        return Err(error(&self.graph.pointer(*node), "$ref", reason));
                    }
                    Some(next) if colours[next as usize] == 0 => {
                        colours[next as usize] = 1;
                        let open = self.applied(next);
                        path.push((next, open));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The schemas that a schema applies to the same value, dynamic references aside.
    pub(super) fn applied(&self, node: NodeId) -> Vec<NodeId> {
        let node = &self.graph.nodes[node as usize];
        let mut out = Vec::new();
        if let Some(a) = &node.apply {
            out.extend(a.refs.iter().chain(&a.all_of).copied());
            out.extend(a.any_of.iter().chain(&a.one_of).flatten().copied());
            out.extend(
                [a.not, a.condition, a.then, a.otherwise]
                    .into_iter()
                    .flatten(),
            );
        }
        if let Some(o) = &node.object {
            out.extend(o.dependent_schemas.iter().map(|&(_, schema)| schema));
        }
        out
    }
}

/// The schema object that is being read.
pub(super) struct At<'a> {
    pub(super) id: NodeId,
    pub(super) resource: ResourceId,
    pub(super) object: &'a Map<String, Value>,
    pub(super) dialect: Dialect,
}

impl Applicators {
    pub(super) fn is_used(&self) -> bool {
        !self.refs.is_empty()
            || !self.dynamic_refs.is_empty()
            || !self.all_of.is_empty()
            || self.any_of.is_some()
            || self.one_of.is_some()
            || self.not.is_some()
            || self.then.is_some()
            || self.otherwise.is_some()
            || self.condition.is_some()
    }
}

/// Whether every string matches; may say no for a pattern that takes many states to do so.
pub(super) fn takes_everything(dfa: &mut Dfa) -> Result<bool, ConstrainError> {
    const MOST: usize = 16;
    let mut seen = vec![(dfa.start(), utf8::START)];
    let mut at = 0;
    while let Some(&(state, form)) = seen.get(at) {
        at += 1;
        if state == DEAD || seen.len() > MOST || (form == utf8::START && !dfa.accepting(state)) {
            return Ok(false);
        }
        for byte in 0..=u8::MAX {
            let Some(form) = utf8::step(form, byte) else {
                continue;
            };
            let next = (dfa.next(state, byte)?, form);
            if !seen.contains(&next) {
                seen.push(next);
            }
        }
    }
    Ok(true)
}

pub(super) fn escape(segment: &str) -> String {
    match segment.contains(['~', '/']) {
        true => segment.replace('~', "~0").replace('/', "~1"),
        false => segment.to_owned(),
    }
}
