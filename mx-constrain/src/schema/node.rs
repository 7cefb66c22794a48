//! Schemas in the form that the machine works on: every keyword read, every reference resolved.

use std::collections::BTreeMap;

use super::decimal::{Decimal, Step};
use crate::hash::FastMap;
use crate::lexical::Dfa;

/// A schema object (or boolean).
pub(super) type NodeId = u32;
/// A string that stands as a property name somewhere, or was read as one.
pub(super) type KeyId = u32;
/// A pattern: of `pattern`, `patternProperties` or a format.
pub(super) type PatternId = u32;
/// A set of strings or of numbers.
pub(super) type SetId = u32;
/// A schema resource: a document, or a part with its own `$id`.
pub(super) type ResourceId = u32;

/// Types of JSON values, as bits.
pub(super) mod types {
    pub(in super::super) const NULL: u8 = 1;
    pub(in super::super) const BOOLEAN: u8 = 2;
    pub(in super::super) const NUMBER: u8 = 4;
    pub(in super::super) const STRING: u8 = 8;
    pub(in super::super) const ARRAY: u8 = 16;
    pub(in super::super) const OBJECT: u8 = 32;
    pub(in super::super) const ALL: u8 = 63;
}

/// Which numbers `integer` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    /// Those without a fractional part, as `1.0`.
    ByValue,
    /// Those written without point and exponent (draft 4).
    ByText,
}

/// A schema.
#[derive(Debug)]
pub(super) struct Node {
    /// The schema that holds it, and the way there.
    pub(super) parent: NodeId,
    pub(super) segment: Box<str>,
    pub(super) resource: ResourceId,
    /// A boolean schema.
    pub(super) constant: Option<bool>,
    pub(super) types: u8,
    /// Set when numbers must be integers.
    pub(super) integer: Option<Integer>,
    /// `enum` and `const`.
    pub(super) values: Vec<Values>,
    pub(super) number: Option<Box<NumberKeywords>>,
    pub(super) string: Option<Box<StringKeywords>>,
    pub(super) array: Option<Box<ArrayKeywords>>,
    pub(super) object: Option<Box<ObjectKeywords>>,
    pub(super) apply: Option<Box<Applicators>>,
}

impl Node {
    /// A schema that allows everything.
    pub(super) fn anything(parent: NodeId, segment: &str, resource: ResourceId) -> Self {
        Self {
            parent,
            segment: segment.into(),
            resource,
            constant: None,
            types: types::ALL,
            integer: None,
            values: Vec::new(),
            number: None,
            string: None,
            array: None,
            object: None,
            apply: None,
        }
    }
}

/// The values of an `enum` or a `const`, by type.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) null: bool,
    pub(super) yes: bool,
    pub(super) no: bool,
    pub(super) numbers: Option<SetId>,
    pub(super) strings: Option<SetId>,
    /// Arrays and objects, as schemas that only they satisfy.
    pub(super) arrays: Vec<NodeId>,
    pub(super) objects: Vec<NodeId>,
}

/// What is said about numbers.
#[derive(Debug, Default)]
pub(super) struct NumberKeywords {
    /// Bound, and whether it is excluded.
    pub(super) minimum: Vec<(u32, bool)>,
    pub(super) maximum: Vec<(u32, bool)>,
    pub(super) multiple_of: Option<Step>,
}

/// What is said about strings. Lengths are in code points.
#[derive(Debug, Default)]
pub(super) struct StringKeywords {
    pub(super) min_length: u32,
    pub(super) max_length: Option<u32>,
    pub(super) patterns: Vec<PatternId>,
}

/// What is said about arrays.
#[derive(Debug, Default)]
pub(super) struct ArrayKeywords {
    pub(super) prefix: Vec<NodeId>,
    pub(super) rest: Option<NodeId>,
    /// Schema, least number, greatest number; and whether matching items count as evaluated.
    pub(super) contains: Option<(NodeId, u32, Option<u32>)>,
    pub(super) contains_evaluates: bool,
    pub(super) min_items: u32,
    pub(super) max_items: Option<u32>,
    pub(super) unique: bool,
    pub(super) unevaluated: Option<NodeId>,
}

/// What is said about objects.
#[derive(Debug, Default)]
pub(super) struct ObjectKeywords {
    /// Sorted by key.
    pub(super) properties: Vec<(KeyId, NodeId)>,
    /// The same keys in the order of the schema.
    pub(super) declared: Vec<KeyId>,
    pub(super) patterns: Vec<(PatternId, NodeId)>,
    pub(super) additional: Option<NodeId>,
    pub(super) names: Option<NodeId>,
    pub(super) required: Vec<KeyId>,
    pub(super) min_properties: u32,
    pub(super) max_properties: Option<u32>,
    pub(super) dependent_required: Vec<(KeyId, Vec<KeyId>)>,
    pub(super) dependent_schemas: Vec<(KeyId, NodeId)>,
    pub(super) unevaluated: Option<NodeId>,
}

impl ObjectKeywords {
    /// The schema under `properties` for a key.
    pub(super) fn property(&self, key: KeyId) -> Option<NodeId> {
        self.properties
            .binary_search_by_key(&key, |&(k, _)| k)
            .ok()
            .map(|i| self.properties[i].1)
    }

    /// Whether any keyword looks at the values of properties.
    pub(super) fn has_children(&self) -> bool {
        !self.properties.is_empty() || !self.patterns.is_empty() || self.additional.is_some()
    }
}

/// A reference that is resolved while values are read.
#[derive(Debug)]
pub(super) struct DynamicRef {
    /// Where it points without any dynamic scope.
    pub(super) fallback: NodeId,
    /// Targets by resource, for resources of the dynamic scope that have the anchor.
    pub(super) targets: BTreeMap<ResourceId, NodeId>,
}

/// Keywords that apply other schemas to the same value.
#[derive(Debug, Default)]
pub(super) struct Applicators {
    pub(super) refs: Vec<NodeId>,
    pub(super) dynamic_refs: Vec<DynamicRef>,
    pub(super) all_of: Vec<NodeId>,
    pub(super) any_of: Option<Vec<NodeId>>,
    pub(super) one_of: Option<Vec<NodeId>>,
    pub(super) not: Option<NodeId>,
    pub(super) condition: Option<NodeId>,
    pub(super) then: Option<NodeId>,
    pub(super) otherwise: Option<NodeId>,
}

/// A pattern and its automaton.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) source: String,
    pub(super) dfa: Dfa,
}

/// All schemas that the root can reach, and what they name.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
    pub(super) keys: Strings,
    pub(super) decimals: Vec<Decimal>,
    pub(super) patterns: Vec<Pattern>,
    /// Sorted sets of strings.
    pub(super) string_sets: Vec<Vec<Box<str>>>,
    /// Sorted sets of numbers.
    pub(super) number_sets: Vec<Vec<Decimal>>,
    /// Whether any reference depends on the dynamic scope.
    pub(super) dynamic: bool,
}

impl Graph {
    /// JSON pointer to a schema.
    pub(super) fn pointer(&self, mut node: NodeId) -> String {
        let mut segments = Vec::new();
        while let Some(n) = self.nodes.get(node as usize) {
            if n.parent == node {
                segments.push(n.segment.as_ref());
                break;
            }
            segments.push(n.segment.as_ref());
            node = n.parent;
        }
        segments.reverse();
        segments.concat()
    }
}

/// Strings, each kept once.
#[derive(Debug, Default)]
pub(super) struct Strings {
    all: Vec<Box<str>>,
    ids: FastMap<Box<str>, KeyId>,
}

impl Strings {
    /// The number of a string.
    pub(super) fn intern(&mut self, text: &str) -> KeyId {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = self.all.len() as KeyId;
        self.all.push(text.into());
        self.ids.insert(text.into(), id);
        id
    }

    /// The string of a number.
    pub(super) fn get(&self, id: KeyId) -> &str {
        self.all.get(id as usize).map_or("", AsRef::as_ref)
    }

    /// Number of strings.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
