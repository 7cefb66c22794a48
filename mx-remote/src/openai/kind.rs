//! Kinds of servers that speak OpenAI's protocol, and what each can honour.

use serde::{Deserialize, Serialize};

/// A kind of server. They share the protocol's core and differ in everything else, and most of them pass over in
/// silence what they do not know. What a kind cannot honour is therefore refused before anything is sent.
///
/// The fields that a chat (c) and a completion (t) can have:
///
/// | field | OpenAi | Axionic | Vllm | VllmLegacy | Sglang | LlamaServer | LlamaCppPython |
/// |---|---|---|---|---|---|---|---|
/// | temperature | c t | c t | c t | c t | c t | c t | c t |
/// | top_p | c t | c t | c t | c t | c t | c t | c t |
/// | frequency_penalty | c t | c t | c t | c t | c t | c t | c t |
/// | presence_penalty | c t | c t | c t | c t | c t | c t | c t |
/// | stop | c t | c t | c t | c t | c t | c t | c t |
/// | logit_bias | c t | c t | c t | c t | c t | c t | c t |
/// | max_tokens | c: `max_completion_tokens`, t | c t | c t | c t | c t | c t | c t |
/// | n | c t | c t | c t | c t | c t | c t | – |
/// | top_k | – | c t | c t | c t | c t | c t | c t |
/// | min_p | – | – | c t | c t | c t | c t | c t |
/// | typical_p | – | – | – | – | – | c t | – |
/// | top_n_sigma | – | – | – | – | – | c t | – |
/// | xtc_probability | – | – | – | – | – | c t | – |
/// | xtc_threshold | – | – | – | – | – | c t | – |
/// | dry | – | – | – | – | – | c t | – |
/// | repeat_last_n | – | – | – | – | – | c t | – |
/// | repetition_penalty | – | – | c t | c t | c t | c t: `repeat_penalty` | c t: `repeat_penalty` |
/// | mirostat | – | – | – | – | – | c t | c t: `mirostat_mode` |
/// | seed | c t | – | c t | c t | c t | c t | c t |
/// | ignore_eos | – | – | c t | c t | c t | c t | – |
/// | min_tokens | – | – | c t | c t | c t | – | c t |
/// | stop_token_ids | – | – | c t | c t | c t | – | – |
/// | allowed_token_ids | – | – | c t | c t | – | – | – |
/// | bad_words | – | – | c t | c t | – | – | – |
/// | logprobs | c t | t | c t | c t | c t | c t | c t |
/// | tools | c | – | c | c | c | c | c |
/// | suffix | t | t | – | – | – | – | t |
/// | echo | t | t | t | t | t | – | t |
/// | best_of | t | t | – | – | – | – | – |
/// | prompt_tokens | t | – | t | t | t | t | – |
/// | several_prompts | t | t | t | t | t | – | – |
/// | content_parts | c t | – | c t | c t | c t | c t | c t |
/// | axionic | – | c t | – | – | – | – | – |
///
/// A name in the cell is the one it travels under. `prompt_tokens`, `several_prompts` and `content_parts` stand for a
/// prompt of tokens, several prompts, and messages of parts. llama-cpp-python ignores `n`, so that only 1 is taken;
/// OpenAI takes at most 4 texts in `stop`; seeds of llama.cpp's servers have 32 bits.
///
/// Constraints of chats; those of completions are fewer:
///
/// | constraint | OpenAi | Axionic | Vllm | VllmLegacy | Sglang | LlamaServer | LlamaCppPython |
/// |---|---|---|---|---|---|---|---|
/// | JSON object | yes | – | yes | yes | yes | yes | yes |
/// | JSON Schema | yes | – | yes | yes | yes | yes | yes |
/// | regular expression | – | – | yes | yes | yes | – | – |
/// | grammar | – | – | GBNF, Lark | GBNF, Lark | GBNF | GBNF | GBNF |
/// | choice | – | – | yes | yes | as regex | as GBNF | as GBNF |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ServerKind {
    /// OpenAI itself, or a server of which no more is known.
    #[serde(rename = "openai")]
    OpenAi,
    /// The OpenAI-compatible surface of the native service.
    Axionic,
    /// vLLM 0.11 or later (`structured_outputs`).
    Vllm,
    /// vLLM before 0.11 (`guided_regex` and its kin).
    VllmLegacy,
    /// SGLang.
    Sglang,
    /// llama.cpp's own server.
    LlamaServer,
    /// The server of the Python package llama-cpp-python.
    LlamaCppPython,
}

/// The two ways to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/chat/completions`.
    Chat,
    /// `/completions`.
    Completions,
}

/// Why a field cannot be honoured.
pub(super) type Reason = &'static str;

const NOT_IN_PROTOCOL: Reason = "its protocol has no such field and would pass over it";
const ONLY_AXIONIC: Reason = "only the native service has it";
const LARGEST_U32_SEED: u64 = u32::MAX as u64 - 1;
const LARGEST_I64_SEED: u64 = i64::MAX as u64;

impl ServerKind {
    /// Every kind.
    pub const ALL: [ServerKind; 7] = [
        ServerKind::OpenAi,
        ServerKind::Axionic,
        ServerKind::Vllm,
        ServerKind::VllmLegacy,
        ServerKind::Sglang,
        ServerKind::LlamaServer,
        ServerKind::LlamaCppPython,
    ];

    /// Its name, for people and files.
    pub fn name(self) -> &'static str {
        match self {
            ServerKind::OpenAi => "openai",
            ServerKind::Axionic => "axionic",
            ServerKind::Vllm => "vllm",
            ServerKind::VllmLegacy => "vllm-legacy",
            ServerKind::Sglang => "sglang",
            ServerKind::LlamaServer => "llama-server",
            ServerKind::LlamaCppPython => "llama-cpp-python",
        }
    }

    /// The kind of this name.
    ///
    /// ```
    /// use mx_remote::ServerKind;
    /// assert_eq!(ServerKind::from_name("llama-server"), Some(ServerKind::LlamaServer));
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        ServerKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) fn is_vllm(self) -> bool {
        matches!(self, ServerKind::Vllm | ServerKind::VllmLegacy)
    }

    fn is_llama(self) -> bool {
        matches!(self, ServerKind::LlamaServer | ServerKind::LlamaCppPython)
    }

    fn is_gpu_engine(self) -> bool {
        self.is_vllm() || self == ServerKind::Sglang
    }

    /// The largest seed that it takes as it is.
    pub(super) fn largest_seed(self) -> u64 {
        if self.is_llama() {
            LARGEST_U32_SEED
        } else {
            LARGEST_I64_SEED
        }
    }

    /// Whether it counts tokens of a stream when asked.
    pub(super) fn streams_usage(self) -> bool {
        !matches!(self, ServerKind::Axionic | ServerKind::LlamaCppPython)
    }

    /// The name under which a field travels to an endpoint, or why it cannot.
    ///
    /// ```
    /// use mx_remote::openai::{Endpoint, ServerKind};
    ///
    /// let wire = |kind: ServerKind| kind.wire_name(Endpoint::Chat, "repetition_penalty");
    /// assert_eq!(wire(ServerKind::Vllm), Ok("repetition_penalty"));
    /// assert_eq!(wire(ServerKind::LlamaServer), Ok("repeat_penalty"));
    /// assert!(wire(ServerKind::OpenAi).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// The reason, in words.
    pub fn wire_name(
        self,
        endpoint: Endpoint,
        field: &'static str,
    ) -> Result<&'static str, &'static str> {
        use Endpoint::{Chat, Completions};
        use ServerKind as K;
        let when = |honoured: bool, reason: Reason| if honoured { Ok(field) } else { Err(reason) };
        match field {
            "temperature" | "top_p" | "frequency_penalty" | "presence_penalty" | "stop"
            | "logit_bias" => Ok(field),
            "max_tokens" if self == K::OpenAi && endpoint == Chat => Ok("max_completion_tokens"),
            "max_tokens" => Ok(field),
            "n" => when(
                self != K::LlamaCppPython,
                "it gives one choice whatever is asked",
            ),
            "top_k" => when(self != K::OpenAi, NOT_IN_PROTOCOL),
            "min_p" => when(self.is_gpu_engine() || self.is_llama(), NOT_IN_PROTOCOL),
            "typical_p" | "top_n_sigma" | "xtc_probability" | "xtc_threshold" | "dry"
            | "repeat_last_n" => when(self == K::LlamaServer, NOT_IN_PROTOCOL),
            "repetition_penalty" if self.is_llama() => Ok("repeat_penalty"),
            "repetition_penalty" => when(self.is_gpu_engine(), NOT_IN_PROTOCOL),
            "mirostat" if self == K::LlamaCppPython => Ok("mirostat_mode"),
            "mirostat" => when(self == K::LlamaServer, NOT_IN_PROTOCOL),
            "seed" => when(self != K::Axionic, NOT_IN_PROTOCOL),
            "ignore_eos" => when(
                self.is_gpu_engine() || self == K::LlamaServer,
                NOT_IN_PROTOCOL,
            ),
            "min_tokens" => when(
                self.is_gpu_engine() || self == K::LlamaCppPython,
                NOT_IN_PROTOCOL,
            ),
            "stop_token_ids" => when(self.is_gpu_engine(), NOT_IN_PROTOCOL),
            "allowed_token_ids" | "bad_words" => when(self.is_vllm(), NOT_IN_PROTOCOL),
            "logprobs" => when(
                self != K::Axionic || endpoint == Completions,
                NOT_IN_PROTOCOL,
            ),
            "tools" => when(self != K::Axionic && endpoint == Chat, NOT_IN_PROTOCOL),
            "suffix" => when(
                endpoint == Completions
                    && matches!(self, K::OpenAi | K::Axionic | K::LlamaCppPython),
                "it completes the end of a text only",
            ),
            "echo" => when(
                endpoint == Completions && self != K::LlamaServer,
                "it does not repeat the prompt",
            ),
            "best_of" => when(
                endpoint == Completions && matches!(self, K::OpenAi | K::Axionic),
                "it does not choose among choices",
            ),
            "prompt_tokens" => when(
                endpoint == Completions && !matches!(self, K::Axionic | K::LlamaCppPython),
                "it takes prompts as text only",
            ),
            "several_prompts" => when(
                endpoint == Completions && !self.is_llama(),
                "it answers several prompts not at all, or in a form of its own; send them one by one",
            ),
            "content_parts" => when(self != K::Axionic, "it takes messages as text only"),
            "axionic" => when(self == K::Axionic, ONLY_AXIONIC),
            _ => Err(NOT_IN_PROTOCOL),
        }
    }
}

/// Every field that [`wire_name`](ServerKind::wire_name) knows.
#[cfg(test)]
pub(super) const FIELDS: &[&str] = &[
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "logit_bias",
    "max_tokens",
    "n",
    "top_k",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "xtc_probability",
    "xtc_threshold",
    "dry",
    "repeat_last_n",
    "repetition_penalty",
    "mirostat",
    "seed",
    "ignore_eos",
    "min_tokens",
    "stop_token_ids",
    "allowed_token_ids",
    "bad_words",
    "logprobs",
    "tools",
    "suffix",
    "echo",
    "best_of",
    "prompt_tokens",
    "several_prompts",
    "content_parts",
    "axionic",
];
