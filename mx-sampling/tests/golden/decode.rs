//! Stub.
use super::read::Problem;
use serde_json::Value;
pub fn run(kind: &str, _case: &Value) -> Result<(), Problem> {
    Err(Problem::Unsupported(format!("kind {kind}")))
}
