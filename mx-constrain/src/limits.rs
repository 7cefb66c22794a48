//! What a constraint may cost.

use serde::{Deserialize, Serialize};

use crate::ConstrainError;

/// Bounds on what one constraint may cost to compile, to run and to keep.
///
/// Every limit has a default that honest schemas, patterns and grammars do not come near; what exceeds one is answered
/// with [`ConstrainError::Limit`], which names the field below. Raise a limit by setting the field:
///
/// ```
/// let limits = mx_constrain::Limits { max_states: 4_000_000, ..Default::default() };
/// assert!(limits.max_states > mx_constrain::Limits::default().max_states);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of schema, pattern or grammar text that are read. Default 4 MiB.
    pub max_input_bytes: usize,
    /// Levels of nesting in the input: schemas in schemas, groups in patterns, parentheses in grammars. Default 256.
    pub max_nesting: usize,
    /// Nodes of the compiled form: subschemas or grammar symbols after expansion. Default 200 000.
    pub max_nodes: usize,
    /// Steps of work while compiling (the unit is one node visited or one alternative combined). This stands in for
    /// compile time and does not depend on the machine. Default 5 000 000.
    pub max_compile_steps: u64,
    /// States of the non-deterministic automaton of one pattern, after counted repetitions are written out.
    /// Default 200 000.
    pub max_nfa_states: usize,
    /// States of the deterministic automaton of one pattern; built as text visits them. Default 50 000.
    pub max_dfa_states: usize,
    /// States of the machine of one constraint; built as text visits them. Default 1 000 000.
    pub max_states: usize,
    /// Bytes of tables that grow while text is read (automata, interned states). Default 256 MiB.
    pub max_table_bytes: usize,
    /// Alternatives that one state may follow at once. Default 4 096.
    pub max_alternatives: usize,
    /// Frames that may be open at once: the nesting of the generated text. Default 1 024.
    pub max_depth: usize,
    /// Bytes of token masks that are kept for states seen before. The oldest are dropped beyond it; this is a budget,
    /// never an error. Default 64 MiB.
    pub mask_cache_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_input_bytes: 4 << 20,
            max_nesting: 256,
            max_nodes: 200_000,
            max_compile_steps: 5_000_000,
            max_nfa_states: 200_000,
            max_dfa_states: 50_000,
            max_states: 1_000_000,
            max_table_bytes: 256 << 20,
            max_alternatives: 4_096,
            max_depth: 1_024,
            mask_cache_bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// Refuses `given` when it is above `max`, naming the limit.
    ///
    /// # Errors
    /// [`ConstrainError::Limit`].
    #[inline]
    pub(crate) fn check(
        limit: &'static str,
        given: usize,
        max: usize,
    ) -> Result<(), ConstrainError> {
        match given > max {
            true => Err(ConstrainError::Limit {
                limit,
                max: max as u64,
            }),
            false => Ok(()),
        }
    }
}
