//! The fields of a request that have its outputs judged.

use super::Policy;
use serde::{Deserialize, Serialize};

/// How candidates are made and judged. In JSON these stand beside the other fields of a
/// [`GenerateRequest`](crate::GenerateRequest); a request that gives any of them is [run by a policy](crate::policy).
///
/// What is given here, and every other field of the request, stands over the policy's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checks {
    /// A policy, for this request alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<Policy>>,
    /// A saved policy by its id; not beside `policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
    /// Whether the schedule of temperatures is used; a schedule that is given switches itself on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_temperature: Option<bool>,
    /// One temperature a candidate, round after round; the last one is kept.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub adaptive_temperature_schedule: Vec<f64>,
    /// Whether the schedule of top_p is used; a schedule that is given switches itself on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_top_p: Option<bool>,
    /// One top_p a candidate, round after round; the last one is kept.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub adaptive_top_p_schedule: Vec<f64>,
    /// Whether an accepted output is generated again while its [confidence](crate::policy#confidence) is below the
    /// threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_triggered_regeneration: Option<bool>,
    /// The confidence that suffices, 0 to 1; 0.5 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_threshold: Option<f64>,
    /// Python snippets that must run after the code of the output; needs a client that
    /// [allows code](crate::ClientBuilder::allow_code_execution).
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub code_unit_tests: Vec<String>,
}

impl Checks {
    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        self == &Checks::default()
    }
}

/// A list, or null for none.
fn or_null<'de, D, T>(input: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}
