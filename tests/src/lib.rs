//! Tests of the mx workspace through its public surfaces.
