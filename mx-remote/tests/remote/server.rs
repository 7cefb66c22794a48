//! A scripted server, and clients that ask it.

include!("script.rs");

use mx_remote::{Axionic, AxionicOptions, OpenAi, OpenAiOptions, Retry, ServerKind, Transport};
use std::future::Future;

pub const KEY: &str = "ax_0123456789abcdef0123456789abcdef0123456789abcdef";

/// Repetition without waits worth mentioning.
pub fn quick() -> Transport {
    Transport {
        retry: Retry {
            base_delay: Duration::from_millis(10),
            ..Retry::default()
        },
        ..Transport::default()
    }
}

pub fn axionic(server: &Server, transport: Transport) -> Axionic {
    let options = AxionicOptions {
        base_url: server.url(),
        transport,
        ..AxionicOptions::with_key(KEY)
    };
    Axionic::new(options).unwrap()
}

pub fn openai(server: &Server, kind: ServerKind, transport: Transport) -> OpenAi {
    let base_url = server.url() + "/v1";
    OpenAi::new(OpenAiOptions {
        transport,
        ..OpenAiOptions::new(base_url, kind)
    })
    .unwrap()
}

/// Runs async code as a user with a tokio runtime would.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}
