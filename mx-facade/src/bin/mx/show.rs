//! `mx show`.

use crate::interrupt::Interrupt;
use crate::{load, terminal};
use mx::runtime::config::Span;
use mx::runtime::files::ModelFiles;
use mx::runtime::model::TextParts;
use mx::runtime::source;
use serde_json::json;

pub(crate) fn run(model: &str, as_json: bool) -> anyhow::Result<u8> {
    let interrupt = Interrupt::install()?;
    let resolved = load::resolve(model, false, &interrupt)?;
    let files = ModelFiles::open(&resolved.path).map_err(mx::Error::from)?;
    let text = TextParts::read(&files).map_err(mx::Error::from)?;
    let config = files.config();
    let licence = source::known_model(&resolved.name).map(|known| known.licence);
    if as_json {
        let value = json!({
            "name": resolved.name, "path": resolved.path, "source": resolved.source.to_string(),
            "verified": resolved.verified, "licence": licence, "parameters": config.parameters(),
            "config": config, "generation": files.generation(),
            "tokenizer": text.tokenizer.as_ref().map(|t| t.vocab_size()),
            "chat_template": text.chat_template.as_ref().map(|t| t.source()),
        });
        terminal::data(&(serde_json::to_string_pretty(&value)? + "\n"))?;
        return Ok(0);
    }
    let sliding = config
        .spans
        .iter()
        .filter(|span| **span != Span::Full)
        .count();
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("name", terminal::printable(&resolved.name)),
        row("path", resolved.path.display().to_string()),
        row("source", load::origin(resolved.source, resolved.verified)),
        row("architecture", config.architecture.name().to_owned()),
        row(
            "parameters",
            format!("{:.1} M", config.parameters() as f64 / 1e6),
        ),
        row("context", format!("{} tokens", config.max_context)),
        row(
            "layers",
            format!("{} ({sliding} with a sliding window)", config.layers),
        ),
        row(
            "width",
            format!("{} (feed-forward {})", config.d_model, config.d_ff),
        ),
        row(
            "heads",
            format!(
                "{} of {} (kv {})",
                config.heads, config.head_dim, config.kv_heads
            ),
        ),
        row("vocabulary", config.vocab.to_string()),
        row("tokenizer", present(text.tokenizer.is_some())),
        row("chat template", present(text.chat_template.is_some())),
    ];
    rows.extend(licence.map(|licence| row("licence", licence.to_owned())));
    terminal::data(&terminal::table(&rows))?;
    Ok(0)
}

fn present(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}
