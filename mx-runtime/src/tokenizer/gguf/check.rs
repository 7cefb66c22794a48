//! Checks of the metadata before anything is built from it.

use super::{GgufVocab, MERGES, NO_VOCABULARY, SCORES, TOKEN_TYPE, TOKENS};
use crate::tokenizer::error::TokenizerError;
use crate::tokenizer::{SpecialTokens, TokenizerLimits};

pub(super) fn lengths(vocab: &GgufVocab, limits: &TokenizerLimits) -> Result<(), TokenizerError> {
    let wanted = vocab.tokens.len();
    if NO_VOCABULARY.contains(&vocab.model.as_str()) {
        return Ok(());
    }
    if wanted == 0 {
        return Err(TokenizerError::MissingField { field: TOKENS });
    }
    if wanted > limits.tokens {
        return Err(TokenizerError::limit(
            TOKENS,
            wanted,
            "tokens",
            limits.tokens,
        ));
    }
    if let Some(long) = vocab
        .tokens
        .iter()
        .map(String::len)
        .find(|len| *len > limits.token_bytes)
    {
        return Err(TokenizerError::limit(
            "bytes of a token",
            long,
            "token_bytes",
            limits.token_bytes,
        ));
    }
    let merges = vocab.merges.as_ref().map_or(0, Vec::len);
    if merges > limits.merges {
        return Err(TokenizerError::limit(
            MERGES,
            merges,
            "merges",
            limits.merges,
        ));
    }
    let lengths = [
        (SCORES, vocab.scores.as_ref().map(Vec::len)),
        (TOKEN_TYPE, vocab.token_types.as_ref().map(Vec::len)),
    ];
    for (field, given) in lengths {
        if let Some(given) = given.filter(|given| *given != wanted) {
            return Err(TokenizerError::WrongLength {
                field,
                given,
                wanted,
            });
        }
    }
    Ok(())
}

pub(super) fn special_tokens(vocab: &GgufVocab) -> Result<SpecialTokens, TokenizerError> {
    let vocab_size = vocab.tokens.len();
    let check = |field, id: Option<u32>| match id {
        Some(id) if id as usize >= vocab_size => Err(TokenizerError::IdOutOfRange {
            field,
            given: id.into(),
            vocab_size,
        }),
        id => Ok(id),
    };
    let eos = check("tokenizer.ggml.eos_token_id", vocab.eos)?;
    let eot = check("tokenizer.ggml.eot_token_id", vocab.eot)?;
    Ok(SpecialTokens {
        bos: check("tokenizer.ggml.bos_token_id", vocab.bos)?,
        eos: eos
            .into_iter()
            .chain(eot.filter(|eot| Some(*eot) != eos))
            .collect(),
        pad: check("tokenizer.ggml.padding_token_id", vocab.pad)?,
        unk: check("tokenizer.ggml.unknown_token_id", vocab.unk)?,
        add_bos: false,
    })
}
