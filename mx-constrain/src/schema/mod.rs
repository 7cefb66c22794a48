//! JSON Schema as a machine over bytes.

mod children;
mod claims;
mod decimal;
mod documents;
mod ending;
mod engine;
mod evaluated;
mod exclusive;
mod expr;
mod fill;
mod formats;
mod frames;
mod judge;
mod load;
mod machine;
mod names;
mod node;
mod number_search;
mod numbers;
mod options;
mod places;
mod product;
mod read_composites;
mod read_scalars;
mod reader;
mod shapes;
mod solve;
mod stand_in;
mod steps;
mod strings;
mod text;
mod trie;
mod unfold;
mod uri;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::{ByteSet, ConstrainError, Exactness, Limits, machine::Machine};

pub use options::{Draft, Formats, Lexical, PropertyOrder, SchemaOptions, Whitespace};

/// Compiles a schema for an alphabet.
///
/// # Errors
/// What the schema says wrongly or what cannot be honoured; a limit.
pub(crate) fn machine(
    schema: &Value,
    options: &SchemaOptions,
    alphabet: &ByteSet,
    limits: &Limits,
) -> Result<(Box<dyn Machine>, Exactness), ConstrainError> {
    let (reader, exactness) = reader(schema, options, alphabet, limits)?;
    Ok((Box::new(reader), exactness))
}

fn reader(
    schema: &Value,
    options: &SchemaOptions,
    alphabet: &ByteSet,
    limits: &Limits,
) -> Result<(reader::Reader, Exactness), ConstrainError> {
    let missing = (b' '..=b'~').find(|&byte| !alphabet.contains(byte));
    if let Some(byte) = missing {
        return Err(ConstrainError::Unsatisfiable {
            place: String::new(),
            reason: format!(
                "the vocabulary has no token for the character `{}`, without which JSON cannot be written",
                byte as char
            ),
        });
    }
    let loaded = load::load(schema, options, alphabet, limits)?;
    let engine = engine::Engine::new(loaded.graph, options.clone(), *alphabet, limits.clone());
    let reader = reader::Reader::new(engine)?;
    Ok((
        reader,
        Exactness {
            restrictions: loaded.restrictions,
        },
    ))
}
