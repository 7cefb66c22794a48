//! The sampler: a checked chain, the state of one sequence, and its random stream.

use std::sync::Arc;

use crate::adaptive::AdaptiveState;
use crate::error::SamplingError;
use crate::explain::Explanation;
use crate::history::History;
use crate::law::{Draw, Law};
use crate::logprobs::{LogprobReport, Logprobs};
use crate::options::SamplingOptions;
use crate::order::{Order, Step};
use crate::penalties::{self, DryScratch, NgramIndex, WindowCounts};
use crate::plan::{Op, Plan};
use crate::processor::{Context, LogitsProcessor};
use crate::rng::Stream;
use crate::row::{Row, Scratch, Shape};
use crate::simd::Backend;
use crate::temperature::{GREEDY_BELOW, dynamic_temperature};

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

    /// Makes room for `tokens` more tokens, so that none of them allocates.
    pub fn reserve(&mut self, tokens: usize) {
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
    /// costs nothing.
    pub fn report_logprobs(&mut self, raw: Option<usize>, processed: Option<usize>) {
        let wanted = raw.is_some() || processed.is_some();
        self.logprobs = wanted.then(|| Box::new(LogprobReport::new(raw, processed)));
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

    /// The active steps in the order they run.
    pub fn active_steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.plan
            .ops
            .iter()
            .map(|(step, _)| *step)
            .filter(|step| *step != Step::Processors || !self.processors.is_empty())
    }

    /// Runs the chain up to the draw.
    fn run<'a>(
        &'a mut self,
        logits: &'a mut [f32],
        mask: Option<&[u32]>,
        report: Option<&mut LogprobReport>,
    ) -> Result<(Law<'a>, &'a mut Stream), SamplingError> {
        if logits.len() != self.vocab {
            return Err(SamplingError::Length {
                name: "logits",
                given: logits.len(),
                wanted: self.vocab,
            });
        }
        let wanted = self.vocab.div_ceil(32);
        if let Some(mask) = mask.filter(|mask| mask.len() < wanted) {
            return Err(SamplingError::MaskLength {
                given: mask.len(),
                wanted,
            });
        }
        self.last = None;
        let plan = &*self.plan;
        let mut explain = self.explanation.as_deref_mut();
        if let Some(explain) = &mut explain {
            explain.start(logits);
        }
        let mut row = Row::new(logits, &mut self.scratch, self.backend);
        row.min_keep = plan.min_keep;
        row.sanitize = plan.sanitize;
        row.infinite = plan.sanitize && plan.greedy;
        if let Some(report) = report.filter(|report| report.raw.is_some()) {
            row.scan(None, "the model")?;
            let edits_follow = plan.ops.iter().any(|(step, op)| {
                step.is_edit() && !(matches!(op, Op::Processors) && self.processors.is_empty())
            });
            report.read_raw(&mut row, edits_follow);
            if edits_follow || mask.is_some() {
                row.shape = Shape::Unscanned;
            }
        }
        let mut after = "the model";
        let mut masked = false;
        for (step, op) in &plan.ops {
            if matches!(op, Op::Processors) && self.processors.is_empty() {
                continue;
            }
            if step.is_edit() {
                if row.shape != Shape::Unscanned {
                    row.write_back();
                    masked = false;
                }
                let mut edit = Edit {
                    plan,
                    history: &self.history,
                    processors: &mut self.processors,
                    dry: &mut self.dry,
                    mask,
                };
                edit.apply(op, &mut row, explain.as_deref_mut())?;
                after = step.name();
            } else if !plan.greedy {
                scan_with(&mut row, mask, &mut masked, after, explain.as_deref_mut())?;
                shape(
                    op,
                    &mut row,
                    &self.state,
                    &mut self.stream,
                    &mut self.originals,
                );
            }
            if let Some(explain) = explain
                .as_deref_mut()
                .filter(|_| !matches!(op, Op::Processors))
            {
                explain.note(step.name(), &row);
            }
        }
        scan_with(&mut row, mask, &mut masked, after, explain)?;
        if plan.stateful {
            let n = row.to_list();
            self.last = Some(Last { n, z: row.total() });
        }
        Ok((Law::new(row, plan.greedy), &mut self.stream))
    }
}

/// Scans the row if that is due, applying the mask.
fn scan_with(
    row: &mut Row<'_>,
    mask: Option<&[u32]>,
    masked: &mut bool,
    after: &'static str,
    explain: Option<&mut Explanation>,
) -> Result<(), SamplingError> {
    if row.shape != Shape::Unscanned {
        return Ok(());
    }
    row.scan(mask, if mask.is_some() { "the mask" } else { after })?;
    if let Some(explain) = explain.filter(|_| mask.is_some() && !*masked) {
        explain.note("mask", row);
    }
    *masked = true;
    Ok(())
}

/// Applies a step that shapes the distribution.
fn shape(op: &Op, row: &mut Row<'_>, state: &State, stream: &mut Stream, originals: &mut Vec<f32>) {
    match op {
        Op::Temperature(t) => row.heat(*t),
        Op::DynamicTemperature {
            temperature,
            range,
            exponent,
        } => {
            let live = row.live();
            let t = dynamic_temperature(*temperature, *range, *exponent, row.entropy(), live);
            if t < GREEDY_BELOW {
                row.keep_top(1);
            } else {
                row.heat(t);
            }
        }
        Op::Truncate(truncation) => truncation.cut(row),
        Op::Xtc(xtc) => {
            if stream.unit() < xtc.probability {
                row.exclude_top_choices(xtc.threshold);
            }
        }
        Op::Mirostat(mirostat) => {
            mirostat.cut(row, state.mu);
            row.to_list();
        }
        Op::AdaptiveP(adaptive) => adaptive.transform(row, state.adaptive, originals),
        _ => {}
    }
}

/// What the edits of single logits need.
struct Edit<'a> {
    plan: &'a Plan,
    history: &'a History,
    processors: &'a mut [Box<dyn LogitsProcessor>],
    dry: &'a mut DryScratch,
    mask: Option<&'a [u32]>,
}

impl Edit<'_> {
    fn apply(
        &mut self,
        op: &Op,
        row: &mut Row<'_>,
        mut explain: Option<&mut Explanation>,
    ) -> Result<(), SamplingError> {
        let history = self.history;
        let generated = history.generated();
        let logits = &mut *row.logits;
        match op {
            Op::LogitBias(biases) => {
                biases
                    .iter()
                    .for_each(|&(token, bias)| change(logits, token, |x| add(x, bias)));
            }
            Op::SequenceBias(table) | Op::BadWords(table) => {
                table
                    .matching(&history.tokens)
                    .for_each(|(token, bias)| change(logits, token, |x| add(x, bias)));
            }
            Op::Repetition(penalty) => {
                for (token, _) in history.repetition.iter().flat_map(WindowCounts::iter) {
                    change(logits, token, |x| penalties::repeat_penalised(x, *penalty));
                }
            }
            Op::Frequency(penalty) => {
                for (token, count) in history.frequency.iter().flat_map(WindowCounts::iter) {
                    change(logits, token, |x| {
                        penalties::count_penalised(x, count, *penalty, 0.0)
                    });
                }
            }
            Op::Presence(penalty) => {
                for (token, count) in history.frequency.iter().flat_map(WindowCounts::iter) {
                    change(logits, token, |x| {
                        penalties::count_penalised(x, count, 0.0, *penalty)
                    });
                }
            }
            Op::Dry(dry) => dry.visit(&history.tokens, self.dry, |token, penalty| {
                change(logits, token, |x| add(x, -penalty));
            }),
            Op::NoRepeatNgram => {
                let banned = history
                    .ngram
                    .iter()
                    .flat_map(|ngram| ngram.banned(&history.tokens));
                banned.for_each(|token| ban(logits, token));
            }
            Op::ExponentialDecay { start, factor } => {
                for &token in &self.plan.eos {
                    change(logits, token, |x| {
                        penalties::exponential_decay(x, generated, *start, *factor)
                    });
                }
            }
            Op::Processors => {
                let context = Context {
                    tokens: &history.tokens,
                    prompt_len: history.prompt_len,
                };
                for processor in self.processors.iter_mut() {
                    processor.process(context, row.logits)?;
                    if let Some(explain) = explain.as_deref_mut() {
                        explain.note(processor.name(), row);
                    }
                }
            }
            Op::Suppress { always, first } => {
                always.iter().for_each(|&token| ban(logits, token));
                if generated == 0 {
                    first.iter().for_each(|&token| ban(logits, token));
                }
            }
            Op::MinNewTokens(least) => {
                if generated < *least {
                    self.plan.eos.iter().for_each(|&token| ban(logits, token));
                }
            }
            Op::Forced { at, eos_at } => self.force(at, *eos_at, logits)?,
            _ => {}
        }
        Ok(())
    }

    /// Leaves only the forced tokens of this position, if it has any.
    fn force(
        &self,
        at: &[(usize, u32)],
        eos_at: Option<usize>,
        logits: &mut [f32],
    ) -> Result<(), SamplingError> {
        let generated = self.history.generated();
        let listed = at
            .iter()
            .find(|(position, _)| *position == generated)
            .map(|(_, token)| *token);
        let single = listed.map(|token| [token]);
        let forced = match &single {
            Some(token) => &token[..],
            None if eos_at == Some(generated + 1) => &self.plan.eos,
            None => return Ok(()),
        };
        let allowed = |token: u32| {
            self.mask
                .is_none_or(|mask| (mask[token as usize / 32] >> (token % 32)) & 1 == 1)
        };
        let out = |token: u32| logits[token as usize] == f32::NEG_INFINITY;
        if let Some(&token) = forced
            .first()
            .filter(|_| forced.iter().all(|&token| out(token) || !allowed(token)))
        {
            let by = if out(token) {
                "an earlier step"
            } else {
                "the mask"
            };
            return Err(SamplingError::ForcedTokenForbidden { token, by });
        }
        for (token, logit) in logits.iter_mut().enumerate() {
            if !forced.contains(&(token as u32)) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}

/// Changes one logit. Ids beyond the vocabulary, which a history may hold, are passed over; NaN stays.
fn change(logits: &mut [f32], token: u32, edit: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(token as usize) {
        *logit = edit(*logit);
    }
}

/// Removes a token; a NaN stays to be found.
fn ban(logits: &mut [f32], token: u32) {
    change(logits, token, |x| add(x, f64::NEG_INFINITY));
}

/// `x + bias`, bounded so that a bias cannot make a finite logit infinite.
fn add(x: f32, bias: f64) -> f32 {
    if x == f32::NEG_INFINITY || x.is_nan() {
        return x;
    }
    (f64::from(x) + bias).min(f64::from(f32::MAX)) as f32
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
