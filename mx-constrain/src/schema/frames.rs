//! Objects and arrays while they are read: what was asked of them, what they have had, what may come next.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::engine::{Atom, AtomId, Cover, Engine, Interner, Scalar, Type, UsedId};
use super::expr::{Expr, ExprId, Exprs, FALSE, TRUE};
use super::node::{KeyId, NodeId, PatternId};
use super::options::PropertyOrder;
use super::product::{NOWHERE, ProductId};
use super::solve::{Past, covers_item};
use super::strings::StringFact;
use super::trie::Trie;
use crate::ConstrainError;
use crate::hash::{FastHasher, FastMap};

/// What a property name has in common with others, or the position of an item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// This very name.
    Key(KeyId),
    /// Names that no keyword spells out and for which exactly these facts hold.
    Open(Box<[AtomId]>),
    /// The item at this position, or at any later one that is like it.
    Item(u32),
}

pub(super) type ClassId = u32;
pub(super) type CoreId = u32;
pub(super) type PlaceId = u32;
pub(super) type GoalId = u32;
/// See [`Verdict`].
pub(super) type VerdictId = u32;

/// An object or array between two children.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Core {
    pub(super) object: bool,
    /// The facts asked for: a list.
    pub(super) roots: u32,
    /// What the last of them were in the beginning: conditions on which other facts depend.
    pub(super) watch: u32,
    /// Objects: the names so far, a sorted list. Arrays: the values so far, where repetitions matter.
    pub(super) used: u32,
    /// Arrays: the number of items, up to where it matters.
    pub(super) len: u32,
    /// Objects: whether they had a name that is not spelled out in the facts asked for.
    pub(super) open_names: bool,
    /// Whether the value itself is reported; then a hash of what was read.
    pub(super) hash: Option<u128>,
}

/// What is asked of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Goal {
    pub(super) must: ExprId,
    /// Literals whose truth is reported.
    pub(super) reports: Vec<ExprId>,
    /// Whether the value itself is reported.
    pub(super) track: bool,
}

/// What a value was found to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Verdict {
    pub(super) reports: Vec<bool>,
    pub(super) value: Option<Scalar>,
}

/// The hash of values that are not told from others.
const ANY_HASH: u128 = u128::MAX;

/// A name that is not told from others: see [`Reader::mask_state`](super::reader::Reader::mask_state).
pub(super) const ANY_KEY: KeyId = KeyId::MAX;

/// The verdict of values of which nothing is reported.
pub(super) const PLAIN: VerdictId = 0;

/// A condition under which a child counts as evaluated, if it satisfies a literal as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unless {
    pub(super) condition: ExprId,
    pub(super) matching: ExprId,
}

/// A place where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) goal: GoalId,
    /// The frame after the value, if nothing is found out from it; `None` for the document itself.
    pub(super) core: Option<CoreId>,
    /// The facts asked for, with the child as variable, where they depend on it.
    depends: Option<u32>,
    /// What is known of the child in any case.
    fixed: Vec<(ExprId, bool)>,
    /// The name, where the whole object is reported.
    name: KeyId,
}

impl ObjectShape {
    /// Whether a name is spelled out.
    fn names(&self, name: &str) -> bool {
        self.trie.strings().binary_search_by(|s| s.as_ref().cmp(name)).is_ok()
    }
}

impl Place {
    /// The place of the document.
    pub(super) fn document(goal: GoalId) -> Self {
        Self { goal, core: None, depends: None, fixed: Vec::new(), name: 0 }
    }
}

/// What is known about objects of which the same is asked.
#[derive(Debug)]
pub(super) struct ObjectShape {
    pub(super) roots: Arc<[ExprId]>,
    /// Rules about all properties.
    rules: Vec<AtomId>,
    /// The names that keywords spell out.
    pub(super) trie: Trie,
    /// Their order in the schema.
    pub(super) order: FastMap<KeyId, u32>,
    /// Facts about names that are not spelled out.
    pub(super) name_facts: Vec<AtomId>,
    pub(super) product: ProductId,
    pub(super) saturation: u32,
    pub(super) simple: Option<SimpleObject>,
}

/// Objects with a plain list of demands: nothing depends on how a child turns out.
#[derive(Debug)]
pub(super) struct SimpleObject {
    required: Vec<KeyId>,
    forbidden: Vec<KeyId>,
    least: usize,
    most: usize,
}

/// What is known about arrays of which the same is asked.
#[derive(Debug)]
pub(super) struct ArrayShape {
    pub(super) roots: Arc<[ExprId]>,
    rules: Vec<AtomId>,
    /// The index from which all items are alike.
    pub(super) last_class: u32,
    /// The length from which all lengths are alike.
    last_index: u32,
    pub(super) unique: bool,
    /// Greatest length, where nothing depends on how an item turns out.
    simple: Option<u32>,
}

/// All frames of a schema.
#[derive(Debug)]
pub(super) struct Frames {
    pub(super) lists: Interner<Vec<u32>>,
    pub(super) classes: Interner<Class>,
    pub(super) cores: Interner<Core>,
    pub(super) goals: Interner<Goal>,
    pub(super) places: Interner<Place>,
    pub(super) verdicts: Interner<Verdict>,
    objects: FastMap<u32, Arc<ObjectShape>>,
    arrays: FastMap<u32, Arc<ArrayShape>>,
    children: FastMap<(AtomId, ClassId), (ExprId, Arc<[Unless]>)>,
    names: FastMap<(ExprId, ClassId), bool>,
    open_classes: FastMap<u32, Arc<[ClassId]>>,
    /// Goals of children of simple frames, by the facts asked for.
    goals_of: FastMap<(u32, ClassId), Option<GoalId>>,
    allowed: FastMap<(CoreId, ClassId), bool>,
    placed: FastMap<(CoreId, ClassId), Option<PlaceId>>,
    matches: FastMap<(AtomId, KeyId), bool>,
    /// Whether names at a spot, of a length, can still become allowed ones.
    pub(super) name_alive: FastMap<(CoreId, u32, u32, bool), bool>,
    /// Facts about objects, with `oneOf` made simpler.
    pub(super) exclusive: FastMap<ExprId, ExprId>,
    /// Facts asked for with a child as variable.
    pending: FastMap<(u32, ClassId, UsedId), u32>,
}

impl Frames {
    pub(super) fn new() -> Self {
        let mut verdicts = Interner::new();
        verdicts.intern(Verdict { reports: Vec::new(), value: None });
        Self {
            lists: Interner::new(),
            classes: Interner::new(),
            cores: Interner::new(),
            goals: Interner::new(),
            places: Interner::new(),
            verdicts,
            objects: FastMap::default(),
            arrays: FastMap::default(),
            children: FastMap::default(),
            names: FastMap::default(),
            open_classes: FastMap::default(),
            goals_of: FastMap::default(),
            allowed: FastMap::default(),
            placed: FastMap::default(),
            matches: FastMap::default(),
            name_alive: FastMap::default(),
            exclusive: FastMap::default(),
            pending: FastMap::default(),
        }
    }

    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.cores.len() * 120
            + self.places.len() * 160
            + self.lists.len() * 96
            + (self.allowed.len() + self.placed.len() + self.children.len() + self.goals_of.len()) * 40
            + self.objects.len() * 1_024
    }
}

/// 128 bits from two passes of the fast hash.
fn wide_hash(thing: &impl Hash) -> u128 {
    let half = |seed: u64| {
        let mut hasher = FastHasher::default();
        hasher.write_u64(seed);
        thing.hash(&mut hasher);
        hasher.write_u64(seed.rotate_left(17));
        u128::from(hasher.finish())
    };
    half(0x243f_6a88_85a3_08d3) << 64 | half(0x1319_8a2e_0370_7344)
}

impl Engine {
    /// The state of a frame that opens on a value of which something is asked.
    pub(super) fn open_frame(&mut self, goal: GoalId, kind: Type) -> Result<CoreId, ConstrainError> {
        let Goal { must, reports, track } = self.frames.goals.get(goal).clone();
        let mut roots = Vec::with_capacity(1 + reports.len());
        for value in std::iter::once(must).chain(reports) {
            let facts = self.unfold(value, kind)?;
            roots.push(if kind == Type::Object { self.exclusive(facts)? } else { facts });
        }
        let (roots, watch) = self.watched(roots);
        let object = kind == Type::Object;
        let used = match object {
            true => self.frames.lists.intern(Vec::new()),
            false => self.used_values.intern(Vec::new()),
        };
        Ok(self.frames.cores.intern(Core { object, roots, watch, used, len: 0, open_names: false, hash: track.then_some(u128::from(object)) }))
    }

    /// Adds the conditions on which "unevaluated" facts depend, so that what is found out about them is not lost.
    pub(super) fn watched(&mut self, mut roots: Vec<ExprId>) -> (u32, u32) {
        let mut watch: Vec<ExprId> = Vec::new();
        let mut open = self.atoms_of(&roots);
        while let Some(atom) = open.pop() {
            let (Atom::OpenProperties(part) | Atom::OpenItems(part)) = self.atom(atom) else { continue };
            let conditions: Vec<ExprId> = self.open_parts.get(part).conditional.iter().map(|&(c, _)| c).collect();
            for condition in conditions {
                if !watch.contains(&condition) {
                    watch.push(condition);
                    open.extend(self.atoms_of(&[condition]));
                }
            }
        }
        roots.extend(&watch);
        (self.frames.lists.intern(roots), self.frames.lists.intern(watch))
    }

    /// What is left of a watched condition.
    pub(super) fn watched_now(&self, roots: u32, watch: u32, condition: ExprId) -> ExprId {
        let (roots, watch) = (self.frames.lists.get(roots), self.frames.lists.get(watch));
        let at = watch.iter().position(|&c| c == condition);
        at.and_then(|at| roots.get(roots.len() - watch.len() + at)).copied().unwrap_or(condition)
    }

    fn atoms_of(&self, roots: &[ExprId]) -> Vec<AtomId> {
        let mut atoms = Vec::new();
        for &root in roots {
            self.facts.leaves(root, &mut |leaf| atoms.push(leaf));
        }
        atoms.sort_unstable();
        atoms.dedup();
        atoms
    }

    /// What is known about objects of which `roots` is asked.
    pub(super) fn object_shape(&mut self, roots: u32) -> Result<Arc<ObjectShape>, ConstrainError> {
        if let Some(shape) = self.frames.objects.get(&roots) {
            return Ok(shape.clone());
        }
        let list: Arc<[ExprId]> = self.frames.lists.get(roots).clone().into();
        let atoms = self.atoms_of(&list);
        let (mut rules, mut keys, mut declared) = (Vec::new(), Vec::new(), Vec::new());
        let (mut patterns, mut lengths, mut sets) = (Vec::new(), Vec::new(), Vec::new());
        let mut sources: Vec<NodeId> = Vec::new();
        for &atom in &atoms {
            match self.atom(atom) {
                Atom::Properties(node, _) => {
                    rules.push(atom);
                    sources.push(node);
                }
                Atom::OpenProperties(part) => {
                    rules.push(atom);
                    let part = self.open_parts.get(part);
                    let covers = part.covered.iter().chain(part.conditional.iter().flat_map(|(_, covers)| covers));
                    sources.extend(covers.filter_map(|cover| if let Cover::Named(node) = cover { Some(*node) } else { None }));
                    let conditions: Vec<ExprId> = part.conditional.iter().map(|&(condition, _)| condition).collect();
                    keys.extend(self.atoms_of(&conditions).into_iter().filter_map(|a| match self.atom(a) {
                        Atom::Present(key) => Some(key),
                        _ => None,
                    }));
                }
                Atom::Names(names) => {
                    rules.push(atom);
                    let facts = self.unfold(names, Type::String)?;
                    for leaf in self.atoms_of(&[facts]) {
                        match self.atom(leaf) {
                            Atom::Pattern(p) => patterns.push((p, leaf)),
                            Atom::LengthGe(n) => lengths.push((n, leaf)),
                            Atom::StringIn(set) => sets.push(set),
                            _ => {}
                        }
                    }
                }
                Atom::Present(key) => keys.push(key),
                _ => {}
            }
        }
        for node in sources {
            let Some(object) = &self.graph.nodes[node as usize].object else { continue };
            keys.extend(object.properties.iter().map(|&(key, _)| key));
            declared.extend_from_slice(&object.declared);
            for (pattern, _) in object.patterns.clone() {
                let leaf = self.atom_id(Atom::Pattern(pattern));
                patterns.push((pattern, leaf));
            }
        }
        for set in sets {
            for text in self.graph.string_sets[set as usize].clone() {
                keys.push(self.graph.keys.intern(&text));
            }
        }
        patterns.sort_unstable();
        patterns.dedup();
        let mut open_patterns: Vec<(PatternId, AtomId)> = Vec::new();
        for (pattern, leaf) in patterns {
            match self.finite_pattern(pattern)? {
                Some(texts) => keys.extend(texts.iter().map(|text| self.graph.keys.intern(text))),
                None => open_patterns.push((pattern, leaf)),
            }
        }
        if !lengths.is_empty() || !open_patterns.is_empty() {
            keys.push(self.graph.keys.intern(""));
        }
        let mut named: Vec<(Box<str>, KeyId)> = {
            keys.sort_unstable();
            keys.dedup();
            keys.into_iter().map(|key| (self.graph.keys.get(key).into(), key)).collect()
        };
        named.retain(|(text, _)| self.writable(text));
        named.sort_unstable();
        let (texts, keys): (Vec<Box<str>>, Vec<KeyId>) = named.into_iter().unzip();
        let mut order = FastMap::default();
        if self.options.property_order == PropertyOrder::Declared {
            for key in declared.into_iter().chain(keys.iter().copied()) {
                let rank = order.len() as u32;
                order.entry(key).or_insert(rank);
            }
        }
        let saturation = lengths.iter().map(|&(n, _)| n).max().unwrap_or(0);
        let mut name_facts: Vec<AtomId> =
            open_patterns.iter().map(|&(_, leaf)| leaf).chain(lengths.iter().map(|&(_, leaf)| leaf)).collect();
        name_facts.sort_unstable();
        name_facts.dedup();
        let product = self.product(open_patterns.iter().map(|&(pattern, _)| pattern).collect());
        let simple = self.simple_object(&list);
        let trie = Trie::new(texts, keys, |_| true);
        let shape = Arc::new(ObjectShape { roots: list, rules, trie, order, name_facts, product, saturation, simple });
        self.frames.objects.insert(roots, shape.clone());
        Ok(shape)
    }

    fn conjuncts(&self, root: ExprId) -> Option<Vec<(AtomId, bool)>> {
        let leaf = |part: ExprId| match self.facts.get(part) {
            Expr::Leaf(leaf, sign) => Some((*leaf, *sign)),
            _ => None,
        };
        match self.facts.get(root) {
            Expr::Const(true) => Some(Vec::new()),
            Expr::And(parts) => parts.iter().map(|&part| leaf(part)).collect(),
            _ => leaf(root).map(|one| vec![one]),
        }
    }

    fn simple_object(&self, roots: &[ExprId]) -> Option<SimpleObject> {
        let [root] = roots else { return None };
        let mut simple = SimpleObject { required: Vec::new(), forbidden: Vec::new(), least: 0, most: usize::MAX };
        for (atom, sign) in self.conjuncts(*root)? {
            match (self.atom(atom), sign) {
                (Atom::Properties(..) | Atom::Names(_), true) => {}
                (Atom::OpenProperties(part), true) if self.open_parts.get(part).conditional.is_empty() => {}
                (Atom::Present(key), true) => simple.required.push(key),
                (Atom::Present(key), false) => simple.forbidden.push(key),
                (Atom::CountGe(n), true) => simple.least = simple.least.max(n as usize),
                (Atom::CountGe(n), false) => simple.most = simple.most.min((n as usize).saturating_sub(1)),
                _ => return None,
            }
        }
        Some(simple)
    }

    /// What is known about arrays of which `roots` is asked.
    pub(super) fn array_shape(&mut self, roots: u32) -> Arc<ArrayShape> {
        if let Some(shape) = self.frames.arrays.get(&roots) {
            return shape.clone();
        }
        let list: Arc<[ExprId]> = self.frames.lists.get(roots).clone().into();
        let (mut rules, mut last_index, mut last_class, mut unique) = (Vec::new(), 0, 0, false);
        for atom in self.atoms_of(&list) {
            match self.atom(atom) {
                Atom::Items(node, _) => {
                    rules.push(atom);
                    let prefix = self.graph.nodes[node as usize].array.as_ref().map_or(0, |a| a.prefix.len());
                    last_class = last_class.max(prefix as u32);
                }
                Atom::OpenItems(part) => {
                    rules.push(atom);
                    let part = self.open_parts.get(part);
                    for cover in part.covered.iter().chain(part.conditional.iter().flat_map(|(_, covers)| covers)) {
                        if let Cover::First(n) = cover {
                            last_class = last_class.max(*n);
                        }
                    }
                }
                Atom::Contains(..) => rules.push(atom),
                Atom::ItemsGe(n) => last_index = last_index.max(n),
                Atom::Unique => unique = true,
                _ => {}
            }
        }
        let simple = match list.as_ref() {
            [root] => self.conjuncts(*root).and_then(|facts| {
                facts.into_iter().try_fold(u32::MAX, |most, (atom, sign)| match (self.atom(atom), sign) {
                    (Atom::Items(..), true) | (Atom::ItemsGe(_), true) => Some(most),
                    (Atom::ItemsGe(n), false) => Some(most.min(n.saturating_sub(1))),
                    _ => None,
                })
            }),
            _ => None,
        };
        let shape = Arc::new(ArrayShape { roots: list, rules, last_class, last_index: last_index.max(last_class), unique, simple });
        self.frames.arrays.insert(roots, shape.clone());
        shape
    }

    /// What a rule says about children of a class; and the conditions under which it says nothing.
    pub(super) fn child_of(&mut self, rule: AtomId, class: ClassId) -> Result<(ExprId, Arc<[Unless]>), ConstrainError> {
        if let Some((value, conditions)) = self.frames.children.get(&(rule, class)) {
            return Ok((*value, conditions.clone()));
        }
        let mut conditions = Vec::new();
        let value = match self.atom(rule) {
            Atom::Properties(node, scope) => self.property_child(node, scope, class)?,
            Atom::Items(node, scope) => {
                let Class::Item(index) = *self.frames.classes.get(class) else { return Ok((TRUE, Arc::from([]))) };
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
                            conditions.push(Unless { condition: *condition, matching });
                        }
                    }
                }
                value
            }
            _ => TRUE,
        };
        let conditions: Arc<[Unless]> = conditions.into();
        self.frames.children.insert((rule, class), (value, conditions.clone()));
        Ok((value, conditions))
    }

    fn covers(&mut self, cover: &Cover, class: ClassId) -> Result<bool, ConstrainError> {
        match (cover, self.frames.classes.get(class).clone()) {
            (Cover::All, _) => Ok(true),
            (Cover::Named(node), _) => {
                let Some(object) = &self.graph.nodes[*node as usize].object else { return Ok(false) };
                if let Class::Key(key) = self.frames.classes.get(class)
                    && object.property(*key).is_some()
                {
                    return Ok(true);
                }
                let patterns: Vec<PatternId> = object.patterns.iter().map(|&(pattern, _)| pattern).collect();
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

    fn property_child(&mut self, node: NodeId, scope: u32, class: ClassId) -> Result<ExprId, ConstrainError> {
        let Some(object) = &self.graph.nodes[node as usize].object else { return Ok(TRUE) };
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
        let literals: Vec<ExprId> = schemas.into_iter().map(|schema| self.literal(schema, scope)).collect();
        Ok(self.values.and(literals))
    }

    fn name_matches(&mut self, pattern: PatternId, class: ClassId) -> Result<bool, ConstrainError> {
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
    pub(super) fn name_fits(&mut self, names: ExprId, class: ClassId) -> Result<bool, ConstrainError> {
        if let Some(&known) = self.frames.names.get(&(names, class)) {
            return Ok(known);
        }
        let facts = self.unfold(names, Type::String)?;
        let fits = match self.frames.classes.get(class).clone() {
            Class::Key(key) => {
                let text = self.graph.keys.get(key).to_owned();
                self.string_fact(facts, &StringFact::Text(&text))?
            }
            Class::Open(held) => {
                self.facts.evaluate(facts, &mut |leaf| Some(held.binary_search(&leaf).is_ok())).unwrap_or(false)
            }
            Class::Item(_) => true,
        };
        self.frames.names.insert((names, class), fits);
        Ok(fits)
    }

    /// The class of names at a spot, of a length.
    pub(super) fn open_class(&mut self, shape: &ObjectShape, spot: u32, len: u32) -> Result<ClassId, ConstrainError> {
        let mut held = Vec::new();
        for &fact in &shape.name_facts {
            if self.string_atom(fact, &StringFact::Open(shape.product, spot, len))? {
                held.push(fact);
            }
        }
        Ok(self.frames.classes.intern(Class::Open(held.into())))
    }

    /// All classes of names that are not spelled out.
    pub(super) fn open_classes(&mut self, shape: &ObjectShape) -> Result<Arc<[ClassId]>, ConstrainError> {
        let start = self.product_start(shape.product);
        if shape.name_facts.is_empty() {
            return Ok(Arc::from([self.open_class(shape, start, 0)?]));
        }
        let key = self.frames.lists.intern(shape.name_facts.clone());
        if let Some(known) = self.frames.open_classes.get(&key) {
            return Ok(known.clone());
        }
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
            for byte in 0..=u8::MAX {
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

    /// Whether a property of a class may come next in an object.
    pub(super) fn allowed(&mut self, core: CoreId, class: ClassId) -> Result<bool, ConstrainError> {
        let held = self.frames.cores.get(core);
        let (roots, used) = (held.roots, held.used);
        let shape = self.object_shape(roots)?;
        let used = self.frames.lists.get(used);
        let key = match self.frames.classes.get(class) {
            Class::Key(key) => Some(*key),
            _ => None,
        };
        if key.is_some_and(|key| used.binary_search(&key).is_ok()) {
            return Ok(false);
        }
        if self.options.property_order == PropertyOrder::Declared {
            let used = used.clone();
            let rank = |key: &KeyId| shape.order.get(key).copied().unwrap_or(u32::MAX);
            let mine = key.map_or(u32::MAX, |key| rank(&key));
            if used.iter().any(|key| rank(key) > mine) {
                return Ok(false);
            }
            if let Some(simple) = &shape.simple
                && simple.required.iter().any(|r| rank(r) < mine && used.binary_search(r).is_err())
            {
                return Ok(false);
            }
        }
        if let Some(simple) = &shape.simple {
            let used = self.frames.lists.get(self.frames.cores.get(core).used);
            if key.is_some_and(|key| simple.forbidden.contains(&key)) {
                return Ok(false);
            }
            if simple.most != usize::MAX {
                let missing = simple.required.iter().filter(|k| used.binary_search(k).is_err()).count();
                let needed = key.is_some_and(|key| simple.required.contains(&key));
                if used.len() + missing + usize::from(!needed) > simple.most {
                    return Ok(false);
                }
            }
            return Ok(self.simple_goal(roots, &shape, class)?.is_some());
        }
        if let Some(&known) = self.frames.allowed.get(&(core, class)) {
            return Ok(known);
        }
        let watch = self.frames.cores.get(core).watch;
        let depends = self.pending_object(roots, watch, &shape, class)?;
        let must = self.frames.lists.get(depends)[0];
        let past = self.past_with(core, depends, key);
        let answer = must != FALSE && self.can_hold(must, &past)?;
        self.frames.allowed.insert((core, class), answer);
        Ok(answer)
    }

    fn past_with(&mut self, core: CoreId, now: u32, key: Option<KeyId>) -> Past {
        let held = self.frames.cores.get(core);
        let mut used = self.frames.lists.get(held.used).clone();
        // Which open name it will be does not matter; that there is one more does.
        let key = key.unwrap_or(ANY_KEY);
        let at = used.binary_search(&key).unwrap_or_else(|at| at);
        used.insert(at, key);
        Past::Object { roots: held.roots, now, watch: held.watch, used: used.into() }
    }

    fn simple_goal(&mut self, roots: u32, shape: &ObjectShape, class: ClassId) -> Result<Option<GoalId>, ConstrainError> {
        if let Some(&known) = self.frames.goals_of.get(&(roots, class)) {
            return Ok(known);
        }
        let mut values = Vec::with_capacity(shape.rules.len());
        let mut fits = true;
        for &rule in &shape.rules {
            match self.atom(rule) {
                Atom::Names(names) => fits &= self.name_fits(names, class)?,
                _ => values.push(self.child_of(rule, class)?.0),
            }
        }
        let must = self.values.and(values);
        let goal = match fits && self.possible_any(must)? {
            true => Some(self.frames.goals.intern(Goal { must, reports: Vec::new(), track: false })),
            false => None,
        };
        self.frames.goals_of.insert((roots, class), goal);
        Ok(goal)
    }

    /// The facts asked of an object, with a child of a class as variable.
    fn pending_object(&mut self, roots: u32, watch: u32, shape: &ObjectShape, class: ClassId) -> Result<u32, ConstrainError> {
        if let Some(&known) = self.frames.pending.get(&(roots, class, 0)) {
            return Ok(known);
        }
        let mut with: Vec<(AtomId, ExprId)> = Vec::new();
        let mut open: Vec<(AtomId, ExprId, Arc<[Unless]>)> = Vec::new();
        for &rule in &shape.rules {
            if let Atom::Names(names) = self.atom(rule) {
                if !self.name_fits(names, class)? {
                    with.push((rule, FALSE));
                }
                continue;
            }
            let (value, conditions) = self.child_of(rule, class)?;
            self.ask_child(rule, value, conditions, &mut with, &mut open);
        }
        self.ask_unless(roots, watch, open, &mut with);
        let pending = self.replaced(&shape.roots, &with);
        let id = self.frames.lists.intern(pending);
        self.frames.pending.insert((roots, class, 0), id);
        Ok(id)
    }

    fn ask_child(
        &mut self,
        rule: AtomId,
        value: ExprId,
        conditions: Arc<[Unless]>,
        with: &mut Vec<(AtomId, ExprId)>,
        open: &mut Vec<(AtomId, ExprId, Arc<[Unless]>)>,
    ) {
        if value == TRUE {
            return;
        }
        if !conditions.is_empty() {
            open.push((rule, value, conditions));
            return;
        }
        let child = self.child_fact(value);
        let leaf = self.facts.leaf(rule);
        with.push((rule, self.facts.and([leaf, child])));
    }

    /// Rules about what nothing else evaluates: the conditions may depend on the same child.
    fn ask_unless(
        &mut self,
        roots: u32,
        watch: u32,
        mut open: Vec<(AtomId, ExprId, Arc<[Unless]>)>,
        with: &mut Vec<(AtomId, ExprId)>,
    ) {
        // An inner rule is settled before an outer one, whose conditions may name it.
        open.sort_unstable_by_key(|&(rule, ..)| rule);
        for (rule, value, conditions) in open {
            let mut either = vec![self.child_fact(value)];
            for unless in conditions.iter() {
                let now = self.watched_now(roots, watch, unless.condition);
                let now = self.replaced(&[now], with)[0];
                let matching = self.child_fact(unless.matching);
                either.push(self.facts.and([now, matching]));
            }
            let either = self.facts.or(either);
            let leaf = self.facts.leaf(rule);
            with.push((rule, self.facts.and([leaf, either])));
        }
    }

    fn child_fact(&mut self, value: ExprId) -> ExprId {
        match value {
            TRUE | FALSE => value,
            _ => self.fact(Atom::Child(value)),
        }
    }

    fn replaced(&mut self, roots: &[ExprId], with: &[(AtomId, ExprId)]) -> Vec<ExprId> {
        roots
            .iter()
            .map(|&root| {
                self.facts.substitute(root, &mut |_, leaf| with.iter().find(|(atom, _)| *atom == leaf).map(|&(_, new)| new))
            })
            .collect()
    }

    /// The place of the value of a property; `None` when the property is not allowed.
    pub(super) fn property_place(&mut self, core: CoreId, class: ClassId, key: KeyId) -> Result<Option<PlaceId>, ConstrainError> {
        if !self.allowed(core, class)? {
            return Ok(None);
        }
        let held = self.frames.cores.get(core).clone();
        let mut used = self.frames.lists.get(held.used).clone();
        // Behind a name that is not told from others, no other open name is safe.
        let open = !matches!(self.frames.classes.get(class), Class::Key(_));
        if open && used.last() == Some(&ANY_KEY) {
            return Ok(None);
        }
        match used.binary_search(&key) {
            Ok(_) => return Ok(None),
            Err(at) => used.insert(at, key),
        }
        let shape = self.object_shape(held.roots)?;
        let list = self.frames.lists.intern(used.clone());
        let open_names = held.open_names || open;
        let after = self.frames.cores.intern(Core { used: list, open_names, ..held.clone() });
        let name = if held.hash.is_some() { key } else { 0 };
        if shape.simple.is_some() {
            let Some(goal) = self.simple_goal(held.roots, &shape, class)? else { return Ok(None) };
            let goal = self.tracked(goal, held.hash.is_some());
            let place = Place { goal, core: Some(after), depends: None, fixed: Vec::new(), name };
            return Ok(Some(self.frames.places.intern(place)));
        }
        let depends = self.pending_object(held.roots, held.watch, &shape, class)?;
        let past = Past::Object { roots: held.roots, now: depends, watch: held.watch, used: used.into() };
        self.dependent_place(depends, &past, after, name, held.hash.is_some())
    }

    fn tracked(&mut self, goal: GoalId, track: bool) -> GoalId {
        if !track {
            return goal;
        }
        let goal = Goal { track, ..self.frames.goals.get(goal).clone() };
        self.frames.goals.intern(goal)
    }

    fn dependent_place(
        &mut self,
        depends: u32,
        past: &Past,
        after: CoreId,
        name: KeyId,
        track: bool,
    ) -> Result<Option<PlaceId>, ConstrainError> {
        let roots = self.frames.lists.get(depends).clone();
        let demands = self.demands(roots[0], past)?;
        if demands.is_empty() {
            return Ok(None);
        }
        let mut fixed = demands[0].clone();
        fixed.retain(|literal| demands.iter().all(|demand| demand.binary_search(literal).is_ok()));
        let ways: Vec<ExprId> = demands
            .iter()
            .map(|demand| {
                let parts: Vec<ExprId> =
                    demand.iter().map(|&(value, sign)| if sign { value } else { self.values.not(value) }).collect();
                self.values.and(parts)
            })
            .collect();
        let must = self.values.or(ways);
        let mut children = Vec::new();
        for root in &roots {
            self.facts.leaves(*root, &mut |leaf| children.push(leaf));
        }
        children.sort_unstable();
        children.dedup();
        let reports: Vec<ExprId> = children
            .into_iter()
            .filter_map(|leaf| match self.atom(leaf) {
                Atom::Child(value) if fixed.iter().all(|&(known, _)| known != value) => Some(value),
                _ => None,
            })
            .collect();
        let goal = self.frames.goals.intern(Goal { must, reports, track });
        let place = Place { goal, core: Some(after), depends: Some(depends), fixed, name };
        Ok(Some(self.frames.places.intern(place)))
    }

    /// The place of the next item; `None` when there may be no further item.
    pub(super) fn item_place(&mut self, core: CoreId) -> Result<Option<PlaceId>, ConstrainError> {
        let held = self.frames.cores.get(core).clone();
        let shape = self.array_shape(held.roots);
        let class = self.frames.classes.intern(Class::Item(held.len.min(shape.last_class)));
        if let Some(&known) = self.frames.placed.get(&(core, class)) {
            return Ok(known);
        }
        let len = (held.len + 1).min(shape.last_index.saturating_add(1));
        let after = self.frames.cores.intern(Core { len, ..held.clone() });
        let place = match shape.simple {
            Some(most) if held.len >= most => None,
            Some(_) => {
                let mut values = Vec::new();
                for &rule in &shape.rules {
                    values.push(self.child_of(rule, class)?.0);
                }
                let must = self.values.and(values);
                match self.possible_any(must)? {
                    true => {
                        let goal = self.frames.goals.intern(Goal { must, reports: Vec::new(), track: held.hash.is_some() });
                        let place = Place { goal, core: Some(after), depends: None, fixed: Vec::new(), name: 0 };
                        Some(self.frames.places.intern(place))
                    }
                    false => None,
                }
            }
            None => {
                let depends = self.pending_array(held.roots, held.watch, &shape, class, held.used)?;
                let past = Past::Array { roots: held.roots, now: depends, watch: held.watch, len };
                self.dependent_place(depends, &past, after, 0, held.hash.is_some() || shape.unique)?
            }
        };
        self.frames.placed.insert((core, class), place);
        Ok(place)
    }

    fn pending_array(
        &mut self,
        roots: u32,
        watch: u32,
        shape: &ArrayShape,
        class: ClassId,
        used: UsedId,
    ) -> Result<u32, ConstrainError> {
        if let Some(&known) = self.frames.pending.get(&(roots, class, used)) {
            return Ok(known);
        }
        let mut with: Vec<(AtomId, ExprId)> = Vec::new();
        let mut open: Vec<(AtomId, ExprId, Arc<[Unless]>)> = Vec::new();
        for &rule in &shape.rules {
            let leaf = self.facts.leaf(rule);
            if let Atom::Contains(value, n) = self.atom(rule) {
                let matched = self.child_fact(value);
                let missed = self.facts.not(matched);
                let fewer = if n <= 1 { TRUE } else { self.fact(Atom::Contains(value, n - 1)) };
                let (yes, no) = (self.facts.and([matched, fewer]), self.facts.and([missed, leaf]));
                with.push((rule, self.facts.or([yes, no])));
                continue;
            }
            let (value, conditions) = self.child_of(rule, class)?;
            self.ask_child(rule, value, conditions, &mut with, &mut open);
        }
        self.ask_unless(roots, watch, open, &mut with);
        if shape.unique && self.used_values.get(used).iter().any(|v| !matches!(v, Scalar::Composite(_))) {
            let repeated = self.used(used);
            let repeated = self.child_fact(repeated);
            let new = self.facts.not(repeated);
            let unique = self.atom_id(Atom::Unique);
            let leaf = self.facts.leaf(unique);
            with.push((unique, self.facts.and([leaf, new])));
        }
        let pending = self.replaced(&shape.roots, &with);
        let id = self.frames.lists.intern(pending);
        self.frames.pending.insert((roots, class, used), id);
        Ok(id)
    }

    /// The frame after a value stood at a place; `None` when the value is refused there.
    pub(super) fn after_value(&mut self, place: PlaceId, verdict: VerdictId) -> Result<Option<CoreId>, ConstrainError> {
        let held = self.frames.places.get(place).clone();
        let Some(core) = held.core else { return Ok(None) };
        if held.depends.is_none() && verdict == PLAIN {
            return Ok(Some(core));
        }
        let verdict = self.frames.verdicts.get(verdict).clone();
        let mut core = self.frames.cores.get(core).clone();
        if let Some(depends) = held.depends {
            let mut roots = self.frames.lists.get(depends).clone();
            let goal = self.frames.goals.get(held.goal).clone();
            let mut with: Vec<(AtomId, ExprId)> = Vec::new();
            let known = held.fixed.iter().copied().chain(goal.reports.into_iter().zip(verdict.reports.iter().copied()));
            for (value, truth) in known {
                with.push((self.atom_id(Atom::Child(value)), Exprs::constant(truth)));
            }
            let unique = self.atom_id(Atom::Unique);
            if let Some(value) = &verdict.value
                && !core.object
                && self.perhaps_repeated(core.used, value)
                && self.array_shape(core.roots).unique
            {
                return Ok(None);
            }
            if let Some(value) = &verdict.value
                && !core.object
                && self.used_values.get(core.used).binary_search(value).is_ok()
            {
                with.push((unique, FALSE));
            }
            roots = self.replaced(&roots, &with);
            if roots[0] == FALSE {
                return Ok(None);
            }
            let watched = self.frames.lists.get(core.watch).len();
            let asked = &roots[..roots.len() - watched];
            let needed = self.atoms_of(asked).into_iter().any(|atom| match self.atom(atom) {
                Atom::OpenProperties(part) | Atom::OpenItems(part) => !self.open_parts.get(part).conditional.is_empty(),
                _ => false,
            });
            if !needed {
                roots.truncate(roots.len() - watched);
                core.watch = self.frames.lists.intern(Vec::new());
            }
            core.roots = self.frames.lists.intern(roots);
            if core.object {
                let shape = self.object_shape(core.roots)?;
                let used = self.frames.lists.get(core.used);
                core.open_names = used.iter().any(|&key| !shape.names(self.graph.keys.get(key)));
            }
            if !core.object {
                let shape = self.array_shape(core.roots);
                core.len = core.len.min(shape.last_index.saturating_add(1));
                let mut used = match shape.unique {
                    true => self.used_values.get(core.used).clone(),
                    false => Vec::new(),
                };
                if let (true, Some(value)) = (shape.unique, &verdict.value)
                    && let Err(at) = used.binary_search(value)
                {
                    used.insert(at, value.clone());
                }
                core.used = self.used_values.intern(used);
            }
        }
        if let (Some(hash), Some(value)) = (core.hash, &verdict.value) {
            let unknown = matches!(value, Scalar::AnyText | Scalar::AnyComposite);
            core.hash = Some(match core.object {
                _ if unknown || hash == ANY_HASH => ANY_HASH,
                true => hash.wrapping_add(wide_hash(&(held.name, value))),
                false => wide_hash(&(hash, value)),
            });
        }
        Ok(Some(self.frames.cores.intern(core)))
    }

    /// Whether it cannot be known that a value is new, because it or one before is not told from others.
    fn perhaps_repeated(&self, used: UsedId, value: &Scalar) -> bool {
        let used = self.used_values.get(used);
        match value {
            Scalar::AnyComposite => !used.is_empty(),
            _ => used.iter().any(|one| matches!(one, Scalar::AnyText | Scalar::AnyComposite)),
        }
    }

    /// What an object or array is found to be when it closes; `None` when it may not close here.
    pub(super) fn close(&mut self, core: CoreId) -> Option<VerdictId> {
        let held = self.frames.cores.get(core).clone();
        let roots = self.frames.lists.get(held.roots);
        let used: &[KeyId] = if held.object { self.frames.lists.get(held.used) } else { &[] };
        let truth = |root: ExprId| {
            self.facts
                .evaluate(root, &mut |leaf| {
                    Some(match self.atom(leaf) {
                        Atom::Present(key) => used.binary_search(&key).is_ok(),
                        Atom::CountGe(n) => used.len() as u64 >= u64::from(n),
                        Atom::ItemsGe(n) => held.len >= n,
                        Atom::Contains(..) => false,
                        _ => true,
                    })
                })
                .unwrap_or(false)
        };
        if !truth(roots[0]) {
            return None;
        }
        let asked = roots.len() - self.frames.lists.get(held.watch).len();
        let reports: Vec<bool> = roots[1..asked].iter().map(|&root| truth(root)).collect();
        let value = held.hash.map(|hash| if hash == ANY_HASH { Scalar::AnyComposite } else { Scalar::Composite(hash) });
        Some(self.frames.verdicts.intern(Verdict { reports, value }))
    }
}
