//! A policy's constraints: one of them as a mask, the others as checks of the finished text.

use super::{ConstraintControls, Policy};
use crate::error::Error;
use crate::generation::Warning;
use crate::request::{Constraints, GrammarSyntax};
use mx_constrain::{Constraint, ConstraintSpec, Limits, RegexMode, Vocabulary};
use serde_json::{Map, Value, json};

/// Most forbidden terms and required fields.
const MAX_TERMS: usize = 1024;
/// Field of the constraints block that names the grammar's notation; the contract has none.
const GRAMMAR_SYNTAX: &str = "grammar_syntax";
/// How a grammar that is a pattern begins.
const REGEX_PREFIX: &str = "regex:";

/// Everything that an output must satisfy.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Requirements {
    /// Whether it must be a JSON object, or hold one.
    pub(crate) json: bool,
    /// The schema of its JSON value.
    pub(crate) schema: Option<Value>,
    /// Keys of its JSON object.
    pub(crate) required_fields: Vec<String>,
    /// A pattern, and whether the whole text must match.
    pub(crate) regex: Option<(String, RegexMode)>,
    /// A grammar.
    pub(crate) grammar: Option<(GrammarSyntax, String)>,
    /// Texts of which it is one.
    pub(crate) choices: Vec<String>,
    /// Texts that must not occur in it, in whatever case.
    pub(crate) forbidden: Vec<String>,
    /// The schema of a tool call.
    pub(crate) tool_schema: Option<Value>,
    /// Whether it must be a tool call.
    pub(crate) tool_call: bool,
}

impl Requirements {
    /// What request and policy demand together; the request's own constraints replace those of the same name.
    ///
    /// # Errors
    /// [`Error::Request`] for a value that cannot be used.
    pub(crate) fn new(
        request: &Constraints,
        policy: &Policy,
        tool_call: bool,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, Error> {
        let none = ConstraintControls::default();
        let block = policy.constraints.value().unwrap_or(&none);
        let object = |map: &Map<String, Value>| Value::Object(map.clone());
        let schema = request
            .json_schema
            .clone()
            .or(block.json_schema.value().map(object));
        let json_mode = request
            .json_mode
            .or(block.json_mode.value().copied())
            .unwrap_or(false);
        let mut regex = match &request.regex_pattern {
            Some(pattern) => Some((pattern.clone(), RegexMode::Full)),
            None => block
                .regex_pattern
                .value()
                .map(|pattern| (pattern.clone(), RegexMode::Search)),
        };
        let mut grammar = None;
        if let Some(text) = &request.grammar {
            grammar = Some((request.grammar_syntax.unwrap_or_default(), text.clone()));
        } else if let Some(text) = block.grammar.value() {
            match text.trim_start().strip_prefix(REGEX_PREFIX) {
                None => grammar = Some((syntax(block, text)?, text.clone())),
                Some(pattern) if regex.is_none() => {
                    regex = Some((pattern.trim().to_owned(), RegexMode::Search));
                }
                Some(_) => {
                    let wanted = "absent beside regex_pattern";
                    return Err(Error::request(
                        "constraints.grammar",
                        "a pattern (regex:)",
                        wanted,
                    ));
                }
            }
        }
        if block.extra.contains_key(GRAMMAR_SYNTAX) && block.grammar.value().is_none() {
            let message = "constraints.grammar_syntax has no effect without a grammar";
            warnings.push(Warning::new("no_effect", message));
        }
        let required_fields = terms("required_fields", block.required_fields.value())?;
        let tool_schema = block.tool_schema.value().map(object);
        Ok(Requirements {
            json: json_mode
                || schema.is_some()
                || !required_fields.is_empty()
                || tool_schema.is_some(),
            schema,
            required_fields,
            regex,
            grammar,
            choices: request.choices.clone(),
            forbidden: terms("forbidden_terms", block.forbidden_terms.value())?,
            tool_call: tool_call || tool_schema.is_some(),
            tool_schema,
        })
    }

    /// The schema that an output must satisfy as a whole.
    ///
    /// # Errors
    /// [`Error::Request`] for a tool schema of no known form.
    pub(crate) fn whole_schema(&self) -> Result<Option<Value>, Error> {
        let mut parts = Vec::new();
        parts.extend(self.schema.clone());
        if self.tool_call {
            let closed = self.schema.is_none();
            parts.push(tool_call_schema(self.tool_schema.as_ref(), closed)?);
        }
        let named = |part: &Value, field: &String| {
            let listed = part.get("required").and_then(Value::as_array);
            listed.is_some_and(|list| list.iter().any(|name| name == field))
        };
        let missing: Vec<&String> = self
            .required_fields
            .iter()
            .filter(|field| !parts.iter().any(|part| named(part, field)))
            .collect();
        if !missing.is_empty() {
            parts.push(json!({"type": "object", "required": missing}));
        }
        Ok(match parts.len() {
            0 => self.json.then(|| json!({"type": "object"})),
            1 => parts.pop(),
            _ => Some(json!({ "allOf": parts })),
        })
    }

    /// The constraint that is put upon every token, and the names of what is left to be checked afterwards.
    ///
    /// A mask carries one constraint: the first of schema, pattern, grammar and choices. Forbidden terms join a pattern,
    /// or stand alone; beside the others, and where a server generates, they are checked.
    ///
    /// # Errors
    /// [`Error::Constrain`] for a constraint that cannot be compiled.
    pub(crate) fn mask(&self, local: bool) -> Result<(Constraints, Vec<&'static str>), Error> {
        let mut mask = Constraints::default();
        let mut left: Vec<&'static str> = Vec::new();
        let mut free = true;
        if let Some(schema) = self.whole_schema()? {
            match self.schema.is_none() && !self.tool_call && self.required_fields.is_empty() {
                true => mask.json_mode = Some(true),
                false => mask.json_schema = Some(schema),
            }
            free = false;
        }
        let mut forbidden = (!self.forbidden.is_empty()).then(|| never(&self.forbidden));
        if let Some((pattern, _)) = &self.regex {
            match free {
                true => mask.regex_pattern = Some(pattern.clone()),
                false => left.push("regex_pattern"),
            }
            if free
                && local
                && let Some(never) = &forbidden
            {
                let both = format!("{never}(?:{pattern})");
                if compiles(&both) {
                    mask.regex_pattern = Some(both);
                    forbidden = None;
                }
            }
            free = false;
        }
        if let Some((syntax, text)) = &self.grammar {
            match free {
                true => {
                    mask.grammar = Some(text.clone());
                    mask.grammar_syntax = Some(*syntax);
                }
                false => left.push("grammar"),
            }
            free = false;
        }
        if !self.choices.is_empty() {
            match free {
                true => mask.choices.clone_from(&self.choices),
                false => left.push("choices"),
            }
            free = false;
        }
        if let Some(never) = forbidden {
            let alone = format!("{never}[\\s\\S]*");
            match free && local && compiles(&alone) {
                true => mask.regex_pattern = Some(alone),
                false => left.push("forbidden_terms"),
            }
        }
        Ok((mask, left))
    }
}

/// A look-ahead that refuses every text with one of these in it, in whatever case.
fn never(terms: &[String]) -> String {
    let terms: Vec<String> = terms.iter().map(|term| any_case(term)).collect();
    format!("(?![\\s\\S]*(?:{}))", terms.join("|"))
}

/// A pattern of this text in whatever case.
fn any_case(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        let mut forms: Vec<char> = vec![c];
        for other in [lone(c.to_lowercase()), lone(c.to_uppercase())]
            .into_iter()
            .flatten()
        {
            if !forms.contains(&other) {
                forms.push(other);
            }
        }
        let spelled: Vec<String> = forms
            .iter()
            .map(|c| format!("\\u{{{:x}}}", u32::from(*c)))
            .collect();
        pattern += &match spelled.len() {
            1 => spelled[0].clone(),
            _ => format!("[{}]", spelled.concat()),
        };
    }
    pattern
}

/// The only character of a mapping that gives one.
fn lone(mut mapped: impl Iterator<Item = char>) -> Option<char> {
    let first = mapped.next();
    first.filter(|_| mapped.next().is_none())
}

/// Whether a pattern can be made a constraint.
fn compiles(pattern: &str) -> bool {
    bytes_vocabulary()
        .and_then(|vocabulary| {
            let spec = ConstraintSpec::regex(pattern);
            Ok(Constraint::compile(&vocabulary, &spec, &Limits::default())?)
        })
        .is_ok()
}

/// A vocabulary of all single bytes, with which texts are judged.
///
/// # Errors
/// [`Error::Constrain`], never for 256 tokens.
pub(crate) fn bytes_vocabulary() -> Result<Vocabulary, Error> {
    Ok(Vocabulary::new(
        (0..=u8::MAX).map(|byte| Some([byte])),
        &[],
    )?)
}

/// The schema of a tool call: an object with `tool_name` and `arguments`.
///
/// A tool schema is one of: a list of tools as chat servers take it (`{"tools": [{"function": {"name", "parameters"}}]}`),
/// one of these tools, a map from names to the schemas of their arguments, or one schema for the arguments of any tool.
/// `closed` refuses further keys.
fn tool_call_schema(tool_schema: Option<&Value>, closed: bool) -> Result<Value, Error> {
    let call = |name: Option<&str>, arguments: Value| {
        let name = name.map_or(
            json!({"type": "string", "minLength": 1}),
            |name| json!({ "const": name }),
        );
        json!({
            "type": "object",
            "properties": {"tool_name": name, "arguments": arguments},
            "required": ["tool_name", "arguments"],
            "additionalProperties": !closed,
        })
    };
    let Some(given) = tool_schema else {
        return Ok(call(None, json!({"type": "object"})));
    };
    let named = |tool: &Value| {
        let tool = tool.get("function").unwrap_or(tool);
        let name = tool.get("name").and_then(Value::as_str)?.to_owned();
        let arguments = tool.get("parameters").or_else(|| tool.get("arguments"));
        let arguments = arguments
            .cloned()
            .unwrap_or_else(|| json!({"type": "object"}));
        Some((name, arguments))
    };
    let wrong = || {
        Error::request(
            "constraints.tool_schema",
            "another form",
            "tools with names and parameters, a map from names to schemas, or one schema",
        )
    };
    let tools: Vec<(String, Value)> = if let Some(list) = given.get("tools") {
        let list = list.as_array().ok_or_else(wrong)?;
        list.iter()
            .map(named)
            .collect::<Option<_>>()
            .ok_or_else(wrong)?
    } else if let Some(tool) = named(given) {
        vec![tool]
    } else {
        let map = given.as_object().ok_or_else(wrong)?;
        let is_schema = [
            "type",
            "properties",
            "$ref",
            "anyOf",
            "oneOf",
            "allOf",
            "$defs",
        ]
        .iter()
        .any(|keyword| map.contains_key(*keyword));
        if is_schema || map.is_empty() {
            return Ok(call(None, given.clone()));
        }
        if !map
            .values()
            .all(|schema| schema.is_object() || schema.is_boolean())
        {
            return Err(wrong());
        }
        map.iter()
            .map(|(name, schema)| (name.clone(), schema.clone()))
            .collect()
    };
    if tools.len() > MAX_TERMS {
        let wanted = format!("at most {MAX_TERMS} tools");
        return Err(Error::request(
            "constraints.tool_schema",
            tools.len(),
            wanted,
        ));
    }
    let mut calls: Vec<Value> = tools
        .into_iter()
        .map(|(name, arguments)| call(Some(&name), arguments))
        .collect();
    Ok(match calls.len() {
        0 => return Err(wrong()),
        1 => calls.remove(0),
        _ => json!({ "anyOf": calls }),
    })
}

/// The notation of a policy's grammar: as given, else by what the rules look like.
fn syntax(block: &ConstraintControls, text: &str) -> Result<GrammarSyntax, Error> {
    if let Some(given) = block.extra.get(GRAMMAR_SYNTAX) {
        return serde_json::from_value(given.clone()).map_err(|_| {
            Error::request("constraints.grammar_syntax", given, "gbnf, lark or ebnf")
        });
    }
    let lark = !text.contains("::=")
        && text.lines().any(|line| {
            line.trim_start()
                .trim_start_matches('?')
                .starts_with("start:")
        });
    Ok(if lark {
        GrammarSyntax::Lark
    } else {
        GrammarSyntax::Gbnf
    })
}

fn terms(field: &str, given: Option<&Vec<String>>) -> Result<Vec<String>, Error> {
    let name = format!("constraints.{field}");
    let terms = given.cloned().unwrap_or_default();
    if terms.len() > MAX_TERMS {
        let wanted = format!("at most {MAX_TERMS}");
        return Err(Error::request(&name, terms.len(), wanted));
    }
    match terms.iter().any(String::is_empty) {
        true => Err(Error::request(
            &name,
            "an empty text",
            "texts of at least one character",
        )),
        false => Ok(terms),
    }
}
