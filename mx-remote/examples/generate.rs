//! Generates text on an OpenAI-compatible server, as it comes.
//!
//! ```text
//! MX_SERVER=http://localhost:8000/v1 cargo run -p mx-remote --example generate -- "Once upon a time"
//! ```
//!
//! The server's kind is found out; `MX_SERVER_KEY` holds its key, if it wants one.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use mx_remote::openai::{ChatRequest, Params};
use mx_remote::{OpenAi, OpenAiOptions, Secret, ServerKind};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Ok(server) = std::env::var("MX_SERVER") else {
        return Err(
            "set MX_SERVER to the server's address, such as http://localhost:8000/v1".into(),
        );
    };
    let prompt = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "Once upon a time".to_owned());
    let client = OpenAi::new(OpenAiOptions {
        key: std::env::var("MX_SERVER_KEY").ok().map(Secret::new),
        ..OpenAiOptions::new(server, ServerKind::OpenAi)
    })?;
    let found = client.detect().wait()?;
    let client = client.with_kind(found.kind.unwrap_or(ServerKind::OpenAi));
    let model = found
        .models
        .first()
        .map(|m| m.id.clone())
        .unwrap_or_default();
    eprintln!(
        "{model} on {} ({})",
        client.base_url(),
        client.kind().name()
    );

    let request = ChatRequest {
        params: Params {
            max_tokens: Some(64),
            temperature: Some(0.7),
            ..Params::default()
        },
        ..ChatRequest::new(model, prompt)
    };
    for note in client.plan_chat(&request)?.notes {
        eprintln!("{} {}", note.field, note.text);
    }
    for chunk in client.chat_stream(&request).wait()? {
        print!("{}", chunk?.text());
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
