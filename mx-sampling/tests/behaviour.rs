//! What a sampler promises besides its laws: seeds, rollback, forks, masks, errors, reports.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use mx_sampling::{
    Backend, Context, LogitsProcessor, Method, Order, Sampler, SamplingError, SamplingOptions,
    Step, Stream,
};

const VOCAB: usize = 500;

/// A row that depends on the position only.
fn row(position: usize) -> Vec<f32> {
    (0..VOCAB)
        .map(|id| {
            let mixed = ((id + 1) as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(position as u64 * 0xbf58_476d);
            let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 12.0
        })
        .collect()
}

fn generate(sampler: &mut Sampler, from: usize, count: usize) -> Vec<u32> {
    (from..from + count)
        .map(|position| {
            let token = sampler.sample(&mut row(position), None).unwrap().token;
            sampler.commit(token);
            token
        })
        .collect()
}

fn busy() -> SamplingOptions {
    SamplingOptions {
        temperature: Some(0.9),
        top_p: Some(0.95),
        xtc_probability: Some(0.2),
        repetition_penalty: Some(1.2),
        frequency_penalty: Some(0.3),
        presence_penalty: Some(0.2),
        penalty_last_n: Some(12),
        dry_multiplier: Some(0.7),
        no_repeat_ngram_size: Some(3),
        ..SamplingOptions::default()
    }
}

fn options() -> Vec<SamplingOptions> {
    vec![
        busy(),
        SamplingOptions {
            top_k: Some(30),
            order: Some(Order::Llama),
            ..busy()
        },
        SamplingOptions {
            mirostat: Some(2),
            repetition_penalty: Some(1.1),
            ..Default::default()
        },
        SamplingOptions {
            mirostat: Some(1),
            ..Default::default()
        },
        SamplingOptions {
            adaptive_p_target: Some(0.4),
            min_p: Some(0.05),
            ..Default::default()
        },
        SamplingOptions {
            dynatemp_range: Some(0.4),
            typical_p: Some(0.9),
            ..Default::default()
        },
    ]
}

/// Tokens that this version draws. A change here breaks every stored seed: it must never happen.
#[test]
fn seeds_are_frozen() {
    let draws = |options: SamplingOptions| {
        let mut sampler = Sampler::new(&options, VOCAB, 42, 1).unwrap();
        generate(&mut sampler, 0, 8)
    };
    let words: Vec<u64> = {
        let mut stream = Stream::new(42, 1);
        (0..3).map(|_| stream.word()).collect()
    };
    assert_eq!(words, FROZEN_WORDS);
    let drawn: Vec<Vec<u32>> = options().into_iter().map(draws).collect();
    assert_eq!(drawn, FROZEN_TOKENS);
}

const FROZEN_WORDS: [u64; 3] = [
    14330608400789313726,
    3725791316648749897,
    11660917453643443194,
];
const FROZEN_TOKENS: [[u32; 8]; 6] = [
    [125, 55, 169, 274, 134, 345, 233, 135],
    [162, 77, 156, 277, 220, 314, 230, 146],
    [377, 109, 225, 68, 323, 257, 435, 283],
    [377, 109, 239, 67, 327, 257, 435, 279],
    [398, 106, 257, 68, 315, 265, 438, 256],
    [377, 109, 235, 68, 323, 265, 438, 271],
];

#[test]
fn rolling_back_restores_everything() {
    for options in options() {
        let mut sampler = Sampler::new(&options, VOCAB, 3, 0).unwrap();
        sampler.observe_prompt(&[1, 2, 3, 1, 2]);
        generate(&mut sampler, 0, 20);
        let point = sampler.snapshot();
        let first = generate(&mut sampler, 20, 30);
        sampler.rollback(&point).unwrap();
        assert_eq!(sampler.snapshot(), point);
        let again = generate(&mut sampler, 20, 30);
        assert_eq!(first, again, "{options:?}");
        // A replay of the text without the detour ends in the same state.
        let mut fresh = Sampler::new(&options, VOCAB, 3, 0).unwrap();
        fresh.observe_prompt(&[1, 2, 3, 1, 2]);
        generate(&mut fresh, 0, 50);
        assert_eq!(generate(&mut fresh, 50, 5), generate(&mut sampler, 50, 5));
    }
    let mut sampler = Sampler::new(&busy(), VOCAB, 3, 0).unwrap();
    generate(&mut sampler, 0, 2);
    let ahead = sampler.snapshot();
    let mut other = Sampler::new(&busy(), VOCAB, 3, 0).unwrap();
    assert_eq!(
        other.rollback(&ahead),
        Err(SamplingError::RollbackAhead {
            given: 2,
            length: 0
        })
    );
}

#[test]
fn a_fork_goes_on_alike_and_independently() {
    for options in options() {
        let mut sampler = Sampler::new(&options, VOCAB, 3, 0).unwrap();
        generate(&mut sampler, 0, 10);
        let drawn = sampler.sample(&mut row(10), None).unwrap().token;
        let mut fork = sampler.clone();
        sampler.commit(drawn);
        fork.commit(drawn);
        assert_eq!(generate(&mut fork, 11, 20), generate(&mut sampler, 11, 20));
        let mut other = sampler.clone();
        other.set_stream(5);
        assert_ne!(generate(&mut other, 31, 20), generate(&mut sampler, 31, 20));
    }
}

#[test]
fn every_step_takes_its_words() {
    for (options, words) in [
        (SamplingOptions::default(), 1),
        (
            SamplingOptions {
                temperature: Some(1.0),
                ..Default::default()
            },
            1,
        ),
        (
            SamplingOptions {
                forced_tokens: Some([(0, 4)].into()),
                ..Default::default()
            },
            1,
        ),
        (
            SamplingOptions {
                xtc_probability: Some(0.1),
                ..Default::default()
            },
            2,
        ),
    ] {
        let mut sampler = Sampler::new(&options, VOCAB, 3, 0).unwrap();
        sampler.sample(&mut row(0), None).unwrap();
        assert_eq!(sampler.stream_mut().position(), words, "{options:?}");
    }
}

#[test]
fn a_full_mask_changes_nothing_and_a_mask_is_a_filter() {
    let full = vec![u32::MAX; VOCAB.div_ceil(32)];
    let some: Vec<u32> = (0..VOCAB.div_ceil(32) as u32)
        .map(|i| 0x9e37_79b9u32.rotate_left(i))
        .collect();
    for options in options() {
        let law = |mask: Option<&[u32]>, filter: bool| {
            let mut sampler = Sampler::new(&options, VOCAB, 3, 0).unwrap();
            let mut logits = row(1);
            if filter {
                for (id, logit) in logits.iter_mut().enumerate() {
                    if (some[id / 32] >> (id % 32)) & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
            sampler
                .law(&mut logits, mask)
                .unwrap()
                .iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(law(None, false), law(Some(&full), false));
        assert_eq!(law(Some(&some), false), law(None, true));
    }
}

#[test]
fn neutral_values_are_off() {
    let neutral = SamplingOptions {
        temperature: Some(1.0),
        top_k: Some(0),
        top_p: Some(1.0),
        min_p: Some(0.0),
        typical_p: Some(1.0),
        epsilon_cutoff: Some(0.0),
        eta_cutoff: Some(0.0),
        top_n_sigma: Some(-1.0),
        tail_free: Some(1.0),
        xtc_probability: Some(0.0),
        mirostat: Some(0),
        adaptive_p_target: Some(-1.0),
        dynatemp_range: Some(0.0),
        repetition_penalty: Some(1.0),
        frequency_penalty: Some(0.0),
        presence_penalty: Some(0.0),
        dry_multiplier: Some(0.0),
        no_repeat_ngram_size: Some(0),
        min_new_tokens: Some(0),
        ..Default::default()
    };
    let sampler = Sampler::new(&neutral, VOCAB, 0, 0).unwrap();
    assert_eq!(sampler.active_steps().count(), 0);
    assert!(!sampler.is_greedy());
    assert!(
        Sampler::new(&SamplingOptions::default(), VOCAB, 0, 0)
            .unwrap()
            .is_greedy()
    );
    for zero in [0.0, 1e-6] {
        let options = SamplingOptions {
            temperature: Some(zero),
            top_k: Some(5),
            ..Default::default()
        };
        assert!(Sampler::new(&options, VOCAB, 0, 0).unwrap().is_greedy());
    }
    let off = SamplingOptions {
        top_k: Some(-1),
        ..Default::default()
    };
    assert!(Sampler::new(&off, VOCAB, 0, 0).unwrap().is_greedy());
}

#[test]
fn the_order_decides() {
    let base = SamplingOptions {
        temperature: Some(0.5),
        top_p: Some(0.8),
        ..Default::default()
    };
    let kept = |order: Order| {
        let options = SamplingOptions {
            order: Some(order),
            ..base.clone()
        };
        let mut sampler = Sampler::new(&options, VOCAB, 0, 0).unwrap();
        sampler.law(&mut row(0), None).unwrap().kept()
    };
    assert!(kept(Order::Hf) < kept(Order::Llama));
    let explicit = Order::Explicit(vec![Step::TopP, Step::Temperature]);
    assert_eq!(kept(explicit), kept(Order::Llama));
    // Edits after a truncation see what it left.
    let options = SamplingOptions {
        order: Some(Order::from_steps(&["top_k", "logit_bias"]).unwrap()),
        top_k: Some(2),
        logit_bias: Some([(0, 3.0), (2, 9.0)].into()),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&options, 4, 0, 0).unwrap();
    let law: Vec<u32> = sampler
        .law(&mut [5.0, 4.0, 1.0, 0.0], None)
        .unwrap()
        .iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(law, [0, 1]);
}

fn refused(options: SamplingOptions) -> SamplingError {
    Sampler::new(&options, 10, 0, 0).unwrap_err()
}

#[test]
fn ranges_are_checked_with_value_and_range() {
    type Set = fn(&mut SamplingOptions, f64);
    let cases: [(&str, Set, &[f64]); 22] = [
        (
            "temperature",
            |o, x| o.temperature = Some(x),
            &[-0.1, f64::NAN, f64::INFINITY],
        ),
        ("top_k", |o, x| o.top_k = Some(x as i64), &[-2.0]),
        ("top_p", |o, x| o.top_p = Some(x), &[-0.1, 1.1, f64::NAN]),
        ("min_p", |o, x| o.min_p = Some(x), &[-0.1, 1.1, f64::NAN]),
        (
            "typical_p",
            |o, x| o.typical_p = Some(x),
            &[0.0, 1.1, f64::NAN],
        ),
        (
            "epsilon_cutoff",
            |o, x| o.epsilon_cutoff = Some(x),
            &[-0.1, 1.0, f64::NAN],
        ),
        (
            "eta_cutoff",
            |o, x| o.eta_cutoff = Some(x),
            &[-0.1, 1.0, f64::NAN],
        ),
        (
            "top_n_sigma",
            |o, x| o.top_n_sigma = Some(x),
            &[f64::INFINITY, f64::NAN],
        ),
        ("top_h", |o, x| o.top_h = Some(x), &[0.0, 1.1, f64::NAN]),
        (
            "tail_free",
            |o, x| o.tail_free = Some(x),
            &[0.0, 1.1, f64::NAN],
        ),
        (
            "xtc_threshold",
            |o, x| o.xtc_threshold = Some(x),
            &[0.0, 0.51, f64::NAN],
        ),
        (
            "xtc_probability",
            |o, x| o.xtc_probability = Some(x),
            &[-0.1, 1.1, f64::NAN],
        ),
        (
            "dynatemp_range",
            |o, x| o.dynatemp_range = Some(x),
            &[-0.1, f64::NAN],
        ),
        (
            "dynatemp_exponent",
            |o, x| o.dynatemp_exponent = Some(x),
            &[0.0, f64::NAN],
        ),
        (
            "mirostat_tau",
            |o, x| o.mirostat_tau = Some(x),
            &[0.0, f64::NAN],
        ),
        (
            "mirostat_eta",
            |o, x| o.mirostat_eta = Some(x),
            &[0.0, f64::NAN],
        ),
        (
            "adaptive_p_target",
            |o, x| o.adaptive_p_target = Some(x),
            &[1.1, f64::NAN],
        ),
        (
            "adaptive_p_decay",
            |o, x| o.adaptive_p_decay = Some(x),
            &[-0.1, 1.0, f64::NAN],
        ),
        (
            "repetition_penalty",
            |o, x| o.repetition_penalty = Some(x),
            &[0.0, -1.0, f64::NAN],
        ),
        (
            "frequency_penalty",
            |o, x| o.frequency_penalty = Some(x),
            &[-2.1, 2.1, f64::NAN],
        ),
        (
            "presence_penalty",
            |o, x| o.presence_penalty = Some(x),
            &[-2.1, 2.1, f64::NAN],
        ),
        ("dry_base", |o, x| o.dry_base = Some(x), &[0.5, f64::NAN]),
    ];
    for (wanted, set, values) in cases {
        for &value in values {
            let mut options = SamplingOptions::default();
            set(&mut options, value);
            match refused(options) {
                SamplingError::OutOfRange { name, given, range } => {
                    assert_eq!(name, wanted);
                    assert!(given == value || given.is_nan() == value.is_nan());
                    assert!(!range.is_empty());
                }
                other => panic!("{wanted} {value}: {other}"),
            }
        }
    }
}

#[test]
fn impossible_combinations_are_typed() {
    let both = |first: &str, options: SamplingOptions| match refused(options) {
        SamplingError::Exclusive {
            first: one, second, ..
        } => assert_eq!((one, second), ("mirostat", first)),
        other => panic!("{other}"),
    };
    let mirostat = SamplingOptions {
        mirostat: Some(2),
        ..Default::default()
    };
    both(
        "top_k",
        SamplingOptions {
            top_k: Some(4),
            ..mirostat.clone()
        },
    );
    both(
        "top_p",
        SamplingOptions {
            top_p: Some(0.5),
            ..mirostat.clone()
        },
    );
    both(
        "min_p",
        SamplingOptions {
            min_p: Some(0.5),
            ..mirostat.clone()
        },
    );
    both(
        "typical_p",
        SamplingOptions {
            typical_p: Some(0.5),
            ..mirostat.clone()
        },
    );
    both(
        "temperature 0",
        SamplingOptions {
            temperature: Some(0.0),
            ..mirostat.clone()
        },
    );
    let missing = refused(SamplingOptions {
        min_new_tokens: Some(3),
        ..Default::default()
    });
    assert_eq!(
        missing,
        SamplingError::Missing {
            name: "min_new_tokens",
            needs: "eos_tokens"
        }
    );
    let beyond = refused(SamplingOptions {
        suppress_tokens: Some(vec![10]),
        ..Default::default()
    });
    assert_eq!(
        beyond,
        SamplingError::TokenOutOfRange {
            name: "suppress_tokens",
            token: 10,
            vocab: 10
        }
    );
    let empty = refused(SamplingOptions {
        bad_words: Some(vec![vec![]]),
        ..Default::default()
    });
    assert_eq!(empty, SamplingError::Empty { name: "bad_words" });
    let order = Some(Order::Explicit(vec![Step::TopK]));
    let unlisted = refused(SamplingOptions {
        order,
        top_p: Some(0.5),
        ..Default::default()
    });
    assert_eq!(unlisted, SamplingError::NotInOrder { step: "top_p" });
    let bias = SamplingOptions {
        logit_bias: Some(BTreeMap::from([(1, f64::NAN)])),
        ..Default::default()
    };
    assert!(matches!(
        refused(bias),
        SamplingError::OutOfRange {
            name: "logit_bias",
            ..
        }
    ));
}

#[test]
fn broken_rows_are_typed() {
    for backend in Backend::available() {
        for temperature in [0.0, 0.7] {
            let options = SamplingOptions {
                temperature: Some(temperature),
                top_k: Some(3),
                ..Default::default()
            };
            let mut sampler = Sampler::new(&options, VOCAB, 0, 0).unwrap();
            sampler.set_backend(*backend);
            let mut broken = row(0);
            broken[77] = f32::NAN;
            broken[400] = f32::INFINITY;
            match sampler.sample(&mut broken, None) {
                Err(SamplingError::InvalidLogits { token: 77, value }) => assert!(value.is_nan()),
                other => panic!("{other:?}"),
            }
            let mut infinite = row(0);
            infinite[400] = f32::INFINITY;
            let wanted = Err(SamplingError::InvalidLogits {
                token: 400,
                value: f32::INFINITY,
            });
            assert_eq!(sampler.sample(&mut infinite, None), wanted);
            let none = sampler.sample(&mut [f32::NEG_INFINITY; VOCAB], None);
            assert_eq!(
                none,
                Err(SamplingError::NoCandidates {
                    vocab: VOCAB,
                    after: "the model"
                })
            );
            let masked = sampler.sample(&mut row(0), Some(&[0; VOCAB.div_ceil(32)]));
            assert_eq!(
                masked,
                Err(SamplingError::NoCandidates {
                    vocab: VOCAB,
                    after: "the mask"
                })
            );
            let short = sampler.sample(&mut row(0), Some(&[u32::MAX; 15]));
            assert_eq!(
                short,
                Err(SamplingError::MaskLength {
                    given: 15,
                    wanted: 16
                })
            );
            let long = sampler.sample(&mut [0.0; 3], None);
            assert_eq!(
                long,
                Err(SamplingError::Length {
                    name: "logits",
                    given: 3,
                    wanted: VOCAB
                })
            );
        }
    }
    // What is broken is found under a mask, a ban and a forced token too; sanitising gives it up for good.
    let open = [!(1u32 << 7), u32::MAX];
    for broken in [f32::NAN, f32::INFINITY] {
        let mut logits = [0.5f32; 40];
        logits[7] = broken;
        for (options, mask) in [
            (SamplingOptions::default(), Some(&open[..])),
            (
                SamplingOptions {
                    suppress_tokens: Some(vec![7]),
                    ..Default::default()
                },
                None,
            ),
            (
                SamplingOptions {
                    bad_words: Some(vec![vec![7]]),
                    ..Default::default()
                },
                None,
            ),
            (
                SamplingOptions {
                    forced_tokens: Some([(0, 3)].into()),
                    ..Default::default()
                },
                None,
            ),
        ] {
            let run = |sanitize: bool| {
                let options = SamplingOptions {
                    sanitize: Some(sanitize),
                    ..options.clone()
                };
                Sampler::new(&options, 40, 0, 0)
                    .unwrap()
                    .sample(&mut logits.clone(), mask)
            };
            assert!(
                matches!(
                    run(false),
                    Err(SamplingError::InvalidLogits { token: 7, .. })
                ),
                "{options:?}"
            );
            assert_ne!(run(true).unwrap().token, 7, "{options:?}");
        }
    }
    let sanitize = SamplingOptions {
        sanitize: Some(true),
        temperature: Some(1.0),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&sanitize, 3, 0, 0).unwrap();
    assert_eq!(
        sampler
            .sample(&mut [f32::NAN, 0.0, f32::NAN], None)
            .unwrap()
            .token,
        1
    );
    // A sum that overflows is not NaN.
    let mut huge = vec![f32::MIN; 1000];
    huge[3] = f32::MAX;
    let mut sampler = Sampler::new(&SamplingOptions::default(), 1000, 0, 0).unwrap();
    assert_eq!(sampler.sample(&mut huge, None).unwrap().token, 3);
}

#[test]
fn bans_hold_and_dead_ends_say_what_ended_them() {
    let mut sampler = Sampler::new(
        &SamplingOptions {
            eos_tokens: Some(vec![2]),
            min_new_tokens: Some(2),
            suppress_tokens: Some(vec![0]),
            begin_suppress_tokens: Some(vec![1]),
            ..Default::default()
        },
        4,
        0,
        0,
    )
    .unwrap();
    let take = |sampler: &mut Sampler| {
        let token = sampler
            .sample(&mut [9.0, 8.0, 7.0, 1.0], None)
            .unwrap()
            .token;
        sampler.commit(token);
        token
    };
    assert_eq!(
        [take(&mut sampler), take(&mut sampler), take(&mut sampler)],
        [3, 1, 1]
    );
    let suppressed = SamplingOptions {
        suppress_tokens: Some(vec![0, 1]),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&suppressed, 2, 0, 0).unwrap();
    let error = sampler.sample(&mut [0.0, 0.0], None).unwrap_err();
    assert_eq!(
        error,
        SamplingError::NoCandidates {
            vocab: 2,
            after: "suppress_tokens"
        }
    );
    // A penalty on −inf leaves −inf.
    let penalised = SamplingOptions {
        repetition_penalty: Some(0.5),
        temperature: Some(1.0),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&penalised, 2, 0, 0).unwrap();
    sampler.observe_prompt(&[0, 1]);
    let mut logits = [f32::NEG_INFINITY, -1.0];
    sampler.process(&mut logits, None).unwrap();
    assert_eq!(logits, [f32::NEG_INFINITY, -0.5]);
}

#[test]
fn forced_tokens_win_or_fail_loudly() {
    let options = SamplingOptions {
        forced_tokens: Some([(0, 3), (1, 1)].into()),
        eos_tokens: Some(vec![0]),
        forced_eos_at: Some(4),
        temperature: Some(1.0),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&options, 4, 0, 0).unwrap();
    let mut tokens = Vec::new();
    for _ in 0..4 {
        let draw = sampler.sample(&mut [0.0, 9.0, 9.0, -50.0], None).unwrap();
        sampler.commit(draw.token);
        tokens.push(draw.token);
    }
    assert_eq!((tokens[0], tokens[1], tokens[3]), (3, 1, 0));
    let mut sampler = Sampler::new(&options, 4, 0, 0).unwrap();
    let error = sampler.sample(&mut [0.0; 4], Some(&[0b0111])).unwrap_err();
    assert_eq!(
        error,
        SamplingError::ForcedTokenForbidden {
            token: 3,
            by: "the mask"
        }
    );
}

#[derive(Debug, Clone, Default)]
struct Recorder {
    log: Vec<String>,
}

impl LogitsProcessor for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }
    fn process(&mut self, context: Context<'_>, logits: &mut [f32]) -> Result<(), SamplingError> {
        self.log.push(format!(
            "{}+{}",
            context.prompt_len,
            context.generated().len()
        ));
        // Bans whatever was said last, and shows its log as a logit.
        if let Some(last) = context.generated().last() {
            logits[*last as usize] = f32::NEG_INFINITY;
        }
        Ok(())
    }
    fn boxed_clone(&self) -> Box<dyn LogitsProcessor> {
        Box::new(self.clone())
    }
}

#[test]
fn processors_run_with_their_context_and_are_explained() {
    let mut sampler = Sampler::new(&SamplingOptions::default(), 4, 0, 0).unwrap();
    sampler
        .add_processor(Box::new(Recorder::default()))
        .unwrap();
    sampler.set_explain(true);
    sampler.observe_prompt(&[2]);
    let mut tokens = Vec::new();
    for _ in 0..4 {
        let draw = sampler.sample(&mut [0.0, 3.0, 2.0, 1.0], None).unwrap();
        sampler.commit(draw.token);
        tokens.push(draw.token);
    }
    assert_eq!(tokens, [1, 2, 1, 2]);
    let explanation = sampler.explanation().unwrap();
    assert_eq!(
        explanation.removed_by(1).map(|step| step.name),
        Some("recorder")
    );
    let steps: Vec<Step> = sampler.active_steps().collect();
    assert_eq!(steps, [Step::Processors]);
    let without = SamplingOptions {
        order: Some(Order::Explicit(vec![])),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&without, 4, 0, 0).unwrap();
    assert!(
        sampler
            .add_processor(Box::new(Recorder::default()))
            .is_err()
    );
}

#[test]
fn explanations_add_up() {
    let mask: Vec<u32> = (0..VOCAB.div_ceil(32)).map(|_| 0xffff_0fff).collect();
    for options in options() {
        let mut plain = Sampler::new(&options, VOCAB, 8, 0).unwrap();
        let mut sampler = plain.clone();
        sampler.set_explain(true);
        for position in 0..5 {
            let wanted = plain.sample(&mut row(position), Some(&mask)).unwrap();
            let draw = sampler.sample(&mut row(position), Some(&mask)).unwrap();
            assert_eq!(draw, wanted, "explaining changes the draw");
            let explanation = sampler.explanation().unwrap();
            for pair in explanation.steps.windows(2) {
                assert_eq!(pair[0].tokens_after, pair[1].tokens_before);
                assert!((pair[0].entropy_after - pair[1].entropy_before).abs() < 1e-12);
            }
            for step in &explanation.steps {
                assert!((0.0..=1.0 + 1e-12).contains(&step.mass_removed), "{step:?}");
                let removed = (0..VOCAB as u32)
                    .filter(|id| explanation.removed_by(*id) == Some(step))
                    .count();
                assert_eq!(removed, step.tokens_before - step.tokens_after, "{step:?}");
            }
            assert_eq!(explanation.removed_by(draw.token), None);
            plain.commit(draw.token);
            sampler.commit(draw.token);
            let mut work = row(position + 1);
            let kept = sampler.clone().law(&mut work, Some(&mask)).unwrap().kept();
            assert!(kept >= 1);
        }
    }
}

#[test]
fn logprobs_tell_both_laws() {
    let options = SamplingOptions {
        temperature: Some(0.5),
        top_k: Some(3),
        repetition_penalty: Some(1.5),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&options, VOCAB, 1, 0).unwrap();
    sampler.observe_prompt(&[5, 6, 7]);
    sampler.report_logprobs(Some(4), Some(4));
    let logits = row(2);
    let draw = sampler.sample(&mut logits.clone(), None).unwrap();
    let report = sampler.logprobs().unwrap();
    let (raw, processed) = (
        report.raw.as_ref().unwrap(),
        report.processed.as_ref().unwrap(),
    );
    let lse = mx_sampling::log_sum_exp(&logits).unwrap();
    assert!((raw.chosen.logprob - (f64::from(logits[draw.token as usize]) - lse)).abs() < 1e-6);
    assert!((processed.chosen.logprob - draw.logprob).abs() < 1e-12);
    assert_eq!((raw.top.len(), processed.top.len()), (4, 3));
    let total: f64 = processed.top.iter().map(|entry| entry.logprob.exp()).sum();
    assert!((total - 1.0).abs() < 1e-6);
    assert!(
        raw.top
            .windows(2)
            .all(|pair| pair[0].logprob >= pair[1].logprob)
    );
    sampler.report_logprobs(None, None);
    assert!(sampler.logprobs().is_none());
}

#[test]
fn options_travel_as_data() {
    let options = SamplingOptions {
        order: Some(Order::from_steps(&["penalties", "top_k", "temperature"]).unwrap()),
        top_k: Some(40),
        logit_bias: Some([(5, -1.5)].into()),
        forced_tokens: Some([(0, 1)].into()),
        ..Default::default()
    };
    let text = serde_json::to_string(&options).unwrap();
    assert_eq!(
        serde_json::from_str::<SamplingOptions>(&text).unwrap(),
        options
    );
    let llama: SamplingOptions =
        serde_json::from_str(r#"{"order":"llama","temp":0.8,"typ_p":0.9}"#).unwrap();
    assert_eq!(
        (llama.order, llama.temperature, llama.typical_p),
        (Some(Order::Llama), Some(0.8), Some(0.9))
    );
    assert!(serde_json::from_str::<SamplingOptions>(r#"{"topk":4}"#).is_err());
    assert!(serde_json::from_str::<SamplingOptions>(r#"{"order":"gpt"}"#).is_err());
}

#[test]
fn methods_activate_their_own_truncation() {
    let given = SamplingOptions {
        top_p: Some(0.9),
        temperature: Some(0.7),
        ..Default::default()
    };
    let steps = |method: &str, given: &SamplingOptions| {
        let options = Method::from_name(method).unwrap().options(given);
        let sampler = Sampler::new(&options, VOCAB, 0, 0).unwrap();
        sampler
            .active_steps()
            .map(Step::name)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let bare = SamplingOptions::default();
    assert_eq!(steps("greedy", &bare), "");
    assert_eq!(steps("top-k", &bare), "temperature top_k");
    assert_eq!(steps("top-p", &bare), "temperature top_p");
    assert_eq!(steps("min-p", &bare), "temperature min_p");
    assert_eq!(steps("typical", &bare), "temperature typical_p");
    assert_eq!(steps("top_k", &given), "temperature top_k top_p");
    let error = Method::from_name("top-q").unwrap_err().to_string();
    assert!(
        error.contains("top-q") && error.contains("min-p") && error.contains("ensemble-sampling"),
        "{error}"
    );
}
