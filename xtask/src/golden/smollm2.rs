//! The default model: logits, norms of the residual stream, greedy runs and steered runs against f32 references.

use super::compare::{Tolerance, argmax, count, floats, ids, list, number, same_tokens};
use super::tiny_model::{joined, read_json};
use super::{Models, Tally, engines, steering_smollm2};
use anyhow::Context;
use mx_runtime::device::DeviceId;
use mx_runtime::engine::{Engine, Want};
use mx_runtime::files::ModelFiles;
use mx_runtime::hooks::{Capture, Edit, HookPlan, HookPoint, TokenClass};
use mx_runtime::session::{Cancel, Session};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Gap between the two best logits above which the arg-max must agree.
const SAFE_GAP: f32 = 1e-3;

/// Runs one golden file.
///
/// # Errors
/// When the golden itself cannot be read.
pub(super) fn run(path: &Path, device: DeviceId, models: &Models) -> anyhow::Result<Vec<Tally>> {
    let mut tally = Tally::new("smollm2");
    let mut caa = Tally::new("caa");
    let mut few_shot = Tally::new("few_shot");
    let golden = read_json(path)?;
    let Some(model) = models.smollm2() else {
        tally.skip(
            &path.display().to_string(),
            "the default model has not been fetched",
        );
        return Ok(vec![tally]);
    };
    let files = ModelFiles::open(model)?;
    for (name, engine) in engines::of(&files, device) {
        match engine {
            Err(error) => tally.check(name, Err(error)),
            Ok(engine) => {
                let run = Run {
                    name,
                    engine,
                    sample: ids(&golden["logits_sample_ids"])?,
                };
                for prompt in list(&golden, "prompts")? {
                    run.prompt(prompt, &mut tally)?;
                }
                run.steered(&golden, &mut tally)?;
                if golden.get("caa").is_some() {
                    let tokenizer = steering_smollm2::tokenizer(&files)?;
                    let (engine, name) = (&run.engine, run.name);
                    steering_smollm2::caa(engine, name, tokenizer.as_ref(), &golden, &mut caa)?;
                }
            }
        }
    }
    if golden.get("few_shot").is_some() {
        let tokenizer = steering_smollm2::tokenizer(&files)?;
        steering_smollm2::descent(&files, device, tokenizer.as_ref(), &golden, &mut few_shot)?;
    }
    let told = |tally: &Tally| *tally != Tally::new(tally.kind.clone());
    Ok([tally, caa, few_shot].into_iter().filter(told).collect())
}

struct Run {
    name: &'static str,
    engine: Arc<dyn Engine>,
    sample: Vec<u32>,
}

impl Run {
    fn prompt(&self, prompt: &Value, tally: &mut Tally) -> anyhow::Result<()> {
        let name = prompt["name"].as_str().context("name")?;
        let name = &format!("{} {name}", self.name);
        let input = ids(&prompt["ids"])?;
        let layers = self.engine.config().layers;
        let points: Vec<HookPoint> = (0..layers)
            .map(HookPoint::ResidPre)
            .chain([HookPoint::ResidPost(layers - 1), HookPoint::Final])
            .collect();
        let captures = points.iter().map(|&point| Capture {
            point,
            tokens: TokenClass::All,
        });
        let plan = HookPlan::new([], captures, self.engine.config())?;
        let mut session = Session::new(Arc::clone(&self.engine)).with_hooks(Arc::new(plan));
        let output = session.step(&input, Want::All)?;
        let lines: Vec<Vec<f32>> = output.logits(0).iter().map(<[f32]>::to_vec).collect();
        let captured = output.take_captures();

        let last = lines.last().context("no logits")?;
        self.check_line(
            last,
            &prompt["last"],
            &self.sample,
            &format!("{name}/last"),
            tally,
        )?;
        let best: Vec<u32> = lines.iter().map(|line| argmax(line)).collect();
        let safe: Vec<u32> = lines
            .iter()
            .zip(ids(&prompt["all_positions_argmax"])?)
            .map(|(line, expected)| {
                if gap(line) > SAFE_GAP {
                    expected
                } else {
                    argmax(line)
                }
            })
            .collect();
        tally.check(
            &format!("{name}/arg-max of every position"),
            same_tokens(&best, &safe),
        );
        let sums: Vec<f32> = lines.iter().map(|line| logsumexp(line)).collect();
        let result = LOGITS.check(&sums, &floats(&prompt["all_positions_logsumexp"])?);
        tally.check(&format!("{name}/logsumexp of every position"), result);
        let nll: Vec<f32> = (1..input.len())
            .map(|i| sums[i - 1] - lines[i - 1][input[i] as usize])
            .collect();
        let result = LOGITS.check(&nll, &floats(&prompt["nll_per_token"])?);
        tally.check(&format!("{name}/negative log-likelihood"), result);

        for point in points {
            let expected = match point {
                HookPoint::ResidPre(layer) => &list(prompt, "resid_pre")?[layer],
                HookPoint::Final => &prompt["final_norm"],
                _ => &prompt["resid_post_29"],
            };
            let result = check_residual(&joined(&captured, point), input.len(), expected)?;
            tally.check(&format!("{name}/{point}"), result);
        }
        let (_, tokens) = self.greedy(HookPlan::default(), &input, &prompt["greedy"])?;
        let gaps = floats(&prompt["greedy_gaps"])?;
        let result = same_while_safe(&tokens, &ids(&prompt["greedy"])?, &gaps);
        tally.check(&format!("{name}/greedy"), result);
        Ok(())
    }

    fn steered(&self, golden: &Value, tally: &mut Tally) -> anyhow::Result<()> {
        let steered = &golden["steered"];
        let sample: Vec<u32> = self.sample.iter().copied().step_by(4).collect();
        for (index, case) in list(steered, "cases")?.iter().enumerate() {
            let prompt = &list(steered, "prompts")?[count(case, "prompt")?];
            let strength = number(case, "strength")?;
            let mut edits = Vec::new();
            for layer in ids(&case["layers"])? {
                let vector = floats(&golden["caa"]["vectors"][layer.to_string()])?;
                edits.push(Edit::add(
                    HookPoint::ResidPre(layer as usize),
                    vector,
                    strength,
                ));
            }
            let plan = HookPlan::new(edits, [], self.engine.config())?;
            let (first, tokens) = self.greedy(plan, &ids(&prompt["ids"])?, &case["greedy"])?;
            let name = format!("{} steered {index}", self.name);
            self.check_line(&first, &case["next"], &sample, &name, tally)?;
            let gaps = floats(&case["greedy_gaps"])?;
            let result = same_while_safe(&tokens, &ids(&case["greedy"])?, &gaps);
            tally.check(&format!("{name}/greedy"), result);
        }
        Ok(())
    }

    /// The best logits, their logsumexp and a sample of all logits.
    fn check_line(
        &self,
        line: &[f32],
        expected: &Value,
        sample: &[u32],
        name: &str,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let at = |ids: &[u32]| {
            ids.iter()
                .map(|&id| line[id as usize])
                .collect::<Vec<f32>>()
        };
        let top = at(&ids(&expected["top_ids"])?);
        let result = LOGITS.check(&top, &floats(&expected["top_logits"])?);
        tally.check(&format!("{name}/top logits"), result);
        let result = LOGITS.check(&at(sample), &floats(&expected["sample"])?);
        tally.check(&format!("{name}/sampled logits"), result);
        let result = LOGITS.check(&[logsumexp(line)], &[number(expected, "logsumexp")?]);
        tally.check(&format!("{name}/logsumexp"), result);
        Ok(())
    }

    /// Logits after the prompt, and as many greedy tokens as `expected` has.
    fn greedy(
        &self,
        plan: HookPlan,
        prompt: &[u32],
        expected: &Value,
    ) -> anyhow::Result<(Vec<f32>, Vec<u32>)> {
        let mut session = Session::new(Arc::clone(&self.engine)).with_hooks(Arc::new(plan));
        let output = session.prefill(prompt, &Cancel::new())?;
        let first = output.logits(0).last().context("no logits")?.to_vec();
        let mut tokens = vec![argmax(&first)];
        while tokens.len() < ids(expected)?.len() {
            let last = tokens[tokens.len() - 1];
            let output = session.step(&[last], Want::Last)?;
            tokens.push(argmax(output.logits(0).last().context("no logits")?));
        }
        Ok((first, tokens))
    }
}

/// Logits agree to 1e-3.
const LOGITS: Tolerance = Tolerance {
    abs: 1e-3,
    rel: 0.0,
};

/// Norms of the first and last position, and the first eight numbers of the last.
fn check_residual(
    values: &[f32],
    positions: usize,
    expected: &Value,
) -> anyhow::Result<Result<(), String>> {
    let width = values.len() / positions;
    let (first, last) = (&values[..width], &values[values.len() - width..]);
    let norms = [norm(first), norm(last)];
    let wanted = [
        number(expected, "norm_first")?,
        number(expected, "norm_last")?,
    ];
    let eight = floats(&expected["first8_last_token"])?;
    // the reference's own noise is 1.2e-5 beside a relative tolerance of 1e-4
    let first8 = Tolerance {
        abs: 5e-5,
        rel: 1e-4,
    };
    let norms_agree = Tolerance {
        abs: 0.0,
        rel: 1e-5,
    }
    .check(&norms, &wanted);
    Ok(norms_agree.and_then(|()| first8.check(&last[..8], &eight)))
}

/// The tokens agree up to the first step whose two best logits are too close to tell apart.
fn same_while_safe(got: &[u32], expected: &[u32], gaps: &[f32]) -> Result<(), String> {
    let safe = gaps
        .iter()
        .position(|&gap| gap <= SAFE_GAP)
        .unwrap_or(gaps.len());
    same_tokens(&got[..safe.min(got.len())], &expected[..safe])
}

fn norm(values: &[f32]) -> f32 {
    values
        .iter()
        .map(|x| f64::from(*x) * f64::from(*x))
        .sum::<f64>()
        .sqrt() as f32
}

fn logsumexp(line: &[f32]) -> f32 {
    let max = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = line.iter().map(|x| f64::from(x - max).exp()).sum();
    max + sum.ln() as f32
}

fn gap(line: &[f32]) -> f32 {
    let best = argmax(line) as usize;
    let second = (0..line.len())
        .filter(|&i| i != best)
        .map(|i| line[i])
        .fold(f32::NEG_INFINITY, f32::max);
    line[best] - second
}
