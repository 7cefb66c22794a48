//! Few-shot optimisation on a loaded model, computing what does not change only once.
//!
//! What lies below the steered block does not depend on the vector: its rows are read once. Above it, texts that begin
//! alike share their beginning: it runs once a step, and what follows goes on from clones of it. The last token of an
//! answer predicts nothing that is asked for and never runs.

use super::{ModelReader, shape};
use crate::error::Error;
use crate::pipeline::Loaded;
use burn::prelude::*;
use mx_runtime::device::DeviceId;
use mx_runtime::engine::burn::{BurnEngine, HookSite, ResumedRow, UpperSequence};
use mx_runtime::engine::{Engine, Row, RowHooks, StepOutput, Want};
use mx_runtime::files::ModelFiles;
use mx_runtime::hooks::{Capture, HookPlan, HookPoint, TokenClass};
use mx_steering::make::TokenPair;
use mx_steering::make::Watch;
use mx_steering::make::few_shot::{Descent, FewShotOptions, SteeredModel, Target, few_shot};
use mx_steering::{ModelError, Point, Site, SteeringVector};
use std::collections::BTreeMap;
use std::ops::Range;

/// Finds a vector for each place by gradient descent on the pairs, whose negative answers may be missing.
///
/// Gradients need the burn engine: a model that runs on another one is loaded a second time for the descent, from the
/// same file. Places are `resid_pre` of any layer, or `resid_post` of any but the last.
///
/// # Errors
/// [`Error::Steering`] for options out of range, pairs without answers, or a stop by `watch`; [`Error::Load`].
pub fn make_few_shot(
    model: &Loaded,
    pairs: &[TokenPair],
    points: &[Point],
    options: &FewShotOptions,
    watch: &mut Watch<'_>,
) -> Result<(SteeringVector, Vec<Descent>), Error> {
    let second;
    let engine = match model.engine().as_any().downcast_ref::<BurnEngine>() {
        Some(engine) => engine,
        None => {
            second = ModelFiles::open(model.path())?.burn_engine(DeviceId::default())?;
            &second
        }
    };
    let (mut vector, descents) = few_shot(
        points,
        &Target::of_pairs(pairs),
        engine.config().d_model,
        engine.device(),
        options,
        &mut ResumedModel::new(engine),
        watch,
    )?;
    let shape = shape(model);
    vector.model = shape.identity();
    vector.stream_norms = stream_norms(model, pairs, points)?;
    Ok((vector, descents))
}

/// Mean norm of the stream at each place over the positive texts, position 0 left out: what relative strengths need.
fn stream_norms(
    model: &Loaded,
    pairs: &[TokenPair],
    points: &[Point],
) -> Result<BTreeMap<Point, f32>, Error> {
    use mx_steering::make::Reader;
    let width = model.config().d_model;
    let mut reader = ModelReader::new(model);
    let mut sums = vec![(0.0f64, 0u32); points.len()];
    for pair in pairs {
        let read = reader
            .read(&pair.positive, points)
            .map_err(mx_steering::SteeringError::Model)?;
        for (rows, (sum, count)) in read.iter().zip(&mut sums) {
            for row in rows.chunks_exact(width).skip(1) {
                *sum += row
                    .iter()
                    .map(|x| f64::from(*x).powi(2))
                    .sum::<f64>()
                    .sqrt();
                *count += 1;
            }
        }
    }
    let means = points.iter().zip(sums).filter(|(_, (_, count))| *count > 0);
    Ok(means
        .map(|(point, (sum, count))| (*point, (sum / f64::from(count)) as f32))
        .collect())
}

/// A model whose logits follow a vector at `resid_pre` or `resid_post`, for
/// [`few_shot`].
#[derive(Debug)]
pub struct ResumedModel<'a> {
    engine: &'a BurnEngine,
    /// Rows at the block's input of the beginning that all targets share; none where they begin differently.
    beginning: Option<Tensor<2>>,
    groups: Vec<Group>,
}

/// Targets with the same prompt.
#[derive(Debug)]
struct Group {
    /// Rows of the prompt behind the common beginning, `[tokens, d_model]`; its last token predicts the answers' first.
    hidden: Tensor<2>,
    members: Vec<Member>,
}

/// One target of a group.
#[derive(Debug)]
struct Member {
    /// Its number.
    target: usize,
    /// Rows of its answer without the last token, `[tokens, d_model]`; none for an answer of one token.
    hidden: Option<Tensor<2>>,
}

impl<'a> ResumedModel<'a> {
    /// A model on this engine.
    pub fn new(engine: &'a BurnEngine) -> Self {
        ResumedModel {
            engine,
            beginning: None,
            groups: Vec::new(),
        }
    }

    /// Rows of a text at the input of a block, `[tokens, d_model]`, of an unsteered run.
    fn rows(&self, tokens: &[u32], layer: usize) -> Result<Tensor<2>, ModelError> {
        let capture = Capture {
            point: HookPoint::ResidPre(layer),
            tokens: TokenClass::All,
        };
        let plan = HookPlan::new([], [capture], self.engine.config())?;
        let mut sequence = self.engine.new_sequence();
        let mut output = StepOutput::new();
        let row = Row {
            sequence: &mut sequence,
            tokens,
            want: Want::None,
            hooks: Some(RowHooks {
                plan: &plan,
                prompt_len: tokens.len(),
            }),
        };
        self.engine.step(&mut [row], &mut output)?;
        let captured = output.take_captures().pop();
        let values = captured.ok_or("the engine read nothing")?.values;
        let shape = [tokens.len(), self.engine.config().d_model];
        Ok(Tensor::from_data(
            TensorData::new(values, shape),
            self.engine.device(),
        ))
    }

    /// The block whose input is the place.
    fn layer(&self, point: Point) -> Result<usize, ModelError> {
        let layer = match point.site {
            Site::ResidPre => point.layer,
            Site::ResidPost if point.layer + 1 < self.engine.config().layers => point.layer + 1,
            _ => {
                return Err(format!(
                    "the place is {point}, few-shot optimisation steers at resid_pre, or resid_post of any layer but the last"
                )
                .into());
            }
        };
        Ok(layer)
    }

    /// Runs rows with the vector added; the logits of `lines` of each.
    fn run(
        &self,
        layer: usize,
        rows: Vec<(&mut UpperSequence, &Tensor<2>, Range<usize>)>,
        vector: &Tensor<1>,
    ) -> Result<Vec<Tensor<2>>, ModelError> {
        let mut rows: Vec<ResumedRow<'_>> = rows
            .into_iter()
            .map(|(sequence, hidden, lines)| ResumedRow {
                sequence,
                hidden: hidden.clone() + vector.clone().unsqueeze::<2>(),
                lines,
            })
            .collect();
        let mut keep = |_: HookSite, x: Tensor<3>| x;
        Ok(self.engine.resume(layer, &mut rows, &mut keep)?)
    }
}

impl SteeredModel for ResumedModel<'_> {
    fn prepare(&mut self, point: Point, targets: &[Target]) -> Result<(), ModelError> {
        let layer = self.layer(point)?;
        self.groups.clear();
        let mut by_prompt: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for (index, target) in targets.iter().enumerate() {
            let prompt = target.tokens.get(..target.prompt_len);
            let prompt = prompt.filter(|prompt| !prompt.is_empty());
            let prompt = prompt.ok_or("a target is shorter than its prompt, or has none")?;
            by_prompt.entry(prompt).or_default().push(index);
        }
        let common = common_beginning(by_prompt.keys().copied());
        for (prompt, members) in &by_prompt {
            let mut group = Group {
                hidden: self.rows(prompt, layer)?,
                members: Vec::with_capacity(members.len()),
            };
            if common > 0 {
                self.beginning
                    .replace(group.hidden.clone().narrow(0, 0, common));
                group.hidden = group.hidden.narrow(0, common, prompt.len() - common);
            }
            for &target in members {
                let tokens = &targets[target].tokens;
                let end = tokens.len().saturating_sub(1);
                let hidden = match end > prompt.len() {
                    false => None,
                    true => {
                        let whole = self.rows(&tokens[..end], layer)?;
                        Some(whole.narrow(0, prompt.len(), end - prompt.len()))
                    }
                };
                group.members.push(Member { target, hidden });
            }
            self.groups.push(group);
        }
        if common == 0 {
            self.beginning = None;
        }
        Ok(())
    }

    fn answer_logits(
        &mut self,
        point: Point,
        targets: &[Target],
        which: Range<usize>,
        vector: &Tensor<1>,
    ) -> Result<Vec<Tensor<2>>, ModelError> {
        let layer = self.layer(point)?;
        let wanted = |member: &&Member| which.contains(&member.target);
        let mut beginning = self.engine.sequence_above(layer)?;
        if let Some(hidden) = &self.beginning {
            self.run(layer, vec![(&mut beginning, hidden, 0..0)], vector)?;
        }
        let groups: Vec<&Group> = self
            .groups
            .iter()
            .filter(|group| group.members.iter().any(|member| wanted(&member)))
            .collect();
        let mut prompts: Vec<UpperSequence> = groups.iter().map(|_| beginning.clone()).collect();
        let rows = groups.iter().zip(&mut prompts).map(|(group, sequence)| {
            let [tokens, _] = group.hidden.dims();
            (sequence, &group.hidden, tokens - 1..tokens)
        });
        let first = self.run(layer, rows.collect(), vector)?;

        let mut answers: Vec<Option<Tensor<2>>> = vec![None; which.len()];
        let (mut clones, mut longer) = (Vec::new(), Vec::new());
        for ((group, sequence), first) in groups.iter().zip(&prompts).zip(&first) {
            for member in group.members.iter().filter(wanted) {
                let asked = targets.get(member.target).map(Target::answer);
                answers[member.target - which.start] = Some(match asked {
                    Some([]) => {
                        Tensor::zeros([0, self.engine.config().vocab], self.engine.device())
                    }
                    _ => first.clone(),
                });
                if let Some(hidden) = &member.hidden {
                    clones.push(sequence.clone());
                    longer.push((member.target - which.start, hidden));
                }
            }
        }
        let rows = clones
            .iter_mut()
            .zip(&longer)
            .map(|(sequence, (_, hidden))| {
                let [tokens, _] = hidden.dims();
                (sequence, *hidden, 0..tokens)
            });
        let rest = self.run(layer, rows.collect(), vector)?;
        for ((answer, _), rest) in longer.into_iter().zip(rest) {
            let whole = answers[answer].take();
            answers[answer] = whole.map(|first| Tensor::cat(vec![first, rest], 0));
        }
        let missing = || ModelError::from("a target was not prepared");
        answers
            .into_iter()
            .map(|answer| answer.ok_or_else(missing))
            .collect()
    }
}

/// Tokens that all prompts begin with, at least one of each left over: it predicts the answers.
fn common_beginning<'a>(prompts: impl Iterator<Item = &'a [u32]>) -> usize {
    let mut prompts = prompts.peekable();
    let Some(first) = prompts.next() else {
        return 0;
    };
    // A single prompt is its group's own beginning.
    if prompts.peek().is_none() {
        return 0;
    }
    let same = |prompt: &[u32]| {
        let equal = first.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        equal.min(prompt.len() - 1)
    };
    let common = prompts.map(same).min().unwrap_or(0);
    common.min(first.len() - 1)
}
