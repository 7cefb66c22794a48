//! Errors of the configuration readers.

/// A model description that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not JSON, or not a JSON object.
    #[error("{file}: not a JSON object: {reason}")]
    Json {
        /// The file read.
        file: String,
        /// What the JSON reader says.
        reason: String,
    },
    /// A field that has no default is absent.
    #[error("{file}: field {field} is missing")]
    Missing {
        /// The file read.
        file: String,
        /// The absent field.
        field: String,
    },
    /// A field has a value out of range or of another type.
    #[error("{file}: {field} is {given}, wanted {wanted}")]
    Value {
        /// The file read.
        file: String,
        /// The field.
        field: String,
        /// Its value as given.
        given: String,
        /// What would be accepted.
        wanted: String,
    },
    /// The model is of a family that is not built.
    #[error("{file}: architecture {given} is not supported; supported: {known}")]
    Architecture {
        /// The file read.
        file: String,
        /// The architecture the file names.
        given: String,
        /// Those that can be run.
        known: &'static str,
    },
    /// GGUF metadata of the wrong type.
    #[error(transparent)]
    Weights(#[from] crate::weights::WeightsError),
}
