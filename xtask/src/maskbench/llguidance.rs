//! llguidance as a peer.

use super::case::Rules;
use super::engine::{Compiled, Engine, Refused, Session};
use super::vocabulary::Words;
use ::llguidance::api::TopLevelGrammar;
use ::llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use ::llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use std::sync::Arc;

/// The version that the manifest asks for.
const VERSION: &str = "1.9.1";

/// A parser factory over a vocabulary.
pub(super) struct Llguidance {
    factory: ParserFactory,
}

impl Llguidance {
    pub(super) fn new(words: &Arc<Words>) -> anyhow::Result<Self> {
        let eos = words.eos[0];
        let info = TokRxInfo::new(u32::try_from(words.bytes.len())?, eos);
        let bytes: Vec<Vec<u8>> = words
            .bytes
            .iter()
            .map(|word| word.clone().unwrap_or_default())
            .collect();
        let trie = TokTrie::from(&info, &bytes).with_eos_tokens(&words.eos);
        // Not canonical: nothing is forced, so that the whole-text tokens of an instance are judged by the grammar
        // alone.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment)?;
        factory.quiet();
        Ok(Llguidance { factory })
    }
}

impl Engine for Llguidance {
    fn version(&self) -> String {
        VERSION.into()
    }

    fn options(&self) -> String {
        "defaults, general slices, tokens not forced".into()
    }

    fn compile<'e>(
        &'e self,
        schema: &Value,
        _rules: &Rules,
    ) -> Result<Box<dyn Compiled + 'e>, Refused> {
        let grammar = TopLevelGrammar::from_json_schema(schema.clone());
        let parser = self.factory.create_parser(grammar);
        let matcher = Matcher::new(Ok(parser.map_err(|error| refused(error.to_string()))?));
        match matcher.get_error() {
            Some(error) => Err(refused(error)),
            None => Ok(Box::new(Pristine(matcher))),
        }
    }
}

/// Its errors are texts; this one begins like that.
fn refused(error: String) -> Refused {
    match error.contains("Unsatisfiable schema") {
        true => Refused::Empty(error),
        false => Refused::Other(error),
    }
}

struct Pristine(Matcher);

impl Compiled for Pristine {
    fn start<'c>(&'c self) -> Result<Box<dyn Session + 'c>, String> {
        Ok(Box::new(Running {
            matcher: self.0.deep_clone(),
            mask: SimpleVob::new(),
        }))
    }
}

struct Running {
    matcher: Matcher,
    mask: SimpleVob,
}

impl Session for Running {
    fn mask(&mut self) -> Result<&[u32], String> {
        let mask = self.matcher.compute_mask_or_eos();
        self.mask = mask.map_err(|error| error.to_string())?;
        Ok(self.mask.as_slice())
    }

    fn commit(&mut self, token: u32) -> Result<(), String> {
        self.matcher
            .consume_token(token)
            .map_err(|error| error.to_string())
    }
}
