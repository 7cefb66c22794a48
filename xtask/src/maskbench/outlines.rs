//! outlines-core as a peer.

use super::case::Rules;
use super::engine::{Compiled, Engine, Refused, Session};
use super::vocabulary::Words;
use outlines_core::json_schema::regex_from_value;
use outlines_core::prelude::{Index, Vocabulary};
use serde_json::Value;
use std::sync::Arc;

/// The version that the manifest asks for.
const VERSION: &str = "0.2.14";

/// Its own form of a vocabulary.
pub(super) struct Outlines {
    vocabulary: Vocabulary,
    words: usize,
}

impl Outlines {
    pub(super) fn new(words: &Arc<Words>) -> anyhow::Result<Self> {
        let eos = words.eos[0];
        let mut vocabulary = Vocabulary::new(eos);
        for (id, bytes) in (0..).zip(&words.bytes) {
            if let Some(bytes) = bytes.as_ref().filter(|_| id != eos) {
                vocabulary.try_insert(bytes.clone(), id)?;
            }
        }
        Ok(Outlines {
            vocabulary,
            words: words.bytes.len().div_ceil(32),
        })
    }
}

impl Engine for Outlines {
    fn version(&self) -> String {
        VERSION.into()
    }

    fn options(&self) -> String {
        "default white space and depth of recursion; masks poured into bit words".into()
    }

    fn compile<'e>(
        &'e self,
        schema: &Value,
        _rules: &Rules,
    ) -> Result<Box<dyn Compiled + 'e>, Refused> {
        let refused = |error: outlines_core::Error| Refused::Other(error.to_string());
        let regex = regex_from_value(schema, None, None).map_err(refused)?;
        let index = Index::new(&regex, &self.vocabulary).map_err(refused)?;
        Ok(Box::new(Indexed {
            index,
            words: self.words,
        }))
    }
}

struct Indexed {
    index: Index,
    words: usize,
}

impl Compiled for Indexed {
    fn start<'c>(&'c self) -> Result<Box<dyn Session + 'c>, String> {
        Ok(Box::new(Running {
            index: &self.index,
            state: self.index.initial_state(),
            mask: vec![0; self.words],
        }))
    }
}

struct Running<'c> {
    index: &'c Index,
    state: u32,
    mask: Vec<u32>,
}

impl Session for Running<'_> {
    fn mask(&mut self) -> Result<&[u32], String> {
        self.mask.fill(0);
        let tokens = self.index.allowed_tokens_iter(&self.state);
        for &token in tokens.into_iter().flatten() {
            if let Some(word) = self.mask.get_mut(token as usize / 32) {
                *word |= 1 << (token % 32);
            }
        }
        Ok(&self.mask)
    }

    fn commit(&mut self, token: u32) -> Result<(), String> {
        let next = self.index.next_state(&self.state, &token);
        self.state = next.ok_or_else(|| format!("token {token} has no transition"))?;
        Ok(())
    }
}
