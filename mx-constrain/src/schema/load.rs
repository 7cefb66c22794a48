//! Reads schema documents into a [`Graph`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::decimal::{Decimal, Step};
use super::documents::{Dialect, Documents, Place, metaschemas};
use super::formats;
use super::node::{
    Applicators, ArrayKeywords, DynamicRef, Graph, Integer, Node, NodeId, NumberKeywords, ObjectKeywords, Pattern,
    PatternId, ResourceId, SetId, StringKeywords, Values, types,
};
use super::options::{Draft, Formats, SchemaOptions};
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

fn error(pointer: &str, keyword: &str, reason: impl Into<String>) -> ConstrainError {
    ConstrainError::Schema { pointer: pointer.to_owned(), keyword: keyword.to_owned(), reason: reason.into() }
}

/// What a reference keyword leads to.
enum Target<'a> {
    Found(Place<'a>),
    /// Perhaps there, once the metaschemas are read.
    Metaschema,
}

struct Loader<'a> {
    graph: Graph,
    documents: Documents<'a>,
    options: &'a SchemaOptions,
    alphabet: ByteSet,
    limits: &'a Limits,
    /// Schemas by the address of their value.
    by_address: FastMap<usize, NodeId>,
    /// Schemas that have a number but are not read yet.
    queue: Vec<(NodeId, Place<'a>)>,
    decimals: FastMap<Decimal, u32>,
    patterns: FastMap<(String, bool), PatternId>,
    restrictions: Vec<Restriction>,
    /// Set when a reference needs the metaschemas, which were not given.
    wants_metaschemas: bool,
    has_metaschemas: bool,
}

impl<'a> Loader<'a> {
    fn read(
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
        Ok(Some(Loaded { graph: loader.graph, restrictions: loader.restrictions }))
    }

    /// The number of the schema at a place; it is read later.
    fn node(&mut self, place: Place<'a>, parent: NodeId, segment: &str) -> Result<NodeId, ConstrainError> {
        let address = std::ptr::from_ref(place.value) as usize;
        if let Some(&id) = self.by_address.get(&address) {
            return Ok(id);
        }
        let id = self.graph.nodes.len() as NodeId;
        Limits::check("max_nodes", id as usize + 1, self.limits.max_nodes)?;
        self.by_address.insert(address, id);
        self.graph.nodes.push(Node::anything(parent, segment, place.resource));
        self.queue.push((id, place));
        Ok(id)
    }

    fn child(&mut self, value: &'a Value, of: &At<'a>, segment: &str) -> Result<NodeId, ConstrainError> {
        let place = self.documents.within(value, of.resource);
        self.node(place, of.id, segment)
    }

    fn children(&mut self, list: &'a [Value], at: &At<'a>, keyword: &str) -> Result<Vec<NodeId>, ConstrainError> {
        list.iter().enumerate().map(|(i, value)| self.child(value, at, &format!("/{keyword}/{i}"))).collect()
    }

    fn single(&mut self, at: &At<'a>, keyword: &str) -> Result<Option<NodeId>, ConstrainError> {
        match at.object.get(keyword) {
            Some(value) => self.child(value, at, &format!("/{keyword}")).map(Some),
            None => Ok(None),
        }
    }

    fn list(&mut self, at: &At<'a>, keyword: &str) -> Result<Option<Vec<NodeId>>, ConstrainError> {
        match at.object.get(keyword) {
            None => Ok(None),
            Some(Value::Array(list)) => self.children(list, at, keyword).map(Some),
            Some(_) => Err(self.wrong(at, keyword, "must be an array of schemas")),
        }
    }

    fn wrong(&self, at: &At<'_>, keyword: &str, reason: impl Into<String>) -> ConstrainError {
        error(&self.graph.pointer(at.id), keyword, reason)
    }

    fn parse(&mut self, id: NodeId, place: Place<'a>) -> Result<Node, ConstrainError> {
        let held = &self.graph.nodes[id as usize];
        let mut node = Node::anything(held.parent, &held.segment, place.resource);
        let object = match place.value {
            Value::Bool(constant) => {
                node.constant = Some(*constant);
                return Ok(node);
            }
            Value::Object(object) => object,
            _ => return Err(error(&self.graph.pointer(id), "", "must be an object or a boolean to be a schema")),
        };
        let dialect = self.documents.resources[place.resource as usize].dialect;
        let at = At { id, resource: place.resource, object, dialect };
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

    fn references(&mut self, at: &At<'a>, apply: &mut Applicators) -> Result<(), ConstrainError> {
        let draft = at.dialect.draft;
        if let Some(reference) = at.object.get("$ref").and_then(Value::as_str) {
            match self.target(at, "$ref", reference)? {
                Target::Found(place) => {
                    let target = self.node(place, 0, &format!("{}#", reference.trim_start_matches('#')))?;
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
                    let anchor = reference.split_once('#').map_or("", |(_, fragment)| fragment);
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
    fn name(&mut self, target: NodeId, reference: &str) {
        let held = &mut self.graph.nodes[target as usize];
        if held.parent == 0 && held.segment.ends_with('#') {
            held.parent = target;
            held.segment = reference.strip_prefix('#').unwrap_or(reference).into();
        }
    }

    fn target(&mut self, at: &At<'a>, keyword: &str, reference: &str) -> Result<Target<'a>, ConstrainError> {
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
    fn dynamic(
        &mut self,
        at: &At<'a>,
        place: Place<'a>,
        anchor: Option<&str>,
        apply: &mut Applicators,
    ) -> Result<(), ConstrainError> {
        let fallback = self.node(place, at.id, "")?;
        let resource = &self.documents.resources[place.resource as usize];
        let takes_part = match anchor {
            Some(anchor) => resource.dynamic_anchors.get(anchor).is_some_and(|v| std::ptr::eq(*v, place.value)),
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
                Some((i as ResourceId, Place { value, resource: i as ResourceId }))
            })
            .collect();
        let mut targets = BTreeMap::new();
        for (resource, place) in candidates {
            targets.insert(resource, self.node(place, at.id, "")?);
        }
        apply.dynamic_refs.push(DynamicRef { fallback, targets });
        Ok(())
    }

    fn types(&mut self, at: &At<'a>, node: &mut Node) -> Result<(), ConstrainError> {
        let names: Vec<&str> = match at.object.get("type") {
            None => return Ok(()),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                list.iter().filter_map(Value::as_str).collect()
            }
            Some(_) => return Err(self.wrong(at, "type", "must be a string or an array of strings")),
        };
        node.types = 0;
        for name in names {
            node.types |= match name {
                "null" => types::NULL,
                "boolean" => types::BOOLEAN,
                "number" => {
                    node.integer = None;
                    types::NUMBER
                }
                "integer" => {
                    if node.types & types::NUMBER == 0 {
                        node.integer = Some(match at.dialect.draft {
                            Draft::Draft4 => Integer::ByText,
                            _ => Integer::ByValue,
                        });
                    }
                    types::NUMBER
                }
                "string" => types::STRING,
                "array" => types::ARRAY,
                "object" => types::OBJECT,
                "any" if at.dialect.draft == Draft::Draft4 => types::ALL,
                other => return Err(self.wrong(at, "type", format!("names `{other}`, which is no type"))),
            };
        }
        Ok(())
    }

    fn values(&mut self, at: &At<'a>, node: &mut Node) -> Result<(), ConstrainError> {
        match at.object.get("enum") {
            None => {}
            Some(Value::Array(list)) => {
                let list: Vec<&Value> = list.iter().collect();
                let values = self.value_set(at, "enum", &list)?;
                node.values.push(values);
            }
            Some(_) => return Err(self.wrong(at, "enum", "must be an array")),
        }
        if at.dialect.draft > Draft::Draft4
            && let Some(value) = at.object.get("const")
        {
            let values = self.value_set(at, "const", &[value])?;
            node.values.push(values);
        }
        Ok(())
    }

    fn value_set(&mut self, at: &At<'a>, keyword: &str, list: &[&Value]) -> Result<Values, ConstrainError> {
        let mut values = Values::default();
        let (mut numbers, mut strings) = (Vec::new(), Vec::<Box<str>>::new());
        for value in list {
            match value {
                Value::Null => values.null = true,
                Value::Bool(true) => values.yes = true,
                Value::Bool(false) => values.no = true,
                Value::Number(number) => numbers.push(self.decimal(at, keyword, &number.to_string())?),
                Value::String(text) => strings.push(text.as_str().into()),
                Value::Array(_) => values.arrays.push(self.exactly(at.id, at.resource, value, 0)?),
                Value::Object(_) => values.objects.push(self.exactly(at.id, at.resource, value, 0)?),
            }
        }
        values.numbers = (!numbers.is_empty()).then(|| self.number_set(numbers));
        values.strings = (!strings.is_empty()).then(|| self.string_set(strings));
        Ok(values)
    }

    fn string_set(&mut self, mut strings: Vec<Box<str>>) -> SetId {
        strings.sort_unstable();
        strings.dedup();
        self.graph.string_sets.push(strings);
        self.graph.string_sets.len() as SetId - 1
    }

    fn number_set(&mut self, mut numbers: Vec<Decimal>) -> SetId {
        numbers.sort_unstable();
        numbers.dedup();
        self.graph.number_sets.push(numbers);
        self.graph.number_sets.len() as SetId - 1
    }

    /// A schema that only one value satisfies.
    fn exactly(
        &mut self,
        parent: NodeId,
        resource: ResourceId,
        value: &Value,
        depth: usize,
    ) -> Result<NodeId, ConstrainError> {
        Limits::check("max_nesting", depth, self.limits.max_nesting)?;
        let id = self.graph.nodes.len() as NodeId;
        Limits::check("max_nodes", id as usize + 1, self.limits.max_nodes)?;
        self.graph.nodes.push(Node::anything(parent, "", resource));
        let mut node = Node::anything(parent, "", resource);
        match value {
            Value::Array(list) => {
                node.types = types::ARRAY;
                let mut prefix = Vec::with_capacity(list.len());
                for item in list {
                    prefix.push(self.exactly(id, resource, item, depth + 1)?);
                }
                let len = list.len() as u32;
                node.array = Some(Box::new(ArrayKeywords {
                    prefix,
                    min_items: len,
                    max_items: Some(len),
                    ..Default::default()
                }));
            }
            Value::Object(map) => {
                node.types = types::OBJECT;
                let mut keywords = ObjectKeywords::default();
                for (key, item) in map {
                    let key = self.graph.keys.intern(key);
                    keywords.properties.push((key, self.exactly(id, resource, item, depth + 1)?));
                    keywords.declared.push(key);
                    keywords.required.push(key);
                }
                keywords.properties.sort_unstable();
                let none = self.graph.nodes.len() as NodeId;
                self.graph.nodes.push(Node { constant: Some(false), ..Node::anything(id, "", resource) });
                keywords.additional = Some(none);
                node.object = Some(Box::new(keywords));
            }
            scalar => {
                let at_root = Map::new();
                let at = At {
                    id: parent,
                    resource,
                    object: &at_root,
                    dialect: self.documents.resources[resource as usize].dialect,
                };
                let mut values = Values::default();
                match scalar {
                    Value::Null => values.null = true,
                    Value::Bool(true) => values.yes = true,
                    Value::Bool(false) => values.no = true,
                    Value::Number(number) => {
                        let number = self.decimal_at(&at, "const", &number.to_string())?;
                        values.numbers = Some(self.number_set(vec![number]));
                    }
                    Value::String(text) => values.strings = Some(self.string_set(vec![text.as_str().into()])),
                    _ => {}
                }
                node.values.push(values);
            }
        }
        self.graph.nodes[id as usize] = node;
        Ok(id)
    }

    fn decimal(&mut self, at: &At<'a>, keyword: &str, text: &str) -> Result<Decimal, ConstrainError> {
        self.decimal_at(at, keyword, text)
    }

    fn decimal_at(&self, at: &At<'_>, keyword: &str, text: &str) -> Result<Decimal, ConstrainError> {
        Decimal::parse(text)
            .filter(Decimal::is_moderate)
            .ok_or_else(|| self.wrong(at, keyword, format!("has the number {text}, whose exponent is too large")))
    }

    fn bound(&mut self, at: &At<'a>, keyword: &str, value: &Value) -> Result<u32, ConstrainError> {
        let Value::Number(number) = value else {
            return Err(self.wrong(at, keyword, "must be a number"));
        };
        let decimal = self.decimal(at, keyword, &number.to_string())?;
        if let Some(&id) = self.decimals.get(&decimal) {
            return Ok(id);
        }
        let id = self.graph.decimals.len() as u32;
        self.graph.decimals.push(decimal.clone());
        self.decimals.insert(decimal, id);
        Ok(id)
    }

    fn number(&mut self, at: &At<'a>) -> Result<Option<NumberKeywords>, ConstrainError> {
        let mut out = NumberKeywords::default();
        let flags = at.dialect.draft == Draft::Draft4 || at.dialect.lenient;
        for (keyword, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
            let mut bounds = Vec::new();
            let excluded = flags && at.object.get(exclusive) == Some(&Value::Bool(true));
            if let Some(value) = at.object.get(keyword) {
                bounds.push((self.bound(at, keyword, value)?, excluded));
            }
            match at.object.get(exclusive) {
                Some(Value::Bool(_)) if flags => {}
                Some(value) if at.dialect.draft > Draft::Draft4 => {
                    bounds.push((self.bound(at, exclusive, value)?, true));
                }
                _ => {}
            }
            match keyword {
                "minimum" => out.minimum = bounds,
                _ => out.maximum = bounds,
            }
        }
        if let Some(value) = at.object.get("multipleOf") {
            let id = self.bound(at, "multipleOf", value)?;
            let divisor = self.graph.decimals[id as usize].clone();
            let step = Step::new(&divisor).ok_or_else(|| {
                self.wrong(at, "multipleOf", format!("must be positive and have at most 36 digits, but is {value}"))
            })?;
            out.multiple_of = Some(step);
        }
        let used = !out.minimum.is_empty() || !out.maximum.is_empty() || out.multiple_of.is_some();
        Ok(used.then_some(out))
    }

    fn count(&self, at: &At<'a>, keyword: &str) -> Result<Option<u32>, ConstrainError> {
        let Some(value) = at.object.get(keyword) else { return Ok(None) };
        let wrong = || self.wrong(at, keyword, format!("must be a non-negative integer, but is {value}"));
        let Value::Number(number) = value else { return Err(wrong()) };
        let number = Decimal::parse(&number.to_string()).ok_or_else(wrong)?;
        if number.is_negative() || !number.is_integer() {
            return Err(wrong());
        }
        // Beyond every text that can be written, all counts mean the same.
        Ok(Some(match number.whole_len() {
            0..=9 => number.parts().0.iter().fold(0, |n, &d| n * 10 + u32::from(d)),
            _ => u32::MAX - 1,
        }))
    }

    fn string(&mut self, at: &At<'a>) -> Result<Option<StringKeywords>, ConstrainError> {
        let mut out = StringKeywords {
            min_length: self.count(at, "minLength")?.unwrap_or(0),
            max_length: self.count(at, "maxLength")?,
            patterns: Vec::new(),
        };
        match at.object.get("pattern") {
            None => {}
            Some(Value::String(source)) => {
                let pattern = self.pattern(at, "pattern", source)?;
                out.patterns.extend(pattern);
            }
            Some(_) => return Err(self.wrong(at, "pattern", "must be a string")),
        }
        if let Some(Value::String(name)) = at.object.get("format") {
            self.format(at, name, &mut out)?;
        }
        let used = out.min_length > 0 || out.max_length.is_some() || !out.patterns.is_empty();
        Ok(used.then_some(out))
    }

    fn format(&mut self, at: &At<'a>, name: &str, out: &mut StringKeywords) -> Result<(), ConstrainError> {
        if self.options.formats == Formats::Annotate {
            return Ok(());
        }
        match formats::rule(name) {
            Some(rule) => {
                let id = self.automaton(at, "format", rule.pattern, true)?;
                out.patterns.push(id);
                if let Some(max) = rule.max_length {
                    out.max_length = Some(out.max_length.map_or(max, |given| given.min(max)));
                }
                if let Some(reason) = rule.restriction {
                    self.restrictions.push(Restriction::new(self.graph.pointer(at.id), "format", reason));
                }
            }
            None if formats::is_annotation(name) => {}
            None if self.options.formats == Formats::Strict => {
                return Err(self.wrong(at, "format", format!("names `{name}`, which is not known, and formats are strict")));
            }
            None => {}
        }
        Ok(())
    }

    /// A pattern that is searched for; `None` when every string has a match.
    fn pattern(&mut self, at: &At<'a>, keyword: &str, source: &str) -> Result<Option<PatternId>, ConstrainError> {
        match source {
            "" | "^" | "$" | ".*" | "^.*" | ".*$" => Ok(None),
            _ => {
                let id = self.automaton(at, keyword, source, false)?;
                let matches_all = takes_everything(&mut self.graph.patterns[id as usize].dfa)?;
                Ok(if matches_all { None } else { Some(id) })
            }
        }
    }

    fn automaton(&mut self, at: &At<'a>, keyword: &str, source: &str, full: bool) -> Result<PatternId, ConstrainError> {
        let key = (source.to_owned(), full);
        if let Some(&id) = self.patterns.get(&key) {
            return Ok(id);
        }
        let mode = if full { RegexMode::Full } else { RegexMode::Search };
        let syntax = if full { RegexSyntax::Rust } else { RegexSyntax::Ecma262 };
        let mut dfa = Dfa::from_regex(source, syntax, mode, self.limits).map_err(|e| match e {
            ConstrainError::Pattern { position, reason, .. } => {
                self.wrong(at, keyword, format!("has the pattern `{source}`, which cannot be honoured: {reason} (at byte {position})"))
            }
            other => other,
        })?;
        let writable = self.alphabet.union(&ByteSet::range(0, 0x1f)).union(&ByteSet::of(b'"')).union(&ByteSet::of(b'\\'));
        let wanted = ByteSet::range(0, 0x7f).union(&ByteSet::range(0x80, 0xbf)).union(&ByteSet::range(0xc2, 0xf4));
        if !wanted.is_subset(&writable) {
            dfa = dfa.restrict(&writable, self.limits)?;
        }
        let id = self.graph.patterns.len() as PatternId;
        self.graph.patterns.push(Pattern { source: source.to_owned(), dfa });
        self.patterns.insert(key, id);
        Ok(id)
    }

    fn array(&mut self, at: &At<'a>) -> Result<Option<ArrayKeywords>, ConstrainError> {
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
            let min = if counted { self.count(at, "minContains")? } else { None };
            let max = if counted { self.count(at, "maxContains")? } else { None };
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

    fn object(&mut self, at: &At<'a>) -> Result<Option<ObjectKeywords>, ConstrainError> {
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
                out.dependent_schemas.push((self.graph.keys.intern(key), node));
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
                        let node = self.child(value, at, &format!("/dependencies/{}", escape(key)))?;
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

    fn object_counts(&mut self, at: &At<'a>, out: &mut ObjectKeywords) -> Result<(), ConstrainError> {
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
                    return Err(self.wrong(at, "dependentRequired", "must map names to arrays of strings"));
                };
                let list = self.names(at, "dependentRequired", list)?;
                out.dependent_required.push((self.graph.keys.intern(key), list));
            }
        }
        Ok(())
    }

    fn names(&mut self, at: &At<'a>, keyword: &str, list: &'a [Value]) -> Result<Vec<u32>, ConstrainError> {
        list.iter()
            .map(|name| match name {
                Value::String(name) => Ok(self.graph.keys.intern(name)),
                _ => Err(self.wrong(at, keyword, "must be an array of strings")),
            })
            .collect()
    }

    fn map(&self, at: &At<'a>, keyword: &str) -> Result<Option<&'a Map<String, Value>>, ConstrainError> {
        match at.object.get(keyword) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.wrong(at, keyword, "must be an object")),
        }
    }

    fn applicators(&mut self, at: &At<'a>, out: &mut Applicators) -> Result<(), ConstrainError> {
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

    /// Refuses schemas that apply to themselves without going into the value: they mean nothing.
    fn refuse_loops(&self) -> Result<(), ConstrainError> {
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
                        let reason = "leads back to the same schema and the same value: it never ends";
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
    fn applied(&self, node: NodeId) -> Vec<NodeId> {
        let node = &self.graph.nodes[node as usize];
        let mut out = Vec::new();
        if let Some(a) = &node.apply {
            out.extend(a.refs.iter().chain(&a.all_of).copied());
            out.extend(a.any_of.iter().chain(&a.one_of).flatten().copied());
            out.extend([a.not, a.condition, a.then, a.otherwise].into_iter().flatten());
        }
        if let Some(o) = &node.object {
            out.extend(o.dependent_schemas.iter().map(|&(_, schema)| schema));
        }
        out
    }
}

/// The schema object that is being read.
struct At<'a> {
    id: NodeId,
    resource: ResourceId,
    object: &'a Map<String, Value>,
    dialect: Dialect,
}

impl Applicators {
    fn is_used(&self) -> bool {
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
fn takes_everything(dfa: &mut Dfa) -> Result<bool, ConstrainError> {
    const MOST: usize = 16;
    let mut seen = vec![(dfa.start(), utf8::START)];
    let mut at = 0;
    while let Some(&(state, form)) = seen.get(at) {
        at += 1;
        if state == DEAD || seen.len() > MOST || (form == utf8::START && !dfa.accepting(state)) {
            return Ok(false);
        }
        for byte in 0..=u8::MAX {
            let Some(form) = utf8::step(form, byte) else { continue };
            let next = (dfa.next(state, byte)?, form);
            if !seen.contains(&next) {
                seen.push(next);
            }
        }
    }
    Ok(true)
}

fn escape(segment: &str) -> String {
    match segment.contains(['~', '/']) {
        true => segment.replace('~', "~0").replace('/', "~1"),
        false => segment.to_owned(),
    }
}
