//! Measuring what a preset does for a model, and what it costs.

use super::held_out::harmless;
use super::{HeldOut, Metric, NEUTRAL_TEXTS, Preset, Sample, Tone, held_out};
use crate::error::{ModelError, SteeringError};
use crate::evaluate::stats::mean;
use crate::evaluate::{AnswerSums, Estimate, Perplexity, Table, distinct_n};
use crate::format::pairs::Pair;
use crate::make::{Watch, tell};
use crate::model::Warning;
use crate::vector::SteeringVector;
use serde::{Deserialize, Serialize};

/// A model that presets are measured on. `steer` is the vector and its strength, none for the plain model.
pub trait PresetModel {
    /// The answer to a user's message, greedy, in the model's chat template.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn answer(
        &mut self,
        prompt: &str,
        steer: Option<(&SteeringVector, f32)>,
    ) -> Result<Sample, ModelError>;

    /// Sums of log-probabilities of a pair's two answers.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn belief(
        &mut self,
        pair: &Pair,
        steer: Option<(&SteeringVector, f32)>,
    ) -> Result<AnswerSums, ModelError>;

    /// Negative log-likelihoods of a plain text's tokens.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn surprise(
        &mut self,
        text: &str,
        steer: Option<(&SteeringVector, f32)>,
    ) -> Result<Vec<f64>, ModelError>;
}

/// Which held-out prompts are used: a strength chosen on some must be judged on others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Every other prompt, from the first on, for choosing a strength.
    Tune,
    /// The rest, for the report.
    #[default]
    Report,
    /// All of them.
    All,
}

impl Split {
    fn of<T>(self, items: Vec<T>) -> Vec<T> {
        let kept = |index: usize| match self {
            Split::Tune => index.is_multiple_of(2),
            Split::Report => !index.is_multiple_of(2),
            Split::All => true,
        };
        let numbered = items.into_iter().enumerate();
        numbered
            .filter(|(index, _)| kept(*index))
            .map(|(_, item)| item)
            .collect()
    }
}

/// What a preset does at a strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PresetReport {
    /// The preset.
    pub preset: Preset,
    /// Its metric, in words.
    pub metric: String,
    /// The strength.
    pub strength: f32,
    /// Mean score of the plain model.
    pub base: f64,
    /// Mean score of the steered model.
    pub steered: f64,
    /// Steered minus plain, prompt by prompt; above 0 is what the preset wants.
    pub effect: Estimate,
    /// Something that must not change, for presets that have it.
    pub side: Option<Side>,
    /// Perplexity of neutral text, plain and steered.
    pub perplexity: Option<Perplexity>,
    /// Mean share of different word pairs in steered answers: near 0 where they loop.
    pub distinct: Option<f64>,
}

/// An effect that is not wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// What it is.
    pub name: String,
    /// Steered minus plain.
    pub effect: Estimate,
}

/// Seed of the intervals.
const SEED: u64 = 1;

/// Measures a preset's vector at a strength.
///
/// # Errors
/// [`SteeringError`] where the model fails or the watch stops it.
pub fn measure(
    preset: Preset,
    metric: &Metric,
    vector: &SteeringVector,
    strength: f32,
    split: Split,
    model: &mut dyn PresetModel,
    watch: &mut Watch<'_>,
) -> Result<PresetReport, SteeringError> {
    let task = Task::new(preset, metric, split);
    let mut done = 0;
    let total = 2 * task.steps();
    let plain = task.run(None, model, &mut |_| advance(&mut done, total, watch))?;
    let steer = Some((vector, strength));
    let steered = task.run(steer, model, &mut |_| advance(&mut done, total, watch))?;
    Ok(task.report(strength, &plain, &steered))
}

fn advance(done: &mut usize, total: usize, watch: &mut Watch<'_>) -> Result<(), SteeringError> {
    *done += 1;
    tell(watch, *done, total, None)
}

/// What is asked of a model: with a vector, and without.
struct Task<'a> {
    preset: Preset,
    metric: &'a Metric,
    prompts: Vec<HeldOut>,
    others: Vec<HeldOut>,
    texts: Vec<&'static str>,
}

/// What a model answered.
#[derive(Default)]
struct Answers {
    scores: Vec<f64>,
    /// Scores of prompts that must not change.
    side: Vec<f64>,
    distinct: Vec<f64>,
    surprise: Vec<f64>,
}

impl<'a> Task<'a> {
    fn new(preset: Preset, metric: &'a Metric, split: Split) -> Self {
        Task {
            preset,
            metric,
            prompts: split.of(held_out(preset)),
            others: match metric {
                Metric::Refusal => split.of(harmless()),
                _ => Vec::new(),
            },
            texts: split.of(NEUTRAL_TEXTS.to_vec()),
        }
    }

    fn steps(&self) -> usize {
        self.prompts.len() + self.others.len() + self.texts.len()
    }

    fn run(
        &self,
        steer: Option<(&SteeringVector, f32)>,
        model: &mut dyn PresetModel,
        step: &mut dyn FnMut(()) -> Result<(), SteeringError>,
    ) -> Result<Answers, SteeringError> {
        let mut answers = Answers::default();
        for prompt in &self.prompts {
            step(())?;
            if let (Metric::Belief, Some(pair)) = (self.metric, prompt.pair()) {
                let sums = model.belief(&pair, steer).map_err(SteeringError::Model)?;
                answers.scores.push(sums.gap());
                continue;
            }
            let (score, sample) = scored(self.metric, prompt, model, steer)?;
            answers.scores.push(score);
            answers.distinct.push(distinct_words(&sample.text));
        }
        for prompt in &self.others {
            step(())?;
            answers
                .side
                .push(scored(self.metric, prompt, model, steer)?.0);
        }
        for text in &self.texts {
            step(())?;
            let surprise = model.surprise(text, steer).map_err(SteeringError::Model)?;
            answers.surprise.extend(surprise);
        }
        Ok(answers)
    }

    fn report(&self, strength: f32, plain: &Answers, steered: &Answers) -> PresetReport {
        PresetReport {
            preset: self.preset,
            metric: self.metric.name().to_owned(),
            strength,
            base: mean(&plain.scores),
            steered: mean(&steered.scores),
            effect: Estimate::of_difference(&plain.scores, &steered.scores, SEED),
            side: (!self.others.is_empty()).then(|| Side {
                name: "refusals of harmless requests".to_owned(),
                effect: Estimate::of_difference(&plain.side, &steered.side, SEED),
            }),
            perplexity: Perplexity::of(&plain.surprise, &steered.surprise),
            distinct: (!steered.distinct.is_empty()).then(|| mean(&steered.distinct)),
        }
    }
}

/// What a vector does to belief in the answers of pairs that it was not made from, and to the perplexity of neutral
/// text: a quick measurement, from forward passes alone. The vector gets the strength, the effect and the perplexity.
///
/// # Errors
/// [`SteeringError`] where the model fails or the watch stops it.
pub fn measure_belief(
    vector: &mut SteeringVector,
    strength: f32,
    pairs: &[Pair],
    model: &mut dyn PresetModel,
    watch: &mut Watch<'_>,
) -> Result<Estimate, SteeringError> {
    let total = pairs.len() + NEUTRAL_TEXTS.len();
    let mut done = 0;
    let steer = Some((&*vector, strength));
    let (mut plain, mut steered) = (Answers::default(), Answers::default());
    for pair in pairs {
        advance(&mut done, total, watch)?;
        for (answers, steer) in [(&mut plain, None), (&mut steered, steer)] {
            let sums = model.belief(pair, steer).map_err(SteeringError::Model)?;
            answers.scores.push(sums.gap());
        }
    }
    for text in NEUTRAL_TEXTS {
        advance(&mut done, total, watch)?;
        for (answers, steer) in [(&mut plain, None), (&mut steered, steer)] {
            let surprise = model.surprise(text, steer).map_err(SteeringError::Model)?;
            answers.surprise.extend(surprise);
        }
    }
    let effect = Estimate::of_difference(&plain.scores, &steered.scores, SEED);
    let measured = vector.measured.get_or_insert_default();
    measured.strength = Some(strength);
    measured.effect = Some(effect);
    measured.metric = Some("belief in the answers of held-out pairs".to_owned());
    measured.perplexity_ratio =
        Perplexity::of(&plain.surprise, &steered.surprise).map(|perplexity| perplexity.ratio);
    Ok(effect)
}

/// Chooses a strength on the tuning prompts: the largest effect among those whose perplexity on neutral text stays
/// below `max_ratio` times that of the plain model; where none does, the one with the smallest perplexity. The vector
/// gets the strength, and what the report prompts say about it.
///
/// # Errors
/// As [`measure`], and [`SteeringError::Empty`] without strengths.
#[allow(
    clippy::too_many_arguments,
    reason = "every one of them is a choice of the caller"
)]
pub fn tune(
    preset: Preset,
    metric: &Metric,
    vector: &mut SteeringVector,
    strengths: &[f32],
    max_ratio: f64,
    model: &mut dyn PresetModel,
    watch: &mut Watch<'_>,
) -> Result<PresetReport, SteeringError> {
    let ratio = |report: &PresetReport| report.perplexity.map_or(1.0, |p| p.ratio);
    let task = Task::new(preset, metric, Split::Tune);
    let judge = Task::new(preset, metric, Split::Report);
    let total = task.steps() * (1 + strengths.len()) + 2 * judge.steps();
    let mut done = 0;
    let mut step = |_: ()| advance(&mut done, total, watch);
    let plain = task.run(None, model, &mut step)?;
    let mut best: Option<PresetReport> = None;
    for &strength in strengths {
        let steered = task.run(Some((&*vector, strength)), model, &mut step)?;
        let report = task.report(strength, &plain, &steered);
        let better = match &best {
            None => true,
            Some(known) => match (ratio(known) <= max_ratio, ratio(&report) <= max_ratio) {
                (true, true) => report.effect.mean > known.effect.mean,
                (false, false) => ratio(&report) < ratio(known),
                (known_bearable, _) => !known_bearable,
            },
        };
        if better {
            best = Some(report);
        }
    }
    let strength = best
        .map(|report| report.strength)
        .ok_or(SteeringError::Empty {
            what: "list of strengths",
            wanted: "at least one strength",
        })?;
    let plain = judge.run(None, model, &mut step)?;
    let steered = judge.run(Some((&*vector, strength)), model, &mut step)?;
    let report = judge.report(strength, &plain, &steered);
    report.keep_in(vector);
    Ok(report)
}

impl PresetReport {
    /// Keeps strength, effect and damage with the vector, so that whoever uses it is told of them.
    pub fn keep_in(&self, vector: &mut SteeringVector) {
        let measured = vector.measured.get_or_insert_default();
        measured.strength = Some(self.strength);
        measured.effect = Some(self.effect);
        measured.metric = Some(self.metric.clone());
        measured.perplexity_ratio = self.perplexity.map(|p| p.ratio);
    }

    /// The warning to give when the preset is used, where its effect is not shown.
    pub fn warning(&self) -> Option<Warning> {
        let Estimate {
            mean, low, high, ..
        } = self.effect;
        (low <= 0.0).then(|| Warning::Unproven {
            preset: self.preset.to_string(),
            effect: mean,
            low,
            high,
        })
    }

    /// Numbers of several reports, one a line in their order.
    pub fn table(reports: &[PresetReport]) -> Table {
        let mut table = Table::new([
            "strength",
            "plain",
            "steered",
            "effect",
            "low",
            "high",
            "perplexity ratio",
            "n",
        ]);
        for report in reports {
            let Estimate { mean, low, high, n } = report.effect;
            let ratio = report.perplexity.map_or(1.0, |p| p.ratio);
            let strength = f64::from(report.strength);
            table.push([
                strength,
                report.base,
                report.steered,
                mean,
                low,
                high,
                ratio,
                n as f64,
            ]);
        }
        table
    }
}

/// The warning that a vector's own measurements call for when it is used as a preset.
pub(super) fn warning_of(preset: Preset, vector: &SteeringVector) -> Option<Warning> {
    let effect = vector.measured.as_ref()?.effect?;
    (effect.low <= 0.0).then(|| Warning::Unproven {
        preset: preset.to_string(),
        effect: effect.mean,
        low: effect.low,
        high: effect.high,
    })
}

fn scored(
    metric: &Metric,
    prompt: &HeldOut,
    model: &mut dyn PresetModel,
    steer: Option<(&SteeringVector, f32)>,
) -> Result<(f64, Sample), SteeringError> {
    let sample = model
        .answer(prompt.prompt, steer)
        .map_err(SteeringError::Model)?;
    Ok((metric.score(prompt, &sample), sample))
}

/// Share of different pairs of neighbouring words.
fn distinct_words(text: &str) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    // words become numbers, which is what the measure counts
    let mut known: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
    let numbers: Vec<u32> = words
        .iter()
        .map(|word| {
            let next = known.len() as u32;
            *known.entry(word).or_insert(next)
        })
        .collect();
    distinct_n(&numbers, 2)
}

impl Preset {
    /// The metric with its default choices.
    pub fn default_metric(self) -> Metric {
        self.metric(Tone::default(), &[])
    }

    /// What to tell whoever uses a vector of this preset: that its measured effect may be none.
    pub fn warning(self, vector: &SteeringVector) -> Option<Warning> {
        warning_of(self, vector)
    }
}
