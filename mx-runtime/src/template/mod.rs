//! Chat templates: the Jinja text of a model file that turns messages into a prompt.
//!
//! [`ChatTemplate::render`] gives the prompt as text, the way the model's authors defined it.
//! [`ChatTemplate::render_segments`] gives it as [`Segment`](crate::tokenizer::Segment)s, in which
//! control tokens are those that the *template* wrote: what a user puts into a message stays text,
//! whatever it looks like.
//!
//! # The dialect
//!
//! Jinja with `trim_blocks` and `lstrip_blocks`, loop controls, the methods of Python's strings and
//! mappings, and what chat templates expect beyond that: `raise_exception(message)`,
//! `strftime_now(format)`, a `tojson` that writes what Python's `json.dumps(…, ensure_ascii=False)`
//! writes, and `{% generation %}` blocks, which mark text for training and have no effect here.
//!
//! # Limits
//!
//! A template comes from a file that may be hostile. [`TemplateLimits`] bounds its size, the work and
//! memory of rendering, nesting and output. Compiling and rendering run on a stack of their own (a
//! thread that the call waits for), because the engine recurses over what a template builds. The
//! clock is not read: a template that asks for the date gets [`RenderOptions::date`].

mod date;
mod error;
mod find;
mod functions;
mod json;
mod message;
mod segments;
mod stack;
mod tags;

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value};

pub use date::DateTime;
pub use error::TemplateError;
pub(crate) use find::named_templates;
pub use find::{FoundTemplate, find_chat_template};
pub use message::{Content, Message};

use crate::tokenizer::Tokenizer;
use message::Context;

/// A compiled chat template with the control tokens that it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    tokens: TemplateTokens,
    limits: TemplateLimits,
}

/// Texts of the tokens that a template knows as variables. Those that a model lacks are undefined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// `bos_token`.
    pub bos: Option<String>,
    /// `eos_token`.
    pub eos: Option<String>,
    /// `unk_token`.
    pub unk: Option<String>,
    /// `pad_token`.
    pub pad: Option<String>,
}

impl TemplateTokens {
    /// The tokens of a tokenizer; of several end tokens the first.
    #[must_use]
    pub fn of(tokenizer: &dyn Tokenizer) -> Self {
        let ids = tokenizer.special_tokens();
        let text = |id: Option<u32>| tokenizer.token_text(id?).map(str::to_owned);
        Self {
            bos: text(ids.bos),
            eos: text(ids.eos.first().copied()),
            unk: text(ids.unk),
            pad: text(ids.pad),
        }
    }
}

/// What a prompt is made of besides the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// Whether to end with what introduces the model's answer.
    pub add_generation_prompt: bool,
    /// Definitions of tools, usually JSON schemas of functions. `None` is `none` in the template.
    pub tools: Option<Vec<serde_json::Value>>,
    /// Documents to answer from. `None` is `none` in the template.
    pub documents: Option<Vec<serde_json::Value>>,
    /// Further variables, such as `enable_thinking` or `date_string`. They may replace the texts of
    /// tokens, not `messages`, `tools`, `documents` or `add_generation_prompt`.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// What `strftime_now` takes for now.
    pub date: Option<DateTime>,
}

/// Bounds on what a template may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Size of the template. 256 KiB.
    pub source_bytes: usize,
    /// Size of a JSON file that a template is looked for in; such files also list added tokens. 64 MiB.
    pub config_bytes: usize,
    /// Work of one rendering: about one unit per instruction and per 64 bytes of data. 500 000, which
    /// also bounds memory to some 32 MB. A turn of a conversation takes
    /// 50 to 100, plus its length.
    pub fuel: u64,
    /// Nesting of macros and includes. 100.
    pub recursion: usize,
    /// Nesting of lists and objects in tools, documents, messages and what `tojson` writes. 64.
    pub nesting: usize,
    /// Size of the prompt. 16 MiB.
    pub output_bytes: usize,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        Self {
            source_bytes: 256 << 10,
            config_bytes: 64 << 20,
            fuel: 500_000,
            recursion: 100,
            nesting: 64,
            output_bytes: 16 << 20,
        }
    }
}

/// Name of the template within its environment.
const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Compiles a template with default limits.
    ///
    /// # Errors
    /// If the template is no valid Jinja or exceeds a limit.
    pub fn new(source: &str, tokens: TemplateTokens) -> Result<Self, TemplateError> {
        Self::with_limits(source, tokens, TemplateLimits::default())
    }

    /// Compiles a template.
    ///
    /// # Errors
    /// If the template is no valid Jinja or exceeds a limit.
    pub fn with_limits(
        source: &str,
        tokens: TemplateTokens,
        limits: TemplateLimits,
    ) -> Result<Self, TemplateError> {
        if source.len() > limits.source_bytes {
            return Err(TemplateError::limit(
                "template",
                source.len(),
                "source_bytes",
                limits.source_bytes,
            ));
        }
        let environment =
            stack::run(stack::for_source(source.len()), || compile(source, &limits))??;
        Ok(Self {
            environment,
            source: source.to_owned(),
            tokens,
            limits,
        })
    }

    /// The template as given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt of a conversation as text.
    ///
    /// Control tokens in the text may come from the template or from a message: to encode it safely,
    /// use [`render_segments`](Self::render_segments) instead.
    ///
    /// # Errors
    /// If the template refuses the messages ([`TemplateError::Raised`]), fails, needs a date that was
    /// not given, or exceeds a limit.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, TemplateError> {
        self.render_context(
            &Context::new(messages, options, &self.limits)?,
            options.date,
        )
    }

    fn render_context(
        &self,
        context: &Context,
        date: Option<DateTime>,
    ) -> Result<String, TemplateError> {
        stack::run(stack::for_fuel(self.limits.fuel), || {
            let convert = |error: minijinja::Error| {
                TemplateError::from_engine(&error, &self.source, &self.limits)
            };
            let mut output = Bounded {
                bytes: Vec::new(),
                limit: self.limits.output_bytes,
            };
            let variables = context.variables(&self.tokens, functions::strftime_now(date));
            let template = self.environment.get_template(NAME).map_err(convert)?;
            let rendered = template.render_captured_to(Value::from_pairs(variables), &mut output);
            rendered.map_err(convert)?;
            // The engine writes whole strings only.
            Ok(String::from_utf8_lossy(&output.bytes).into_owned())
        })?
    }
}

fn compile(source: &str, limits: &TemplateLimits) -> Result<Environment<'static>, TemplateError> {
    let convert = |error: minijinja::Error| TemplateError::from_engine(&error, source, limits);
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(convert)?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_recursion_limit(limits.recursion);
    environment.set_fuel(Some(limits.fuel));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    functions::add(&mut environment, limits.nesting);
    environment
        .add_template_owned(NAME, tags::neutralise_generation(source))
        .map_err(convert)?;
    Ok(environment)
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("source", &self.source)
            .field("tokens", &self.tokens)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A buffer that refuses to grow beyond its limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
