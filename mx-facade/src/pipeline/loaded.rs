//! A model with what is worked out about it once, however many requests it answers.

use crate::error::Error;
use mx_constrain::{Constraint, ConstraintSpec, Limits, Vocabulary};
use mx_runtime::model::Model;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Tokens whose embeddings are read at once.
const EMBEDDING_CHUNK: usize = 1024;
/// Compiled constraints that are kept, with the masks worked out for them.
const KEPT_CONSTRAINTS: usize = 16;

/// A loaded model; cheap to clone.
#[derive(Debug, Clone)]
pub struct Loaded(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    model: Arc<Model>,
    /// Mean of all embedding rows, `[d_model]`.
    embedding_mean: OnceLock<Vec<f32>>,
    /// What tells its files apart from others.
    fingerprint: OnceLock<Option<String>>,
    /// The tokens as the constraints see them.
    vocabulary: OnceLock<Vocabulary>,
    /// The constraints used last, the latest one at the end.
    constraints: Mutex<Vec<Constraint>>,
}

impl From<Arc<Model>> for Loaded {
    fn from(model: Arc<Model>) -> Self {
        Loaded(Arc::new(Inner {
            model,
            embedding_mean: OnceLock::new(),
            fingerprint: OnceLock::new(),
            vocabulary: OnceLock::new(),
            constraints: Mutex::default(),
        }))
    }
}

impl Deref for Loaded {
    type Target = Arc<Model>;

    fn deref(&self) -> &Arc<Model> {
        &self.0.model
    }
}

impl Loaded {
    /// Rows of the input embedding less their mean over the vocabulary, `[tokens, d_model]` one after the other.
    ///
    /// # Errors
    /// [`Error::Engine`] for a token outside the vocabulary.
    pub fn centred_embeddings(&self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let mean = self.embedding_mean()?;
        let mut rows = self.engine().embedding(tokens)?;
        for row in rows.chunks_exact_mut(mean.len()) {
            row.iter_mut().zip(mean).for_each(|(x, mean)| *x -= mean);
        }
        Ok(rows)
    }

    /// A compiled constraint over the model's tokens. Those used last are kept, so that a second request finds the masks
    /// that the first one worked out.
    ///
    /// # Errors
    /// [`Error::Constrain`] for a constraint that cannot be compiled, [`Error::Unsupported`] for a model without a
    /// tokenizer.
    pub fn constraint(&self, spec: &ConstraintSpec) -> Result<Constraint, Error> {
        let kept = || {
            self.0
                .constraints
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(found) = kept().iter().find(|constraint| constraint.spec() == spec) {
            return Ok(found.clone());
        }
        let compiled = Constraint::compile(self.vocabulary()?, spec, &Limits::default())?;
        let mut kept = kept();
        if kept.len() == KEPT_CONSTRAINTS {
            kept.remove(0);
        }
        kept.push(compiled.clone());
        Ok(compiled)
    }

    /// A hash of samples of the model's files, worked out once.
    pub(crate) fn fingerprint(&self) -> Option<&str> {
        let made = || crate::trace::fingerprint(self.path());
        self.0.fingerprint.get_or_init(made).as_deref()
    }

    fn vocabulary(&self) -> Result<&Vocabulary, Error> {
        if let Some(vocabulary) = self.0.vocabulary.get() {
            return Ok(vocabulary);
        }
        let tokenizer = self
            .tokenizer()
            .ok_or_else(|| Error::unsupported("a constraint", "the model has no tokenizer"))?;
        // A head padded beyond the tokenizer has rows that stand for no text, and so do special tokens.
        let known = tokenizer.vocab_size() as u32;
        let bytes = |token: u32| {
            let text = token < known && !tokenizer.is_special(token);
            tokenizer.token_bytes(token).filter(|_| text)
        };
        let vocab = self.config().vocab as u32;
        let vocabulary = Vocabulary::new((0..vocab).map(bytes), &self.eos_tokens())?;
        Ok(self.0.vocabulary.get_or_init(|| vocabulary))
    }

    fn embedding_mean(&self) -> Result<&[f32], Error> {
        if let Some(mean) = self.0.embedding_mean.get() {
            return Ok(mean);
        }
        let config = self.config();
        let mut sum = vec![0.0f64; config.d_model];
        let all: Vec<u32> = (0..config.vocab as u32).collect();
        for tokens in all.chunks(EMBEDDING_CHUNK) {
            let rows = self.engine().embedding(tokens)?;
            for row in rows.chunks_exact(sum.len()) {
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(sum, x)| *sum += f64::from(*x));
            }
        }
        let mean = sum.iter().map(|sum| (sum / config.vocab as f64) as f32);
        Ok(self.0.embedding_mean.get_or_init(|| mean.collect()))
    }
}
