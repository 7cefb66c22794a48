//! What is asked of an object or array, looked at once for all that are asked the same.

use std::sync::Arc;

use super::engine::{Atom, AtomId, Cover, Engine, Type};
use super::expr::{Expr, ExprId};
use super::frames::{ArrayShape, ObjectShape, SimpleObject};
use super::node::{KeyId, NodeId, PatternId};
use super::options::PropertyOrder;
use super::trie::Trie;
use crate::ConstrainError;
use crate::hash::FastMap;

impl Engine {
    /// Adds the conditions on which "unevaluated" facts depend, so that what is found out about them is not lost.
    pub(super) fn watched(&mut self, mut roots: Vec<ExprId>) -> (u32, u32) {
        let mut watch: Vec<ExprId> = Vec::new();
        let mut open = self.atoms_of(&roots);
        while let Some(atom) = open.pop() {
            let (Atom::OpenProperties(part) | Atom::OpenItems(part)) = self.atom(atom) else {
                continue;
            };
            let conditions: Vec<ExprId> = self
                .open_parts
                .get(part)
                .conditional
                .iter()
                .map(|&(c, _)| c)
                .collect();
            for condition in conditions {
                if !watch.contains(&condition) {
                    watch.push(condition);
                    open.extend(self.atoms_of(&[condition]));
                }
            }
        }
        roots.extend(&watch);
        (
            self.frames.lists.intern(roots),
            self.frames.lists.intern(watch),
        )
    }

    /// What is left of a watched condition.
    pub(super) fn watched_now(&self, roots: u32, watch: u32, condition: ExprId) -> ExprId {
        let (roots, watch) = (self.frames.lists.get(roots), self.frames.lists.get(watch));
        let at = watch.iter().position(|&c| c == condition);
        at.and_then(|at| roots.get(roots.len() - watch.len() + at))
            .copied()
            .unwrap_or(condition)
    }

    pub(super) fn atoms_of(&self, roots: &[ExprId]) -> Vec<AtomId> {
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
                    let covers = part
                        .covered
                        .iter()
                        .chain(part.conditional.iter().flat_map(|(_, covers)| covers));
                    sources.extend(covers.filter_map(|cover| {
                        if let Cover::Named(node) = cover {
                            Some(*node)
                        } else {
                            None
                        }
                    }));
                    let conditions: Vec<ExprId> = part
                        .conditional
                        .iter()
                        .map(|&(condition, _)| condition)
                        .collect();
                    keys.extend(self.atoms_of(&conditions).into_iter().filter_map(|a| {
                        match self.atom(a) {
                            Atom::Present(key) => Some(key),
                            _ => None,
                        }
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
            let Some(object) = &self.graph.nodes[node as usize].object else {
                continue;
            };
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
            keys.into_iter()
                .map(|key| (self.graph.keys.get(key).into(), key))
                .collect()
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
        let mut name_facts: Vec<AtomId> = open_patterns
            .iter()
            .map(|&(_, leaf)| leaf)
            .chain(lengths.iter().map(|&(_, leaf)| leaf))
            .collect();
        name_facts.sort_unstable();
        name_facts.dedup();
        let product = self.product(open_patterns.iter().map(|&(pattern, _)| pattern).collect());
        let simple = self.simple_object(&list);
        let trie = Trie::new(texts, keys, |_| true);
        let shape = Arc::new(ObjectShape {
            roots: list,
            rules,
            trie,
            order,
            name_facts,
            product,
            saturation,
            simple,
        });
        self.frames.objects.insert(roots, shape.clone());
        Ok(shape)
    }

    pub(super) fn conjuncts(&self, root: ExprId) -> Option<Vec<(AtomId, bool)>> {
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

    pub(super) fn simple_object(&self, roots: &[ExprId]) -> Option<SimpleObject> {
        let [root] = roots else { return None };
        let mut simple = SimpleObject {
            required: Vec::new(),
            forbidden: Vec::new(),
            least: 0,
            most: usize::MAX,
        };
        for (atom, sign) in self.conjuncts(*root)? {
            match (self.atom(atom), sign) {
                (Atom::Properties(..) | Atom::Names(_), true) => {}
                (Atom::OpenProperties(part), true)
                    if self.open_parts.get(part).conditional.is_empty() => {}
                (Atom::Present(key), true) => simple.required.push(key),
                (Atom::Present(key), false) => simple.forbidden.push(key),
                (Atom::CountGe(n), true) => simple.least = simple.least.max(n as usize),
                (Atom::CountGe(n), false) => {
                    simple.most = simple.most.min((n as usize).saturating_sub(1))
                }
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
                    let prefix = self.graph.nodes[node as usize]
                        .array
                        .as_ref()
                        .map_or(0, |a| a.prefix.len());
                    last_class = last_class.max(prefix as u32);
                }
                Atom::OpenItems(part) => {
                    rules.push(atom);
                    let part = self.open_parts.get(part);
                    for cover in part
                        .covered
                        .iter()
                        .chain(part.conditional.iter().flat_map(|(_, covers)| covers))
                    {
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
                facts.into_iter().try_fold(u32::MAX, |most, (atom, sign)| {
                    match (self.atom(atom), sign) {
                        (Atom::Items(..), true) | (Atom::ItemsGe(_), true) => Some(most),
                        (Atom::ItemsGe(n), false) => Some(most.min(n.saturating_sub(1))),
                        _ => None,
                    }
                })
            }),
            _ => None,
        };
        let shape = Arc::new(ArrayShape {
            roots: list,
            rules,
            last_class,
            last_index: last_index.max(last_class),
            unique,
            simple,
        });
        self.frames.arrays.insert(roots, shape.clone());
        shape
    }
}
