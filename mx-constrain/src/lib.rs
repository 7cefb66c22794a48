//! JSON Schema, regex and grammar constraints as token masks.
#![allow(dead_code)]

mod byteset;
mod constraint;
mod error;
mod exactness;
mod grammar;
mod hash;
mod lexical;
mod limits;
mod machine;
mod mask;
mod matcher;
mod schema;
mod spec;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
mod text;
mod vocabulary;

pub use byteset::{ByteSet, Iter as ByteSetIter};
pub use constraint::Constraint;
pub use error::ConstrainError;
pub use exactness::{Exactness, Restriction};
pub use grammar::GrammarSyntax;
pub use lexical::{RegexMode, RegexSyntax};
pub use limits::Limits;
pub use machine::Refusal;
pub use mask::Mask;
pub use matcher::{Matcher, WhyNot};
pub use schema::{Draft, Formats, Lexical, PropertyOrder, SchemaOptions, Whitespace};
pub use spec::ConstraintSpec;
pub use vocabulary::{Vocabulary, byte_level_bytes, sentencepiece_bytes};
