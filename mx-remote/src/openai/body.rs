//! From a request to the body that a kind of server understands.

use super::kind::{Endpoint, ServerKind};
use super::params::{AxionicParams, Dry, Mirostat, Params};
use crate::check::finite;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Texts that OpenAI itself takes in `stop`.
const OPENAI_MAX_STOP: usize = 4;
/// What will be sent, and what the caller should know about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The body of the request.
    pub body: Map<String, Value>,
    /// What is done in another way than asked, or may not be done.
    pub notes: Vec<Note>,
}

/// Something that the caller should know about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The field.
    pub field: &'static str,
    /// What about it.
    pub text: &'static str,
}

/// Builds the body of one request.
pub(super) struct Builder {
    pub(super) kind: ServerKind,
    pub(super) endpoint: Endpoint,
    plan: Plan,
}

impl Builder {
    pub(super) fn new(kind: ServerKind, endpoint: Endpoint) -> Self {
        let plan = Plan {
            body: Map::new(),
            notes: Vec::new(),
        };
        Builder {
            kind,
            endpoint,
            plan,
        }
    }

    pub(super) fn finish(self) -> Plan {
        self.plan
    }

    /// Sets a field that every server has.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.plan.body.insert(name.to_owned(), value.into());
    }

    /// Sets a field under the name that it has with this server, or refuses it.
    pub(super) fn field(&mut self, field: &'static str, value: impl Into<Value>) -> Result<()> {
        let name = self.check(field)?;
        self.set(name, value);
        Ok(())
    }

    pub(super) fn check(&self, field: &'static str) -> Result<&'static str> {
        self.kind
            .wire_name(self.endpoint, field)
            .map_err(|reason| self.refused(field, reason))
    }

    fn optional<T: Into<Value> + Copy>(
        &mut self,
        field: &'static str,
        value: &Option<T>,
    ) -> Result<()> {
        value.map_or(Ok(()), |value| self.field(field, value))
    }

    fn list<T: Clone + Into<Value>>(&mut self, field: &'static str, values: &[T]) -> Result<()> {
        if values.is_empty() {
            Ok(())
        } else {
            self.field(field, values.to_vec())
        }
    }

    pub(super) fn note(&mut self, field: &'static str, text: &'static str) {
        self.plan.notes.push(Note { field, text });
    }

    pub(super) fn refused(&self, field: &'static str, reason: &'static str) -> Error {
        Error::Unsupported {
            field,
            server: self.kind.name(),
            reason,
        }
    }

    pub(super) fn params(&mut self, params: &Params) -> Result<()> {
        finite(params)?;
        self.optional("max_tokens", &params.max_tokens)?;
        self.optional("min_tokens", &params.min_tokens)?;
        if let Some(n) = params.n.filter(|n| *n != 1) {
            if n == 0 {
                return Err(Error::bad_request("n", 0, "1 or more"));
            }
            self.field("n", n)?;
        }
        self.stop(&params.stop)?;
        self.list("stop_token_ids", &params.stop_token_ids)?;
        if params.ignore_eos == Some(true) {
            self.field("ignore_eos", true)?;
        }
        self.seed(params.seed)?;
        self.optional("temperature", &params.temperature)?;
        self.top_k(params.top_k)?;
        self.optional("top_p", &params.top_p)?;
        self.optional("min_p", &params.min_p)?;
        self.optional("typical_p", &params.typical_p)?;
        self.optional("top_n_sigma", &params.top_n_sigma)?;
        self.optional("xtc_probability", &params.xtc_probability)?;
        self.optional("xtc_threshold", &params.xtc_threshold)?;
        if let Some(mirostat) = &params.mirostat {
            self.mirostat(mirostat)?;
        }
        self.optional("frequency_penalty", &params.frequency_penalty)?;
        self.optional("presence_penalty", &params.presence_penalty)?;
        self.optional("repetition_penalty", &params.repetition_penalty)?;
        self.optional("repeat_last_n", &params.repeat_last_n)?;
        if params.repetition_penalty.is_some() && self.plan.body.contains_key("repeat_penalty") {
            self.window_note(params.repeat_last_n);
        }
        if let Some(dry) = &params.dry {
            self.dry(dry)?;
        }
        if !params.logit_bias.is_empty() {
            let bias = params
                .logit_bias
                .iter()
                .map(|(id, bias)| (id.to_string(), json!(bias)));
            self.field("logit_bias", bias.collect::<Map<_, _>>())?;
        }
        self.list("allowed_token_ids", &params.allowed_token_ids)?;
        self.list("bad_words", &params.bad_words)?;
        if let Some(count) = params.logprobs {
            self.logprobs(count)?;
        }
        if let Some(constraint) = &params.constraint {
            self.constraint(constraint)?;
        }
        if let Some(axionic) = &params.axionic {
            self.axionic(axionic)?;
        }
        if let Some(user) = &params.user {
            self.set("user", user.as_str());
        }
        Ok(())
    }

    /// Fields that the caller sends unchecked. They come last, so that they cannot replace what was checked.
    pub(super) fn extra(&mut self, extra: &Map<String, Value>) -> Result<()> {
        for (name, value) in extra {
            if self.plan.body.contains_key(name)
                || matches!(name.as_str(), "stream" | "stream_options")
            {
                return Err(Error::bad_request(
                    format!("extra.{name}"),
                    value,
                    "a field that the client does not set itself",
                ));
            }
            self.set(name, value.clone());
        }
        Ok(())
    }

    fn stop(&mut self, stop: &[String]) -> Result<()> {
        if self.kind == ServerKind::OpenAi && stop.len() > OPENAI_MAX_STOP {
            return Err(self.refused("stop", "it takes at most 4 texts"));
        }
        if stop.iter().any(String::is_empty) {
            return Err(Error::bad_request(
                "stop",
                "an empty text",
                "texts of one character or more",
            ));
        }
        self.list("stop", stop)
    }

    fn seed(&mut self, seed: Option<u64>) -> Result<()> {
        let Some(seed) = seed else {
            return Ok(());
        };
        self.field("seed", seed)?;
        if seed > self.kind.largest_seed() {
            return Err(self.refused(
                "seed",
                "it would cut a seed this large, or take it for none",
            ));
        }
        match self.kind {
            ServerKind::OpenAi => self.note(
                "seed",
                "is a wish: the server does not promise the same text",
            ),
            ServerKind::Sglang => {
                self.note(
                    "seed",
                    "counts only when the server was started for deterministic inference",
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn top_k(&mut self, top_k: Option<i64>) -> Result<()> {
        let Some(top_k) = top_k else {
            return Ok(());
        };
        if top_k > 0 {
            return self.field("top_k", top_k);
        }
        // Servers say "all" differently.
        match self.kind {
            ServerKind::OpenAi => Ok(()),
            ServerKind::Axionic => {
                Err(self.refused("top_k", "it has no way to say that all tokens are kept"))
            }
            ServerKind::Vllm | ServerKind::VllmLegacy | ServerKind::Sglang => {
                self.field("top_k", -1)
            }
            ServerKind::LlamaServer | ServerKind::LlamaCppPython => self.field("top_k", 0),
        }
    }

    fn mirostat(&mut self, mirostat: &Mirostat) -> Result<()> {
        if !matches!(mirostat.version, 1 | 2) {
            return Err(Error::bad_request(
                "mirostat.version",
                mirostat.version,
                "1 or 2",
            ));
        }
        self.field("mirostat", mirostat.version)?;
        for (name, value) in [
            ("mirostat_tau", mirostat.tau),
            ("mirostat_eta", mirostat.eta),
        ] {
            if let Some(value) = value {
                self.set(name, value);
            }
        }
        Ok(())
    }

    fn dry(&mut self, dry: &Dry) -> Result<()> {
        self.check("dry")?;
        self.set("dry_multiplier", dry.multiplier);
        let Dry {
            base,
            allowed_length,
            penalty_last_n,
            sequence_breakers,
            ..
        } = dry;
        let values = [
            ("dry_base", base.map(Value::from)),
            ("dry_allowed_length", allowed_length.map(Value::from)),
            ("dry_penalty_last_n", penalty_last_n.map(Value::from)),
            (
                "dry_sequence_breakers",
                sequence_breakers.clone().map(Value::from),
            ),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                self.set(name, value);
            }
        }
        Ok(())
    }

    fn window_note(&mut self, window: Option<i64>) {
        if window.is_none() {
            self.note(
                "repetition_penalty",
                "looks back as far as the server's repeat_last_n says, not over all tokens",
            );
        }
    }

    fn logprobs(&mut self, count: u32) -> Result<()> {
        self.check("logprobs")?;
        // llama-server takes 0 for "none at all"; one alternative more does no harm.
        let count = if self.kind == ServerKind::LlamaServer {
            count.max(1)
        } else {
            count
        };
        match self.endpoint {
            Endpoint::Chat => {
                self.set("logprobs", true);
                self.set("top_logprobs", count);
            }
            Endpoint::Completions => self.set("logprobs", count),
        }
        Ok(())
    }

    fn axionic(&mut self, axionic: &AxionicParams) -> Result<()> {
        self.check("axionic")?;
        let fields = serde_json::to_value(axionic)
            .map_err(|e| Error::bad_request("axionic", e, "data that JSON can hold"))?;
        if let Value::Object(fields) = fields {
            self.plan.body.extend(fields);
        }
        Ok(())
    }
}
