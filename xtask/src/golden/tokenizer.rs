//! Token ids, chat prompts and incremental text of real vocabularies.

use super::{Models, Tally};
use anyhow::Context;
use mx_runtime::template::{ChatTemplate, Message, RenderOptions, TemplateTokens};
use mx_runtime::tokenizer::{
    BpeTokenizer, GgufVocab, Segment, Specials, TextStream, Tokenizer, TokenizerLimits,
};
use mx_runtime::weights::Gguf;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

#[derive(Deserialize)]
struct Golden {
    strings: Vec<Value>,
    #[serde(default)]
    chat: Vec<Chat>,
    #[serde(default)]
    streaming: Option<Streaming>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Streaming {
    cases: Vec<StreamingCase>,
}

#[derive(Deserialize)]
struct StreamingCase {
    text: String,
    ids: Vec<u32>,
    emitted_per_token: Vec<String>,
}

/// Runs one golden file on the models that have been fetched.
///
/// # Errors
/// When the golden or a model cannot be read.
pub(super) fn run(path: &Path, models: &Models) -> anyhow::Result<Vec<Tally>> {
    let file = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let golden: Golden = serde_json::from_slice(&file)?;
    let mut tallies = vec![
        strings(&golden, "smollm2", models.smollm2())?,
        strings(&golden, "gemma3", models.gemma3())?,
    ];
    let (mut chat_tally, mut stream_tally) = (
        Tally::new("tokenizer chat"),
        Tally::new("tokenizer streaming"),
    );
    match models.smollm2() {
        Some(model) => {
            let tokenizer = load(model)?;
            chat(&golden.chat, &tokenizer, &mut chat_tally)?;
            let tokenizer: Arc<dyn Tokenizer> = Arc::new(tokenizer);
            let cases = golden
                .streaming
                .map(|streaming| streaming.cases)
                .unwrap_or_default();
            for case in cases {
                stream_tally.check(&case.text, streamed(&tokenizer, &case));
            }
        }
        None => {
            chat_tally.skip("chat", "the default model has not been fetched");
            stream_tally.skip("streaming", "the default model has not been fetched");
        }
    }
    tallies.extend([chat_tally, stream_tally]);
    Ok(tallies)
}

/// The tokenizer of a GGUF file.
pub(super) fn load(model: &Path) -> anyhow::Result<BpeTokenizer> {
    let file = Gguf::open(model)?;
    let vocab = GgufVocab::from_metadata(file.metadata())?.context("the file has no tokenizer")?;
    Ok(BpeTokenizer::from_gguf(vocab, &TokenizerLimits::default())?)
}

/// The fields `NAME`, `NAME_specials_as_text` and `NAME_decoded` of every string.
fn strings(golden: &Golden, name: &str, model: Option<&Path>) -> anyhow::Result<Tally> {
    let mut tally = Tally::new(format!("tokenizer {name}"));
    let Some(model) = model else {
        tally.skip("strings", "the model has not been fetched");
        return Ok(tally);
    };
    let tokenizer = load(model)?;
    for string in &golden.strings {
        let text = string["text"].as_str().context("a string without text")?;
        let Some(ids) = string.get(name) else {
            continue;
        };
        let ids: Vec<u32> = serde_json::from_value(ids.clone())?;
        let as_text = match string.get(format!("{name}_specials_as_text")) {
            Some(ids) => serde_json::from_value(ids.clone())?,
            None => ids.clone(),
        };
        let decoded = string[format!("{name}_decoded")].as_str().unwrap_or(text);
        tally.check(text, round_trip(&tokenizer, text, &ids, &as_text, decoded));
    }
    Ok(tally)
}

/// Compares the ids of a text, both ways of encoding it, and the text of the ids, at once and streamed.
pub(super) fn round_trip(
    tokenizer: &dyn Tokenizer,
    text: &str,
    ids: &[u32],
    as_text: &[u32],
    decoded: &str,
) -> Result<(), String> {
    for (specials, wanted) in [(Specials::Parse, ids), (Specials::AsText, as_text)] {
        let found = tokenizer
            .encode(text, specials)
            .map_err(|e| e.to_string())?;
        same(&format!("ids ({specials:?})"), &found[..], wanted)?;
        let found = tokenizer.decode(&found, false).map_err(|e| e.to_string())?;
        same("decoded text", &*found, decoded)?;
    }
    Ok(())
}

fn chat(cases: &[Chat], tokenizer: &BpeTokenizer, tally: &mut Tally) -> anyhow::Result<()> {
    let source = tokenizer
        .chat_template()
        .context("the model has no chat template")?;
    let template = ChatTemplate::new(source, TemplateTokens::of(tokenizer))?;
    for case in cases {
        let name = format!("{:?}, prompt {}", case.messages, case.add_generation_prompt);
        tally.check(
            &name,
            conversation(&template, tokenizer, case).unwrap_or_else(|e| Err(e.to_string())),
        );
    }
    Ok(())
}

fn conversation(
    template: &ChatTemplate,
    tokenizer: &BpeTokenizer,
    case: &Chat,
) -> anyhow::Result<Result<(), String>> {
    let options = RenderOptions {
        add_generation_prompt: case.add_generation_prompt,
        ..RenderOptions::default()
    };
    let text = template.render(&case.messages, &options)?;
    let parsed = tokenizer.encode(&text, Specials::Parse)?;
    let segments = template.render_segments(&case.messages, &options, tokenizer)?;
    let safe = tokenizer.encode_segments(&segments)?;
    let specials = |ids: &[u32]| ids.iter().filter(|id| tokenizer.is_special(**id)).count();
    // The golden has the ids of the whole text with control tokens parsed. Where a message writes some itself, the
    // prompt made of segments must have only those of the template: as many as with harmless messages.
    let writes_own = case.messages.iter().any(|message| {
        let content = serde_json::to_string(&message.content).unwrap_or_default();
        tokenizer.added_tokens().find_special(&content, 0).is_some()
    });
    let mut harmless = case.messages.clone();
    harmless
        .iter_mut()
        .for_each(|message| *message = Message::new(&message.role, "x"));
    let harmless = template.render_segments(&harmless, &options, tokenizer)?;
    let templates_own = harmless
        .iter()
        .filter(|s| matches!(s, Segment::Special(_)))
        .count();
    Ok(same("text", &*text, &*case.text)
        .and_then(|()| same("ids of the text", &parsed[..], &case.ids))
        .and_then(|()| {
            same(
                "text of the segments",
                &*tokenizer.decode(&safe, false).unwrap_or_default(),
                &text,
            )
        })
        .and_then(|()| match writes_own {
            true => same(
                "control tokens of the segments",
                &specials(&safe),
                &templates_own,
            ),
            false => same("ids of the segments", &safe[..], &case.ids),
        }))
}

fn streamed(tokenizer: &Arc<dyn Tokenizer>, case: &StreamingCase) -> Result<(), String> {
    let mut stream = TextStream::new(tokenizer.clone());
    let mut emitted = Vec::new();
    for &id in &case.ids {
        emitted.push(stream.push(id).map_err(|e| e.to_string())?);
    }
    same("text per token", &emitted[..], &case.emitted_per_token)?;
    same("rest", &*stream.finish(), "")?;
    same("whole text", &*emitted.concat(), &*case.text)
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    found: &T,
    wanted: &T,
) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{what}: found {found:?}, wanted {wanted:?}")),
    }
}
