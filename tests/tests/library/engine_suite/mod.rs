//! What every engine must do, written against the trait alone.
//!
//! [`engine_suite!`] makes one test of every case for one [`Subject`]: an engine, a second one of the same model, and
//! how exactly two ways to the same numbers must agree.

pub(crate) mod edits;
pub(crate) mod hooks;
pub(crate) mod refusals;
pub(crate) mod sequences;
pub(crate) mod steps;

use mx_runtime::config::ModelConfig;
use mx_runtime::engine::{Engine, Row, RowHooks, Sequence, StepOutput, Want};
use mx_runtime::hooks::{Captured, HookPlan, HookPoint};
use std::sync::Arc;

/// An engine under test.
pub(crate) struct Subject {
    pub(crate) engine: Arc<dyn Engine>,
    /// A second engine of the same model, whose sequences the first must not take.
    pub(crate) stranger: Arc<dyn Engine>,
    /// Largest difference, absolute plus relative, between two ways through the engine to the same numbers: chunks,
    /// batches, forks. 0 wants the same bits.
    pub(crate) ways: f32,
    /// Largest difference between the engine and the definition of an edit.
    pub(crate) definition: f32,
}

/// One test a case, in a module of its own. The subject is made anew for each.
macro_rules! engine_suite {
    ($name:ident, $subject:expr) => {
        mod $name {
            use super::*;
            cases! { $subject;
                steps::any_chunking_is_one_shot,
                steps::a_ragged_batch_is_each_row_alone,
                steps::many_rows_at_many_positions,
                steps::want_chooses_the_lines,
                steps::a_step_without_rows_does_nothing,
                steps::the_same_step_gives_the_same_bits,
                steps::the_past_is_seen_as_far_as_the_spans_reach,
                steps::threads_do_not_disturb_each_other,
                sequences::truncate_then_continue_is_fresh,
                sequences::forks_are_independent,
                sequences::forks_of_forks_outlive_their_parents,
                sequences::a_truncated_fork_leaves_its_parent_alone,
                sequences::forks_step_together_in_one_batch,
                refusals::a_token_out_of_range,
                refusals::a_row_without_tokens,
                refusals::a_full_context,
                refusals::a_sequence_of_another_engine,
                refusals::hooks_that_do_not_fit,
                refusals::a_plan_of_another_model,
                hooks::captures_follow_the_token_class,
                hooks::captures_stand_in_the_order_of_the_pass,
                hooks::the_stream_adds_up,
                hooks::captures_change_no_bit,
                hooks::edits_that_do_nothing_change_no_bit,
                hooks::rows_of_one_batch_have_their_own_hooks,
                edits::every_edit_at_every_point_is_its_definition,
                edits::edits_act_on_what_follows,
                edits::edits_of_one_point_act_in_order,
                edits::an_edit_touches_its_token_class_only,
                edits::edits_do_not_depend_on_chunks,
                edits::edits_stay_in_keys_and_values,
                edits::an_output_of_one_block_is_the_input_of_the_next,
            }
        }
    };
}

macro_rules! cases {
    ($subject:expr; $($module:ident :: $case:ident),+ $(,)?) => {
        $(
            #[test]
            fn $case() {
                crate::engine_suite::$module::$case(&$subject);
            }
        )+
    };
}

/// What a number of steps gave.
pub(crate) struct Outcome {
    /// The logits of every token.
    pub(crate) logits: Vec<f32>,
    pub(crate) captures: Vec<Captured>,
}

impl Subject {
    pub(crate) fn config(&self) -> &ModelConfig {
        self.engine.config()
    }

    /// `count` tokens without pattern, the same for the same `salt`.
    pub(crate) fn tokens(&self, count: usize, salt: u64) -> Vec<u32> {
        let vocab = self.config().vocab as u64;
        numbers(salt)
            .take(count)
            .map(|number| (number % vocab) as u32)
            .collect()
    }

    /// Appends tokens to a sequence; the logits of all of them.
    pub(crate) fn grow(&self, sequence: &mut Sequence, tokens: &[u32]) -> Vec<f32> {
        self.grow_hooked(sequence, tokens, None).logits
    }

    /// Appends tokens to a sequence under hooks.
    pub(crate) fn grow_hooked(
        &self,
        sequence: &mut Sequence,
        tokens: &[u32],
        hooks: Option<RowHooks<'_>>,
    ) -> Outcome {
        let mut output = StepOutput::new();
        let row = Row {
            sequence,
            tokens,
            want: Want::All,
            hooks,
        };
        self.engine.step(&mut [row], &mut output).unwrap();
        assert_eq!(output.rows(), 1);
        assert_eq!(output.logits(0).len(), tokens.len());
        let logits = output.logits(0).iter().flatten().copied().collect();
        Outcome {
            logits,
            captures: output.take_captures(),
        }
    }

    /// The logits of a new sequence of these tokens, in one step.
    pub(crate) fn fresh(&self, tokens: &[u32]) -> (Sequence, Vec<f32>) {
        let mut sequence = self.engine.new_sequence();
        let logits = self.grow(&mut sequence, tokens);
        assert_eq!(sequence.tokens(), tokens);
        (sequence, logits)
    }

    /// The logits of the last `count` tokens of a new sequence.
    pub(crate) fn fresh_end(&self, tokens: &[u32], count: usize) -> Vec<f32> {
        let mut logits = self.fresh(tokens).1;
        logits.split_off((tokens.len() - count) * self.config().vocab)
    }

    /// Tokens under hooks, in steps of these lengths.
    pub(crate) fn hooked(
        &self,
        tokens: &[u32],
        plan: &HookPlan,
        prompt_len: usize,
        chunks: &[usize],
    ) -> Outcome {
        let mut sequence = self.engine.new_sequence();
        let mut all = Outcome {
            logits: Vec::new(),
            captures: Vec::new(),
        };
        let mut rest = tokens;
        for &chunk in chunks {
            let (now, later) = rest.split_at(chunk);
            let outcome = self.grow_hooked(&mut sequence, now, Some(RowHooks { plan, prompt_len }));
            all.logits.extend(outcome.logits);
            all.captures.extend(outcome.captures);
            rest = later;
        }
        assert!(rest.is_empty(), "the chunks cover all tokens");
        all
    }

    /// Whether two ways gave the same numbers.
    pub(crate) fn agree(&self, given: &[f32], wanted: &[f32], what: &str) {
        agree(given, wanted, self.ways, what);
    }

    /// Whether the engine gave what the definition says.
    pub(crate) fn defined(&self, given: &[f32], wanted: &[f32], what: &str) {
        agree(given, wanted, self.definition, what);
    }

    /// Whether two ways gave clearly different numbers.
    pub(crate) fn differ(&self, given: &[f32], other: &[f32], what: &str) {
        let most = given
            .iter()
            .zip(other)
            .map(|(g, o)| (g - o).abs())
            .fold(0.0, f32::max);
        assert!(
            most > 0.01_f32.max(10.0 * self.definition),
            "{what}: the largest difference is {most}"
        );
    }

    /// Every hook point of the model, in the order of the forward pass.
    pub(crate) fn points(&self) -> Vec<HookPoint> {
        let blocks = (0..self.config().layers).flat_map(|layer| {
            [
                HookPoint::ResidPre(layer),
                HookPoint::AttnOut(layer),
                HookPoint::ResidMid(layer),
                HookPoint::MlpOut(layer),
                HookPoint::ResidPost(layer),
            ]
        });
        blocks.chain([HookPoint::Final]).collect()
    }

    /// A vector of `d_model` numbers between −1 and 1, the same for the same `salt`.
    pub(crate) fn vector(&self, salt: u64) -> Vec<f32> {
        let unit = |number: u64| (number % 20_001) as f32 / 10_000.0 - 1.0;
        numbers(salt ^ 0x5eed)
            .take(self.config().d_model)
            .map(unit)
            .collect()
    }
}

/// Whether numbers differ by at most `tolerance`, absolute plus relative.
pub(crate) fn agree(given: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(given.len(), wanted.len(), "{what}: length");
    for (index, (g, w)) in given.iter().zip(wanted).enumerate() {
        let close = g.to_bits() == w.to_bits() || (g - w).abs() <= tolerance * (1.0 + w.abs());
        assert!(close, "{what}: number {index} is {g}, wanted {w}");
    }
}

/// Captured rows of one point in order, `[positions, d_model]`, and the position of the first; they must be one run.
pub(crate) fn rows_at(
    captures: &[Captured],
    point: HookPoint,
    d_model: usize,
) -> (usize, Vec<f32>) {
    let mut found = captures.iter().filter(|captured| captured.point == point);
    let Some(first) = found.next() else {
        return (0, Vec::new());
    };
    let mut values = first.values.clone();
    for captured in found {
        assert_eq!(
            captured.first_position,
            first.first_position + values.len() / d_model
        );
        values.extend(&captured.values);
    }
    (first.first_position, values)
}

/// Numbers without pattern (splitmix64).
fn numbers(salt: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |index| {
        let mut z = salt.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 16
    })
}
