//! Where a request runs.

use crate::controls::named;
use crate::load::env;
use clap::Args;
use mx::server::ServerKind;
use mx::{ClientBuilder, ExecutionMode, Fallback};

/// Model name for servers that hold one model.
const DEFAULT_SERVER_MODEL: &str = "default";

/// Where a request runs.
#[derive(Args)]
#[command(next_help_heading = "Route")]
pub(crate) struct RouteFlags {
    /// Where to run: local, remote, or auto, which is remote where a server is named or MECHANEX_API_KEY or a stored
    /// key is found
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = named::<ExecutionMode>)]
    mode: ExecutionMode,
    /// Kind of the server at --base-url: openai, axionic, vllm, vllm-legacy, sglang, llama-server or llama-cpp-python
    /// [default: the vendor's own protocol]
    #[arg(long, value_name = "KIND", value_parser = kind, requires = "base_url")]
    server: Option<ServerKind>,
    /// Address of the server, for a --server with its version: http://localhost:8000/v1 [default: MECHANEX_BASE_URL]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// The model's name at the server [default: default]
    #[arg(long, value_name = "NAME", requires = "server")]
    server_model: Option<String>,
    /// Environment variable that holds the server's key [default: MECHANEX_API_KEY, only for the vendor's protocol]
    #[arg(long, value_name = "VARIABLE")]
    key_env: Option<String>,
    /// Load --model and let it answer when the server fails: on_connection_failure, on_remote_failure or never
    #[arg(long, value_name = "WHEN", default_value = "never", value_parser = named::<Fallback>)]
    fallback: Fallback,
}

impl RouteFlags {
    /// A client of this route.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, mx::Error> {
        let mut builder = mx::Client::builder()
            .from_env(&env)
            .mode(self.mode)
            .fallback(self.fallback);
        if let Some(url) = &self.base_url {
            builder = builder.base_url(url);
        }
        if let Some(kind) = self.server {
            let model = self.server_model.as_deref().unwrap_or(DEFAULT_SERVER_MODEL);
            builder = builder.server(kind, model);
        }
        if let Some(name) = &self.key_env {
            let key = env(name).ok_or_else(|| mx::Error::Request {
                field: name.clone(),
                given: "absent".to_owned(),
                wanted: "the key of the server in this environment variable".to_owned(),
            })?;
            builder = builder.key(key.trim());
        }
        Ok(builder)
    }

    /// Whether a model of this machine may have to answer in the server's place.
    pub(crate) fn falls_back(&self) -> bool {
        self.fallback != Fallback::Never
    }
}

fn kind(name: &str) -> Result<ServerKind, String> {
    let names = ServerKind::ALL.map(ServerKind::name).join(", ");
    ServerKind::from_name(name).ok_or_else(|| format!("wanted one of {names}"))
}
