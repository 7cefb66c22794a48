//! Our own engine.

use super::case::{self, Rules};
use super::engine::{Compiled, Engine, Refused, Remotes, Session};
use super::vocabulary::Words;
use mx_constrain::{
    ConstrainError, Constraint, ConstraintSpec, Draft, Formats, Limits, Matcher, SchemaOptions,
    Vocabulary, Whitespace,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A vocabulary and the documents that schemas may refer to.
pub(super) struct Mx {
    vocabulary: Vocabulary,
    documents: BTreeMap<String, Value>,
    limits: Limits,
}

impl Mx {
    pub(super) fn new(words: &Arc<Words>, remotes: &Remotes) -> anyhow::Result<Self> {
        let vocabulary = Vocabulary::new(words.bytes.iter().map(Option::as_deref), &words.eos)?;
        Ok(Mx {
            vocabulary,
            documents: remotes.iter().cloned().collect(),
            limits: Limits::default(),
        })
    }
}

impl Engine for Mx {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    fn options(&self) -> String {
        "any order of properties, flexible white space, default limits".into()
    }

    fn compile<'e>(
        &'e self,
        schema: &Value,
        rules: &Rules,
    ) -> Result<Box<dyn Compiled + 'e>, Refused> {
        let spec = ConstraintSpec::JsonSchema {
            schema: schema.clone(),
            options: options(rules, &self.documents),
        };
        match Constraint::compile(&self.vocabulary, &spec, &self.limits) {
            Ok(constraint) => Ok(Box::new(Ready(constraint))),
            Err(error @ ConstrainError::Unsatisfiable { .. }) => {
                Err(Refused::Empty(error.to_string()))
            }
            Err(error) => Err(Refused::Other(error.to_string())),
        }
    }
}

fn options(rules: &Rules, documents: &BTreeMap<String, Value>) -> SchemaOptions {
    SchemaOptions {
        draft: rules.draft.map(|draft| match draft {
            case::Draft::D4 => Draft::Draft4,
            case::Draft::D6 => Draft::Draft6,
            case::Draft::D7 => Draft::Draft7,
            case::Draft::D201909 => Draft::Draft201909,
            case::Draft::D202012 => Draft::Draft202012,
        }),
        formats: match rules.formats {
            case::Formats::Assert => Formats::Assert,
            case::Formats::Annotate => Formats::Annotate,
        },
        whitespace: Whitespace::Flexible,
        documents: documents.clone(),
        ..SchemaOptions::default()
    }
}

struct Ready(Constraint);

impl Compiled for Ready {
    fn start<'c>(&'c self) -> Result<Box<dyn Session + 'c>, String> {
        let matcher = self.0.matcher().map_err(|error| error.to_string())?;
        Ok(Box::new(Running(matcher)))
    }
}

struct Running(Matcher);

impl Session for Running {
    fn mask(&mut self) -> Result<&[u32], String> {
        match self.0.mask() {
            Ok(mask) => Ok(mask.words()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn commit(&mut self, token: u32) -> Result<(), String> {
        self.0.commit(token).map_err(|error| error.to_string())
    }
}
