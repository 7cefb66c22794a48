//! What is checked of a finished text: constraints and verifiers.

mod consistency;
mod language;
mod python;
mod text;

pub(crate) use consistency::{ENOUGH, WITNESSES, agreement};
pub(crate) use python::Sandbox;
pub use python::{CodeLimits, SandboxError};

use super::constraints::Requirements;
use super::rules::Rules;
use super::score::{Reason, Verdict};
use crate::error::Error;
use crate::request::GrammarSyntax;
use language::Language;
use mx_constrain::{ConstraintSpec, RegexMode, RegexSyntax};
use serde_json::Value;

/// A check that a policy can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verifier {
    /// The output is JSON, where JSON is asked for.
    Syntax,
    /// Its JSON satisfies the schema.
    JsonSchema,
    /// The pattern occurs in it.
    Regex,
    /// The grammar derives it.
    Grammar,
    /// Its JSON object has the required keys.
    RequiredFields,
    /// No forbidden text occurs in it.
    ForbiddenTerms,
    /// It is a tool call whose arguments satisfy the tool's schema.
    ToolArgs,
    /// Its Python code compiles.
    CodeCompile,
    /// The unit tests run after its Python code.
    UnitTests,
    /// Further samples of the same request repeat what it says.
    Factuality,
}

impl Verifier {
    /// All of them.
    pub const ALL: [Verifier; 10] = [
        Verifier::Syntax,
        Verifier::JsonSchema,
        Verifier::Regex,
        Verifier::Grammar,
        Verifier::RequiredFields,
        Verifier::ForbiddenTerms,
        Verifier::ToolArgs,
        Verifier::CodeCompile,
        Verifier::UnitTests,
        Verifier::Factuality,
    ];

    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Verifier::Syntax => "syntax",
            Verifier::JsonSchema => "json_schema",
            Verifier::Regex => "regex",
            Verifier::Grammar => "grammar",
            Verifier::RequiredFields => "required_fields",
            Verifier::ForbiddenTerms => "forbidden_terms",
            Verifier::ToolArgs => "tool_args",
            Verifier::CodeCompile => "code_compile",
            Verifier::UnitTests => "unit_tests",
            Verifier::Factuality => "factuality",
        }
    }

    /// What its failure costs.
    pub fn penalty(self) -> f64 {
        match self {
            Verifier::Regex => 0.4,
            Verifier::Factuality => 0.6,
            Verifier::CodeCompile => 0.8,
            Verifier::UnitTests => 0.9,
            _ => 0.7,
        }
    }

    /// The verifier of a name.
    ///
    /// # Errors
    /// [`Error::Request`] with the names that exist.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        let found = Verifier::ALL.into_iter().find(|v| v.name() == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = Verifier::ALL.iter().map(|v| v.name()).collect();
            Error::request("verifiers.enabled", name, known.join(", "))
        })
    }
}

/// Judges texts by the constraints and verifiers of one run.
#[derive(Debug)]
pub(crate) struct Judge {
    required: Requirements,
    verifiers: Vec<Verifier>,
    schema: Option<Language>,
    regex: Option<Language>,
    grammar: Option<Language>,
    sandbox: Option<Sandbox>,
    unit_tests: Vec<String>,
}

impl Judge {
    /// # Errors
    /// [`Error::Constrain`] for a constraint that cannot be compiled, [`Error::Request`] for a verifier without what it
    /// verifies by, [`Error::Sandbox`] where code is to be run and cannot be.
    pub(crate) fn new(
        required: Requirements,
        rules: &Rules,
        code: Option<CodeLimits>,
    ) -> Result<Self, Error> {
        let verifiers = rules.verifiers.clone();
        let needs = |verifier: Verifier, there: bool, wanted: &str| match there
            || !verifiers.contains(&verifier)
        {
            true => Ok(()),
            false => Err(Error::request(
                "verifiers.enabled",
                format!("{} without its subject", verifier.name()),
                wanted,
            )),
        };
        let schema = required.whole_schema()?;
        needs(
            Verifier::Grammar,
            required.grammar.is_some(),
            "constraints.grammar beside it",
        )?;
        needs(
            Verifier::RequiredFields,
            !required.required_fields.is_empty(),
            "constraints.required_fields beside it",
        )?;
        needs(
            Verifier::ForbiddenTerms,
            !required.forbidden.is_empty(),
            "constraints.forbidden_terms beside it",
        )?;
        needs(
            Verifier::UnitTests,
            !rules.unit_tests.is_empty(),
            "code_unit_tests beside it",
        )?;
        let compile = |spec: ConstraintSpec| Language::new(&spec).map(Some);
        if let Some((pattern, _)) = &required.regex {
            // Alone first: what is put around it could mend a parenthesis that is none.
            Language::new(&ConstraintSpec::regex(pattern))?;
        }
        let runs_code =
            verifiers.contains(&Verifier::CodeCompile) || verifiers.contains(&Verifier::UnitTests);
        let sandbox = match (runs_code, code) {
            (false, _) => None,
            (true, Some(limits)) => Some(Sandbox::find(rules.unit_test_timeout, limits)?),
            (true, None) => return Err(SandboxError::NotAllowed.into()),
        };
        Ok(Judge {
            schema: match schema {
                Some(schema) => compile(ConstraintSpec::json_schema(schema))?,
                None => None,
            },
            regex: match &required.regex {
                Some((pattern, mode)) => compile(ConstraintSpec::Regex {
                    pattern: searched(pattern, *mode),
                    syntax: RegexSyntax::default(),
                    mode: *mode,
                })?,
                None => None,
            },
            grammar: match &required.grammar {
                Some((syntax, text)) => {
                    let syntax = match syntax {
                        GrammarSyntax::Gbnf => mx_constrain::GrammarSyntax::Gbnf,
                        GrammarSyntax::Lark => mx_constrain::GrammarSyntax::Lark,
                        GrammarSyntax::Ebnf => mx_constrain::GrammarSyntax::Ebnf,
                    };
                    compile(ConstraintSpec::grammar(syntax, text))?
                }
                None => None,
            },
            unit_tests: rules.unit_tests.clone(),
            required,
            verifiers,
            sandbox,
        })
    }

    /// Judges a text.
    ///
    /// # Errors
    /// [`Error::Constrain`] for a limit met, [`Error::Sandbox`] where Python does not start.
    pub(crate) fn judge(&self, text: &str) -> Result<Verdict, Error> {
        let json = self.required.json || self.required.tool_call;
        let value = json.then(|| text::json(text)).flatten();
        let constraint = self.broken(text, value.as_ref())?;
        let mut failed = Vec::new();
        for verifier in &self.verifiers {
            let reason = match verifier {
                Verifier::UnitTests => self.failing_test(text)?,
                other => self.fails(*other, text, value.as_ref())?.map(Reason::new),
            };
            if let Some(reason) = reason {
                failed.push((verifier.penalty(), reason.of(verifier.name())));
            }
        }
        Ok(Verdict::new(failed, constraint))
    }

    /// The first constraint that a text breaks, in words.
    fn broken(&self, text: &str, value: Option<&Value>) -> Result<Option<String>, Error> {
        let required = &self.required;
        if required.json || required.tool_call {
            let Some(value) = value else {
                return Ok(Some("the output is no JSON".to_owned()));
            };
            if let Some(missing) = self.missing_field(value) {
                return Ok(Some(missing));
            }
            if let Some(reason) = self.breaks_schema(text, value)? {
                return Ok(Some(reason));
            }
        }
        for reason in [self.breaks_regex(text)?, self.breaks_grammar(text)?] {
            if reason.is_some() {
                return Ok(reason);
            }
        }
        if !required.choices.is_empty() && !required.choices.iter().any(|choice| choice == text) {
            return Ok(Some("the output is none of the choices".to_owned()));
        }
        Ok(self.has_forbidden(text))
    }

    /// What a verifier finds wrong, in words.
    fn fails(
        &self,
        verifier: Verifier,
        text: &str,
        value: Option<&Value>,
    ) -> Result<Option<String>, Error> {
        let json = self.required.json || self.required.tool_call;
        let no_json = || Some("the output is no JSON".to_owned());
        Ok(match (verifier, value) {
            (Verifier::Syntax, None) if json => no_json(),
            (Verifier::JsonSchema | Verifier::ToolArgs, None) if json => no_json(),
            (Verifier::RequiredFields, None) => no_json(),
            (Verifier::JsonSchema | Verifier::ToolArgs, Some(value)) => {
                self.breaks_schema(text, value)?
            }
            (Verifier::RequiredFields, Some(value)) => self.missing_field(value),
            (Verifier::Regex, _) => self.breaks_regex(text)?,
            (Verifier::Grammar, _) => self.breaks_grammar(text)?,
            (Verifier::ForbiddenTerms, _) => self.has_forbidden(text),
            (Verifier::CodeCompile, _) => match &self.sandbox {
                Some(sandbox) => sandbox.compile(text::code(text))?,
                None => None,
            },
            // Judged by what runs, and over all candidates together, once their rivals are known.
            (Verifier::UnitTests | Verifier::Factuality, _) => None,
            (Verifier::Syntax | Verifier::JsonSchema | Verifier::ToolArgs, _) => None,
        })
    }

    fn failing_test(&self, text: &str) -> Result<Option<Reason>, Error> {
        let Some(sandbox) = &self.sandbox else {
            return Ok(None);
        };
        let code = text::code(text);
        for (index, test) in self.unit_tests.iter().enumerate() {
            if let Some(reason) = sandbox.test(code, test)? {
                let number = index + 1;
                return Ok(Some(Reason::private(
                    format!("test {number}: {reason}"),
                    format!("test {number} fails"),
                )));
            }
        }
        Ok(None)
    }

    fn missing_field(&self, value: &Value) -> Option<String> {
        let missing = |field: &&String| value.get(field.as_str()).is_none();
        let field = self.required.required_fields.iter().find(missing)?;
        Some(format!("the field {field} is missing"))
    }

    fn breaks_schema(&self, text: &str, value: &Value) -> Result<Option<String>, Error> {
        let Some(schema) = &self.schema else {
            return Ok(None);
        };
        if schema.has(text.trim())? || schema.has(&value.to_string())? {
            return Ok(None);
        }
        Ok(Some("the JSON does not satisfy the schema".to_owned()))
    }

    fn breaks_regex(&self, text: &str) -> Result<Option<String>, Error> {
        match &self.regex {
            Some(regex) if !regex.has(text)? => {
                Ok(Some("the output does not match the pattern".to_owned()))
            }
            _ => Ok(None),
        }
    }

    fn breaks_grammar(&self, text: &str) -> Result<Option<String>, Error> {
        match &self.grammar {
            Some(grammar) if !grammar.has(text)? && !grammar.has(text.trim())? => {
                Ok(Some("the grammar does not derive the output".to_owned()))
            }
            _ => Ok(None),
        }
    }

    fn has_forbidden(&self, text: &str) -> Option<String> {
        let lower = text.to_lowercase();
        let found = |term: &&String| lower.contains(&term.to_lowercase());
        let term = self.required.forbidden.iter().find(found)?;
        Some(format!("the forbidden term {term:?} occurs"))
    }
}

/// A pattern that is searched for: there the dot stands for line ends too, as the contract has it.
fn searched(pattern: &str, mode: RegexMode) -> String {
    match mode {
        RegexMode::Search => format!("(?s:{pattern})"),
        _ => pattern.to_owned(),
    }
}
