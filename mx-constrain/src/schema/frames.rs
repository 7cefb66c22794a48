//! Objects and arrays while they are read: what was asked of them, what they have had, what may come next.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::engine::{Atom, AtomId, Engine, Interner, Scalar, Type, UsedId};
use super::expr::{ExprId, Exprs, FALSE};
use super::node::KeyId;
use super::product::{ProductId, Spot};
use super::trie::Trie;
use crate::ConstrainError;
use crate::hash::{FastHasher, FastMap};
use crate::lexical::Chars;

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
/// Whether names at a spot, of a length, can be completed; last: whether they may end there.
type NamesAlive = FastMap<(Spot, u32, bool), bool>;
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
pub(super) const ANY_HASH: u128 = u128::MAX;

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

/// What a rule says about a child, and when it says nothing.
pub(super) type ChildRule = (ExprId, Arc<[Unless]>);

/// A place where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) goal: GoalId,
    /// The frame after the value, if nothing is found out from it; `None` for the document itself.
    pub(super) core: Option<CoreId>,
    /// The facts asked for, with the child as variable, where they depend on it.
    pub(super) depends: Option<u32>,
    /// What is known of the child in any case.
    pub(super) fixed: Vec<(ExprId, bool)>,
    /// The name, where the whole object is reported.
    pub(super) name: KeyId,
}

impl ObjectShape {
    /// The properties that are required, where nothing depends on how a child turns out.
    pub(super) fn required(&self) -> &[KeyId] {
        self.simple.as_ref().map_or(&[], |simple| &simple.required)
    }

    /// Whether a name is spelled out.
    pub(super) fn names(&self, name: &str) -> bool {
        self.trie
            .strings()
            .binary_search_by(|s| s.as_ref().cmp(name))
            .is_ok()
    }
}

impl ArrayShape {
    /// Whether nothing depends on how an item turns out.
    pub(super) fn is_simple(&self) -> bool {
        self.simple.is_some()
    }
}

impl Place {
    /// The place of the document.
    pub(super) fn document(goal: GoalId) -> Self {
        Self {
            goal,
            core: None,
            depends: None,
            fixed: Vec::new(),
            name: 0,
        }
    }
}

/// What is known about objects of which the same is asked.
#[derive(Debug)]
pub(super) struct ObjectShape {
    pub(super) roots: Arc<[ExprId]>,
    /// Rules about all properties.
    pub(super) rules: Vec<AtomId>,
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
    pub(super) required: Vec<KeyId>,
    pub(super) forbidden: Vec<KeyId>,
    pub(super) least: usize,
    pub(super) most: usize,
}

/// What is known about arrays of which the same is asked.
#[derive(Debug)]
pub(super) struct ArrayShape {
    pub(super) roots: Arc<[ExprId]>,
    pub(super) rules: Vec<AtomId>,
    /// The index from which all items are alike.
    pub(super) last_class: u32,
    /// The length from which all lengths are alike.
    pub(super) last_index: u32,
    pub(super) unique: bool,
    /// Greatest length, where nothing depends on how an item turns out.
    pub(super) simple: Option<u32>,
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
    pub(super) objects: FastMap<u32, Arc<ObjectShape>>,
    pub(super) arrays: FastMap<u32, Arc<ArrayShape>>,
    pub(super) children: FastMap<(AtomId, ClassId), ChildRule>,
    pub(super) names: FastMap<(ExprId, ClassId), bool>,
    pub(super) open_classes: FastMap<u32, Arc<[ClassId]>>,
    /// Goals of children of simple frames, by the facts asked for.
    pub(super) goals_of: FastMap<(u32, ClassId), Option<GoalId>>,
    pub(super) allowed: FastMap<(CoreId, ClassId), bool>,
    pub(super) placed: FastMap<(CoreId, ClassId), Option<PlaceId>>,
    pub(super) matches: FastMap<(AtomId, KeyId), bool>,
    /// The classes of open names that an object may still have: a list.
    pub(super) good_names: FastMap<CoreId, u32>,
    /// Whether names at a spot, of a length, can still become allowed ones; by the facts asked for and the allowed classes.
    pub(super) name_alive: FastMap<(u32, u32), NamesAlive>,
    /// Characters that may follow in names of a length, by the same.
    pub(super) name_characters: FastMap<(u32, u32, u32), FastMap<Spot, Arc<Chars>>>,
    /// Least ranks of values, see [`Engine::rank`].
    pub(super) ranks: FastMap<(ExprId, u32), Option<(u32, Type)>>,
    /// Facts about objects, with `oneOf` made simpler.
    pub(super) exclusive: FastMap<ExprId, ExprId>,
    /// Facts asked for with a child as variable.
    pub(super) pending: FastMap<(u32, ClassId, UsedId), u32>,
}

impl Frames {
    pub(super) fn new() -> Self {
        let mut verdicts = Interner::new();
        verdicts.intern(Verdict {
            reports: Vec::new(),
            value: None,
        });
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
            good_names: FastMap::default(),
            name_alive: FastMap::default(),
            name_characters: FastMap::default(),
            ranks: FastMap::default(),
            exclusive: FastMap::default(),
            pending: FastMap::default(),
        }
    }

    /// Memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.cores.len() * 120
            + self.places.len() * 160
            + self.lists.len() * 96
            + (self.allowed.len() + self.placed.len() + self.children.len() + self.goals_of.len())
                * 40
            + self.objects.len() * 1_024
    }
}

/// 128 bits from two passes of the fast hash.
pub(super) fn wide_hash(thing: &impl Hash) -> u128 {
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
    pub(super) fn open_frame(
        &mut self,
        goal: GoalId,
        kind: Type,
    ) -> Result<CoreId, ConstrainError> {
        let Goal {
            must,
            reports,
            track,
        } = self.frames.goals.get(goal).clone();
        let mut roots = Vec::with_capacity(1 + reports.len());
        for value in std::iter::once(must).chain(reports) {
            let facts = self.unfold(value, kind)?;
            roots.push(if kind == Type::Object {
                self.exclusive(facts)?
            } else {
                facts
            });
        }
        let (roots, watch) = self.watched(roots);
        let object = kind == Type::Object;
        let core = self.empty_core(roots, watch, object);
        if !track {
            return Ok(core);
        }
        let core = Core {
            hash: Some(u128::from(object)),
            ..self.frames.cores.get(core).clone()
        };
        Ok(self.frames.cores.intern(core))
    }

    /// An object or array that had nothing yet.
    pub(super) fn empty_core(&mut self, roots: u32, watch: u32, object: bool) -> CoreId {
        let used = match object {
            true => self.frames.lists.intern(Vec::new()),
            false => self.used_values.intern(Vec::new()),
        };
        self.frames.cores.intern(Core {
            object,
            roots,
            watch,
            used,
            len: 0,
            open_names: false,
            hash: None,
        })
    }

    /// The frame after a value stood at a place; `None` when the value is refused there.
    pub(super) fn after_value(
        &mut self,
        place: PlaceId,
        verdict: VerdictId,
    ) -> Result<Option<CoreId>, ConstrainError> {
        let held = self.frames.places.get(place).clone();
        let Some(core) = held.core else {
            return Ok(None);
        };
        if held.depends.is_none() && verdict == PLAIN {
            return Ok(Some(core));
        }
        let verdict = self.frames.verdicts.get(verdict).clone();
        let mut core = self.frames.cores.get(core).clone();
        if let Some(depends) = held.depends {
            let mut roots = self.frames.lists.get(depends).clone();
            let goal = self.frames.goals.get(held.goal).clone();
            let mut with: Vec<(AtomId, ExprId)> = Vec::new();
            let known = held.fixed.iter().copied().chain(
                goal.reports
                    .into_iter()
                    .zip(verdict.reports.iter().copied()),
            );
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
            let needed = self
                .atoms_of(asked)
                .into_iter()
                .any(|atom| match self.atom(atom) {
                    Atom::OpenProperties(part) | Atom::OpenItems(part) => {
                        !self.open_parts.get(part).conditional.is_empty()
                    }
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
                core.open_names = used
                    .iter()
                    .any(|&key| !shape.names(self.graph.keys.get(key)));
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
    pub(super) fn perhaps_repeated(&self, used: UsedId, value: &Scalar) -> bool {
        let used = self.used_values.get(used);
        match value {
            Scalar::AnyComposite => !used.is_empty(),
            _ => used
                .iter()
                .any(|one| matches!(one, Scalar::AnyText | Scalar::AnyComposite)),
        }
    }

    /// What an object or array is found to be when it closes; `None` when it may not close here.
    pub(super) fn close(&mut self, core: CoreId) -> Option<VerdictId> {
        let held = self.frames.cores.get(core).clone();
        let roots = self.frames.lists.get(held.roots);
        let used: &[KeyId] = if held.object {
            self.frames.lists.get(held.used)
        } else {
            &[]
        };
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
        let value = held.hash.map(|hash| {
            if hash == ANY_HASH {
                Scalar::AnyComposite
            } else {
                Scalar::Composite(hash)
            }
        });
        Some(self.frames.verdicts.intern(Verdict { reports, value }))
    }
}
