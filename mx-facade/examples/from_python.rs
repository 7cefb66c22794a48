//! The calls of the Python package Mechanex, in Rust, on a model of this machine. Each Python line stands above the
//! Rust that replaces it.
//!
//! ```sh
//! cargo run --release --example from_python            # the default model
//! cargo run --release --example from_python -- FILE    # a .gguf file or a model folder
//! ```

use mx::policy::constructors::strict_json_extraction;
use mx::steer::apply::VectorRef;
use mx::{Client, ExecutionMode, Method};
use serde_json::json;

fn main() -> Result<(), mx::Error> {
    let model = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "smollm2".to_owned());
    let env = |name: &str| std::env::var(name).ok();

    // import mechanex as mx; mx.set_execution_mode("local"); mx.load("…")
    let mut client = Client::builder()
        .from_env(&env)
        .mode(ExecutionMode::Local)
        .model(model)
        .build();
    client.load()?;

    // mx.generation.generate("Why is the sky blue?")
    show("generate", client.generate("Why is the sky blue?")?);

    // mx.generation.generate("Name a colour.", max_tokens=16, sampling_method="top-p", top_p=0.8, temperature=0.5)
    let answer = client
        .request("Name a colour.")
        .max_tokens(16)
        .method(Method::TopP)
        .top_p(0.8)
        .temperature(0.5)
        .run()?;
    show("top-p", answer.text);

    // mx.generation.generate("…", sampling_method="ads", ads_subset_size=8, ads_beta=0.3)     remote only there
    let answer = client
        .request("Suggest a name for a cat.")
        .method(Method::Ads)
        .with(|request| {
            request.controls.ads_subset_size = Some(8);
            request.controls.ads_beta = Some(0.3);
        })
        .max_tokens(16)
        .run()?;
    show("ads", answer.text);

    // mx.generation.generate("…", sampling_method="guided-generation", json_schema={…})       remote only there
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["city", "people"],
        "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}}});
    let answer = client
        .request("Describe Paris as JSON.")
        .method(Method::Guided)
        .json_schema(schema.clone())
        .run()?;
    show("guided-generation", answer.text);

    // mx.generation.generate("…", regex_pattern=r"\d{4}-\d{2}-\d{2}")        checked after the text there, a mask here
    let answer = client
        .request("When did people first walk on the moon? Answer with a date.")
        .regex(r"\d{4}-\d{2}-\d{2}")
        .run()?;
    show("regex", answer.text);

    // mx.generation.generate("…", sampling_method="ssd", draft_model="…")                     remote only there
    let answer = client
        .request("Copy this: red green blue red green blue")
        .method(Method::Ssd)
        .with(|request| request.controls.draft_model = Some("self".to_owned()))
        .max_tokens(24)
        .run()?;
    show("ssd", answer.text);

    // mx.generation.generate("…", best_of_n=4)
    let answer = client
        .request("Tell me something about the sea.")
        .best_of_n(4)
        .max_tokens(24)
        .run()?;
    show("best_of_n", answer.text);

    // mx.generation.generate("…", steering_vector={10: tensor}, steering_strength=4.0)
    let width = client.model().map_or(0, |model| model.config().d_model);
    let direction = (0..width).map(|i| ((i % 7) as f32 - 3.0) / 30.0).collect();
    let answer = client
        .request("How are you?")
        .with(|request| {
            let layers = [("1".to_owned(), direction)].into();
            request.steering.steering_vector = Some(VectorRef::Inline(layers));
            request.steering.steering_strength = Some(4.0);
        })
        .max_tokens(24)
        .run()?;
    show("steering_vector", answer.text);

    // mx.policy.run("…", policy=mx.policy.strict_json_extraction(schema))
    let policy = strict_json_extraction(&schema, "city")?;
    let run = client
        .policies()
        .run("Paris has 2 million people.", &policy)?;
    show(&format!("policy (accepted: {})", run.accepted), run.output);
    Ok(())
}

#[allow(clippy::print_stdout, reason = "an example")]
fn show(what: &str, text: String) {
    println!(
        "{what:>18}: {}",
        text.trim().replace('\n', "\n                    ")
    );
}
