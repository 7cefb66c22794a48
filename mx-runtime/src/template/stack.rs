//! A stack that is large enough for what a template can make the engine do.
//!
//! The engine is recursive: it parses chains of operators, and it prints, compares and frees nested
//! values, level by level. A template of a few lines can build a value with as many levels as it has
//! fuel for, and an overflowing stack ends the process. So the engine runs on a stack of its own,
//! whose size follows from the limits. It is address space only: memory is used as far as the stack
//! really grows, which it hardly ever does.

use super::TemplateError;

/// Stack that every run gets. The engine bounds the nesting of brackets and blocks by itself.
const BASE: usize = 4 << 20;
/// Stack per byte of source while it is compiled. Measured for the cheapest level, a sign: below 800
/// bytes, below 1200 without optimisation.
const PER_SOURCE_BYTE: usize = 2048;
/// Stack per unit of fuel. Measured for the cheapest level, a list around a list that is sorted: below
/// 560 bytes, below 1750 without optimisation.
const PER_FUEL: usize = if cfg!(debug_assertions) { 2048 } else { 768 };

/// Stack for compiling a source.
pub(super) fn for_source(bytes: usize) -> usize {
    BASE.saturating_add(bytes.saturating_mul(PER_SOURCE_BYTE))
}

/// Stack for rendering with so much fuel.
pub(super) fn for_fuel(fuel: u64) -> usize {
    let fuel = usize::try_from(fuel).unwrap_or(usize::MAX);
    BASE.saturating_add(fuel.saturating_mul(PER_FUEL))
}

/// Does the work on a stack of this size and waits for it.
pub(super) fn run<T: Send>(
    bytes: usize,
    work: impl FnOnce() -> T + Send,
) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat template".to_owned())
            .stack_size(bytes)
            .spawn_scoped(scope, work)
            .map_err(|source| TemplateError::Stack { bytes, source })?;
        thread.join().map_err(|_| TemplateError::EnginePanicked)
    })
}
