//! Where two traces part.

use super::{ModelRecord, Trace, TraceStep};
use serde::Serialize;
use serde_json::Value;

/// How two traces differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diff {
    /// What differs around the tokens: model, engine, settings, prompt.
    pub differences: Vec<Difference>,
    /// The first step that chose another token; `None` where the tokens agree as far as both go.
    pub divergence: Option<Divergence>,
    /// Whether texts and tokens are the same to the end.
    pub same_text: bool,
    /// Whether all laws that were recorded are the same to the last bit.
    pub same_laws: bool,
}

/// Something that is one thing in one trace and another in the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// What, for example `setting temperature`.
    pub what: String,
    /// Its value in the first trace; `null` where it has none.
    pub a: Value,
    /// Its value in the second.
    pub b: Value,
}

/// Two steps that chose different tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Divergence {
    /// The output, from 0.
    pub output: usize,
    /// The step, from 0.
    pub step: usize,
    /// The first trace there; `None` where it had ended.
    pub a: Option<TraceStep>,
    /// The second trace there.
    pub b: Option<TraceStep>,
}

/// Compares two traces.
pub fn diff(a: &Trace, b: &Trace) -> Diff {
    let mut differences = Vec::new();
    models(&mut differences, "model", &a.model, &b.model);
    for (index, other) in a.others.iter().enumerate() {
        let what = format!("model {}", other.name);
        match b.others.get(index) {
            Some(second) => models(&mut differences, &what, &other.model, &second.model),
            None => note(&mut differences, &what, &other.model.name, &Value::Null),
        }
    }
    note(&mut differences, "writer", &a.writer, &b.writer);
    note(&mut differences, "own mask", &a.own_mask, &b.own_mask);
    note(&mut differences, "steering edits", &a.steering, &b.steering);
    settings(&mut differences, a, b);
    note(
        &mut differences,
        "prompt",
        &a.request.prompt,
        &b.request.prompt,
    );
    note(
        &mut differences,
        "prompt tokens",
        &a.prompt_tokens,
        &b.prompt_tokens,
    );
    let outputs = 1 + a.further.len().min(b.further.len());
    let divergence = (0..outputs).find_map(|output| {
        let (first, second) = (steps(a, output), steps(b, output));
        let step = (0..first.len().max(second.len())).find(|step| {
            first.get(*step).map(|step| step.token) != second.get(*step).map(|step| step.token)
        })?;
        Some(Divergence {
            output,
            step,
            a: first.get(step).cloned(),
            b: second.get(step).cloned(),
        })
    });
    let texts = |trace: &Trace| -> Vec<String> {
        let further = trace.further.iter().map(|output| output.text.clone());
        std::iter::once(trace.text.clone()).chain(further).collect()
    };
    Diff {
        same_text: divergence.is_none() && texts(a) == texts(b),
        same_laws: divergence.is_none()
            && (0..outputs).all(|output| {
                let pairs = steps(a, output).iter().zip(steps(b, output));
                pairs.into_iter().all(|(a, b)| same_law(a, b))
            }),
        differences,
        divergence,
    }
}

/// The steps of an output.
pub(super) fn steps(trace: &Trace, output: usize) -> &[TraceStep] {
    match output.checked_sub(1) {
        None => &trace.steps,
        Some(further) => trace
            .further
            .get(further)
            .map_or(&[], |output| &output.steps),
    }
}

fn same_law(a: &TraceStep, b: &TraceStep) -> bool {
    (a.logprob, a.raw_logprob, &a.law, &a.raw_law) == (b.logprob, b.raw_logprob, &b.law, &b.raw_law)
}

fn models(found: &mut Vec<Difference>, what: &str, a: &ModelRecord, b: &ModelRecord) {
    // A model without files to look at is known by its name alone.
    match a.fingerprint.is_some() && b.fingerprint.is_some() {
        true if a.fingerprint == b.fingerprint => {}
        true => note(
            found,
            &format!("{what}'s files"),
            &(&a.name, &a.fingerprint),
            &(&b.name, &b.fingerprint),
        ),
        false => note(found, what, &a.name, &b.name),
    }
    let shape = |m: &ModelRecord| [m.layers, m.d_model, m.vocab];
    note(found, &format!("{what}'s shape"), &shape(a), &shape(b));
    let (e, f) = (&a.engine, &b.engine);
    note(found, &format!("{what}'s engine"), &e.engine, &f.engine);
    // Instruction set and threads change no bit of the CPU engine.
    if e.engine != "cpu" || f.engine != "cpu" {
        note(found, &format!("{what}'s device"), &e.device, &f.device);
    }
    note(found, &format!("{what}'s weights"), &e.weights, &f.weights);
    note(found, &format!("{what}'s exact mode"), &e.exact, &f.exact);
    note(found, &format!("{what}'s keys and values"), &e.kv, &f.kv);
    note(
        found,
        &format!("{what}'s quantisation"),
        &e.quantize,
        &f.quantize,
    );
}

fn settings(found: &mut Vec<Difference>, a: &Trace, b: &Trace) {
    let value = |trace: &Trace, name: &str| {
        let settings = &trace.settings;
        let setting = settings.iter().find(|setting| setting.name == name);
        setting.map_or(Value::Null, |setting| setting.value.clone())
    };
    let mut names: Vec<&str> = Vec::new();
    names.extend(a.settings.iter().map(|setting| setting.name.as_str()));
    names.extend(b.settings.iter().map(|setting| setting.name.as_str()));
    names.sort_unstable();
    names.dedup();
    for name in names {
        let what = format!("setting {name}");
        note(found, &what, &value(a, name), &value(b, name));
    }
}

fn note<T: Serialize, U: Serialize>(found: &mut Vec<Difference>, what: &str, a: &T, b: &U) {
    let value = |x: serde_json::Result<Value>| x.unwrap_or(Value::Null);
    let (a, b) = (
        value(serde_json::to_value(a)),
        value(serde_json::to_value(b)),
    );
    if a != b {
        let what = what.to_owned();
        found.push(Difference { what, a, b });
    }
}
