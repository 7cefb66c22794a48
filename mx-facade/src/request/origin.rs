//! Where values came from.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Origin {
    /// The request.
    Request,
    /// The policy that runs it.
    Policy,
    /// A preset that the request or its policy names.
    Preset,
    /// The files of the model.
    Model,
    /// The defaults built in here.
    BuiltIn,
    /// Drawn at random, as nothing was given.
    Random,
}

/// A value that was used, and where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The parameter, as the request spells it.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// Where the value came from.
    pub origin: Origin,
}

/// Origins as they are collected; the first one of a name counts.
#[derive(Default)]
pub(super) struct Origins(Vec<Setting>);

impl Origins {
    pub(super) fn add(&mut self, name: &str, value: impl Into<Value>, origin: Origin) {
        if !self.0.iter().any(|setting| setting.name == name) {
            self.0.push(Setting {
                name: name.to_owned(),
                value: value.into(),
                origin,
            });
        }
    }

    pub(super) fn add_serde(&mut self, name: &str, value: &impl Serialize, origin: Origin) {
        self.add(
            name,
            serde_json::to_value(value).unwrap_or(Value::Null),
            origin,
        );
    }

    pub(super) fn add_serde_all(&mut self, options: &impl Serialize, origin: Origin) {
        let map = match serde_json::to_value(options) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        for (name, value) in map {
            self.add(&name, value, origin);
        }
    }

    pub(super) fn or<T: Copy + Into<Value>>(
        &mut self,
        name: &str,
        given: Option<T>,
        default: T,
    ) -> T {
        let (value, origin) = match given {
            Some(value) => (value, Origin::Request),
            None => (default, Origin::BuiltIn),
        };
        self.add(name, value, origin);
        value
    }

    pub(super) fn sorted(mut self) -> Vec<Setting> {
        self.0.sort_by(|a, b| a.name.cmp(&b.name));
        self.0
    }
}
