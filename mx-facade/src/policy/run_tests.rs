//! Tests of the run rule.
