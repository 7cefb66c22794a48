//! Every control in one request: a constraint, steering, drafts, several outputs, log-probabilities and a trace.
//!
//! ```sh
//! cargo run --release --example controls
//! ```

use mx::request::DrafterKind;
use mx::steer::apply::Steer;
use mx::{Client, ExecutionMode, Method};

#[allow(clippy::print_stdout, reason = "an example")]
fn main() -> Result<(), mx::Error> {
    let model = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "smollm2".to_owned());
    let env = |name: &str| std::env::var(name).ok();
    let mut client = Client::builder()
        .from_env(&env)
        .mode(ExecutionMode::Local)
        .model(model)
        .build();
    client.load()?;

    let answer = client
        .request("List three fruits, separated by commas.")
        .method(Method::Speculative)
        .regex("[a-z]{3,10}(, [a-z]{3,10}){2}")
        .steer(Steer::new("brevity").strength(0.5))
        .with(|request| request.controls.drafter = Some(DrafterKind::PromptLookup))
        .n(3)
        .logprobs(2)
        .seed(7)
        .include_trace(true)
        .run()?;
    for choice in &answer.choices {
        let sum: f64 = choice.logprobs.iter().map(|token| token.logprob).sum();
        println!("{:40} log-probability {sum:.2}", choice.text);
    }
    for warning in &answer.warnings {
        println!("note: {}", warning.message);
    }
    if let Some(trace) = &answer.trace {
        let (drafted, accepted) = trace.drafts();
        println!("{accepted} of {drafted} drafted tokens were accepted");
    }
    for setting in &answer.settings {
        println!(
            "{} = {} ({:?})",
            setting.name, setting.value, setting.origin
        );
    }
    Ok(())
}
