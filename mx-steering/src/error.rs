//! Everything that can go wrong, with the value given and the value wanted.

use crate::point::{Point, Site};
use thiserror::Error;

/// What a closure over a model may fail with; the `?` operator makes one of any error.
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// Why a vector could not be made, applied or measured.
///
/// Files and the store have errors of their own, [`FormatError`](crate::format::FormatError) and
/// [`StoreError`](crate::store::StoreError).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SteeringError {
    /// A row of numbers has another width than the model.
    #[error("{what}: {given} numbers, the width wanted is {wanted}")]
    Width {
        /// What has this width.
        what: String,
        /// Numbers given.
        given: usize,
        /// Width of the model, or of the vector that it is combined with.
        wanted: usize,
    },
    /// The model has no such layer.
    #[error("{point}: layer {given} does not exist, the model has {layers} layers")]
    Layer {
        /// The hook point.
        point: Point,
        /// The layer asked for.
        given: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// The vector was made for a model with another number of layers.
    #[error("the vector was made for a model with {given} layers, this one has {wanted}")]
    ModelLayers {
        /// Layers of the model that the vector was made for.
        given: usize,
        /// Layers of this model.
        wanted: usize,
    },
    /// A number is NaN or infinite.
    #[error("{what} is {given}, wanted a finite number")]
    NotFinite {
        /// Which number.
        what: String,
        /// Its value.
        given: f32,
    },
    /// A parameter lies outside its range.
    #[error("{name} is {given}, but must be {range}")]
    OutOfRange {
        /// Name of the parameter.
        name: &'static str,
        /// The value given.
        given: f64,
        /// The accepted range in words.
        range: &'static str,
    },
    /// A name that stands for nothing.
    #[error("{what} {given:?} is unknown; wanted {wanted}")]
    Unknown {
        /// What was to be named.
        what: &'static str,
        /// The text given.
        given: String,
        /// What would have been understood.
        wanted: &'static str,
    },
    /// Something is empty that must not be.
    #[error("{what} is empty; wanted {wanted}")]
    Empty {
        /// What is empty.
        what: &'static str,
        /// What was wanted.
        wanted: &'static str,
    },
    /// The vector has no direction at a place that was asked for.
    #[error("the vector has no direction at {given}; it has {present}")]
    NoDirection {
        /// The place asked for.
        given: String,
        /// The places it has.
        present: String,
    },
    /// A direction has length 0 where its direction is needed.
    #[error("the direction at {point} has length 0; {operation} needs a direction")]
    ZeroDirection {
        /// The hook point.
        point: Point,
        /// What needed it.
        operation: &'static str,
    },
    /// A vector at one site cannot be expressed at another.
    #[error(
        "a vector at {from} cannot be moved to {to}: only resid_post.L and resid_pre.(L+1) are the same row"
    )]
    Move {
        /// Where the vector is.
        from: Point,
        /// The site wanted.
        to: Site,
    },
    /// A strength relative to the stream needs the mean norm of the stream.
    #[error(
        "relative strength at {point} needs the mean norm of the stream there, which neither vector nor model gives"
    )]
    NoStreamNorm {
        /// The hook point.
        point: Point,
    },
    /// Two parts of a request exclude each other.
    #[error("{first} and {second} cannot be combined: {reason}")]
    Exclusive {
        /// The one part.
        first: &'static str,
        /// The other part.
        second: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A bound was exceeded.
    #[error("{what}: {given}, the limit {limit_name} is {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        given: usize,
        /// The name of the limit.
        limit_name: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A closure over the model gave something else than asked for.
    #[error("the model's closure gave {given} {what}, wanted {wanted}")]
    Closure {
        /// What was counted.
        what: &'static str,
        /// How many were given.
        given: usize,
        /// How many were wanted.
        wanted: usize,
    },
    /// The model failed.
    #[error("the model failed: {0}")]
    Model(#[source] ModelError),
    /// A reference to a vector could not be resolved.
    #[error("steering vector {reference:?}: {source}")]
    Reference {
        /// The reference.
        reference: String,
        /// Why.
        #[source]
        source: ModelError,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl SteeringError {
    /// Whether the caller asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, SteeringError::Cancelled)
    }

    /// Whether a vector and a model do not fit each other.
    pub fn is_mismatch(&self) -> bool {
        use SteeringError::{Layer, ModelLayers, Width};
        matches!(self, Width { .. } | Layer { .. } | ModelLayers { .. })
    }
}
