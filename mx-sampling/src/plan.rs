//! From options to a checked chain.

use crate::adaptive::AdaptiveP;
use crate::error::SamplingError;
use crate::mirostat::Mirostat;
use crate::options::SamplingOptions;
use crate::order::{Order, Step};
use crate::penalties::{DryOptions, SequenceTable, check_bias, check_tokens};
use crate::temperature::GREEDY_BELOW;
use crate::truncation::{Truncation, Xtc};

/// Window of penalties and DRY in the order `llama` when none is given.
pub(crate) const LLAMA_WINDOW: i64 = 64;

const XTC_THRESHOLD: f64 = 0.1;
const MIROSTAT_TAU: f64 = 5.0;
const MIROSTAT_ETA: f64 = 0.1;
const ADAPTIVE_DECAY: f64 = 0.9;
const MIROSTAT_REASON: &str = "mirostat truncates by its own state and must be the only truncation";

/// One active step with its checked parameters.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    LogitBias(Vec<(u32, f64)>),
    SequenceBias(SequenceTable),
    Repetition(f64),
    Frequency(f64),
    Presence(f64),
    Dry(DryOptions),
    NoRepeatNgram,
    BadWords(SequenceTable),
    ExponentialDecay {
        start: usize,
        factor: f64,
    },
    Processors,
    Suppress {
        always: Vec<u32>,
        first: Vec<u32>,
    },
    MinNewTokens(usize),
    Forced {
        at: Vec<(usize, u32)>,
        eos_at: Option<usize>,
    },
    Temperature(f64),
    DynamicTemperature {
        temperature: f64,
        range: f64,
        exponent: f64,
    },
    Truncate(Truncation),
    Xtc(Xtc),
    Mirostat(Mirostat),
    AdaptiveP(AdaptiveP),
}

/// A checked chain; shared by all forks of a sampler.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) ops: Vec<(Step, Op)>,
    pub(crate) order: Order,
    pub(crate) greedy: bool,
    /// The law of a step must outlive it, for the state update at the commit.
    pub(crate) stateful: bool,
    pub(crate) min_keep: usize,
    pub(crate) sanitize: bool,
    pub(crate) eos: Vec<u32>,
    /// Window of the repetition penalty and whether the prompt counts.
    pub(crate) repetition: Option<(Option<usize>, bool)>,
    /// The same for frequency and presence.
    pub(crate) frequency: Option<(Option<usize>, bool)>,
    pub(crate) ngram: Option<usize>,
}

impl Plan {
    pub(crate) fn new(options: &SamplingOptions, vocab: usize) -> Result<Self, SamplingError> {
        if vocab == 0 {
            return Err(SamplingError::Empty { name: "vocab" });
        }
        let order = options.order.clone().unwrap_or_default();
        order.check()?;
        let llama = order == Order::Llama;
        let mut active: Vec<(Step, Op)> = Vec::new();
        edits(options, vocab, llama, &mut active)?;
        let stochastic = shapes(options, &mut active)?;
        check_exclusive(options, &active)?;
        let temperature = options
            .temperature
            .unwrap_or(if stochastic { 1.0 } else { 0.0 });
        let greedy = temperature < GREEDY_BELOW;

        let mut ops = Vec::with_capacity(active.len());
        for step in order.steps() {
            if let Some(at) = active.iter().position(|(other, _)| other == step) {
                ops.push(active.swap_remove(at));
            } else if *step == Step::Processors {
                ops.push((*step, Op::Processors));
            }
        }
        if let Some((step, _)) = active.first() {
            return Err(SamplingError::NotInOrder { step: step.name() });
        }
        let window = penalty_window(options, llama)?;
        let has = |wanted: Step| ops.iter().any(|(step, _)| *step == wanted);
        Ok(Self {
            greedy,
            stateful: !greedy && (has(Step::Mirostat) || has(Step::AdaptiveP)),
            min_keep: min_keep(options)?,
            sanitize: options.sanitize.unwrap_or(false),
            eos: options.eos_tokens.clone().unwrap_or_default(),
            repetition: has(Step::Repetition).then(|| window.unwrap_or((None, true))),
            frequency: (has(Step::Frequency) || has(Step::Presence))
                .then(|| window.unwrap_or((None, false))),
            ngram: has(Step::NoRepeatNgram)
                .then(|| options.no_repeat_ngram_size.unwrap_or(0) as usize),
            ops,
            order,
        })
    }
}

/// The edits of single logits that the options activate.
fn edits(
    options: &SamplingOptions,
    vocab: usize,
    llama: bool,
    active: &mut Vec<(Step, Op)>,
) -> Result<(), SamplingError> {
    if let Some(bias) = options.logit_bias.as_ref().filter(|bias| !bias.is_empty()) {
        for (token, value) in bias {
            check_tokens("logit_bias", &[*token], vocab)?;
            check_bias("logit_bias", *value)?;
        }
        active.push((
            Step::LogitBias,
            Op::LogitBias(bias.iter().map(|(t, b)| (*t, *b)).collect()),
        ));
    }
    if let Some(bias) = options
        .sequence_bias
        .as_ref()
        .filter(|bias| !bias.is_empty())
    {
        let table = SequenceTable::new("sequence_bias", bias.iter().cloned(), vocab)?;
        active.push((Step::SequenceBias, Op::SequenceBias(table)));
    }
    let repetition = options.repetition_penalty.unwrap_or(1.0);
    SamplingError::check(
        repetition > 0.0 && repetition.is_finite(),
        "repetition_penalty",
        repetition,
        "a finite number > 0",
    )?;
    if repetition != 1.0 {
        active.push((Step::Repetition, Op::Repetition(repetition)));
    }
    for (step, name, given) in [
        (
            Step::Frequency,
            "frequency_penalty",
            options.frequency_penalty,
        ),
        (Step::Presence, "presence_penalty", options.presence_penalty),
    ] {
        let penalty = given.unwrap_or(0.0);
        SamplingError::check((-2.0..=2.0).contains(&penalty), name, penalty, "in [-2, 2]")?;
        if penalty != 0.0 {
            let op = if step == Step::Frequency {
                Op::Frequency(penalty)
            } else {
                Op::Presence(penalty)
            };
            active.push((step, op));
        }
    }
    if let Some(dry) = DryOptions::from_options(options, llama)? {
        active.push((Step::Dry, Op::Dry(dry)));
    }
    if options.no_repeat_ngram_size.unwrap_or(0) > 0 {
        active.push((Step::NoRepeatNgram, Op::NoRepeatNgram));
    }
    if let Some(words) = options.bad_words.as_ref().filter(|words| !words.is_empty()) {
        let banned = words.iter().map(|word| (word.clone(), f64::NEG_INFINITY));
        active.push((
            Step::BadWords,
            Op::BadWords(SequenceTable::new("bad_words", banned, vocab)?),
        ));
    }
    end_token_steps(options, vocab, active)?;
    let always = options.suppress_tokens.clone().unwrap_or_default();
    let first = options.begin_suppress_tokens.clone().unwrap_or_default();
    check_tokens("suppress_tokens", &always, vocab)?;
    check_tokens("begin_suppress_tokens", &first, vocab)?;
    if !always.is_empty() || !first.is_empty() {
        active.push((Step::Suppress, Op::Suppress { always, first }));
    }
    Ok(())
}

/// The steps that need to know the end tokens, and forced tokens.
fn end_token_steps(
    options: &SamplingOptions,
    vocab: usize,
    active: &mut Vec<(Step, Op)>,
) -> Result<(), SamplingError> {
    let eos = options.eos_tokens.clone().unwrap_or_default();
    check_tokens("eos_tokens", &eos, vocab)?;
    let need_eos = |name| {
        if eos.is_empty() {
            Err(SamplingError::Missing {
                name,
                needs: "eos_tokens",
            })
        } else {
            Ok(())
        }
    };
    if let Some((start, factor)) = options.exponential_decay {
        need_eos("exponential_decay")?;
        let accepted = factor > 0.0 && factor.is_finite();
        SamplingError::check(accepted, "exponential_decay", factor, "a finite factor > 0")?;
        if factor != 1.0 {
            active.push((
                Step::ExponentialDecay,
                Op::ExponentialDecay {
                    start: start as usize,
                    factor,
                },
            ));
        }
    }
    if let Some(tokens) = options.min_new_tokens.filter(|n| *n > 0) {
        need_eos("min_new_tokens")?;
        active.push((Step::MinNewTokens, Op::MinNewTokens(tokens as usize)));
    }
    let forced = options.forced_tokens.clone().unwrap_or_default();
    for token in forced.values() {
        check_tokens("forced_tokens", &[*token], vocab)?;
    }
    if let Some(at) = options.forced_eos_at {
        need_eos("forced_eos_at")?;
        SamplingError::check(at >= 1, "forced_eos_at", f64::from(at), ">= 1")?;
    }
    if !forced.is_empty() || options.forced_eos_at.is_some() {
        let at = forced
            .into_iter()
            .map(|(position, token)| (position as usize, token))
            .collect();
        active.push((
            Step::Forced,
            Op::Forced {
                at,
                eos_at: options.forced_eos_at.map(|n| n as usize),
            },
        ));
    }
    Ok(())
}

/// The steps that shape the distribution; tells whether any of them is active.
fn shapes(options: &SamplingOptions, active: &mut Vec<(Step, Op)>) -> Result<bool, SamplingError> {
    let edits = active.len();
    let mut truncate = |step, truncation: Truncation, off: bool| {
        if off {
            return Ok(());
        }
        truncation.check()?;
        active.push((step, Op::Truncate(truncation)));
        Ok(())
    };
    if let Some(k) = options.top_k {
        SamplingError::check(k >= -1, "top_k", k as f64, ">= 0, or -1 for off")?;
        truncate(
            Step::TopK,
            Truncation::TopK(usize::try_from(k).unwrap_or(0)),
            k <= 0,
        )?;
    }
    if let Some(p) = options.top_p {
        truncate(Step::TopP, Truncation::TopP(p), p == 1.0)?;
    }
    if let Some(p) = options.min_p {
        truncate(Step::MinP, Truncation::MinP(p), p == 0.0)?;
    }
    if let Some(mass) = options.typical_p {
        truncate(Step::Typical, Truncation::Typical(mass), mass == 1.0)?;
    }
    if let Some(epsilon) = options.epsilon_cutoff {
        truncate(Step::Epsilon, Truncation::Epsilon(epsilon), epsilon == 0.0)?;
    }
    if let Some(epsilon) = options.eta_cutoff {
        truncate(Step::Eta, Truncation::Eta(epsilon), epsilon == 0.0)?;
    }
    if let Some(n) = options.top_n_sigma {
        truncate(Step::TopNSigma, Truncation::TopNSigma(n), n <= 0.0)?;
    }
    if let Some(h) = options.top_h {
        truncate(Step::TopH, Truncation::TopH(h), false)?;
    }
    if let Some(z) = options.tail_free {
        truncate(Step::TailFree, Truncation::TailFree(z), z == 1.0)?;
    }
    xtc(options, active)?;
    mirostat(options, active)?;
    adaptive(options, active)?;
    let stochastic = temperature(options, active, edits)?;
    Ok(stochastic)
}

fn xtc(options: &SamplingOptions, active: &mut Vec<(Step, Op)>) -> Result<(), SamplingError> {
    let xtc = Xtc {
        threshold: options.xtc_threshold.unwrap_or(XTC_THRESHOLD),
        probability: options.xtc_probability.unwrap_or(0.0),
    };
    xtc.check()?;
    if xtc.probability > 0.0 {
        active.push((Step::Xtc, Op::Xtc(xtc)));
    }
    Ok(())
}

fn mirostat(options: &SamplingOptions, active: &mut Vec<(Step, Op)>) -> Result<(), SamplingError> {
    let version = options.mirostat.unwrap_or(0);
    SamplingError::check(version <= 2, "mirostat", f64::from(version), "0, 1 or 2")?;
    let tau = options.mirostat_tau.unwrap_or(MIROSTAT_TAU);
    SamplingError::check(
        tau > 0.0 && tau.is_finite(),
        "mirostat_tau",
        tau,
        "a finite number > 0",
    )?;
    let eta = options.mirostat_eta.unwrap_or(MIROSTAT_ETA);
    SamplingError::check(
        eta > 0.0 && eta.is_finite(),
        "mirostat_eta",
        eta,
        "a finite number > 0",
    )?;
    if version > 0 {
        active.push((Step::Mirostat, Op::Mirostat(Mirostat { version, tau, eta })));
    }
    Ok(())
}

fn adaptive(options: &SamplingOptions, active: &mut Vec<(Step, Op)>) -> Result<(), SamplingError> {
    let decay = options.adaptive_p_decay.unwrap_or(ADAPTIVE_DECAY);
    SamplingError::check(
        (0.0..=0.99).contains(&decay),
        "adaptive_p_decay",
        decay,
        "in [0, 0.99]",
    )?;
    if let Some(target) = options.adaptive_p_target {
        SamplingError::check(
            target <= 1.0,
            "adaptive_p_target",
            target,
            "in [0, 1], or negative for off",
        )?;
        if target >= 0.0 {
            active.push((Step::AdaptiveP, Op::AdaptiveP(AdaptiveP { target, decay })));
        }
    }
    Ok(())
}

/// Adds the temperature step; tells whether any shape is active besides a plain temperature.
fn temperature(
    options: &SamplingOptions,
    active: &mut Vec<(Step, Op)>,
    edits: usize,
) -> Result<bool, SamplingError> {
    let given = options.temperature.unwrap_or(1.0);
    SamplingError::check(
        given >= 0.0 && given.is_finite(),
        "temperature",
        given,
        "a finite number >= 0",
    )?;
    let range = options.dynatemp_range.unwrap_or(0.0);
    SamplingError::check(
        range >= 0.0 && range.is_finite(),
        "dynatemp_range",
        range,
        "a finite number >= 0",
    )?;
    let exponent = options.dynatemp_exponent.unwrap_or(1.0);
    let accepted = exponent > 0.0 && exponent.is_finite();
    SamplingError::check(
        accepted,
        "dynatemp_exponent",
        exponent,
        "a finite number > 0",
    )?;
    let mut stochastic = active.len() > edits;
    if range > 0.0 {
        stochastic = true;
        active.push((
            Step::Temperature,
            Op::DynamicTemperature {
                temperature: given,
                range,
                exponent,
            },
        ));
    } else if given >= GREEDY_BELOW && given != 1.0 {
        active.push((Step::Temperature, Op::Temperature(given)));
    }
    Ok(stochastic)
}

fn check_exclusive(options: &SamplingOptions, active: &[(Step, Op)]) -> Result<(), SamplingError> {
    if !active.iter().any(|(step, _)| *step == Step::Mirostat) {
        return Ok(());
    }
    let other = active
        .iter()
        .find(|(step, _)| !step.is_edit() && !matches!(step, Step::Temperature | Step::Mirostat));
    if let Some((step, _)) = other {
        return Err(SamplingError::Exclusive {
            first: "mirostat",
            second: step.name(),
            reason: MIROSTAT_REASON,
        });
    }
    if options.temperature.is_some_and(|t| t < GREEDY_BELOW) {
        let reason = "temperature 0 is greedy and leaves nothing to draw";
        return Err(SamplingError::Exclusive {
            first: "mirostat",
            second: "temperature 0",
            reason,
        });
    }
    Ok(())
}

fn min_keep(options: &SamplingOptions) -> Result<usize, SamplingError> {
    let n = options.min_tokens_to_keep.unwrap_or(1);
    SamplingError::check(n >= 1, "min_tokens_to_keep", f64::from(n), ">= 1")?;
    Ok(n as usize)
}

/// The window of the count penalties when one applies, with the prompt counted.
fn penalty_window(
    options: &SamplingOptions,
    llama: bool,
) -> Result<Option<(Option<usize>, bool)>, SamplingError> {
    let window = options.penalty_last_n.or(llama.then_some(LLAMA_WINDOW));
    let Some(window) = window else {
        return Ok(None);
    };
    SamplingError::check(
        window >= -1,
        "penalty_last_n",
        window as f64,
        ">= -1 (-1 is the whole history)",
    )?;
    Ok(Some((usize::try_from(window).ok(), true)))
}
