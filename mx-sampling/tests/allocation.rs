//! No token allocates.
#![allow(clippy::unwrap_used, unsafe_code, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use mx_sampling::{Order, Sampler, SamplingOptions};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts what each thread allocates.
struct Counting;

// SAFETY: everything is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VOCAB: usize = 32_000;
const TOKENS: usize = 300;

/// A row that changes with the position, so that buffers meet lists of many lengths.
fn fill(row: &mut [f32], position: usize) {
    let spread = 1.0 + (position % 7) as f32;
    for (id, x) in row.iter_mut().enumerate() {
        let mixed = (id as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (position as u64) << 17);
        *x = ((mixed >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 8.0 * spread;
    }
}

fn allocations(what: &str, options: SamplingOptions, prepare: impl Fn(&mut Sampler)) {
    let mut sampler = Sampler::new(&options, VOCAB, 7, 0).unwrap();
    prepare(&mut sampler);
    sampler.observe_prompt(&(0..200).collect::<Vec<u32>>());
    sampler.reserve(TOKENS + 1);
    let mut row = vec![0.0; VOCAB];
    let mask: Vec<u32> = (0..VOCAB.div_ceil(32) as u32).map(|i| !(i * 77)).collect();
    // One token to size what is sized by use.
    fill(&mut row, 0);
    let first = sampler.sample(&mut row, None).unwrap();
    sampler.commit(first.token);
    let before = ALLOCATIONS.get();
    for position in 1..TOKENS {
        fill(&mut row, position);
        let draw = sampler
            .sample(&mut row, (position % 2 == 0).then_some(&mask))
            .unwrap();
        sampler.commit(draw.token);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "{what}: {options:?}");
}

#[test]
fn no_token_allocates() {
    let base = SamplingOptions::default;
    let everything = SamplingOptions {
        temperature: Some(0.9),
        dynatemp_range: Some(0.3),
        top_k: Some(500),
        top_p: Some(0.95),
        min_p: Some(0.001),
        typical_p: Some(0.98),
        epsilon_cutoff: Some(1e-5),
        eta_cutoff: Some(1e-5),
        top_n_sigma: Some(4.0),
        top_h: Some(0.99),
        tail_free: Some(0.99),
        xtc_probability: Some(0.3),
        repetition_penalty: Some(1.1),
        frequency_penalty: Some(0.1),
        presence_penalty: Some(0.1),
        dry_multiplier: Some(0.8),
        dry_breakers: Some(vec![vec![3], vec![4, 5]]),
        no_repeat_ngram_size: Some(3),
        bad_words: Some(vec![vec![9], vec![1, 2]]),
        sequence_bias: Some(vec![(vec![1, 5], 1.0)]),
        logit_bias: Some([(7, 1.0)].into()),
        eos_tokens: Some(vec![2]),
        min_new_tokens: Some(50),
        exponential_decay: Some((100, 1.01)),
        ..base()
    };
    let cases = [
        ("greedy", base()),
        (
            "plain",
            SamplingOptions {
                temperature: Some(1.0),
                ..base()
            },
        ),
        (
            "top-k",
            SamplingOptions {
                top_k: Some(40),
                ..base()
            },
        ),
        (
            "top-p",
            SamplingOptions {
                top_p: Some(0.9),
                ..base()
            },
        ),
        (
            "flat top-p",
            SamplingOptions {
                top_p: Some(0.99),
                temperature: Some(3.0),
                ..base()
            },
        ),
        (
            "typical",
            SamplingOptions {
                typical_p: Some(0.9),
                ..base()
            },
        ),
        (
            "min-p",
            SamplingOptions {
                min_p: Some(0.05),
                min_tokens_to_keep: Some(5),
                ..base()
            },
        ),
        (
            "top-p, least",
            SamplingOptions {
                top_p: Some(0.01),
                min_tokens_to_keep: Some(50),
                ..base()
            },
        ),
        (
            "tail-free",
            SamplingOptions {
                tail_free: Some(0.9),
                ..base()
            },
        ),
        (
            "mirostat 1",
            SamplingOptions {
                mirostat: Some(1),
                ..base()
            },
        ),
        (
            "mirostat 2",
            SamplingOptions {
                mirostat: Some(2),
                ..base()
            },
        ),
        (
            "adaptive-p",
            SamplingOptions {
                adaptive_p_target: Some(0.3),
                min_p: Some(0.01),
                ..base()
            },
        ),
        ("everything, hf", everything.clone()),
        (
            "everything, llama",
            SamplingOptions {
                order: Some(Order::Llama),
                ..everything
            },
        ),
    ];
    for (what, options) in cases {
        allocations(what, options.clone(), |_| {});
        allocations(what, options, |sampler| {
            sampler.report_logprobs(Some(5), Some(5))
        });
    }
}
