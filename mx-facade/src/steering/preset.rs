//! Presets, made for a model when they are first used and kept after that.

use super::{ModelReader, hooks, shape};
use crate::error::Error;
use crate::pipeline::Loaded;
use mx_runtime::engine::{Row, RowHooks, StepOutput, Want};
use mx_runtime::template::{Message, RenderOptions};
use mx_runtime::tokenizer::Specials;
use mx_steering::apply::{Steer, SteeringSpec};
use mx_steering::evaluate::kl_divergence;
use mx_steering::format::pairs::Pair;
use mx_steering::make::{TokenPair, unwatched};
use mx_steering::presets::{NEUTRAL_TEXTS, Preset, Tone, compute, plain_prompt};
use mx_steering::store::VectorStore;
use mx_steering::{ModelError, SteeringError, SteeringVector};
use std::sync::Arc;

/// The preset's vector for a model: the one kept, or a new one.
pub(super) fn vector(
    preset: Preset,
    model: &Loaded,
    store: Option<&VectorStore>,
) -> Result<Arc<SteeringVector>, Error> {
    let name = preset.cache_name(Tone::default(), model.name());
    if let Some(kept) = store.and_then(|store| store.get(&name).ok()) {
        return Ok(Arc::new(kept));
    }
    let made = make(preset, model)?.named(name);
    if let Some(store) = store {
        store.put(&made)?;
    }
    Ok(Arc::new(made))
}

fn make(preset: Preset, model: &Loaded) -> Result<SteeringVector, Error> {
    let tokens = tokenise(&preset.pairs(Tone::default())?, model)?;
    let plain = neutral_laws(model, None)?;
    let mut damage = |vector: &SteeringVector| -> Result<f64, SteeringError> {
        let vector = Arc::new(vector.clone());
        let spec = SteeringSpec::from(Steer::new("preset").strength(1.0));
        let plan = spec.compile(&shape(model), 0, &mut |_| Ok(Arc::clone(&vector)))?;
        let steered = hooks(&plan, model)
            .and_then(|plan| neutral_laws(model, Some(&plan)))
            .map_err(|error| SteeringError::Model(error.into()))?;
        let total: f64 = plain
            .iter()
            .zip(&steered)
            .map(|(plain, steered)| kl_divergence(plain, steered))
            .sum();
        Ok(total / plain.len().max(1) as f64)
    };
    let mut reader = ModelReader::new(model);
    Ok(compute(
        preset,
        &tokens,
        &shape(model),
        &mut reader,
        &mut damage,
        &mut unwatched,
    )?)
}

/// Pairs as tokens of a model, conversations in its chat template.
pub(super) fn tokenise(pairs: &[Pair], model: &Loaded) -> Result<Vec<TokenPair>, Error> {
    let tokenizer = model
        .tokenizer()
        .ok_or_else(|| Error::unsupported("steering by texts", "the model has no tokenizer"))?;
    let special = tokenizer.special_tokens();
    let bos = special.bos.filter(|_| special.add_bos);
    let mut prompt = |pair: &Pair| prompt_text(pair, model);
    let mut tokenize = |text: &str| -> Result<Vec<u32>, ModelError> {
        let mut tokens = tokenizer.encode(text, Specials::Parse)?;
        // A template writes the token itself where the model wants one.
        if let Some(bos) = bos.filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    };
    pairs
        .iter()
        .map(|pair| Ok(TokenPair::new(pair, &mut prompt, &mut tokenize)?))
        .collect()
}

/// The text before a pair's answers: the conversation in the model's template, or question and answer on lines.
fn prompt_text(pair: &Pair, model: &Loaded) -> Result<String, ModelError> {
    let Some(template) = model.chat_template().filter(|_| !pair.messages.is_empty()) else {
        return Ok(plain_prompt(pair));
    };
    let messages: Vec<Message> = pair
        .messages
        .iter()
        .map(|message| Message::new(&message.role, &message.content))
        .collect();
    let options = RenderOptions {
        add_generation_prompt: true,
        ..RenderOptions::default()
    };
    Ok(template.render(&messages, &options)?)
}

/// Logits after the last token of every neutral text.
fn neutral_laws(
    model: &Loaded,
    plan: Option<&mx_runtime::hooks::HookPlan>,
) -> Result<Vec<Vec<f32>>, Error> {
    let Some(tokenizer) = model.tokenizer() else {
        return Ok(Vec::new());
    };
    let engine = model.engine();
    let mut output = StepOutput::new();
    NEUTRAL_TEXTS
        .iter()
        .map(|text| {
            let tokens = tokenizer.encode(text, Specials::AsText)?;
            let mut sequence = engine.new_sequence();
            let row = Row {
                sequence: &mut sequence,
                tokens: &tokens,
                want: Want::Last,
                hooks: plan.map(|plan| RowHooks {
                    plan,
                    prompt_len: 0,
                }),
            };
            engine.step(&mut [row], &mut output)?;
            Ok(output.logits(0).last().unwrap_or_default().to_vec())
        })
        .collect()
}
