//! A request's constraint as a token mask.

use super::TokenMask;
use crate::error::Error;
use crate::request::{Constraints, GrammarSyntax};
use mx_constrain::{Constraint, ConstraintSpec, Matcher};
use mx_runtime::tokenizer::{Specials, Tokenizer};
use std::sync::Arc;

impl Constraints {
    /// The constraint as data of mx-constrain; `None` where there is none.
    pub fn spec(&self) -> Option<ConstraintSpec> {
        if let Some(schema) = &self.json_schema {
            return Some(ConstraintSpec::json_schema(schema.clone()));
        }
        if let Some(pattern) = &self.regex_pattern {
            return Some(ConstraintSpec::regex(pattern));
        }
        if let Some(text) = &self.grammar {
            let syntax = match self.grammar_syntax.unwrap_or_default() {
                GrammarSyntax::Gbnf => mx_constrain::GrammarSyntax::Gbnf,
                GrammarSyntax::Lark => mx_constrain::GrammarSyntax::Lark,
                GrammarSyntax::Ebnf => mx_constrain::GrammarSyntax::Ebnf,
            };
            return Some(ConstraintSpec::grammar(syntax, text));
        }
        if !self.choices.is_empty() {
            return Some(ConstraintSpec::choices(&self.choices));
        }
        (self.json_mode == Some(true)).then(ConstraintSpec::json_object)
    }
}

/// A constraint where one output stands.
pub(super) struct ConstraintMask {
    matcher: Matcher,
    tokenizer: Option<Arc<dyn Tokenizer>>,
}

impl ConstraintMask {
    /// The constraint at the beginning of a text.
    ///
    /// # Errors
    /// [`Error::Constrain`].
    pub(super) fn new(
        constraint: &Constraint,
        tokenizer: Option<Arc<dyn Tokenizer>>,
    ) -> Result<Self, Error> {
        Ok(ConstraintMask {
            matcher: constraint.matcher()?,
            tokenizer,
        })
    }
}

impl TokenMask for ConstraintMask {
    fn mask(&mut self) -> Result<Option<&[u32]>, Error> {
        Ok(Some(self.matcher.mask()?.words()))
    }

    fn commit(&mut self, token: u32) -> Result<(), Error> {
        Ok(self.matcher.commit(token)?)
    }

    fn allows(&mut self, token: u32) -> Result<bool, Error> {
        Ok(self.matcher.allows(token)?)
    }

    fn is_accepting(&mut self) -> Result<bool, Error> {
        Ok(self.matcher.is_ended() || self.matcher.is_accepting()?)
    }

    fn is_complete(&mut self) -> Result<bool, Error> {
        Ok(self.matcher.must_stop()?)
    }

    fn why_not(&mut self, token: u32) -> Result<Option<String>, Error> {
        Ok(self.matcher.why_not(token)?.map(|why| why.to_string()))
    }

    fn forced(&mut self) -> Result<Vec<u32>, Error> {
        if self.matcher.is_ended() || self.matcher.must_stop()? {
            return Ok(Vec::new());
        }
        let Some(tokenizer) = &self.tokenizer else {
            return Ok(self.matcher.forced_token()?.into_iter().collect());
        };
        // Text that is no UTF-8, or that the tokenizer refuses, is left to the model.
        let tokenize = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok();
            text.and_then(|text| tokenizer.encode(text, Specials::AsText).ok())
                .unwrap_or_default()
        };
        Ok(self.matcher.fast_forward(tokenize)?)
    }

    fn fork(&self) -> Result<Box<dyn TokenMask>, Error> {
        Ok(Box::new(ConstraintMask {
            matcher: self.matcher.clone(),
            tokenizer: self.tokenizer.clone(),
        }))
    }
}
