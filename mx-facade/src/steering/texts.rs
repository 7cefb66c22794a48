//! Contrastive pairs as tokens of a model.

use crate::error::Error;
use crate::pipeline::Loaded;
use mx_runtime::template::{Message, RenderOptions};
use mx_runtime::tokenizer::Specials;
use mx_steering::ModelError;
use mx_steering::format::pairs::Pair;
use mx_steering::make::TokenPair;
use mx_steering::presets::plain_prompt;

/// Contrastive pairs as tokens of a model; conversations are rendered in its chat template.
///
/// # Errors
/// [`Error::Unsupported`] for a model without a tokenizer, [`Error::Tokenizer`], [`Error::Template`].
pub fn tokenise(pairs: &[Pair], model: &Loaded) -> Result<Vec<TokenPair>, Error> {
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
