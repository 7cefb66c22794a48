//! The compiled schema: literals, atoms, and which values can exist at all.
//!
//! A *literal* is a schema applied to a value. For each type of value it unfolds into a boolean expression over *atoms*,
//! small facts that are found out while the text is read.

use std::collections::BTreeSet;

use super::decimal::Step;
use super::expr::{ExprId, Exprs, FALSE, Leaf, TRUE};
use super::frames::Frames;
use super::node::{Graph, Integer, KeyId, Node, NodeId, PatternId, ResourceId, SetId, types};
use super::numbers::Numbers;
use super::options::SchemaOptions;
use super::strings::StringSpecs;
use crate::hash::FastMap;
use crate::{ByteSet, ConstrainError, Limits};

/// Levels of a value down to which it is looked whether it exists; below, it is taken to.
const MAX_WITNESS_DEPTH: u32 = 48;

/// What is told apart by the first byte of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Type {
    Null,
    No,
    Yes,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    /// All, the cheapest to look at first.
    pub(super) const ALL: [Self; 7] =
        [Self::Null, Self::No, Self::Yes, Self::Number, Self::String, Self::Array, Self::Object];

    fn bit(self) -> u8 {
        match self {
            Self::Null => types::NULL,
            Self::No | Self::Yes => types::BOOLEAN,
            Self::Number => types::NUMBER,
            Self::String => types::STRING,
            Self::Array => types::ARRAY,
            Self::Object => types::OBJECT,
        }
    }
}

/// A dynamic scope: the resources entered, in order, each once. Zero is the empty one.
pub(super) type ScopeId = u32;
/// A set of values that arrays have had (see [`Engine::used_values`]).
pub(super) type UsedId = u32;
/// An interned atom.
pub(super) type AtomId = Leaf;

/// What a literal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Literal {
    /// The value satisfies a schema, read in a dynamic scope.
    Schema(NodeId, ScopeId),
    /// The value is one of a set.
    Used(UsedId),
}

/// A fact about a value of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Atom {
    /// A number without fractional part.
    Integer,
    /// A number written without point and exponent.
    IntegerText,
    /// At least this bound.
    AtLeast(u32),
    /// Above this bound.
    Above(u32),
    Multiple(Step),
    NumberIn(SetId),
    /// At least so many code points.
    LengthGe(u32),
    Pattern(PatternId),
    StringIn(SetId),
    /// All properties satisfy what the keywords of a schema say about them.
    Properties(NodeId, ScopeId),
    /// All properties that nothing else evaluates satisfy a schema; index into [`Engine::open_parts`].
    OpenProperties(u32),
    /// All property names satisfy a literal.
    Names(ExprId),
    Present(KeyId),
    /// At least so many properties.
    CountGe(u32),
    /// All items satisfy what the keywords of a schema say about them.
    Items(NodeId, ScopeId),
    OpenItems(u32),
    /// At least so many items, from here on, satisfy a literal.
    Contains(ExprId, u32),
    /// At least so many items.
    ItemsGe(u32),
    /// No two items are equal.
    Unique,
    /// The child that is read now satisfies a literal.
    Child(ExprId),
}

/// What `unevaluatedProperties` or `unevaluatedItems` looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OpenPart {
    /// What an unevaluated child must satisfy.
    pub(super) value: ExprId,
    /// What is evaluated in any case.
    pub(super) covered: Vec<Cover>,
    /// What is evaluated where a condition holds.
    pub(super) conditional: Vec<(ExprId, Vec<Cover>)>,
}

/// Children that a schema evaluates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Cover {
    All,
    /// The properties and patterns of a schema.
    Named(NodeId),
    /// The first items.
    First(u32),
    /// Items that satisfy a literal.
    Matching(ExprId),
}

/// A compiled schema and everything that was found out about it so far.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) graph: Graph,
    pub(super) options: SchemaOptions,
    pub(super) limits: Limits,
    pub(super) alphabet: ByteSet,
    /// Expressions over literals.
    pub(super) values: Exprs,
    /// Expressions over atoms.
    pub(super) facts: Exprs,
    literals: Interner<Literal>,
    atoms: Interner<Atom>,
    scopes: Interner<Vec<ResourceId>>,
    pub(super) open_parts: Interner<OpenPart>,
    pub(super) used_values: Interner<Vec<Scalar>>,
    unfolded: FastMap<(ExprId, Type), ExprId>,
    possible: FastMap<(ExprId, Type), Known>,
    /// Depth of the search for a value, and the smallest depth that an answer relied on.
    depth: u32,
    lowest: u32,
    /// Work left for the current call.
    pub(super) fuel: u64,
    pub(super) strings: StringSpecs,
    pub(super) numbers: Numbers,
    pub(super) frames: Frames,
}

/// A value that is kept to find repetitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Scalar {
    Null,
    No,
    Yes,
    Number(super::decimal::Decimal),
    Text(KeyId),
    /// An array or object, by the hash of its value.
    Composite(u128),
    /// A string that is not told from others, but is none of those had before: see
    /// [`Home`](crate::machine::Home).
    AnyText,
    /// An array or object that is not told from others.
    AnyComposite,
}

#[derive(Debug, Clone, Copy)]
enum Known {
    /// Being found out, at this depth of the search.
    Open(u32),
    Settled(bool),
}

/// Things kept once, with their numbers.
#[derive(Debug)]
pub(super) struct Interner<T> {
    all: Vec<T>,
    ids: FastMap<T, u32>,
}

impl<T: Clone + Eq + std::hash::Hash> Interner<T> {
    pub(super) fn new() -> Self {
        Self { all: Vec::new(), ids: FastMap::default() }
    }

    pub(super) fn intern(&mut self, thing: T) -> u32 {
        if let Some(&id) = self.ids.get(&thing) {
            return id;
        }
        let id = self.all.len() as u32;
        self.all.push(thing.clone());
        self.ids.insert(thing, id);
        id
    }

    pub(super) fn get(&self, id: u32) -> &T {
        &self.all[id as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

impl Engine {
    pub(super) fn new(graph: Graph, options: SchemaOptions, alphabet: ByteSet, limits: Limits) -> Self {
        let mut scopes = Interner::new();
        scopes.intern(Vec::new());
        let fuel = limits.max_compile_steps;
        Self {
            graph,
            options,
            limits,
            alphabet,
            values: Exprs::new(),
            facts: Exprs::new(),
            literals: Interner::new(),
            atoms: Interner::new(),
            scopes,
            open_parts: Interner::new(),
            used_values: Interner::new(),
            unfolded: FastMap::default(),
            possible: FastMap::default(),
            depth: 0,
            lowest: u32::MAX,
            fuel,
            strings: StringSpecs::new(),
            numbers: Numbers::new(),
            frames: Frames::new(),
        }
    }

    /// Counts work against the limit.
    pub(super) fn spend(&mut self, work: u64) -> Result<(), ConstrainError> {
        match self.fuel.checked_sub(work) {
            Some(rest) => {
                self.fuel = rest;
                Ok(())
            }
            None => Err(ConstrainError::Limit { limit: "max_compile_steps", max: self.limits.max_compile_steps }),
        }
    }

    /// Begins a call from outside: the limit on work counts anew.
    pub(super) fn refuel(&mut self) {
        self.fuel = self.limits.max_compile_steps;
        self.depth = 0;
        self.lowest = u32::MAX;
    }

    /// The atom behind a variable.
    pub(super) fn atom(&self, id: AtomId) -> Atom {
        *self.atoms.get(id)
    }

    /// The number of an atom.
    pub(super) fn atom_id(&mut self, atom: Atom) -> AtomId {
        self.atoms.intern(atom)
    }

    /// An atom as an expression.
    pub(super) fn fact(&mut self, atom: Atom) -> ExprId {
        let id = self.atoms.intern(atom);
        self.facts.leaf(id)
    }

    /// "The value satisfies this schema", where the schema is entered from a dynamic scope.
    pub(super) fn literal(&mut self, node: NodeId, scope: ScopeId) -> ExprId {
        let mut node = node;
        let mut scope = self.enter(scope, node);
        // Schemas that only refer are the schema that they refer to.
        for _ in 0..self.limits.max_nesting {
            let held = &self.graph.nodes[node as usize];
            if let Some(constant) = held.constant {
                return Exprs::constant(constant);
            }
            match held.only_reference() {
                Some(target) => {
                    node = target;
                    scope = self.enter(scope, node);
                }
                None if held.says_nothing() => return TRUE,
                None => break,
            }
        }
        let leaf = self.literals.intern(Literal::Schema(node, scope));
        self.values.leaf(leaf)
    }

    /// "The value is one of these", for values that repeat.
    pub(super) fn used(&mut self, used: UsedId) -> ExprId {
        let leaf = self.literals.intern(Literal::Used(used));
        self.values.leaf(leaf)
    }

    fn enter(&mut self, scope: ScopeId, node: NodeId) -> ScopeId {
        if !self.graph.dynamic {
            return 0;
        }
        let resource = self.graph.nodes[node as usize].resource;
        let mut list = self.scopes.get(scope).clone();
        if list.contains(&resource) {
            return scope;
        }
        list.push(resource);
        self.scopes.intern(list)
    }

    /// A combination of literals for values of one type.
    pub(super) fn unfold(&mut self, value: ExprId, kind: Type) -> Result<ExprId, ConstrainError> {
        self.unfold_at(value, kind, 0)
    }

    fn unfold_at(&mut self, value: ExprId, kind: Type, depth: usize) -> Result<ExprId, ConstrainError> {
        use super::expr::Expr;
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

    fn unfold_all(&mut self, parts: &[ExprId], kind: Type, depth: usize) -> Result<Vec<ExprId>, ConstrainError> {
        parts.iter().map(|&part| self.unfold_at(part, kind, depth + 1)).collect()
    }

    fn unfold_schema(&mut self, node: NodeId, scope: ScopeId, kind: Type, depth: usize) -> Result<ExprId, ConstrainError> {
        let literal = self.literal(node, scope);
        self.unfold_at(literal, kind, depth + 1)
    }

    fn unfold_used(&mut self, used: UsedId, kind: Type) -> ExprId {
        let values = self.used_values.get(used).clone();
        match kind {
            Type::Null => Exprs::constant(values.contains(&Scalar::Null)),
            Type::No => Exprs::constant(values.contains(&Scalar::No)),
            Type::Yes => Exprs::constant(values.contains(&Scalar::Yes)),
            Type::Number => {
                let set: BTreeSet<_> =
                    values.iter().filter_map(|v| if let Scalar::Number(n) = v { Some(n.clone()) } else { None }).collect();
                if set.is_empty() {
                    return FALSE;
                }
                self.graph.number_sets.push(set.into_iter().collect());
                self.fact(Atom::NumberIn(self.graph.number_sets.len() as SetId - 1))
            }
            Type::String => {
                let set: BTreeSet<Box<str>> = values
                    .iter()
                    .filter_map(|v| if let Scalar::Text(t) = v { Some(self.graph.keys.get(*t).into()) } else { None })
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

    fn unfold_node(&mut self, id: NodeId, scope: ScopeId, kind: Type, depth: usize) -> Result<ExprId, ConstrainError> {
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
    fn own_facts(&mut self, id: NodeId, scope: ScopeId, kind: Type, parts: &mut Vec<ExprId>) -> Result<(), ConstrainError> {
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
                    let lower = number.minimum.iter().map(|&(bound, excluded)| match excluded {
                        true => (Atom::Above(bound), true),
                        false => (Atom::AtLeast(bound), true),
                    });
                    atoms.extend(lower);
                    let upper = number.maximum.iter().map(|&(bound, excluded)| match excluded {
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
                    atoms.extend(object.required.iter().map(|&key| (Atom::Present(key), true)));
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
                        let others: Vec<_> = others.into_iter().map(|other| self.fact(Atom::Present(other))).collect();
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
    fn own_values(
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
                    let list = if kind == Type::Array { values.arrays.clone() } else { values.objects.clone() };
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
    fn applied_facts(
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
        let Some(apply) = &self.graph.nodes[id as usize].apply else { return Ok(()) };
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
    fn targets(&self, id: NodeId, scope: ScopeId) -> Vec<NodeId> {
        let Some(apply) = &self.graph.nodes[id as usize].apply else { return Vec::new() };
        let mut targets: Vec<NodeId> = apply.refs.iter().chain(&apply.all_of).copied().collect();
        for reference in &apply.dynamic_refs {
            let outermost = self.scopes.get(scope).iter().find_map(|resource| reference.targets.get(resource));
            targets.push(outermost.copied().unwrap_or(reference.fallback));
        }
        targets
    }

    fn open_properties(&mut self, id: NodeId, scope: ScopeId, parts: &mut Vec<ExprId>) -> Result<(), ConstrainError> {
        let Some(schema) = self.graph.nodes[id as usize].object.as_ref().and_then(|o| o.unevaluated) else {
            return Ok(());
        };
        let value = self.literal(schema, scope);
        let mut part = OpenPart { value, covered: Vec::new(), conditional: Vec::new() };
        self.cover(id, scope, Type::Object, TRUE, true, 0, &mut part)?;
        if value != TRUE && !part.covered.contains(&Cover::All) {
            let part = self.open_parts.intern(part.tidy());
            parts.push(self.fact(Atom::OpenProperties(part)));
        }
        Ok(())
    }

    fn open_items(&mut self, id: NodeId, scope: ScopeId, parts: &mut Vec<ExprId>) -> Result<(), ConstrainError> {
        let Some(schema) = self.graph.nodes[id as usize].array.as_ref().and_then(|a| a.unevaluated) else {
            return Ok(());
        };
        let value = self.literal(schema, scope);
        let mut part = OpenPart { value, covered: Vec::new(), conditional: Vec::new() };
        self.cover(id, scope, Type::Array, TRUE, true, 0, &mut part)?;
        if value != TRUE && !part.covered.contains(&Cover::All) {
            let part = self.open_parts.intern(part.tidy());
            parts.push(self.fact(Atom::OpenItems(part)));
        }
        Ok(())
    }

    /// Collects what a schema evaluates where `condition` holds.
    #[allow(clippy::too_many_arguments)]
    fn cover(
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
        let Some(apply) = &self.graph.nodes[id as usize].apply else { return Ok(()) };
        let branches: Vec<NodeId> = apply.any_of.iter().chain(&apply.one_of).flatten().copied().collect();
        let (test, then, otherwise) = (apply.condition, apply.then, apply.otherwise);
        for branch in branches {
            let held = self.unfold_schema(branch, scope, kind, depth)?;
            let condition = self.facts.and([condition, held]);
            self.cover(branch, scope, kind, condition, false, depth + 1, out)?;
        }
        if let Some(test) = test {
            let held = self.unfold_schema(test, scope, kind, depth)?;
            let failed = self.facts.not(held);
            let (yes, no) = (self.facts.and([condition, held]), self.facts.and([condition, failed]));
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

    /// Whether some value satisfies a combination of literals.
    pub(super) fn possible_any(&mut self, value: ExprId) -> Result<bool, ConstrainError> {
        match value {
            TRUE => return Ok(true),
            FALSE => return Ok(false),
            _ => {}
        }
        for kind in Type::ALL {
            if self.possible(value, kind)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether some value of a type satisfies a combination of literals.
    ///
    /// Values are finite, so a value that would have to contain one like itself does not exist: what is being found out
    /// counts as impossible on the way. A negative answer that relied on this is kept only by the one it relied on.
    pub(super) fn possible(&mut self, value: ExprId, kind: Type) -> Result<bool, ConstrainError> {
        match self.possible.get(&(value, kind)) {
            Some(Known::Settled(known)) => return Ok(*known),
            Some(Known::Open(depth)) => {
                self.lowest = self.lowest.min(*depth);
                return Ok(false);
            }
            None => {}
        }
        self.spend(1)?;
        if self.depth >= MAX_WITNESS_DEPTH {
            return Ok(true);
        }
        let facts = self.unfold(value, kind)?;
        let answer = match (facts, kind) {
            (TRUE, _) => true,
            (FALSE, _) => false,
            (_, Type::Number) => self.number_exists(facts)?,
            (_, Type::String) => self.string_exists(facts)?,
            (_, Type::Array | Type::Object) => {
                let outer = std::mem::replace(&mut self.lowest, u32::MAX);
                let depth = self.depth;
                self.possible.insert((value, kind), Known::Open(depth));
                self.depth += 1;
                let answer = self.composite_exists(facts, kind);
                self.depth -= 1;
                self.possible.remove(&(value, kind));
                let lowest = self.lowest;
                self.lowest = outer.min(if lowest >= depth { u32::MAX } else { lowest });
                let answer = answer?;
                if !answer && lowest < depth {
                    return Ok(false);
                }
                answer
            }
            _ => false,
        };
        self.possible.insert((value, kind), Known::Settled(answer));
        Ok(answer)
    }

    /// A schema that a combination of literals is about.
    pub(super) fn value_pointer(&self, value: ExprId) -> String {
        let mut first = None;
        self.values.leaves(value, &mut |leaf| {
            if let Literal::Schema(node, _) = *self.literals.get(leaf) {
                first = first.or(Some(node));
            }
        });
        first.map(|node| self.graph.pointer(node)).unwrap_or_default()
    }

    /// A schema that a combination of facts comes from.
    pub(super) fn fact_pointer(&self, facts: ExprId) -> String {
        let mut first = None;
        self.facts.leaves(facts, &mut |leaf| {
            if let Atom::Properties(node, _) | Atom::Items(node, _) = self.atom(leaf) {
                first = first.or(Some(node));
            }
        });
        first.map(|node| self.graph.pointer(node)).unwrap_or_default()
    }

    /// The names that may come next in an object, in words.
    pub(super) fn next_names(&mut self, core: u32) -> String {
        const SHOWN: usize = 8;
        let roots = self.frames.cores.get(core).roots;
        let Ok(shape) = self.object_shape(roots) else { return String::new() };
        let mut names = Vec::new();
        for (i, name) in shape.trie.strings().iter().enumerate() {
            let class = self.key_class(shape.trie.key(i));
            if names.len() < SHOWN && self.allowed(core, class).unwrap_or(false) {
                names.push(format!("`{name}`"));
            }
        }
        match names.is_empty() {
            true => "the end of the object, or another property where the schema allows one".to_owned(),
            false => format!("one of the properties {}", names.join(", ")),
        }
    }

    /// Entries in tables that grow.
    pub(super) fn table_len(&self) -> usize {
        self.values.len() + self.facts.len() + self.unfolded.len() + self.possible.len() + self.graph.keys.len()
    }
}

impl OpenPart {
    fn tidy(mut self) -> Self {
        self.covered.sort_unstable();
        self.covered.dedup();
        self
    }
}

impl Node {
    fn bare(&self) -> bool {
        self.types == types::ALL
            && self.values.is_empty()
            && self.integer.is_none()
            && self.number.is_none()
            && self.string.is_none()
            && self.array.is_none()
            && self.object.is_none()
    }

    /// The schema that this one consists of, when it only refers to it.
    fn only_reference(&self) -> Option<NodeId> {
        let apply = self.apply.as_ref().filter(|_| self.bare())?;
        let plain = apply.dynamic_refs.is_empty()
            && apply.any_of.is_none()
            && apply.one_of.is_none()
            && apply.not.is_none()
            && apply.condition.is_none();
        match (plain, apply.refs.as_slice(), apply.all_of.as_slice()) {
            (true, [one], []) | (true, [], [one]) => Some(*one),
            _ => None,
        }
    }

    fn says_nothing(&self) -> bool {
        self.bare() && self.apply.is_none()
    }
}
