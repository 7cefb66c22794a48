//! The policy object of the service's contract.

use super::Nullable;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

macro_rules! block {
    ($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        pub struct $name {
            $(
                $(#[$about])*
                #[serde(default, skip_serializing_if = "Nullable::is_absent")]
                pub $field: Nullable<$kind>,
            )*
            /// Fields that this version does not know; they are kept.
            #[serde(flatten)]
            pub extra: Map<String, Value>,
        }
    };
}

block! {
    /// How a request is to be run and judged. Every field may be absent, and then has the service's default, which its
    /// description names. A policy comes back from the service as it was sent, fields of later versions included.
    ///
    /// ```
    /// use mx_remote::axionic::{Policy, SamplingControls};
    ///
    /// let policy = Policy {
    ///     name: "short".to_owned().into(),
    ///     sampling: SamplingControls { top_k: 20.into(), ..Default::default() }.into(),
    ///     ..Default::default()
    /// };
    /// assert_eq!(serde_json::to_string(&policy)?, r#"{"name":"short","sampling":{"top_k":20}}"#);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    Policy {
        /// Its id; the service gives one when it is saved without.
        id: String,
        /// Its name.
        name: String,
        /// What it is for.
        description: String,
        /// Anything.
        metadata: Map<String, Value>,
        /// Which model runs it.
        model: ModelTarget,
        /// The kind of task.
        task_profile: TaskProfile,
        /// What counts as good.
        objective: Objective,
        /// How tokens are chosen.
        sampling: SamplingControls,
        /// How the model is steered.
        steering: SteeringControls,
        /// What the output must look like.
        constraints: ConstraintControls,
        /// What is checked afterwards.
        verifiers: VerifierControls,
        /// Candidates, repetition, fallback.
        optimization: OptimizationControls,
    }
}

block! {
    /// Which model runs a policy.
    ModelTarget {
        /// Another server; none.
        base_url: String,
        /// The model's name; `default`.
        model: String,
    }
}

block! {
    /// The kind of task.
    TaskProfile {
        /// Its name; `general`.
        name: String,
        /// Its category; none.
        category: String,
        /// A description; none.
        description: String,
    }
}

block! {
    /// What counts as good.
    Objective {
        /// Its name; `quality`.
        name: String,
        /// Whether more is better; `true`.
        maximize: bool,
        /// Milliseconds a run may take; no limit.
        latency_budget_ms: i64,
        /// Tokens a run may take; no limit.
        token_budget: i64,
    }
}

block! {
    /// How tokens are chosen.
    SamplingControls {
        /// The sampling method's name; `top-k`.
        method: String,
        /// 0.7.
        temperature: f64,
        /// 50; null for none.
        top_k: i64,
        /// 0.9; null for none.
        top_p: f64,
        /// None.
        min_p: f64,
        /// None.
        typical_p: f64,
        /// None.
        frequency_penalty: f64,
        /// None.
        presence_penalty: f64,
        /// None.
        repetition_penalty: f64,
        /// Candidates per step of ads; none.
        ads_subset_size: i64,
        /// Quality against diversity of ads; none.
        ads_beta: f64,
        /// Beams of constrained-beam-search; 4.
        beam_width: i64,
        /// Candidates per round; 1.
        num_candidates: i64,
        /// How far the candidates' temperatures spread; 0.
        diversity_strength: f64,
        /// The small model of ssd; none.
        draft_model: String,
        /// Tokens drafted at once; 4.
        speculative_steps: i64,
        /// Models of ensemble-sampling; none.
        ensemble_models: Vec<String>,
        /// How an ensemble agrees; `majority`.
        voting: String,
        /// Whether the schedule of temperatures is used; `false`.
        adaptive_temperature: bool,
        /// One temperature per candidate slot; none.
        adaptive_temperature_schedule: Vec<f64>,
        /// Whether the schedule of top_p is used; `false`.
        adaptive_top_p: bool,
        /// One top_p per candidate slot; none.
        adaptive_top_p_schedule: Vec<f64>,
    }
}

block! {
    /// How the model is steered.
    SteeringControls {
        /// Whether it is steered; `false`.
        enabled: bool,
        /// The method of the vector; `caa`.
        method: String,
        /// Multiplier of the vector; 1.
        strength: f64,
        /// A stored vector; none.
        vector_id: String,
        /// A vector itself, by layer; none.
        vector: Map<String, Value>,
        /// A preset's name; none.
        preset: String,
        /// A file with a vector; none.
        file_url: String,
        /// Layers to which it is limited; all.
        layer_scope: Vec<String>,
        /// First token that is steered; the first.
        token_start: i64,
        /// Token at which steering ends; never.
        token_end: i64,
    }
}

block! {
    /// What the output must look like.
    ConstraintControls {
        /// Whether it must be a JSON object; `false`.
        json_mode: bool,
        /// The schema it must satisfy; none.
        json_schema: Map<String, Value>,
        /// The pattern that must occur in it; none.
        regex_pattern: String,
        /// The grammar it must follow; none.
        grammar: String,
        /// Keys that its JSON object must have; none.
        required_fields: Vec<String>,
        /// Texts that must not occur, in whatever case; none.
        forbidden_terms: Vec<String>,
        /// Texts that end it; none.
        stop_sequences: Vec<String>,
        /// The schema of a tool call; none.
        tool_schema: Map<String, Value>,
    }
}

block! {
    /// What is checked afterwards.
    VerifierControls {
        /// The verifiers' names; none.
        enabled: Vec<String>,
        /// Whether a failing output is repaired; `true`.
        repair_on_failure: bool,
        /// Whether candidates are ranked by their verification; `true`.
        rerank: bool,
        /// Repairs tried; 1.
        max_retries: i64,
        /// Language of the tests; `python`.
        code_language: String,
        /// Tests run against the output; none.
        code_unit_tests: Vec<String>,
        /// Milliseconds a test may take; 1500.
        unit_test_timeout_ms: i64,
    }
}

block! {
    /// Candidates, repetition, fallback.
    OptimizationControls {
        /// Candidates of which the best wins; 1.
        best_of_n: i64,
        /// Rounds after a failed one; 1.
        retry_on_failure: i64,
        /// Rounds of self-revision; 0.
        self_revision_loops: i64,
        /// Whether weak candidates are given up early; `false`.
        branch_and_prune: bool,
        /// Methods tried after the policy's own failed; none.
        fallback_methods: Vec<String>,
        /// Whether a winner of low confidence is generated again; `false`.
        confidence_triggered_regeneration: bool,
        /// The confidence that suffices; 0.5.
        confidence_threshold: f64,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_policy_comes_back_as_it_was() {
        let text = r#"{"id":"p","name":null,"metadata":{"a":[1,null]},"sampling":{"top_k":null,"temperature":0.7,
            "future":{"x":1.5}},"steering":{"vector":{"8":[0.1,-2.5]},"token_end":null},"later":[true]}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let policy: Policy = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&policy).unwrap(), value);
        let sampling = policy.sampling.value().unwrap();
        assert_eq!(
            (sampling.top_k, sampling.top_p),
            (Nullable::Null, Nullable::Absent)
        );
        assert_eq!(serde_json::to_string(&Policy::default()).unwrap(), "{}");
    }
}
