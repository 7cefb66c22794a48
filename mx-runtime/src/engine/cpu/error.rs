//! What can go wrong while preparing or calling the CPU kernels.

use super::kernels::Isa;

/// An error of the CPU engine's kernels, packing or threads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// A buffer or range does not have the size that the other operands imply.
    #[error("{what} has size {given}, expected {wanted}")]
    Size {
        /// The operand.
        what: &'static str,
        /// Its size.
        given: usize,
        /// The size that was expected.
        wanted: usize,
    },
    /// A dimension must be a multiple of something.
    #[error("{what} is {given}, expected a multiple of {multiple_of} that is not zero")]
    Multiple {
        /// The dimension.
        what: &'static str,
        /// Its value.
        given: usize,
        /// The wanted divisor.
        multiple_of: usize,
    },
    /// A value lies outside what the kernels can compute.
    #[error("{what} is {given}, the limit is {limit}")]
    Limit {
        /// The quantity.
        what: &'static str,
        /// Its value.
        given: usize,
        /// The largest accepted value.
        limit: usize,
    },
    /// The row order names a row that the source does not have.
    #[error("row order maps row {row} to {given}, the matrix has {rows} rows")]
    RowOrder {
        /// The row asked for.
        row: usize,
        /// What the order answered.
        given: usize,
        /// Rows of the source.
        rows: usize,
    },
    /// A size computation does not fit the address space.
    #[error("{what} of {rows} x {cols} does not fit the address space")]
    TooLarge {
        /// What was to be allocated.
        what: &'static str,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
    /// Dense weights take f32 activations; quantised activations were given.
    #[error("dense {format} weights need f32 activations, quantised activations were given")]
    DenseNeedsFloat {
        /// The format of the weights.
        format: &'static str,
    },
    /// The processor lacks the instruction set that was asked for.
    #[error("this processor does not offer {isa}")]
    IsaUnavailable {
        /// The instruction set.
        isa: Isa,
    },
    /// The operating system refused a worker thread.
    #[error("cannot start worker thread {index} of {threads}")]
    Spawn {
        /// Number of the worker.
        index: usize,
        /// Threads asked for.
        threads: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// `Ok` when both sizes agree.
pub(crate) fn check_size(what: &'static str, given: usize, wanted: usize) -> Result<(), CpuError> {
    if given == wanted {
        return Ok(());
    }
    Err(CpuError::Size {
        what,
        given,
        wanted,
    })
}
