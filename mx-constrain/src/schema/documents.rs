//! Documents, resources and anchors: what a reference can name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::node::ResourceId;
use super::options::{Draft, SchemaOptions};
use super::uri::{percent_decode, resolve, split_fragment};
use crate::hash::FastMap;
use crate::{ConstrainError, Limits};

/// The metaschemas of all drafts, as published by json-schema.org.
const METASCHEMAS: &str = include_str!("metaschemas.json");

/// Hosts of the metaschemas.
const METASCHEMA_HOSTS: [&str; 2] = ["http://json-schema.org/", "https://json-schema.org/"];

/// URI of a document that names none; a name that no reference resolves to by chance.
const NAMELESS: &str = "schema:root";

/// A schema resource.
#[derive(Debug)]
pub(super) struct Resource<'a> {
    pub(super) uri: String,
    pub(super) root: &'a Value,
    pub(super) dialect: Dialect,
    /// Anchors that take part in dynamic scope.
    pub(super) dynamic_anchors: BTreeMap<String, &'a Value>,
    /// `$recursiveAnchor: true`.
    pub(super) recursive: bool,
}

/// How the keywords of a resource are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) draft: Draft,
    /// No draft was named: old keywords are read beside the new ones.
    pub(super) lenient: bool,
    /// Whether keywords of the validation vocabulary count.
    pub(super) validation: bool,
}

/// A place in a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) value: &'a Value,
    pub(super) resource: ResourceId,
}

/// All documents that a schema may use.
#[derive(Debug, Default)]
pub(super) struct Documents<'a> {
    pub(super) resources: Vec<Resource<'a>>,
    by_uri: FastMap<String, ResourceId>,
    /// Resources by the address of their root.
    by_address: FastMap<usize, ResourceId>,
    anchors: FastMap<(ResourceId, String), &'a Value>,
    unread: BTreeMap<String, &'a Value>,
    known: BTreeMap<String, Dialect>,
}

/// Parses the metaschemas.
pub(super) fn metaschemas() -> BTreeMap<String, Value> {
    serde_json::from_str(METASCHEMAS).unwrap_or_default()
}

fn address(value: &Value) -> usize {
    std::ptr::from_ref(value) as usize
}

/// The draft that a `$schema` names.
fn draft_of(uri: &str) -> Option<Draft> {
    let rest = METASCHEMA_HOSTS
        .iter()
        .find_map(|host| uri.strip_prefix(host))?;
    match rest.trim_end_matches('#') {
        "draft-03/schema" | "draft-04/schema" | "schema" => Some(Draft::Draft4),
        "draft-05/schema" | "draft-06/schema" => Some(Draft::Draft6),
        "draft-07/schema" => Some(Draft::Draft7),
        "draft/2019-09/schema" => Some(Draft::Draft201909),
        "draft/2020-12/schema" => Some(Draft::Draft202012),
        _ => None,
    }
}

impl<'a> Documents<'a> {
    /// Reads the root document; registered ones are read when something names them.
    pub(super) fn new(
        root: &'a Value,
        options: &'a SchemaOptions,
        metaschemas: &'a BTreeMap<String, Value>,
        limits: &Limits,
    ) -> Result<(Self, Place<'a>), ConstrainError> {
        let mut new = Self::default();
        for (uri, value) in metaschemas.iter().chain(&options.documents) {
            new.unread.insert(split_fragment(uri).0.to_owned(), value);
        }
        let default = Dialect {
            draft: options.draft.unwrap_or(Draft::Draft202012),
            lenient: options.draft.is_none(),
            validation: true,
        };
        let resource = new.read(NAMELESS, root, default, limits)?;
        Ok((
            new,
            Place {
                value: root,
                resource,
            },
        ))
    }

    fn read(
        &mut self,
        uri: &str,
        root: &'a Value,
        default: Dialect,
        limits: &Limits,
    ) -> Result<ResourceId, ConstrainError> {
        let resource = self.add(uri.to_owned(), root, default);
        self.scan(root, resource, 0, limits)?;
        Ok(self
            .by_address
            .get(&address(root))
            .copied()
            .unwrap_or(resource))
    }

    fn add(&mut self, uri: String, root: &'a Value, default: Dialect) -> ResourceId {
        let dialect = match root.get("$schema").and_then(Value::as_str) {
            Some(schema) => self.dialect(schema, default),
            None => default,
        };
        let id = self.resources.len() as ResourceId;
        self.by_uri.entry(uri.clone()).or_insert(id);
        self.by_address.insert(address(root), id);
        self.resources.push(Resource {
            uri,
            root,
            dialect,
            dynamic_anchors: BTreeMap::new(),
            recursive: false,
        });
        id
    }

    /// How a resource with this `$schema` is read: by its draft, or by the vocabularies of a registered metaschema.
    fn dialect(&mut self, schema: &str, default: Dialect) -> Dialect {
        if let Some(draft) = draft_of(schema) {
            return Dialect {
                draft,
                lenient: false,
                validation: true,
            };
        }
        if let Some(&known) = self.known.get(schema) {
            return known;
        }
        self.known.insert(schema.to_owned(), default);
        let Some(meta) = self.unread.get(split_fragment(schema).0).copied() else {
            return default;
        };
        let mut dialect = match meta.get("$schema").and_then(Value::as_str) {
            Some(parent) if parent != schema => self.dialect(parent, default),
            _ => default,
        };
        if let Some(vocabularies) = meta.get("$vocabulary").and_then(Value::as_object) {
            dialect.validation = vocabularies
                .keys()
                .any(|uri| uri.ends_with("/vocab/validation"));
        }
        self.known.insert(schema.to_owned(), dialect);
        dialect
    }

    /// Finds resources and anchors below `value`, which lies in `resource`.
    fn scan(
        &mut self,
        value: &'a Value,
        mut resource: ResourceId,
        depth: usize,
        limits: &Limits,
    ) -> Result<(), ConstrainError> {
        Limits::check("max_nesting", depth, limits.max_nesting)?;
        let Value::Object(object) = value else {
            return Ok(());
        };
        let draft = self.resources[resource as usize].dialect.draft;
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let id = if draft == Draft::Draft4 {
            text("id")
        } else {
            text("$id")
        };
        let shadowed = draft <= Draft::Draft7 && object.contains_key("$ref");
        if let Some(id) = id.filter(|_| !shadowed) {
            let (base, fragment) = split_fragment(id);
            if !base.is_empty() {
                let parent = &self.resources[resource as usize];
                let uri = resolve(&parent.uri, base);
                let dialect = parent.dialect;
                if std::ptr::eq(parent.root, value) {
                    self.by_uri.entry(uri.clone()).or_insert(resource);
                    self.resources[resource as usize].uri = uri;
                } else {
                    resource = self.add(uri, value, dialect);
                }
            }
            if !fragment.is_empty() && draft <= Draft::Draft7 {
                self.anchors.insert((resource, fragment.to_owned()), value);
            }
        }
        if draft >= Draft::Draft201909 {
            if let Some(anchor) = text("$anchor") {
                self.anchors.insert((resource, anchor.to_owned()), value);
            }
            if let Some(anchor) = text("$dynamicAnchor").filter(|_| draft >= Draft::Draft202012) {
                self.anchors.insert((resource, anchor.to_owned()), value);
                self.resources[resource as usize]
                    .dynamic_anchors
                    .insert(anchor.to_owned(), value);
            }
            if draft == Draft::Draft201909
                && object.get("$recursiveAnchor") == Some(&Value::Bool(true))
            {
                self.resources[resource as usize].recursive = true;
            }
        }
        for (key, inner) in object {
            match (key.as_str(), inner) {
                (
                    "properties" | "patternProperties" | "$defs" | "definitions"
                    | "dependentSchemas" | "dependencies",
                    Value::Object(map),
                ) => {
                    for schema in map.values() {
                        self.scan(schema, resource, depth + 1, limits)?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(list)) => {
                    for schema in list {
                        self.scan(schema, resource, depth + 1, limits)?;
                    }
                }
                (
                    "additionalProperties"
                    | "propertyNames"
                    | "items"
                    | "additionalItems"
                    | "contains"
                    | "not"
                    | "if"
                    | "then"
                    | "else"
                    | "unevaluatedItems"
                    | "unevaluatedProperties",
                    schema,
                ) => self.scan(schema, resource, depth + 1, limits)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// What a reference names, seen from a resource; `None` when nothing known has that name.
    pub(super) fn find(
        &mut self,
        from: ResourceId,
        reference: &str,
        limits: &Limits,
    ) -> Result<Option<Place<'a>>, ConstrainError> {
        let (base, fragment) = split_fragment(reference);
        let resource = match base.is_empty() {
            true => from,
            false => {
                let uri = resolve(&self.resources[from as usize].uri, base);
                match self.resource(&uri, limits)? {
                    Some(resource) => resource,
                    None => return Ok(None),
                }
            }
        };
        let fragment = percent_decode(fragment);
        Ok(match fragment.is_empty() {
            true => Some(Place {
                value: self.resources[resource as usize].root,
                resource,
            }),
            false if fragment.starts_with('/') => self.pointer(resource, &fragment),
            false => self
                .anchors
                .get(&(resource, fragment))
                .map(|&value| self.place(value, resource)),
        })
    }

    fn resource(
        &mut self,
        uri: &str,
        limits: &Limits,
    ) -> Result<Option<ResourceId>, ConstrainError> {
        if let Some(&resource) = self.by_uri.get(uri) {
            return Ok(Some(resource));
        }
        let Some(document) = self.unread.remove(uri) else {
            return Ok(None);
        };
        let default = self.resources[0].dialect;
        let resource = self.read(uri, document, default, limits)?;
        self.by_uri.insert(uri.to_owned(), resource);
        Ok(Some(resource))
    }

    /// A value below a schema of `resource`: it may begin a resource of its own.
    pub(super) fn within(&self, value: &'a Value, resource: ResourceId) -> Place<'a> {
        self.place(value, resource)
    }

    fn place(&self, value: &'a Value, resource: ResourceId) -> Place<'a> {
        Place {
            value,
            resource: self
                .by_address
                .get(&address(value))
                .copied()
                .unwrap_or(resource),
        }
    }

    fn pointer(&self, resource: ResourceId, pointer: &str) -> Option<Place<'a>> {
        let mut place = Place {
            value: self.resources[resource as usize].root,
            resource,
        };
        for segment in pointer.split('/').skip(1) {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            let next = match place.value {
                Value::Object(object) => object.get(&segment)?,
                Value::Array(list) => list.get(segment.parse::<usize>().ok()?)?,
                _ => return None,
            };
            place = self.place(next, place.resource);
        }
        Some(place)
    }

    /// Whether a missing document may be a metaschema.
    pub(super) fn is_metaschema(&self, from: ResourceId, reference: &str) -> bool {
        let uri = resolve(
            &self.resources[from as usize].uri,
            split_fragment(reference).0,
        );
        METASCHEMA_HOSTS.iter().any(|host| uri.starts_with(host))
    }
}
