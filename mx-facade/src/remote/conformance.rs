//! Whether a server's answer keeps the request's own constraints.

use crate::error::Error;
use crate::generation::{FinishReason, Generation, Warning};
use crate::policy::{Judge, Policy, Requirements, Rules};
use crate::request::GenerateRequest;

/// What the texts of an answer must satisfy; nothing for a request without constraints.
///
/// A server may honour a constraint by a mask, check it afterwards, or take only part of it: so every text that ended by
/// itself is judged here.
pub(crate) struct Conformance(Option<Judge>);

impl Conformance {
    /// # Errors
    /// [`Error::Constrain`] for a constraint that cannot be compiled.
    pub(crate) fn new(request: &GenerateRequest) -> Result<Self, Error> {
        if !request.is_constrained() {
            return Ok(Conformance(None));
        }
        let (policy, mut warnings) = (Policy::default(), Vec::new());
        let plain = GenerateRequest::new("");
        let rules = Rules::new(&policy, &plain, Vec::new(), &mut warnings)?;
        let required = Requirements::new(&request.constraints, &policy, false, &mut warnings)?;
        Ok(Conformance(Some(Judge::new(required, &rules, None)?)))
    }

    /// Adds a warning for every text that breaks a constraint.
    pub(crate) fn judge(&self, answer: &mut Generation) {
        let Some(judge) = &self.0 else { return };
        let texts: Vec<_> = match answer.choices.is_empty() {
            true => vec![(answer.text.as_str(), answer.finish_reason)],
            false => {
                let text = |choice: &crate::generation::Choice| choice.finish_reason;
                let all = answer.choices.iter();
                all.map(|choice| (choice.text.as_str(), text(choice)))
                    .collect()
            }
        };
        let mut warnings = Vec::new();
        for (index, (text, finish)) in texts.into_iter().enumerate() {
            if finish != FinishReason::Stop {
                continue;
            }
            let message = match judge.judge(text) {
                Ok(verdict) if verdict.constraints_ok => continue,
                Ok(verdict) => format!(
                    "output {index} of the server breaks the constraint: {}",
                    verdict.reason()
                ),
                Err(error) => format!("output {index} of the server could not be judged: {error}"),
            };
            warnings.push(Warning::new("constraint_broken", message));
        }
        answer.warnings.extend(warnings);
    }
}
