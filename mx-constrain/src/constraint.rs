//! Compiling what text must satisfy, once for all the texts that are generated under it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::lexical::Dfa;
use crate::machine::Machine;
use crate::mask::Engine;
use crate::text::{ChoiceMachine, PatternMachine};
use crate::{
    ByteSet, ConstrainError, ConstraintSpec, Exactness, GrammarSyntax, Limits, Matcher,
    SchemaOptions, Vocabulary, grammar, schema,
};

/// What a text must satisfy, compiled for a vocabulary.
///
/// Compiling does no work per token; automata and masks are built while texts visit them and shared by all
/// [`Matcher`]s of the constraint (and of its clones, which are pointers to the same). Keep a constraint as long as
/// requests with the same schema may come.
///
/// ```
/// use mx_constrain::{Constraint, Vocabulary};
///
/// let vocabulary = Vocabulary::new(["yes", "no", "maybe", "y", "es", ""].map(|t| Some(t)), &[5])?;
/// let constraint = Constraint::choices(&vocabulary, ["yes", "no"])?;
/// let mut matcher = constraint.matcher()?;
/// assert_eq!(matcher.mask()?.iter().collect::<Vec<_>>(), [0, 1, 3]); // yes, no, y
/// matcher.commit(3)?;
/// assert_eq!(matcher.mask()?.iter().collect::<Vec<_>>(), [4]); // es
/// matcher.commit(4)?;
/// assert!(matcher.is_accepting()? && matcher.must_stop()?);
/// assert_eq!(matcher.mask()?.iter().collect::<Vec<_>>(), [5]); // the end
/// # Ok::<(), mx_constrain::ConstrainError>(())
/// ```
#[derive(Clone)]
pub struct Constraint(Arc<Inner>);

struct Inner {
    vocabulary: Vocabulary,
    spec: ConstraintSpec,
    limits: Limits,
    exactness: Exactness,
    /// The engine that new matchers get. It is replaced when it has grown large.
    engine: Mutex<Arc<Mutex<Engine>>>,
}

impl Constraint {
    /// Compiles a constraint given as data.
    ///
    /// # Errors
    /// [`ConstrainError::Schema`], [`Pattern`](ConstrainError::Pattern), [`Grammar`](ConstrainError::Grammar) for input
    /// that cannot be read or honoured exactly; [`Unsatisfiable`](ConstrainError::Unsatisfiable) when no text would do;
    /// [`Limit`](ConstrainError::Limit) when it would cost more than `limits` allow.
    pub fn compile(
        vocabulary: &Vocabulary,
        spec: &ConstraintSpec,
        limits: &Limits,
    ) -> Result<Self, ConstrainError> {
        let (machine, exactness) = machine(spec, vocabulary.alphabet(), limits)?;
        let engine = Engine::new(machine, vocabulary.clone(), limits.clone());
        Ok(Self(Arc::new(Inner {
            vocabulary: vocabulary.clone(),
            spec: spec.clone(),
            limits: limits.clone(),
            exactness,
            engine: Mutex::new(Arc::new(Mutex::new(engine))),
        })))
    }

    /// JSON text whose value satisfies a schema, with default options and limits.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn json_schema(vocabulary: &Vocabulary, schema: &Value) -> Result<Self, ConstrainError> {
        Self::compile(
            vocabulary,
            &ConstraintSpec::json_schema(schema.clone()),
            &Limits::default(),
        )
    }

    /// Any JSON object.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn json_object(vocabulary: &Vocabulary) -> Result<Self, ConstrainError> {
        Self::compile(
            vocabulary,
            &ConstraintSpec::json_object(),
            &Limits::default(),
        )
    }

    /// Text that matches a pattern (ECMA-262) as a whole.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn regex(vocabulary: &Vocabulary, pattern: &str) -> Result<Self, ConstrainError> {
        Self::compile(
            vocabulary,
            &ConstraintSpec::regex(pattern),
            &Limits::default(),
        )
    }

    /// Text that a grammar derives.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn grammar(
        vocabulary: &Vocabulary,
        syntax: GrammarSyntax,
        text: &str,
    ) -> Result<Self, ConstrainError> {
        Self::compile(
            vocabulary,
            &ConstraintSpec::grammar(syntax, text),
            &Limits::default(),
        )
    }

    /// One of some texts.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn choices<S: Into<String>>(
        vocabulary: &Vocabulary,
        choices: impl IntoIterator<Item = S>,
    ) -> Result<Self, ConstrainError> {
        Self::compile(
            vocabulary,
            &ConstraintSpec::choices(choices),
            &Limits::default(),
        )
    }

    /// A matcher at the start of a text.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`], when the tables had grown large and were to be begun anew.
    pub fn matcher(&self) -> Result<Matcher, ConstrainError> {
        let inner = &*self.0;
        let mut current = inner.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let worn = current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_worn();
        if worn {
            let (machine, _) = machine(&inner.spec, inner.vocabulary.alphabet(), &inner.limits)?;
            let engine = Engine::new(machine, inner.vocabulary.clone(), inner.limits.clone());
            *current = Arc::new(Mutex::new(engine));
        }
        Ok(Matcher::new(Arc::clone(&current), inner.vocabulary.clone()))
    }

    /// What is left out of the language that was asked for.
    #[must_use]
    pub fn exactness(&self) -> &Exactness {
        &self.0.exactness
    }

    /// The vocabulary this was compiled for.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.0.vocabulary
    }

    /// What this was compiled from.
    #[must_use]
    pub fn spec(&self) -> &ConstraintSpec {
        &self.0.spec
    }

    /// The limits this was compiled with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint")
            .field("spec", &self.0.spec)
            .field("exactness", &self.0.exactness)
            .finish_non_exhaustive()
    }
}

/// The machine of a constraint over an alphabet.
fn machine(
    spec: &ConstraintSpec,
    alphabet: &ByteSet,
    limits: &Limits,
) -> Result<(Box<dyn Machine>, Exactness), ConstrainError> {
    match spec {
        ConstraintSpec::JsonSchema { schema, options } => {
            schema::machine(schema, options, alphabet, limits)
        }
        ConstraintSpec::JsonObject { options } => json_object(options, alphabet, limits),
        ConstraintSpec::Regex {
            pattern,
            syntax,
            mode,
        } => {
            let dfa = Dfa::from_regex(pattern, *syntax, *mode, limits)?;
            let machine = PatternMachine::new(dfa, pattern, alphabet, limits)?;
            Ok((Box::new(machine), Exactness::default()))
        }
        ConstraintSpec::Grammar { syntax, text } => {
            grammar::machine(*syntax, text, alphabet, limits)
        }
        ConstraintSpec::Choice { choices } => Ok((
            Box::new(ChoiceMachine::new(choices, alphabet, limits)?),
            Exactness::default(),
        )),
    }
}

fn json_object(
    options: &SchemaOptions,
    alphabet: &ByteSet,
    limits: &Limits,
) -> Result<(Box<dyn Machine>, Exactness), ConstrainError> {
    schema::machine(&json!({ "type": "object" }), options, alphabet, limits)
}
