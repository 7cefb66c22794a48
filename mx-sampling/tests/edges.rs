//! Values at the edge of what a caller can hand in: extreme numbers, dead rows, requests as they are written.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use mx_sampling::penalties::exponential_decay;
use mx_sampling::strategy::SparseLaw;
use mx_sampling::strategy::beam::{BeamConstraint, BeamOptions, BeamSearch, Phrases};
use mx_sampling::strategy::draft_length::{
    DraftLength, DraftLengthOptions, best_length, expected_tokens, fan_out,
};
use mx_sampling::strategy::drafters::{NgramDrafter, Occurrence, prompt_lookup};
use mx_sampling::strategy::speculative::{
    Draft, DraftLaw, Replacement, TreeNode, accept_probability, verify, verify_tree,
};
use mx_sampling::{
    Order, Sampler, SamplingError, SamplingOptions, Step, classifier_free_guidance,
    contrastive_logits, draw_from_law,
};
use serde::{Deserialize, Serialize};

/// A request around the options, as an engine writes it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Request {
    prompt: String,
    #[serde(flatten)]
    sampling: SamplingOptions,
    #[serde(flatten)]
    unknown: BTreeMap<String, serde_json::Value>,
}

/// Every field set; a new field does not compile until it stands here.
fn everything() -> SamplingOptions {
    SamplingOptions {
        order: Some(Order::Explicit(vec![Step::TopK, Step::Temperature])),
        temperature: Some(0.7),
        dynatemp_range: Some(0.1),
        dynatemp_exponent: Some(1.5),
        top_k: Some(-1),
        top_p: Some(0.9),
        min_p: Some(0.05),
        typical_p: Some(0.95),
        epsilon_cutoff: Some(3e-4),
        eta_cutoff: Some(2e-4),
        top_n_sigma: Some(1.5),
        top_h: Some(0.4),
        tail_free: Some(0.97),
        xtc_threshold: Some(0.2),
        xtc_probability: Some(0.5),
        mirostat: Some(2),
        mirostat_tau: Some(4.0),
        mirostat_eta: Some(0.2),
        adaptive_p_target: Some(0.3),
        adaptive_p_decay: Some(0.8),
        min_tokens_to_keep: Some(3),
        repetition_penalty: Some(1.1),
        frequency_penalty: Some(-0.5),
        presence_penalty: Some(0.25),
        penalty_last_n: Some(-1),
        dry_multiplier: Some(0.8),
        dry_base: Some(1.75),
        dry_allowed_length: Some(3),
        dry_last_n: Some(128),
        dry_breakers: Some(vec![vec![1], vec![2, 3]]),
        no_repeat_ngram_size: Some(4),
        bad_words: Some(vec![vec![4, 5]]),
        logit_bias: Some([(0, 1.5), (5, -100.0), (u32::MAX, f64::NEG_INFINITY)].into()),
        sequence_bias: Some(vec![(vec![1, 2], f64::NEG_INFINITY), (vec![3], 0.5)]),
        eos_tokens: Some(vec![2]),
        min_new_tokens: Some(1),
        suppress_tokens: Some(vec![6]),
        begin_suppress_tokens: Some(vec![7]),
        forced_tokens: Some([(0, 8), (3, 9)].into()),
        forced_eos_at: Some(64),
        exponential_decay: Some((10, 1.05)),
        sanitize: Some(true),
    }
}

#[test]
fn every_field_survives_alone_and_inside_a_request() {
    let options = everything();
    let text = serde_json::to_string(&options).unwrap();
    assert_eq!(text.matches("-inf").count(), 2, "{text}");
    assert_eq!(
        serde_json::from_str::<SamplingOptions>(&text).unwrap(),
        options
    );
    let request = Request {
        prompt: "x".into(),
        sampling: options.clone(),
        unknown: [("later".to_owned(), serde_json::json!({"5": 1}))].into(),
    };
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    let value = serde_json::to_value(&request).unwrap();
    assert_eq!(serde_json::from_value::<Request>(value).unwrap(), request);
    // Nothing of the options is left to the unknown fields, and merging takes every field too.
    assert_eq!(request.unknown.len(), 1);
    assert_eq!(SamplingOptions::default().or(&options), options);
}

#[test]
fn keys_of_maps_are_ids_however_they_are_written() {
    let read = |text: &str| serde_json::from_str::<Request>(text);
    let request = read(r#"{"logit_bias":{"5":-100,"6":"-inf"},"forced_tokens":{"0":7}}"#).unwrap();
    assert_eq!(
        request.sampling.logit_bias,
        Some([(5, -100.0), (6, f64::NEG_INFINITY)].into())
    );
    assert_eq!(request.sampling.forced_tokens, Some([(0, 7)].into()));
    assert!(request.unknown.is_empty());
    let absent = read(r#"{"logit_bias":null,"forced_tokens":null,"sequence_bias":null}"#).unwrap();
    assert_eq!(absent.sampling, SamplingOptions::default());
    for (text, key, wanted) in [
        (r#"{"logit_bias":{"the":1}}"#, "the", "a token id"),
        (r#"{"logit_bias":{"-1":1}}"#, "-1", "a token id"),
        (r#"{"logit_bias":{"+1":1}}"#, "+1", "a token id"),
        (r#"{"logit_bias":{"1.0":1}}"#, "1.0", "a token id"),
        (
            r#"{"logit_bias":{"4294967296":1}}"#,
            "4294967296",
            "a token id",
        ),
        (r#"{"logit_bias":{"":1}}"#, "\"\"", "a token id"),
        (r#"{"forced_tokens":{"x":1}}"#, "x", "a position"),
        (r#"{"logit_bias":{"1":"-infinite"}}"#, "-infinite", "-inf"),
        (r#"{"logit_bias":{"1":[]}}"#, "sequence", "a number"),
        (r#"{"sequence_bias":[[[1],"low"]]}"#, "low", "-inf"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(
            error.contains(key) && error.contains(wanted),
            "{text}: {error}"
        );
        // The same without the request around it.
        let error = serde_json::from_str::<SamplingOptions>(text)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(key) && error.contains(wanted),
            "{text}: {error}"
        );
    }
}

#[test]
fn the_length_penalty_leaves_what_is_no_number_alone() {
    assert!(exponential_decay(f32::NAN, 10, 5, 1.1).is_nan());
    for logit in [f32::INFINITY, f32::NEG_INFINITY, 0.0] {
        assert_eq!(exponential_decay(logit, 10, 5, 1.1), logit);
        assert_eq!(exponential_decay(logit, usize::MAX, 0, 10.0), logit);
    }
    let options = SamplingOptions {
        eos_tokens: Some(vec![0]),
        exponential_decay: Some((0, 1.1)),
        temperature: Some(0.0),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&options, 3, 0, 0).unwrap();
    sampler.commit(1);
    assert!(matches!(
        sampler.sample(&mut [f32::NAN, 1.0, 2.0], None),
        Err(SamplingError::InvalidLogits { token: 0, .. })
    ));
    let options = SamplingOptions {
        sanitize: Some(true),
        ..options
    };
    let mut sampler = Sampler::new(&options, 3, 0, 0).unwrap();
    sampler.commit(1);
    let draw = sampler.sample(&mut [f32::NAN, 1.0, 2.0], None).unwrap();
    assert_eq!(draw.token, 2);
}

/// Allows token 1 first and nothing after it.
#[derive(Debug, Clone, Default)]
struct OneToken(usize);

impl BeamConstraint for OneToken {
    fn mask(&mut self, words: &mut [u32]) -> bool {
        words.fill(0);
        words[0] = if self.0 == 0 { 0b10 } else { 0 };
        true
    }

    fn advance(&mut self, _: u32) {
        self.0 += 1;
    }

    fn is_accepting(&self) -> bool {
        false
    }
}

#[test]
fn dead_beams_say_nothing_also_when_they_are_sampled() {
    for sampled in [None, Some((1, 0))] {
        let options = BeamOptions {
            width: 2,
            max_new_tokens: 4,
            eos_tokens: vec![0],
            sampled,
            ..Default::default()
        };
        let mut search = BeamSearch::with_constraint(options, 3, OneToken::default()).unwrap();
        let moves = search.step(&[&[-1.0; 3]]).unwrap();
        assert_eq!(moves.len(), 1);
        assert_eq!(moves[0].token, 1);
        assert!(matches!(
            search.step(&[&[-1.0; 3]]),
            Err(SamplingError::NoCandidates { .. })
        ));
    }
}

#[test]
fn guidance_excludes_what_either_law_excludes() {
    const OUT: f32 = f32::NEG_INFINITY;
    let guided = |scale: f64| {
        let mut row = [0.0, 0.0, OUT, 0.5];
        classifier_free_guidance(&mut row, &[0.0, OUT, 0.0, 1.0], scale).unwrap();
        row
    };
    for scale in [0.0, 0.5, 0.999] {
        let row = guided(scale);
        assert_eq!((row[1], row[2]), (OUT, OUT), "{scale}");
        assert!(row[0].is_finite() && row[3].is_finite());
    }
    for scale in [1.0, 1.5] {
        let row = guided(scale);
        assert!(row[1].is_finite(), "{scale}");
        assert_eq!(row[2], OUT);
    }
    // At 0 the unconditional law on what both allow: the two differ by 1 there.
    let row = guided(0.0);
    assert!((row[3] - row[0] - 1.0).abs() < 1e-6);
    // Laws without a common token leave nothing.
    assert!(matches!(
        classifier_free_guidance(&mut [0.0, OUT], &[OUT, 0.0], 0.5),
        Err(SamplingError::NoCandidates { .. })
    ));
}

#[test]
fn combined_rows_never_become_infinite_upwards() {
    let mut row = [f32::MAX, 0.0];
    classifier_free_guidance(&mut row, &[0.0, f32::MAX], 1e300).unwrap();
    assert_eq!(row, [f32::MAX, f32::NEG_INFINITY]);
    let mut row = [f32::MAX, f32::MAX / 2.0];
    contrastive_logits(&mut row, &[f32::MAX, f32::MAX], 1.0, 1e300).unwrap();
    assert_eq!(row, [f32::MAX, f32::NEG_INFINITY]);
    let mut row = [3e38, -3e38];
    contrastive_logits(&mut row, &[3e38, -3e38], 1e-300, 1e300).unwrap();
    assert_eq!(row[0], 3e38);
}

#[test]
fn phrases_that_need_too_large_a_table_are_refused_soon() {
    let phrases = |count: u32, length: u32| -> Vec<Vec<u32>> {
        (0..count)
            .map(|i| (0..length).map(|j| i * length + j).collect())
            .collect()
    };
    // A phrase that falls back along a long chain at every state, and one with far too many tokens.
    let mut chain = vec![7; 60_000];
    chain.push(8);
    for phrases in [
        phrases(32, 20),
        phrases(16, 1),
        phrases(20, 3),
        phrases(1, 200_000),
    ] {
        let error = Phrases::new(&phrases).unwrap_err();
        assert!(error.to_string().contains("must_include"), "{error}");
        // Seconds without the limit, far below one with it; the bound leaves room for a busy machine.
    }
    let built = Phrases::new(&[chain]).unwrap();
    assert_eq!(built.needed(built.start()), 60_001);
    let useful = Phrases::new(&phrases(10, 3)).unwrap();
    assert_eq!(useful.needed(useful.start()), 30);
}

#[test]
fn beams_refuse_what_no_search_can_meet() {
    let base = BeamOptions {
        eos_tokens: vec![0],
        ..Default::default()
    };
    let ends = BeamOptions {
        must_include: vec![vec![2], vec![1, 0]],
        ..base.clone()
    };
    let error = BeamSearch::new(ends, 3).unwrap_err();
    let text = error.to_string();
    assert!(error.is_parameter());
    assert!(
        text.contains("must_include") && text.contains("eos_tokens"),
        "{text}"
    );
    for (width, groups) in [(usize::MAX, 1), (usize::MAX, usize::MAX)] {
        let wide = BeamOptions {
            width,
            groups,
            ..base.clone()
        };
        let error = BeamSearch::new(wide, 3).unwrap_err();
        assert!(error.to_string().contains("beam_width"), "{error}");
    }
    let long = BeamOptions {
        width: 4096,
        max_new_tokens: usize::MAX,
        ..base
    };
    let mut search = BeamSearch::new(long, 3).unwrap();
    assert_eq!(search.step(&[&[-1.0; 3]]).unwrap().len(), 2);
}

/// The token of a position.
type Token = fn(u32) -> u32;

#[test]
fn no_repeat_keeps_its_pace_in_a_long_text() {
    // Many followers of one context: every token for n = 1, every second one for n = 2.
    let prompts: [(u32, Token); 2] = [(1, |i| i), (2, |i| if i % 2 == 0 { 70_000 } else { i })];
    for (size, token) in prompts {
        let options = SamplingOptions {
            no_repeat_ngram_size: Some(size),
            temperature: Some(0.0),
            ..Default::default()
        };
        let mut sampler = Sampler::new(&options, 80_000, 0, 0).unwrap();
        let prompt: Vec<u32> = (0..60_000).map(token).collect();
        sampler.observe_prompt(&prompt);
        // 0.9 to 1.8 billion steps for the quadratic index, 60 thousand for this one.
        let mut row = vec![0.0; 80_000];
        row[1] = 5.0;
        row[60_001] = 1.0;
        let wanted = if size == 1 { 60_001 } else { 1 };
        assert_eq!(sampler.sample(&mut row, None).unwrap().token, wanted);
    }
}

#[test]
fn counts_of_the_caller_are_never_sizes() {
    const ALL: usize = usize::MAX;
    let mut sampler = Sampler::new(&SamplingOptions::default(), 3, 0, 0).unwrap();
    sampler.report_logprobs(Some(ALL), Some(ALL));
    sampler
        .sample(&mut [0.0, f32::NEG_INFINITY, 2.0], None)
        .unwrap();
    let report = sampler.logprobs().unwrap();
    assert_eq!(report.raw.as_ref().unwrap().top.len(), 3);
    assert_eq!(report.processed.as_ref().unwrap().top.len(), 1);
    for knobs in [
        SamplingOptions::default(),
        SamplingOptions {
            repetition_penalty: Some(1.1),
            frequency_penalty: Some(0.1),
            penalty_last_n: Some(i64::MAX),
            dry_multiplier: Some(0.5),
            dry_allowed_length: Some(u32::MAX),
            dry_last_n: Some(i64::MAX),
            no_repeat_ngram_size: Some(u32::MAX),
            min_tokens_to_keep: Some(u32::MAX),
            min_new_tokens: Some(u32::MAX),
            forced_eos_at: Some(u32::MAX),
            eos_tokens: Some(vec![0]),
            top_k: Some(i64::MAX),
            ..Default::default()
        },
    ] {
        let mut sampler = Sampler::new(&knobs, 3, 0, 0).unwrap();
        sampler.observe_prompt(&[1, 2]);
        sampler.reserve(ALL);
        sampler.sample(&mut [0.0, 1.0, 2.0], None).unwrap();
    }
    let found = prompt_lookup(&[1, 2, 1, 2], ALL, ALL, Occurrence::Latest).unwrap();
    assert_eq!(found.draft, [1, 2]);
    let mut drafter = NgramDrafter::new(1, ALL);
    for token in [1, 2, 3, 1, 2] {
        drafter.push(token);
    }
    assert_eq!(drafter.draft(ALL), [3, 1, 2]);
    drafter.truncate(4);
    assert_eq!(drafter.draft(ALL), [2, 3, 1]);
    NgramDrafter::new(ALL, ALL).push(1);
    assert_eq!(best_length(1.0, 0.0, ALL), best_length(1.0, 0.0, 5000));
    assert_eq!(expected_tokens(0.5, ALL), 2.0);
    assert!(fan_out(0.5, ALL, 4).iter().sum::<usize>() == 4);
    let error = DraftLength::new(DraftLengthOptions {
        max: ALL,
        ..Default::default()
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("speculative_steps_max"),
        "{error}"
    );
    let mut length = DraftLength::new(DraftLengthOptions::default()).unwrap();
    length.observe(4, ALL, None);
    assert!(length.next() >= 1);
}

#[test]
fn draft_laws_are_checked_and_scaled() {
    let p = [0.5, 0.5];
    let drawn = |q: &'static [f64]| {
        [Draft {
            token: 0,
            law: DraftLaw::Drawn(q),
        }]
    };
    for q in [
        &[f64::NAN, 0.5][..],
        &[-0.5, 1.5],
        &[f64::INFINITY, 0.0],
        &[0.0, 0.0],
        &[f64::MAX, f64::MAX],
        &[],
        &[0.5, 0.25, 0.25],
    ] {
        assert!(verify(&[p, p], &drawn(q), || 0.99).is_err(), "{q:?}");
        let node = TreeNode {
            parent: None,
            token: 0,
            law: DraftLaw::Drawn(q),
        };
        for replacement in [Replacement::With, Replacement::Without] {
            let got = verify_tree(&[node], |_| &p[..], replacement, || 0.99);
            assert!(got.is_err(), "{q:?}");
        }
    }
    assert!(draw_from_law(&[f64::MAX, f64::MAX], 0.9).is_err());
    assert_eq!(
        accept_probability(&p, DraftLaw::Drawn(&[f64::NAN, 0.5]), 0),
        0.0
    );
    assert_eq!(accept_probability(&[f64::NAN], DraftLaw::Certain, 0), 0.0);
    // A law counts by its shape: doubled, or on both sides, it decides as the normalised one.
    let twice = [2.0, 2.0];
    let certain = [Draft {
        token: 0,
        law: DraftLaw::Certain,
    }];
    assert_eq!(
        verify(&[twice, twice], &certain, || 0.6).unwrap().accepted,
        0
    );
    assert_eq!(
        verify(&[twice, twice], &certain, || 0.4).unwrap().accepted,
        1
    );
    static WIDE: [f64; 2] = [6.0, 2.0];
    for u in [0.6, 0.7] {
        let plain = verify(&[p, p], &drawn(&[0.75, 0.25]), || u).unwrap();
        let scaled = verify(&[twice, twice], &drawn(&WIDE), || u).unwrap();
        assert_eq!(plain.accepted, scaled.accepted, "{u}");
        assert_eq!(plain.token, scaled.token, "{u}");
        let node = TreeNode {
            parent: None,
            token: 0,
            law: DraftLaw::Drawn(&WIDE),
        };
        let tree = verify_tree(&[node], |_| &twice[..], Replacement::With, || u).unwrap();
        assert_eq!(tree.path.len(), plain.accepted, "{u}");
    }
    let twice = SparseLaw::new(vec![(3, 0.5), (1, 0.2), (3, 0.5)]).unwrap_err();
    assert!(twice.to_string().contains('3'), "{twice}");
    assert!(SparseLaw::new(vec![]).is_err());
}

#[test]
fn mirostat_survives_a_token_without_weight() {
    let options = SamplingOptions {
        mirostat: Some(2),
        mirostat_tau: Some(200.0),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&options, 3, 0, 0).unwrap();
    sampler.sample(&mut [0.0, -100.0, 0.0], None).unwrap();
    sampler.commit(1);
    let mu = sampler.mirostat_mu().unwrap();
    // 400 − 0.1·(126 − 200)
    assert!((mu - 407.4).abs() < 1e-9, "{mu}");
    assert!(sampler.sample(&mut [0.0, -1.0, 0.0], None).is_ok());
}

#[test]
fn greedy_lists_only_the_steps_that_act() {
    let options = SamplingOptions {
        temperature: Some(0.0),
        adaptive_p_target: Some(0.5),
        xtc_probability: Some(1.0),
        top_p: Some(0.1),
        dynatemp_range: Some(0.5),
        repetition_penalty: Some(1.5),
        ..Default::default()
    };
    let mut sampler = Sampler::new(&options, 10, 0, 0).unwrap();
    assert!(sampler.is_greedy());
    assert_eq!(
        sampler.active_steps().collect::<Vec<_>>(),
        [Step::Repetition]
    );
    sampler.set_explain(true);
    sampler.sample(&mut [0.0; 10], None).unwrap();
    let names: Vec<&str> = sampler
        .explanation()
        .unwrap()
        .steps
        .iter()
        .map(|step| step.name)
        .collect();
    assert_eq!(names, ["repetition_penalty"]);
}

#[test]
fn cold_rows_are_written_within_the_range() {
    let options = SamplingOptions {
        temperature: Some(2e-5),
        ..Default::default()
    };
    for given in [
        [1e34f32, 0.9e34, 0.0, f32::NEG_INFINITY],
        [-0.9e34, -1e34, -2e34, f32::NEG_INFINITY],
        [1e30, -1e34, -f32::MAX, f32::NEG_INFINITY],
    ] {
        let mut sampler = Sampler::new(&options, 4, 0, 0).unwrap();
        let mut row = given;
        sampler.process(&mut row, None).unwrap();
        // What was removed stays out, the rest stays in, and the order of the tokens is kept.
        assert!(row[..3].iter().all(|x| x.is_finite()), "{given:?} {row:?}");
        assert_eq!(row[3], f32::NEG_INFINITY);
        assert!(row[0] > row[1] && row[0] > row[2], "{given:?} {row:?}");
    }
}
