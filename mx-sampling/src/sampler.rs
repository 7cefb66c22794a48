//! The sampler: a checked chain, the state of one sequence, and its random stream.

mod chain;
mod edit;

use std::sync::Arc;

use crate::adaptive::AdaptiveState;
use crate::error::SamplingError;
use crate::explain::Explanation;
use crate::history::History;
use crate::law::{Draw, Law};
use crate::logprobs::{LogprobReport, Logprobs};
use crate::options::SamplingOptions;
use crate::order::{Order, Step};
use crate::penalties::{DryScratch, NgramIndex, WindowCounts};
use crate::plan::{Op, Plan};
use crate::processor::LogitsProcessor;
use crate::rng::Stream;
use crate::row::{Scratch, Shape};
use crate::simd::Backend;

/// Most tokens that room is made for in advance.
const MAX_RESERVED: usize = 1 << 20;

/// Chooses tokens for one sequence.
///
/// A sampler owns everything that belongs to a sequence: the chain, the history for penalties, the state
/// of mirostat and adaptive-p, and its random stream. It knows nothing of the model: each step it is handed
/// one row of logits.
///
/// Cloning forks the sequence, with the stream at the same place; [`Sampler::set_stream`] gives a fork its
/// own randomness.
///
/// ```
/// use mx_sampling::{Sampler, SamplingOptions};
///
/// let options = SamplingOptions { temperature: Some(0.8), top_k: Some(40), ..Default::default() };
/// let mut sampler = Sampler::new(&options, 4, 42, 0)?;
/// sampler.observe_prompt(&[1, 3]);
/// let draw = sampler.sample(&mut [0.1, 2.0, 0.3, 1.5], None)?;
/// sampler.commit(draw.token);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug)]
pub struct Sampler {
    plan: Arc<Plan>,
    vocab: usize,
    stream: Stream,
    history: History,
    state: State,
    processors: Vec<Box<dyn LogitsProcessor>>,
    backend: Backend,
    dry: DryScratch,
    scratch: Scratch,
    /// Probabilities before the transform of adaptive-p, in list order.
    originals: Vec<f32>,
    last: Option<Last>,
    logprobs: Option<Box<LogprobReport>>,
    explanation: Option<Box<Explanation>>,
}

/// What survives a step besides the history.
#[derive(Debug, Clone, Copy, PartialEq)]
struct State {
    mu: f64,
    adaptive: AdaptiveState,
}

/// The list that the last token was drawn from, kept in the scratch for `commit`.
#[derive(Debug, Clone, Copy)]
struct Last {
    n: usize,
    z: f64,
}

/// A point of a sequence to roll back to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    length: usize,
    position: u64,
    state: State,
}

impl Sampler {
    /// A sampler for rows of `vocab` logits, drawing from stream number `stream` of `seed`.
    ///
    /// # Errors
    ///
    /// A parameter out of range, an exclusive combination, a token id beyond the vocabulary, or an order
    /// that does not list an active step.
    pub fn new(
        options: &SamplingOptions,
        vocab: usize,
        seed: u64,
        stream: u64,
    ) -> Result<Self, SamplingError> {
        let plan = Arc::new(Plan::new(options, vocab)?);
        let mut mu = 0.0;
        for (_, op) in &plan.ops {
            if let Op::Mirostat(mirostat) = op {
                mu = mirostat.start();
            }
        }
        let counts = |spec: Option<(Option<usize>, bool)>| {
            spec.map(|(n, prompt)| WindowCounts::new(n, prompt))
        };
        Ok(Self {
            vocab,
            stream: Stream::new(seed, stream),
            history: History {
                repetition: counts(plan.repetition),
                frequency: counts(plan.frequency),
                ngram: plan.ngram.map(NgramIndex::new),
                ..History::default()
            },
            state: State {
                mu,
                adaptive: AdaptiveState::default(),
            },
            processors: Vec::new(),
            backend: Backend::detect(),
            dry: DryScratch::default(),
            scratch: Scratch::default(),
            originals: Vec::new(),
            last: None,
            logprobs: None,
            explanation: None,
            plan,
        })
    }

    /// Takes the prompt into the history. May be called again with more of it before the first token.
    pub fn observe_prompt(&mut self, tokens: &[u32]) {
        self.history.reserve(tokens.len());
        for &token in tokens {
            self.history.push_prompt(token);
        }
    }

    /// Makes room for `tokens` more tokens, so that none of them allocates. Beyond 2^20 tokens room is made as they
    /// come: the number may be a limit that nobody means to reach.
    pub fn reserve(&mut self, tokens: usize) {
        let tokens = tokens.min(MAX_RESERVED);
        self.history.reserve(tokens);
        self.dry.reserve(self.history.tokens.len() + tokens);
        self.scratch.fit(self.vocab);
        self.originals.reserve(self.vocab);
    }

    /// Chooses a token from one row of logits, which is changed on the way.
    ///
    /// `mask` holds one bit per token, least significant bit first, 1 = allowed; it applies before everything
    /// that truncates. The choice does not enter the history: call [`commit`](Self::commit) with the token
    /// that was really taken. Greedy takes a word of the stream too, so the position counts tokens.
    ///
    /// # Errors
    ///
    /// A row or mask of the wrong length, NaN or +inf among the logits, or no token left.
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        mask: Option<&[u32]>,
    ) -> Result<Draw, SamplingError> {
        let mut report = self.logprobs.take();
        let result = self.choose(logits, mask, report.as_deref_mut());
        self.logprobs = report;
        result
    }

    fn choose(
        &mut self,
        logits: &mut [f32],
        mask: Option<&[u32]>,
        mut report: Option<&mut LogprobReport>,
    ) -> Result<Draw, SamplingError> {
        let greedy = self.plan.greedy;
        let (mut law, stream) = self.run(logits, mask, report.as_deref_mut())?;
        let draw = law.draw(stream.unit());
        if let Some(report) = report {
            report.finish(&mut law.row, draw.token, draw.logprob, greedy);
        }
        Ok(draw)
    }

    /// Asks for log-probabilities at every step from now on: the chosen token and so many of the most likely
    /// ones, under the model's law (`raw`) and under the law that is sampled (`processed`). `None` is off and
    /// costs nothing. More than the vocabulary has means all of it.
    pub fn report_logprobs(&mut self, raw: Option<usize>, processed: Option<usize>) {
        let wanted = raw.is_some() || processed.is_some();
        let limit = |n: Option<usize>| n.map(|n| n.min(self.vocab));
        self.logprobs = wanted.then(|| Box::new(LogprobReport::new(limit(raw), limit(processed))));
    }

    /// The log-probabilities of the last [`sample`](Self::sample), when they were asked for.
    #[must_use]
    pub fn logprobs(&self) -> Option<&Logprobs> {
        self.logprobs.as_ref().map(|report| &report.result)
    }

    /// Asks for an explanation of every step from now on. Off it costs nothing; on it looks at the whole
    /// vocabulary after every step of the chain.
    pub fn set_explain(&mut self, explain: bool) {
        self.explanation = explain.then(Box::default);
    }

    /// Looks at one token closely in the explanations to come: see [`Explanation::watched`]. Nothing unless
    /// explanations are [on](Self::set_explain).
    pub fn watch(&mut self, token: Option<u32>) {
        if let Some(explanation) = &mut self.explanation {
            explanation.watch(token);
        }
    }

    /// What each step did to the last row, when it was asked for.
    #[must_use]
    pub fn explanation(&self) -> Option<&Explanation> {
        self.explanation.as_deref()
    }

    /// The law that [`sample`](Self::sample) would draw from, without drawing.
    ///
    /// Takes words of the stream only for steps that decide by chance (XTC). With greedy the law is one
    /// token of probability 1.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample).
    pub fn law<'a>(
        &'a mut self,
        logits: &'a mut [f32],
        mask: Option<&[u32]>,
    ) -> Result<Law<'a>, SamplingError> {
        self.run(logits, mask, None).map(|(law, _)| law)
    }

    /// Applies the whole chain to the logits: removed tokens become −inf and the temperature is divided out,
    /// so that `softmax(logits)` is the law. With greedy only the edits and the mask apply.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample).
    pub fn process(
        &mut self,
        logits: &mut [f32],
        mask: Option<&[u32]>,
    ) -> Result<(), SamplingError> {
        let greedy = self.plan.greedy;
        let (mut law, _) = self.run(logits, mask, None)?;
        if greedy {
            law.row.shape = Shape::Dense;
        }
        law.row.write_back();
        Ok(())
    }

    /// Takes note of the token that was taken, whether it was drawn here or not.
    pub fn commit(&mut self, token: u32) {
        let plan = Arc::clone(&self.plan);
        if let Some(last) = self.last.take() {
            let at = self.scratch.ids[..last.n].binary_search(&token).ok();
            for (_, op) in &plan.ops {
                match (op, at) {
                    (Op::Mirostat(mirostat), Some(at)) => {
                        let p = f64::from(self.scratch.weights[at]) / last.z;
                        self.state.mu = mirostat.update(self.state.mu, p);
                    }
                    (Op::AdaptiveP(adaptive), Some(at)) => {
                        let p = f64::from(self.originals[at]);
                        self.state.adaptive = adaptive.update(self.state.adaptive, p);
                    }
                    _ => {}
                }
            }
        }
        self.history.push(token);
        for processor in &mut self.processors {
            processor.commit(token);
        }
    }

    /// Adds a processor of the caller; those added first run first.
    ///
    /// # Errors
    ///
    /// [`SamplingError::NotInOrder`] when an explicit order has no step `processors`.
    pub fn add_processor(
        &mut self,
        processor: Box<dyn LogitsProcessor>,
    ) -> Result<(), SamplingError> {
        if !self.plan.order.steps().contains(&Step::Processors) {
            return Err(SamplingError::NotInOrder {
                step: Step::Processors.name(),
            });
        }
        self.processors.push(processor);
        Ok(())
    }

    /// The present point of the sequence.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            length: self.history.tokens.len(),
            position: self.stream.position(),
            state: self.state,
        }
    }

    /// Goes back to an earlier point: history, penalties, mirostat, adaptive-p and the random stream.
    ///
    /// # Errors
    ///
    /// [`SamplingError::RollbackAhead`] when the snapshot lies after the present end.
    pub fn rollback(&mut self, snapshot: &Snapshot) -> Result<(), SamplingError> {
        let length = self.history.tokens.len();
        if snapshot.length > length {
            return Err(SamplingError::RollbackAhead {
                given: snapshot.length,
                length,
            });
        }
        self.history.truncate(snapshot.length);
        self.stream.seek(snapshot.position);
        self.state = snapshot.state;
        self.last = None;
        for processor in &mut self.processors {
            processor.rollback(snapshot.length);
        }
        Ok(())
    }

    /// The state of mirostat in bits, when mirostat is active.
    #[must_use]
    pub fn mirostat_mu(&self) -> Option<f64> {
        self.plan
            .ops
            .iter()
            .any(|(step, _)| *step == Step::Mirostat)
            .then_some(self.state.mu)
    }

    /// The random stream; taking a word moves the sampler's own draws.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Switches to another stream of the same seed, from its first word.
    pub fn set_stream(&mut self, index: u64) {
        self.stream = Stream::new(self.stream.seed(), index);
    }

    /// Uses another instruction set; the choices stay the same bit for bit.
    pub fn set_backend(&mut self, backend: Backend) {
        self.backend = backend;
    }

    /// Whether the sampler always takes the largest logit.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.plan.greedy
    }

    /// Size of the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Prompt and committed tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.history.tokens
    }

    /// The order that the chain follows.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.plan.order
    }

    /// The active steps in the order they run. Greedy has only edits of single logits: nothing that shapes the
    /// distribution changes its choice.
    pub fn active_steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.plan
            .ops
            .iter()
            .map(|(step, _)| *step)
            .filter(|step| step.is_edit() || !self.plan.greedy)
            .filter(|step| *step != Step::Processors || !self.processors.is_empty())
    }
}

impl Clone for Sampler {
    fn clone(&self) -> Self {
        // Buffers hold nothing that outlives a step, except the law of the last one, which a commit may need.
        let mut scratch = Scratch::default();
        let mut originals = Vec::new();
        if let Some(last) = self.last {
            scratch.ids.extend_from_slice(&self.scratch.ids[..last.n]);
            scratch
                .weights
                .extend_from_slice(&self.scratch.weights[..last.n]);
            originals.extend_from_slice(&self.originals);
        }
        Self {
            plan: Arc::clone(&self.plan),
            vocab: self.vocab,
            stream: self.stream.clone(),
            history: self.history.clone(),
            state: self.state,
            processors: self.processors.clone(),
            backend: self.backend,
            dry: DryScratch::default(),
            scratch,
            originals,
            last: self.last,
            logprobs: self.logprobs.clone(),
            explanation: self.explanation.clone(),
        }
    }
}
