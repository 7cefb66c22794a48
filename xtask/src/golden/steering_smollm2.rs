//! The parts `caa` and `few_shot` of the default model's golden.

use super::Tally;
use super::compare::{Tolerance, count, floats, ids, list, number};
use super::steering::{EngineReader, hook_plan, shape};
use super::steering_extract::golden_start;
use anyhow::Context;
use mx::steering::ResumedModel;
use mx_runtime::device::DeviceId;
use mx_runtime::engine::{Engine, Row, RowHooks, StepOutput, Want};
use mx_runtime::files::ModelFiles;
use mx_runtime::model::TextParts;
use mx_runtime::tokenizer::{Specials, Tokenizer};
use mx_steering::apply::{Steer, SteeringSpec, VectorRef};
use mx_steering::evaluate::{AnswerSums, LogitShift, SinkRule, answer_log_probability, separation};
use mx_steering::format::pairs::Pair;
use mx_steering::make::few_shot::{FewShotOptions, Start, Target, few_shot};
use mx_steering::make::{Recipe, TokenPair, make, unwatched};
use mx_steering::{ModelError, Site, SteeringError, SteeringVector};
use serde_json::Value;
use std::sync::Arc;

/// Components of vectors agree to 1e-3.
const VECTOR: Tolerance = Tolerance {
    abs: 1e-3,
    rel: 0.0,
};

/// Cosines of texts.
const COSINE: Tolerance = Tolerance {
    abs: 1e-5,
    rel: 1e-3,
};

/// Sums of log-probabilities over a few tokens, each with the noise of logits.
const SUMS: Tolerance = Tolerance {
    abs: 3e-3,
    rel: 1e-4,
};

/// The token that TransformerLens puts in front.
const BOS: u32 = 1;

/// Steps up to which few-shot losses agree to 1e-3, later ones to 1e-2.
const EARLY: usize = 11;

/// The vectors, their evaluation and the shift of belief, on one engine.
///
/// # Errors
/// When the golden itself cannot be read.
pub(super) fn caa(
    engine: &Arc<dyn Engine>,
    name: &str,
    tokenizer: &dyn Tokenizer,
    golden: &Value,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let caa = &golden["caa"];
    let layers: Vec<usize> = ids(&caa["layers"])?
        .into_iter()
        .map(|layer| layer as usize)
        .collect();
    let texts = texts(caa)?;
    let mut tokens = Vec::new();
    for (pair, expected) in texts.iter().zip(list(caa, "pairs")?) {
        let made = token_pair(pair, tokenizer)?;
        let wanted = TokenPair {
            prompt_len: count(expected, "prompt_len")?,
            positive: ids(&expected["positive_ids"])?,
            negative: Some(ids(&expected["negative_ids"])?),
        };
        let same = if made == wanted {
            Ok(())
        } else {
            Err(format!("{made:?}, expected {wanted:?}"))
        };
        tally.check(&format!("{name} caa/tokens of {:?}", pair.prompt), same);
        tokens.push(wanted);
    }
    let mut reader = EngineReader(Arc::clone(engine));
    let vector = make(
        &Recipe::caa_mechanex(layers.clone()),
        &tokens,
        &mut reader,
        &mut unwatched,
    )?;
    for &layer in &layers {
        let got = vector
            .direction(Site::ResidPre.at(layer))
            .unwrap_or_default();
        let expected = floats(&caa["vectors"][layer.to_string()])?;
        tally.check(
            &format!("{name} caa/vector {layer}"),
            VECTOR.check(got, &expected),
        );
        let norm = number(&caa["vector_norms"], &layer.to_string())?;
        let result = VECTOR.check(&[length(got)], &[norm]);
        tally.check(&format!("{name} caa/norm {layer}"), result);
    }
    with_bos(&layers, &tokens, &mut reader, caa, name, tally)?;
    for (part, rule) in [
        ("evaluation", SinkRule::WithFirst),
        ("evaluation_skip_first", SinkRule::SkipFirst),
    ] {
        evaluation(
            &vector,
            rule,
            &caa[part],
            &caa["evaluation"]["texts"],
            tokenizer,
            &mut reader,
            name,
            tally,
        )?;
    }
    shift(engine, &vector, &tokens, &caa["logit_shift"], name, tally)
}

fn with_bos(
    layers: &[usize],
    tokens: &[TokenPair],
    reader: &mut EngineReader,
    caa: &Value,
    name: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let bos = |tokens: &[u32]| [&[BOS], tokens].concat();
    let tokens: Vec<TokenPair> = tokens
        .iter()
        .map(|pair| TokenPair {
            prompt_len: pair.prompt_len + 1,
            positive: bos(&pair.positive),
            negative: pair.negative.as_deref().map(bos),
        })
        .collect();
    let vector = make(
        &Recipe::caa_mechanex(layers.to_vec()),
        &tokens,
        reader,
        &mut unwatched,
    )?;
    for &layer in layers {
        let got = vector
            .direction(Site::ResidPre.at(layer))
            .unwrap_or_default();
        let key = layer.to_string();
        let first8 = floats(&caa["with_bos"]["first8"][&key])?;
        let result = VECTOR
            .check(got.get(..first8.len()).unwrap_or_default(), &first8)
            .and_then(|()| {
                VECTOR.check(
                    &[length(got)],
                    &[number(&caa["with_bos"]["norms"], &key).map_err(|e| e.to_string())?],
                )
            });
        tally.check(&format!("{name} caa/with bos {layer}"), result);
    }
    Ok(())
}

/// Cosines between texts and vectors.
#[allow(
    clippy::too_many_arguments,
    reason = "one call beside the data it walks over"
)]
fn evaluation(
    vector: &SteeringVector,
    rule: SinkRule,
    expected: &Value,
    texts: &Value,
    tokenizer: &dyn Tokenizer,
    reader: &mut EngineReader,
    name: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let tokens = |pole: &str| -> anyhow::Result<Vec<Vec<u32>>> {
        let texts = list(texts, pole)?.iter();
        texts
            .map(|text| Ok(tokenizer.encode(text.as_str().context("text")?, Specials::AsText)?))
            .collect()
    };
    let (positive, negative) = (tokens("positive")?, tokens("negative")?);
    for place in separation(vector, &positive, &negative, rule, reader)? {
        let layer = place.point.layer;
        let expected = &expected["by_layer"][layer.to_string()];
        let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<f32>>();
        let got = [
            narrow(&place.positive),
            narrow(&place.negative),
            vec![place.gap as f32],
        ]
        .concat();
        let wanted = [
            floats(&expected["positive"])?,
            floats(&expected["negative"])?,
            vec![number(expected, "separation")?],
        ]
        .concat();
        tally.check(
            &format!("{name} caa/{rule:?} {layer}"),
            COSINE.check(&got, &wanted),
        );
    }
    Ok(())
}

/// Belief in the answers at every strength, steered through a compiled request.
fn shift(
    engine: &Arc<dyn Engine>,
    vector: &SteeringVector,
    tokens: &[TokenPair],
    golden: &Value,
    name: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let layer = count(golden, "layer")?;
    let by_strength = list(golden, "by_strength")?;
    let strengths: Vec<f32> = by_strength
        .iter()
        .map(|point| number(point, "strength"))
        .collect::<anyhow::Result<_>>()?;
    let pairs = by_strength.first().map_or(0, |p| {
        p["sum_logprob_pos_neg"].as_array().map_or(0, Vec::len)
    });
    let vector = Arc::new(vector.clone());
    let mut score = |strength: f32, pair: usize| -> Result<AnswerSums, SteeringError> {
        let tokens = &tokens[pair];
        let spec = SteeringSpec::from(
            Steer::new(VectorRef::from("golden"))
                .strength(strength)
                .layers([layer]),
        );
        let plan = spec.compile(&shape(engine.as_ref()), tokens.prompt_len, &mut |_| {
            Ok(Arc::clone(&vector))
        })?;
        let sum = |text: &[u32]| -> Result<f64, ModelError> {
            let hooks = hook_plan(&plan, tokens.prompt_len, engine.as_ref())?;
            let mut sequence = engine.new_sequence();
            let mut output = StepOutput::new();
            let row = Row {
                sequence: &mut sequence,
                tokens: text,
                want: Want::All,
                hooks: Some(RowHooks {
                    plan: &hooks,
                    prompt_len: tokens.prompt_len,
                }),
            };
            engine.step(&mut [row], &mut output)?;
            let lines: Vec<f32> = output
                .logits(0)
                .iter()
                .skip(tokens.prompt_len - 1)
                .take(text.len() - tokens.prompt_len)
                .flatten()
                .copied()
                .collect();
            Ok(answer_log_probability(&lines, &text[tokens.prompt_len..])?)
        };
        Ok(AnswerSums {
            positive: sum(&tokens.positive).map_err(SteeringError::Model)?,
            negative: sum(tokens.negative.as_deref().unwrap_or_default())
                .map_err(SteeringError::Model)?,
        })
    };
    let shift = LogitShift::measure(&strengths, pairs, 0, &mut score)?;
    for expected in by_strength {
        let strength = number(expected, "strength")?;
        let got: Vec<f32> = shift
            .points
            .iter()
            .filter(|point| point.strength == strength)
            .flat_map(|point| &point.pairs)
            .flat_map(|sums| [sums.positive as f32, sums.negative as f32])
            .collect();
        let wanted: Vec<f32> = list(expected, "sum_logprob_pos_neg")?
            .iter()
            .map(floats)
            .collect::<anyhow::Result<Vec<_>>>()?
            .concat();
        tally.check(
            &format!("{name} caa/logit shift {strength}"),
            SUMS.check(&got, &wanted),
        );
    }
    Ok(())
}

/// The descent of the golden, on the burn engine.
///
/// # Errors
/// When the golden itself cannot be read, or the model does not load.
pub(super) fn descent(
    files: &ModelFiles,
    device: DeviceId,
    tokenizer: &dyn Tokenizer,
    golden: &Value,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let golden = &golden["few_shot"];
    let text = |key: &str| golden[key].as_str().with_context(|| key.to_owned());
    let pair = token_pair(
        &Pair::new(text("prompt")?, text("positive")?, text("negative")?),
        tokenizer,
    )?;
    let engine = files.burn_engine(device)?;
    let d_model = engine.config().d_model;
    let losses = floats(&golden["loss_before_each_step"])?;
    let options = FewShotOptions {
        start: Start::Vector(golden_start(d_model)),
        iterations: losses.len() - 1,
        ..FewShotOptions::default()
    };
    let point = Site::ResidPre.at(count(golden, "layer")?);
    let targets = Target::of_pairs(&[pair]);
    let (vector, descents) = few_shot(
        &[point],
        &targets,
        d_model,
        engine.device(),
        &options,
        &mut ResumedModel::new(&engine),
        &mut unwatched,
    )?;
    let descent = &descents[0];
    let got: Vec<f32> = descent.losses.iter().map(|loss| *loss as f32).collect();
    let early = EARLY.min(losses.len());
    let result = Tolerance {
        abs: 1e-5,
        rel: 1e-3,
    }
    .check(got.get(..early).unwrap_or_default(), &losses[..early])
    .and_then(|()| {
        Tolerance {
            abs: 1e-5,
            rel: 1e-2,
        }
        .check(&got, &losses)
    });
    tally.check("burn few_shot/losses", result);
    let norms: Vec<f32> = descent.norms.iter().map(|norm| *norm as f32).collect();
    let loose = Tolerance {
        abs: 1e-3,
        rel: 1e-3,
    };
    let result = loose.check(&norms, &floats(&golden["norm_after_each_step"])?);
    tally.check("burn few_shot/norms", result);
    let gradient = &descent.first_gradient;
    let result = Tolerance {
        abs: 1e-5,
        rel: 1e-3,
    }
    .check(&gradient[..8], &floats(&golden["first_gradient_first8"])?)
    .and_then(|()| {
        let norm = number(golden, "first_gradient_norm").map_err(|e| e.to_string())?;
        Tolerance {
            abs: 0.0,
            rel: 1e-3,
        }
        .check(&[length(gradient)], &[norm])
    });
    tally.check("burn few_shot/first gradient", result);
    let last = vector.direction(point).unwrap_or_default();
    let result = Tolerance {
        abs: 1e-2,
        rel: 1e-2,
    }
    .check(&last[..8], &floats(&golden["final_first8"])?);
    tally.check("burn few_shot/final vector", result);
    Ok(())
}

/// The tokenizer in the model's file.
///
/// # Errors
/// When the model has none.
pub(super) fn tokenizer(files: &ModelFiles) -> anyhow::Result<Arc<dyn Tokenizer>> {
    TextParts::read(files)?
        .tokenizer
        .context("the model has no tokenizer")
}

fn texts(caa: &Value) -> anyhow::Result<Vec<Pair>> {
    list(caa, "pairs")?
        .iter()
        .map(|pair| {
            let text = |key: &str| pair[key].as_str().with_context(|| key.to_owned());
            Ok(Pair::new(
                text("prompt")?,
                text("positive")?,
                text("negative")?,
            ))
        })
        .collect()
}

fn token_pair(pair: &Pair, tokenizer: &dyn Tokenizer) -> anyhow::Result<TokenPair> {
    let mut encode = |text: &str| Ok(tokenizer.encode(text, Specials::AsText)?);
    Ok(TokenPair::new(
        pair,
        &mut |pair| Ok(pair.prompt.clone()),
        &mut encode,
    )?)
}

fn length(values: &[f32]) -> f32 {
    values
        .iter()
        .map(|x| f64::from(*x) * f64::from(*x))
        .sum::<f64>()
        .sqrt() as f32
}
