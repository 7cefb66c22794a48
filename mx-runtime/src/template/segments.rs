//! Prompts in which only the template can write control tokens.
//!
//! Before rendering, every text that a user supplied is broken wherever it could become part of a
//! control token, by a mark that occurs in no text. Control tokens in the rendered text are then the
//! template's own; the marks are taken out of what stands between them.
//!
//! Breaking as little as possible lets templates see texts as they are (some look for `</think>`). But
//! a template may delete or join pieces of texts and so put a control token together. A second
//! rendering, in which every first character of a control token is broken, tells: if the two write
//! different control tokens, the second one counts.

use crate::tokenizer::{AddedTokens, Segment, Tokenizer};

use super::message::Context;
use super::{ChatTemplate, Message, RenderOptions, TemplateError};

impl ChatTemplate {
    /// The prompt of a conversation as control tokens and texts, for
    /// [`Tokenizer::encode_segments`].
    ///
    /// Control tokens are those that the template writes. In texts from messages, tools, documents
    /// and extra variables they stay text.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_segments(
        &self,
        messages: &[Message],
        options: &RenderOptions,
        tokenizer: &dyn Tokenizer,
    ) -> Result<Vec<Segment>, TemplateError> {
        let tokens = tokenizer.added_tokens();
        let context = Context::new(messages, options, &self.limits)?;
        let (mut at_risk, mut dangerous) = (false, false);
        context.each_text(&mut |text| {
            at_risk |= text.contains(|c| tokens.starts_special(c));
            at_risk |= text.starts_with(|c| tokens.extends_special(c));
            dangerous |= tokens.find_special(text, 0).is_some();
        });
        let mark = self.unused_mark(&context)?;
        let render = |context: &Context| -> Result<Vec<Segment>, TemplateError> {
            let text = self.render_context(context, options.date)?;
            Ok(without_mark(tokens.split_specials(&text), mark))
        };
        let segments = match dangerous {
            true => render(&context.map_texts(&|text| break_tokens(text, tokens, mark)))?,
            false => render(&context)?,
        };
        if !at_risk {
            return Ok(segments);
        }
        let strict = render(&context.map_texts(&|text| break_starts(text, tokens, mark)));
        match strict {
            Ok(strict) if control_tokens(&strict) != control_tokens(&segments) => {
                tracing::warn!(
                    "texts of this prompt form control tokens when put together: kept as text"
                );
                Ok(strict)
            }
            // A template that fails on broken texts can only be trusted with unbroken ones if they
            // wrote no control token, which this rendering cannot tell.
            Err(error) => Err(error),
            Ok(_) => Ok(segments),
        }
    }

    /// A character that neither the template nor a text contains.
    fn unused_mark(&self, context: &Context) -> Result<char, TemplateError> {
        // Noncharacters first, which no text should contain, then characters for private use.
        let candidates = ('\u{FDD0}'..='\u{FDEF}').chain('\u{E000}'..='\u{F8FF}');
        for mark in candidates {
            let mut used = self.source.contains(mark);
            context.each_text(&mut |text| used |= text.contains(mark));
            if !used {
                return Ok(mark);
            }
        }
        Err(TemplateError::NoMarkLeft)
    }
}

/// Breaks every control token in a text behind its first character.
fn break_tokens(text: &str, tokens: &AddedTokens, mark: char) -> String {
    let mut broken = String::with_capacity(text.len());
    let mut done = 0;
    while let Some(found) = tokens.find_special(text, done) {
        let first = text[found.start..].chars().next().map_or(1, char::len_utf8);
        let cut = found.start + first;
        broken.push_str(&text[done..cut]);
        broken.push(mark);
        done = cut;
    }
    broken.push_str(&text[done..]);
    broken
}

/// Puts the mark behind every character that a control token starts with, and before a text that
/// would make a longer control token of one in front of it.
fn break_starts(text: &str, tokens: &AddedTokens, mark: char) -> String {
    let mut broken = String::with_capacity(text.len());
    if text.starts_with(|c| tokens.extends_special(c)) {
        broken.push(mark);
    }
    for character in text.chars() {
        broken.push(character);
        if tokens.starts_special(character) {
            broken.push(mark);
        }
    }
    broken
}

fn without_mark(segments: Vec<Segment>, mark: char) -> Vec<Segment> {
    let clean = |segment| match segment {
        Segment::Text(text) if text.contains(mark) => Segment::Text(text.replace(mark, "")),
        other => other,
    };
    segments
        .into_iter()
        .map(clean)
        .filter(|s| *s != Segment::Text(String::new()))
        .collect()
}

fn control_tokens(segments: &[Segment]) -> Vec<u32> {
    let id = |segment: &Segment| match segment {
        Segment::Special(id) => Some(*id),
        Segment::Text(_) => None,
    };
    segments.iter().filter_map(id).collect()
}
