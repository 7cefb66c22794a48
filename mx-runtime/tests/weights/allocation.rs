//! Measures the memory that a piece of code holds at its peak.
#![allow(unsafe_code)] // an allocator cannot be written without; this one only counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Runs `body` and gives its result and the bytes that this thread held at the peak, beyond those held before.
pub(crate) fn peak<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = body();
    (result, (PEAK.get() - before).max(0) as usize)
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged. `realloc` keeps its default, which goes through
// `alloc` and `dealloc` and so counts the moment when both blocks exist.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(block, layout) }
    }
}

fn count(bytes: isize) {
    HELD.set(HELD.get() + bytes);
    PEAK.set(PEAK.get().max(HELD.get()));
}

#[test]
fn the_peak_is_seen_although_the_memory_is_free_again() {
    let (length, bytes) = peak(|| std::hint::black_box(vec![1u8; 100_000]).len());
    assert_eq!(length, 100_000);
    assert!((100_000..110_000).contains(&bytes), "{bytes}");
}
