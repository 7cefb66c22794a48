//! What an output must look like, in each server's words.

use super::body::Builder;
use super::kind::{Endpoint, ServerKind};
use super::params::{Constraint, GrammarSyntax, JsonSchema};
use crate::error::{Error, Result};
use serde_json::json;
use std::fmt::Write as _;

/// A JSON object in GBNF, for the one endpoint that has no other way to say it.
const JSON_OBJECT_GBNF: &str = r#"root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws ( string ws ":" ws value ws ( "," ws string ws ":" ws value ws )* )? "}"
array ::= "[" ws ( value ws ( "," ws value ws )* )? "]"
string ::= "\"" ( [^"\\\x00-\x1F] | "\\" ( ["\\/bfnrt] | "u" hex hex hex hex ) )* "\""
hex ::= [0-9a-fA-F]
number ::= "-"? ( "0" | [1-9] [0-9]* ) ( "." [0-9]+ )? ( [eE] [-+]? [0-9]+ )?
ws ::= [ \t\n]?
"#;

impl Builder {
    pub(super) fn constraint(&mut self, constraint: &Constraint) -> Result<()> {
        match constraint {
            Constraint::JsonObject => self.json_object(),
            Constraint::JsonSchema(schema) => self.json_schema(schema),
            Constraint::Regex(pattern) => self.regex(pattern),
            Constraint::Grammar { syntax, text } => self.grammar(*syntax, text),
            Constraint::Choice(texts) => self.choice(texts),
        }
    }

    fn json_object(&mut self) -> Result<()> {
        use ServerKind as K;
        let schema = json!({"type": "object"});
        match (self.kind, self.endpoint) {
            (K::OpenAi, Endpoint::Chat)
            | (K::Vllm | K::VllmLegacy, _)
            | (K::Sglang | K::LlamaCppPython, Endpoint::Chat) => {
                self.set("response_format", json!({"type": "json_object"}));
            }
            // Without the schema it would allow any JSON.
            (K::LlamaServer, Endpoint::Chat) => {
                self.set(
                    "response_format",
                    json!({"type": "json_object", "schema": schema}),
                );
            }
            (K::LlamaServer, Endpoint::Completions) => self.set("json_schema", schema),
            (K::Sglang, Endpoint::Completions) => self.set("json_schema", schema.to_string()),
            (K::LlamaCppPython, Endpoint::Completions) => {
                self.set("grammar", JSON_OBJECT_GBNF);
                self.note("constraint", "travels as a grammar of JSON objects");
            }
            (K::OpenAi, Endpoint::Completions) | (K::Axionic, _) => {
                return Err(self.no_constraint());
            }
        }
        Ok(())
    }

    fn json_schema(&mut self, schema: &JsonSchema) -> Result<()> {
        use ServerKind as K;
        let JsonSchema { name, schema } = schema;
        let format = || json!({"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": true}});
        match (self.kind, self.endpoint) {
            (K::OpenAi | K::Sglang | K::LlamaServer, Endpoint::Chat)
            | (K::Vllm | K::VllmLegacy, _) => {
                self.set("response_format", format());
            }
            (K::LlamaCppPython, Endpoint::Chat) => {
                self.set(
                    "response_format",
                    json!({"type": "json_object", "schema": schema}),
                );
            }
            (K::LlamaServer, Endpoint::Completions) => self.set("json_schema", schema.clone()),
            (K::Sglang, Endpoint::Completions) => self.set("json_schema", schema.to_string()),
            (K::LlamaCppPython, Endpoint::Completions) => {
                let reason =
                    "it takes a schema for a chat only; for a completion give a GBNF grammar";
                return Err(self.refused("constraint", reason));
            }
            (K::OpenAi, Endpoint::Completions) | (K::Axionic, _) => {
                return Err(self.no_constraint());
            }
        }
        Ok(())
    }

    fn regex(&mut self, pattern: &str) -> Result<()> {
        match self.kind {
            ServerKind::Vllm => self.set("structured_outputs", json!({"regex": pattern})),
            ServerKind::VllmLegacy => self.set("guided_regex", pattern),
            ServerKind::Sglang => self.set("regex", pattern),
            ServerKind::LlamaServer | ServerKind::LlamaCppPython => {
                let reason = "it takes no regular expression; give a GBNF grammar";
                return Err(self.refused("constraint", reason));
            }
            _ => return Err(self.no_constraint()),
        }
        Ok(())
    }

    fn grammar(&mut self, syntax: GrammarSyntax, text: &str) -> Result<()> {
        use GrammarSyntax::{Gbnf, Lark};
        match (self.kind, syntax) {
            (ServerKind::Vllm, Gbnf | Lark) => {
                self.set("structured_outputs", json!({"grammar": text}))
            }
            (ServerKind::VllmLegacy, Gbnf | Lark) => self.set("guided_grammar", text),
            (ServerKind::Sglang, Gbnf) => self.set("ebnf", text),
            (ServerKind::LlamaServer | ServerKind::LlamaCppPython, Gbnf) => {
                self.set("grammar", text)
            }
            (ServerKind::OpenAi | ServerKind::Axionic, _) => return Err(self.no_constraint()),
            (ServerKind::Vllm | ServerKind::VllmLegacy, _) => {
                return Err(self.refused("constraint", "it takes grammars as GBNF or Lark only"));
            }
            _ => return Err(self.refused("constraint", "it takes grammars as GBNF only")),
        }
        Ok(())
    }

    fn choice(&mut self, texts: &[String]) -> Result<()> {
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            let given = format!("{} texts", texts.len());
            return Err(Error::bad_request(
                "constraint.choice",
                given,
                "one text or more, none of them empty",
            ));
        }
        match self.kind {
            ServerKind::Vllm => self.set("structured_outputs", json!({"choice": texts})),
            ServerKind::VllmLegacy => self.set("guided_choice", texts),
            ServerKind::Sglang => {
                self.set("regex", regex_of(texts));
                self.note(
                    "constraint",
                    "travels as a regular expression of the choices",
                );
            }
            ServerKind::LlamaServer | ServerKind::LlamaCppPython => {
                self.set("grammar", gbnf_of(texts));
                self.note("constraint", "travels as a grammar of the choices");
            }
            ServerKind::OpenAi | ServerKind::Axionic => return Err(self.no_constraint()),
        }
        Ok(())
    }

    fn no_constraint(&self) -> Error {
        let reason = match self.kind {
            ServerKind::Axionic => "this surface has none; put it into a policy",
            _ => "it knows JSON constraints of chats only",
        };
        self.refused("constraint", reason)
    }
}

/// A regular expression of exactly these texts.
pub(super) fn regex_of(texts: &[String]) -> String {
    let escaped = |text: &String| {
        text.chars().fold(String::new(), |mut all, c| {
            if c.is_ascii_punctuation() {
                all.push('\\');
            }
            all.push(c);
            all
        })
    };
    format!(
        "({})",
        texts.iter().map(escaped).collect::<Vec<_>>().join("|")
    )
}

/// A grammar of exactly these texts.
pub(super) fn gbnf_of(texts: &[String]) -> String {
    let quoted = |text: &String| {
        let mut all = String::from("\"");
        for c in text.chars() {
            match c {
                '"' | '\\' => all.extend(['\\', c]),
                '\n' => all.push_str("\\n"),
                '\r' => all.push_str("\\r"),
                '\t' => all.push_str("\\t"),
                c if c.is_control() => {
                    // Control characters lie below U+00A0.
                    let _ = write!(all, "\\x{:02X}", u32::from(c));
                }
                c => all.push(c),
            }
        }
        all + "\""
    };
    let texts: Vec<String> = texts.iter().map(quoted).collect();
    format!("root ::= {}\n", texts.join(" | "))
}
