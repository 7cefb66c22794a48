//! What an engine must do to be measured.

use super::case::Rules;
use super::vocabulary::Words;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The engines that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Our own.
    #[default]
    Mx,
    /// llguidance; needs the feature `peers`.
    Llguidance,
    /// outlines-core; needs the feature `peers`.
    OutlinesCore,
}

impl EngineKind {
    /// Its name on result lines.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Mx => "mx",
            EngineKind::Llguidance => "llguidance",
            EngineKind::OutlinesCore => "outlines-core",
        }
    }
}

/// Schemas that others may refer to, by address.
pub type Remotes = Vec<(String, Value)>;

/// An engine with its form of a vocabulary. Making one is what a header calls `init_ns`.
pub(super) trait Engine {
    /// Its version.
    fn version(&self) -> String;

    /// Its options, in words.
    fn options(&self) -> String;

    /// Compiles a schema.
    fn compile<'e>(
        &'e self,
        schema: &Value,
        rules: &Rules,
    ) -> Result<Box<dyn Compiled + 'e>, Refused>;
}

/// Why a schema does not compile.
#[derive(Debug)]
pub(super) enum Refused {
    /// No value is valid, which is a judgement of every instance.
    Empty(String),
    /// The engine cannot honour it.
    Other(String),
}

/// A compiled schema.
pub(super) trait Compiled {
    /// A matcher at the start of an instance.
    fn start<'c>(&'c self) -> Result<Box<dyn Session + 'c>, String>;
}

/// A matcher.
pub(super) trait Session {
    /// The tokens that may come next, least significant bit first, 1 = allowed.
    fn mask(&mut self) -> Result<&[u32], String>;

    /// Takes an allowed token.
    fn commit(&mut self, token: u32) -> Result<(), String>;
}

/// Makes an engine's form of a vocabulary.
pub(super) fn make(
    kind: EngineKind,
    words: &Arc<Words>,
    remotes: &Remotes,
) -> anyhow::Result<Box<dyn Engine>> {
    match kind {
        EngineKind::Mx => Ok(Box::new(super::mx::Mx::new(words, remotes)?)),
        #[cfg(feature = "peers")]
        EngineKind::Llguidance => Ok(Box::new(super::llguidance::Llguidance::new(words)?)),
        #[cfg(feature = "peers")]
        EngineKind::OutlinesCore => Ok(Box::new(super::outlines::Outlines::new(words)?)),
        #[cfg(not(feature = "peers"))]
        EngineKind::Llguidance | EngineKind::OutlinesCore => {
            anyhow::bail!("{} needs xtask with the feature peers", kind.name())
        }
    }
}

/// Whether a mask allows a token.
pub(super) fn allows(mask: &[u32], token: u32) -> bool {
    mask.get(token as usize / 32)
        .is_some_and(|word| word >> (token % 32) & 1 == 1)
}
