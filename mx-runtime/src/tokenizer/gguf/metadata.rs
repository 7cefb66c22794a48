//! From the metadata of a GGUF container to the fields of a vocabulary.

use super::{GgufVocab, MERGES, MODEL, NO_VOCABULARY, SCORES, TOKEN_TYPE, TOKENS};
use crate::tokenizer::error::TokenizerError;
use crate::weights::Metadata;

impl GgufVocab {
    /// Reads the tokenizer's keys. `None` if the file has no tokenizer, or says that it has none.
    ///
    /// # Errors
    /// If a key has a value of the wrong type.
    pub fn from_metadata(metadata: &Metadata) -> Result<Option<Self>, TokenizerError> {
        let model = metadata.str(MODEL)?;
        let Some(model) = model.filter(|model| !NO_VOCABULARY.contains(model)) else {
            return Ok(None);
        };
        let text = |key| Ok::<_, TokenizerError>(metadata.str(key)?.map(str::to_owned));
        let texts = |key| {
            let list = metadata.strings(key)?;
            Ok::<_, TokenizerError>(list.map(|list| list.iter().map(str::to_owned).collect()))
        };
        Ok(Some(Self {
            model: model.to_owned(),
            pre: text("tokenizer.ggml.pre")?,
            tokens: texts(TOKENS)?.unwrap_or_default(),
            scores: metadata.f32s(SCORES)?.map(<[f32]>::to_vec),
            token_types: metadata.i32s(TOKEN_TYPE)?,
            merges: texts(MERGES)?,
            bos: metadata.u32("tokenizer.ggml.bos_token_id")?,
            eos: metadata.u32("tokenizer.ggml.eos_token_id")?,
            eot: metadata.u32("tokenizer.ggml.eot_token_id")?,
            unk: metadata.u32("tokenizer.ggml.unknown_token_id")?,
            pad: metadata.u32("tokenizer.ggml.padding_token_id")?,
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
            add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?,
            chat_template: text("tokenizer.chat_template")?,
        }))
    }
}
