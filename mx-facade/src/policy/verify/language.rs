//! Whether a text belongs to the language of a constraint.

use crate::error::Error;
use crate::policy::constraints::bytes_vocabulary;
use mx_constrain::{Constraint, ConstraintSpec, Limits};

/// A constraint with which finished texts are judged.
#[derive(Debug)]
pub(crate) struct Language(Constraint);

impl Language {
    /// # Errors
    /// [`Error::Constrain`] for a constraint that cannot be compiled.
    pub(crate) fn new(spec: &ConstraintSpec) -> Result<Self, Error> {
        let vocabulary = bytes_vocabulary()?;
        let constraint = Constraint::compile(&vocabulary, spec, &Limits::default())?;
        Ok(Language(constraint))
    }

    /// Whether the whole text belongs to it.
    ///
    /// # Errors
    /// [`Error::Constrain`] for a limit met.
    pub(crate) fn has(&self, text: &str) -> Result<bool, Error> {
        let mut matcher = self.0.matcher()?;
        Ok(matcher.commit_bytes(text.as_bytes())? && matcher.is_accepting()?)
    }
}
