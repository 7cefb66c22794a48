//! Keywords about types, values, numbers and strings.

use serde_json::{Map, Value};

use super::decimal::{Decimal, Step};
use super::formats;
use super::load::{At, Loader};
use super::node::{
    ArrayKeywords, Integer, Node, NodeId, NumberKeywords, ObjectKeywords, ResourceId, SetId,
    StringKeywords, Values, types,
};
use super::options::{Draft, Formats};
use crate::exactness::Restriction;
use crate::{ConstrainError, Limits};

impl<'a> Loader<'a> {
    pub(super) fn types(&mut self, at: &At<'a>, node: &mut Node) -> Result<(), ConstrainError> {
        let names: Vec<&str> = match at.object.get("type") {
            None => return Ok(()),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                list.iter().filter_map(Value::as_str).collect()
            }
            Some(_) => {
                return Err(self.wrong(at, "type", "must be a string or an array of strings"));
            }
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
                other => {
                    return Err(self.wrong(
                        at,
                        "type",
                        format!("names `{other}`, which is no type"),
                    ));
                }
            };
        }
        Ok(())
    }

    pub(super) fn values(&mut self, at: &At<'a>, node: &mut Node) -> Result<(), ConstrainError> {
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

    pub(super) fn value_set(
        &mut self,
        at: &At<'a>,
        keyword: &str,
        list: &[&Value],
    ) -> Result<Values, ConstrainError> {
        let mut values = Values::default();
        let (mut numbers, mut strings) = (Vec::new(), Vec::<Box<str>>::new());
        for value in list {
            match value {
                Value::Null => values.null = true,
                Value::Bool(true) => values.yes = true,
                Value::Bool(false) => values.no = true,
                Value::Number(number) => {
                    numbers.push(self.decimal(at, keyword, &number.to_string())?)
                }
                Value::String(text) => strings.push(text.as_str().into()),
                Value::Array(_) => {
                    values
                        .arrays
                        .push(self.exactly(at.id, at.resource, value, 0)?)
                }
                Value::Object(_) => {
                    values
                        .objects
                        .push(self.exactly(at.id, at.resource, value, 0)?)
                }
            }
        }
        values.numbers = (!numbers.is_empty()).then(|| self.number_set(numbers));
        values.strings = (!strings.is_empty()).then(|| self.string_set(strings));
        Ok(values)
    }

    pub(super) fn string_set(&mut self, mut strings: Vec<Box<str>>) -> SetId {
        strings.sort_unstable();
        strings.dedup();
        self.graph.string_sets.push(strings);
        self.graph.string_sets.len() as SetId - 1
    }

    pub(super) fn number_set(&mut self, mut numbers: Vec<Decimal>) -> SetId {
        numbers.sort_unstable();
        numbers.dedup();
        self.graph.number_sets.push(numbers);
        self.graph.number_sets.len() as SetId - 1
    }

    /// A schema that only one value satisfies.
    pub(super) fn exactly(
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
                    keywords
                        .properties
                        .push((key, self.exactly(id, resource, item, depth + 1)?));
                    keywords.declared.push(key);
                    keywords.required.push(key);
                }
                keywords.properties.sort_unstable();
                let none = self.graph.nodes.len() as NodeId;
                self.graph.nodes.push(Node {
                    constant: Some(false),
                    ..Node::anything(id, "", resource)
                });
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
                    Value::String(text) => {
                        values.strings = Some(self.string_set(vec![text.as_str().into()]))
                    }
                    _ => {}
                }
                node.values.push(values);
            }
        }
        self.graph.nodes[id as usize] = node;
        Ok(id)
    }

    pub(super) fn decimal(
        &mut self,
        at: &At<'a>,
        keyword: &str,
        text: &str,
    ) -> Result<Decimal, ConstrainError> {
        self.decimal_at(at, keyword, text)
    }

    pub(super) fn decimal_at(
        &self,
        at: &At<'_>,
        keyword: &str,
        text: &str,
    ) -> Result<Decimal, ConstrainError> {
        Decimal::parse(text)
            .filter(Decimal::is_moderate)
            .ok_or_else(|| {
                self.wrong(
                    at,
                    keyword,
                    format!("has the number {text}, whose exponent is too large"),
                )
            })
    }

    pub(super) fn bound(
        &mut self,
        at: &At<'a>,
        keyword: &str,
        value: &Value,
    ) -> Result<u32, ConstrainError> {
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

    pub(super) fn number(&mut self, at: &At<'a>) -> Result<Option<NumberKeywords>, ConstrainError> {
        let mut out = NumberKeywords::default();
        let flags = at.dialect.draft == Draft::Draft4 || at.dialect.lenient;
        for (keyword, exclusive) in [
            ("minimum", "exclusiveMinimum"),
            ("maximum", "exclusiveMaximum"),
        ] {
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
                self.wrong(
                    at,
                    "multipleOf",
                    format!("must be positive and have at most 36 digits, but is {value}"),
                )
            })?;
            out.multiple_of = Some(step);
        }
        let used = !out.minimum.is_empty() || !out.maximum.is_empty() || out.multiple_of.is_some();
        Ok(used.then_some(out))
    }

    pub(super) fn count(&self, at: &At<'a>, keyword: &str) -> Result<Option<u32>, ConstrainError> {
        let Some(value) = at.object.get(keyword) else {
            return Ok(None);
        };
        let wrong = || {
            self.wrong(
                at,
                keyword,
                format!("must be a non-negative integer, but is {value}"),
            )
        };
        let Value::Number(number) = value else {
            return Err(wrong());
        };
        let number = Decimal::parse(&number.to_string()).ok_or_else(wrong)?;
        if number.is_negative() || !number.is_integer() {
            return Err(wrong());
        }
        // Beyond every text that can be written, all counts mean the same.
        Ok(Some(match number.whole_len() {
            0..=9 => number
                .parts()
                .0
                .iter()
                .fold(0, |n, &d| n * 10 + u32::from(d)),
            _ => u32::MAX - 1,
        }))
    }

    pub(super) fn string(&mut self, at: &At<'a>) -> Result<Option<StringKeywords>, ConstrainError> {
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

    pub(super) fn format(
        &mut self,
        at: &At<'a>,
        name: &str,
        out: &mut StringKeywords,
    ) -> Result<(), ConstrainError> {
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
                    self.restrictions.push(Restriction::new(
                        self.graph.pointer(at.id),
                        "format",
                        reason,
                    ));
                }
            }
            None if formats::is_annotation(name) => {}
            None if self.options.formats == Formats::Strict => {
                return Err(self.wrong(
                    at,
                    "format",
                    format!("names `{name}`, which is not known, and formats are strict"),
                ));
            }
            None => {}
        }
        Ok(())
    }
}
