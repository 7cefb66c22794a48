//! `mx generate`.

use crate::flags::GenerateFlags;
use crate::interrupt::Interrupt;
use crate::{FAILURE, INTERRUPTED, load, policy, terminal, trace};
use anyhow::Context;
use mx::policy::CodeLimits;
use mx::{FinishReason, GenerateRequest};
use std::io::{IsTerminal, Read, stdin};
use std::path::Path;

pub(crate) fn run(flags: &GenerateFlags) -> anyhow::Result<u8> {
    let prompt = match &flags.prompt_file {
        Some(file) => read_file(file)?,
        None => text_or_stdin(flags.prompt.as_deref(), "a prompt")?,
    };
    let mut request = load::apply(&flags.sampling, GenerateRequest::new(prompt))?;
    request.raw = flags.raw.then_some(true);
    flags.constraint.apply(&mut request)?;
    flags.strategy.apply(&mut request);
    flags.steering.apply(&mut request);
    let interrupt = Interrupt::install()?;
    let mut named = request.clone();
    if let Some(given) = &flags.policy {
        let policy = policy::find(given)?;
        policy::name_models(&policy, &mut named);
        request = request.policy(policy);
    }
    let checked = std::slice::from_ref(&request);
    let mut client = load::for_request(&flags.model, &flags.route, checked, &named, &interrupt)?;
    if flags.allow_code_execution {
        client.set_code_execution(Some(CodeLimits::default()));
    }
    let several = request.controls.n.is_some_and(|n| n > 1);
    let mut run = client.stream(&request)?.with_cancel(interrupt.current());

    let mut ends_with_newline = true;
    for chunk in run.by_ref() {
        let chunk = chunk?;
        if !flags.json && !several && !chunk.text.is_empty() {
            terminal::data(&chunk.text)?;
            ends_with_newline = chunk.text.ends_with('\n');
        }
    }
    let generation = run.into_generation();
    if let Some(file) = &flags.strategy.trace {
        trace::keep(file, &generation)?;
    }
    if flags.json {
        terminal::data(&(serde_json::to_string_pretty(&generation)? + "\n"))?;
    } else if several {
        print_all(&generation.choices)?;
    } else if !ends_with_newline || generation.text.is_empty() {
        terminal::data("\n")?;
    }
    if !flags.model.quiet {
        terminal::end(&generation);
    }
    Ok(match generation.finish_reason {
        FinishReason::Cancelled if interrupt.current().is_cancelled() => INTERRUPTED,
        _ if generation.policy.is_some_and(|run| !run.accepted) => FAILURE,
        _ => 0,
    })
}

/// Several outputs, each under a line with its number.
fn print_all(choices: &[mx::Choice]) -> anyhow::Result<()> {
    for (index, choice) in choices.iter().enumerate() {
        terminal::data(&format!(
            "[{}] {}\n",
            index + 1,
            choice.text.trim_end_matches('\n')
        ))?;
    }
    Ok(())
}

/// The text that was typed, or stdin where there is none.
pub(crate) fn text_or_stdin(typed: Option<&str>, what: &str) -> anyhow::Result<String> {
    match typed {
        Some(text) if text != "-" => Ok(text.to_owned()),
        None if stdin().is_terminal() => Err(mx::Error::Request {
            field: "prompt".to_owned(),
            given: "absent".to_owned(),
            wanted: format!("{what} as an argument or on stdin"),
        }
        .into()),
        _ => {
            let mut bytes = Vec::new();
            stdin()
                .lock()
                .read_to_end(&mut bytes)
                .context("cannot read stdin")?;
            utf8(bytes, "stdin")
        }
    }
}

fn read_file(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return text_or_stdin(Some("-"), "a prompt");
    }
    let name = file.display().to_string();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
    utf8(bytes, &name)
}

fn utf8(bytes: Vec<u8>, place: &str) -> anyhow::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        mx::Error::Request {
            field: place.to_owned(),
            given: format!("not UTF-8 at byte {at}"),
            wanted: "UTF-8 text".to_owned(),
        }
        .into()
    })
}
