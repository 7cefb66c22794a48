//! `mx tokenize`.

use crate::flags::TokenizeFlags;
use crate::interrupt::Interrupt;
use crate::{generate, load, terminal};
use mx::runtime::files::ModelFiles;
use mx::runtime::model::TextParts;
use mx::runtime::tokenizer::Specials;

pub(crate) fn run(flags: &TokenizeFlags) -> anyhow::Result<u8> {
    let text = generate::text_or_stdin(flags.text.as_deref(), "a text")?;
    let interrupt = Interrupt::install()?;
    let resolved = load::resolve(&flags.model, false, &interrupt)?;
    let files = ModelFiles::open(&resolved.path).map_err(mx::Error::from)?;
    let parts = TextParts::read(&files).map_err(mx::Error::from)?;
    let tokenizer = parts.tokenizer.ok_or_else(|| mx::Error::Unsupported {
        what: "tokenize".to_owned(),
        reason: "the model has no tokenizer".to_owned(),
    })?;
    if flags.decode {
        let ids = parse_ids(&text)?;
        let text = tokenizer.decode(&ids, false).map_err(mx::Error::from)?;
        terminal::data(&(text + "\n"))?;
        return Ok(0);
    }
    let specials = if flags.specials {
        Specials::Parse
    } else {
        Specials::AsText
    };
    let ids = tokenizer.encode(&text, specials).map_err(mx::Error::from)?;
    if flags.ids {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        terminal::data(&(ids.join(" ") + "\n"))?;
        return Ok(0);
    }
    let mut lines = String::new();
    for id in &ids {
        let bytes = tokenizer.token_bytes(*id).unwrap_or_default();
        lines += &format!("{id}\t{}\n", shown(bytes));
    }
    terminal::data(&lines)?;
    terminal::note(format_args!("{} tokens, {} bytes", ids.len(), text.len()));
    Ok(0)
}

/// The bytes of a token, quoted; what is no text as `\xNN`.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text + "\""
}

/// Ids separated by spaces or commas.
fn parse_ids(text: &str) -> anyhow::Result<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || ",[]".contains(c));
    let parse = |word: &str| {
        word.parse().map_err(|_| {
            anyhow::Error::from(mx::Error::Request {
                field: "text".to_owned(),
                given: format!("{word:?}"),
                wanted: "token ids".to_owned(),
            })
        })
    };
    words.filter(|word| !word.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shown_as_they_are() {
        assert_eq!(shown(b"a \"b\"\n"), r#""a \"b\"\n""#);
        assert_eq!(shown(&[0xc3]), r#""\xc3""#);
        assert_eq!(shown("é".as_bytes()), "\"é\"");
    }

    #[test]
    fn ids_in_any_list_form() {
        assert_eq!(parse_ids("[1, 2] 3\n").ok(), Some(vec![1, 2, 3]));
        assert!(parse_ids("1 x").is_err());
    }
}
