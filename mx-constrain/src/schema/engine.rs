//! The compiled schema: literals, atoms, and which values can exist at all.
//!
//! A *literal* is a schema applied to a value. For each type of value it unfolds into a boolean expression over *atoms*,
//! small facts that are found out while the text is read.

use super::decimal::Step;
use super::expr::{ExprId, Exprs, FALSE, Leaf, TRUE};
use super::frames::Frames;
use super::node::{Graph, KeyId, Node, NodeId, PatternId, ResourceId, SetId, types};
use super::numbers::Numbers;
use super::options::SchemaOptions;
use super::strings::StringSpecs;
use crate::hash::FastMap;
use crate::{ByteSet, ConstrainError, Limits};

/// Levels of a value down to which it is looked whether it exists; below, it is taken to.
pub(super) const MAX_WITNESS_DEPTH: u32 = 48;

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
    pub(super) const ALL: [Self; 7] = [
        Self::Null,
        Self::No,
        Self::Yes,
        Self::Number,
        Self::String,
        Self::Array,
        Self::Object,
    ];

    pub(super) fn bit(self) -> u8 {
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
pub(super) enum Literal {
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
    pub(super) literals: Interner<Literal>,
    pub(super) atoms: Interner<Atom>,
    pub(super) scopes: Interner<Vec<ResourceId>>,
    pub(super) open_parts: Interner<OpenPart>,
    pub(super) used_values: Interner<Vec<Scalar>>,
    pub(super) unfolded: FastMap<(ExprId, Type), ExprId>,
    pub(super) possible: FastMap<(ExprId, Type), Known>,
    /// Depth of the search for a value, and the smallest depth that an answer relied on.
    pub(super) depth: u32,
    pub(super) lowest: u32,
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
pub(super) enum Known {
    /// Being found out, at this depth of the search.
    Open(u32),
    Settled(bool),
}

/// Things kept once, with their numbers.
#[derive(Debug)]
pub(super) struct Interner<T> {
    pub(super) all: Vec<T>,
    pub(super) ids: FastMap<T, u32>,
}

impl<T: Clone + Eq + std::hash::Hash> Interner<T> {
    pub(super) fn new() -> Self {
        Self {
            all: Vec::new(),
            ids: FastMap::default(),
        }
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
    pub(super) fn new(
        graph: Graph,
        options: SchemaOptions,
        alphabet: ByteSet,
        limits: Limits,
    ) -> Self {
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
            None => Err(ConstrainError::Limit {
                limit: "max_compile_steps",
                max: self.limits.max_compile_steps,
            }),
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

    pub(super) fn enter(&mut self, scope: ScopeId, node: NodeId) -> ScopeId {
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
        first
            .map(|node| self.graph.pointer(node))
            .unwrap_or_default()
    }

    /// A schema that a combination of facts comes from.
    pub(super) fn fact_pointer(&self, facts: ExprId) -> String {
        let mut first = None;
        self.facts.leaves(facts, &mut |leaf| {
            if let Atom::Properties(node, _) | Atom::Items(node, _) = self.atom(leaf) {
                first = first.or(Some(node));
            }
        });
        first
            .map(|node| self.graph.pointer(node))
            .unwrap_or_default()
    }

    /// The names that may come next in an object, in words.
    pub(super) fn next_names(&mut self, core: u32) -> String {
        const SHOWN: usize = 8;
        let roots = self.frames.cores.get(core).roots;
        let Ok(shape) = self.object_shape(roots) else {
            return String::new();
        };
        let mut names = Vec::new();
        for (i, name) in shape.trie.strings().iter().enumerate() {
            let class = self.key_class(shape.trie.key(i));
            if names.len() < SHOWN && self.allowed(core, class).unwrap_or(false) {
                names.push(format!("`{name}`"));
            }
        }
        match names.is_empty() {
            true => {
                "the end of the object, or another property where the schema allows one".to_owned()
            }
            false => format!("one of the properties {}", names.join(", ")),
        }
    }

    /// Entries in tables that grow.
    pub(super) fn table_len(&self) -> usize {
        self.values.len()
            + self.facts.len()
            + self.unfolded.len()
            + self.possible.len()
            + self.graph.keys.len()
    }
}

impl OpenPart {
    pub(super) fn tidy(mut self) -> Self {
        self.covered.sort_unstable();
        self.covered.dedup();
        self
    }
}

impl Node {
    pub(super) fn bare(&self) -> bool {
        self.types == types::ALL
            && self.values.is_empty()
            && self.integer.is_none()
            && self.number.is_none()
            && self.string.is_none()
            && self.array.is_none()
            && self.object.is_none()
    }

    /// The schema that this one consists of, when it only refers to it.
    pub(super) fn only_reference(&self) -> Option<NodeId> {
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

    pub(super) fn says_nothing(&self) -> bool {
        self.bare() && self.apply.is_none()
    }
}
