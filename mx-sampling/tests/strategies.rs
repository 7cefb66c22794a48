//! Edges and optimality of the strategies, against enumeration.
#![allow(clippy::unwrap_used, missing_docs)]

use mx_sampling::strategy::beam::{
    BeamConstraint, BeamOptions, BeamSearch, EarlyStopping, Hypothesis, LengthNorm, LogRow,
    Phrases, Unconstrained,
};
use mx_sampling::strategy::determinantal::{Ads, AdsOptions, KDpp};
use mx_sampling::strategy::draft_length::{
    DraftLength, DraftLengthOptions, LengthRule, best_length, expected_tokens, speed_up,
};
use mx_sampling::strategy::ensemble::{average, majority, product};
use mx_sampling::strategy::speculative::{
    Draft, DraftLaw, accept_probability, damped_draft_law, residual, verify, verify_greedy,
};
use mx_sampling::{SamplingError, Stream, log_normaliser};

/// A Markov table of order 1.
struct Table {
    vocab: usize,
    rows: Vec<Vec<f64>>,
}

impl Table {
    fn random(vocab: usize, stream: &mut Stream) -> Self {
        let mut row = || {
            let weights: Vec<f64> = (0..vocab).map(|_| stream.unit().powi(3) + 0.01).collect();
            let total: f64 = weights.iter().sum();
            weights.iter().map(|w| (w / total).ln()).collect()
        };
        Self {
            vocab,
            rows: (0..=vocab).map(|_| row()).collect(),
        }
    }

    fn row(&self, text: &[u32]) -> &[f64] {
        &self.rows[text.last().map_or(self.vocab, |token| *token as usize)]
    }

    fn logprob(&self, text: &[u32]) -> f64 {
        (0..text.len())
            .map(|at| self.row(&text[..at])[text[at] as usize])
            .sum()
    }

    fn search<C: BeamConstraint>(
        &self,
        options: BeamOptions,
        constraint: C,
    ) -> Result<Vec<Hypothesis>, SamplingError> {
        let mut search = BeamSearch::with_constraint(options, self.vocab, constraint)?;
        while !search.is_done() {
            let rows: Vec<&[f64]> = search
                .live()
                .iter()
                .map(|beam| self.row(&beam.tokens))
                .collect();
            let before: Vec<Vec<u32>> = search
                .live()
                .iter()
                .map(|beam| beam.tokens.clone())
                .collect();
            let moves = search.step(&rows)?;
            assert_eq!(moves.len(), search.live().len());
            for (beam, step) in search.live().iter().zip(moves) {
                // The moves tell which text each beam continues.
                assert_eq!(
                    beam.tokens.split_last().unwrap(),
                    (&step.token, &before[step.parent][..])
                );
            }
        }
        Ok(search.finish())
    }

    /// Every finished text that `accepts`, best first.
    fn exhaustive(
        &self,
        eos: u32,
        max: usize,
        norm: impl Fn(f64, usize) -> f64,
        accepts: impl Fn(&[u32]) -> bool,
    ) -> Vec<(f64, Vec<u32>)> {
        let mut open = vec![Vec::new()];
        let mut all = Vec::new();
        while let Some(text) = open.pop() {
            for token in 0..self.vocab as u32 {
                let mut next: Vec<u32> = text.clone();
                next.push(token);
                if token == eos || next.len() == max {
                    let said = if token == eos {
                        &next[..next.len() - 1]
                    } else {
                        &next[..]
                    };
                    if accepts(said) {
                        all.push((norm(self.logprob(&next), next.len()), next));
                    }
                } else {
                    open.push(next);
                }
            }
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all
    }
}

fn contains(text: &[u32], phrase: &[u32]) -> bool {
    text.windows(phrase.len()).any(|part| part == phrase)
}

#[test]
fn required_phrases_are_always_there_and_a_wide_beam_finds_the_optimum() {
    let mut stream = Stream::new(1, 0);
    for round in 0..60 {
        let vocab = 4 + round % 3;
        let table = Table::random(vocab, &mut stream);
        let max = 4 + round % 2;
        let eos = vocab as u32 - 1;
        let mut token = || (stream.unit() * (vocab as f64 - 1.0)) as u32;
        let phrases: Vec<Vec<u32>> = match round % 4 {
            0 => vec![vec![token(), token()]],
            1 => vec![vec![token(), token(), token()]],
            2 => vec![vec![token(), token()], vec![token()]],
            _ => vec![vec![token(), token()], vec![token(), token()]],
        };
        for (length_penalty, norm) in [
            (0.0, LengthNorm::Power),
            (1.0, LengthNorm::Power),
            (0.7, LengthNorm::Gnmt),
        ] {
            let normalise = |score: f64, length: usize| match norm {
                LengthNorm::Gnmt => score / ((5.0 + length as f64) / 6.0).powf(length_penalty),
                _ => score / (length as f64).powf(length_penalty),
            };
            let accepts = |text: &[u32]| phrases.iter().all(|phrase| contains(text, phrase));
            let all = table.exhaustive(eos, max, normalise, accepts);
            let options = |width: usize| BeamOptions {
                width,
                length_penalty,
                length_norm: norm,
                early_stopping: EarlyStopping::Never,
                max_new_tokens: max,
                eos_tokens: vec![eos],
                must_include: phrases.clone(),
                ..Default::default()
            };
            for width in [1, 2, 3, 4, 8, vocab * vocab * (max + 1)] {
                let found = table.search(options(width), Unconstrained).unwrap();
                for hypothesis in &found {
                    let said = if hypothesis.ended {
                        hypothesis.tokens.len() - 1
                    } else {
                        hypothesis.tokens.len()
                    };
                    assert!(accepts(&hypothesis.tokens[..said]) && hypothesis.complete);
                    assert!((hypothesis.logprob - table.logprob(&hypothesis.tokens)).abs() < 1e-12);
                }
                assert!(found[0].score <= all[0].0 + 1e-9);
                if width > 8 {
                    assert!(
                        (found[0].score - all[0].0).abs() < 1e-9,
                        "{round} {phrases:?}: {found:?} {:?}",
                        all[0]
                    );
                }
            }
        }
    }
}

/// An even number of ones, and never a three.
#[derive(Debug, Clone)]
struct Parity(bool);

impl BeamConstraint for Parity {
    fn mask(&mut self, words: &mut [u32]) -> bool {
        words.fill(!0b1000);
        true
    }
    fn advance(&mut self, token: u32) {
        self.0 ^= token == 1;
    }
    fn is_accepting(&self) -> bool {
        self.0
    }
}

#[test]
fn a_constraint_decides_what_is_said_and_where_it_ends() {
    let mut stream = Stream::new(2, 0);
    for _ in 0..20 {
        let table = Table::random(5, &mut stream);
        let accepts = |text: &[u32]| {
            !text.contains(&3)
                && text.iter().filter(|token| **token == 1).count() % 2 == 0
                && text.contains(&2)
        };
        let all = table.exhaustive(4, 5, |score, length| score / length as f64, accepts);
        let options = |width| BeamOptions {
            width,
            max_new_tokens: 5,
            eos_tokens: vec![4],
            early_stopping: EarlyStopping::Never,
            must_include: vec![vec![2]],
            ..Default::default()
        };
        let found = table.search(options(200), Parity(true)).unwrap();
        assert!((found[0].score - all[0].0).abs() < 1e-9);
        for hypothesis in table.search(options(3), Parity(true)).unwrap() {
            let said = if hypothesis.ended {
                hypothesis.tokens.len() - 1
            } else {
                hypothesis.tokens.len()
            };
            assert_eq!(
                hypothesis.complete,
                accepts(&hypothesis.tokens[..said]),
                "{hypothesis:?}"
            );
            assert!(hypothesis.complete || !hypothesis.ended);
        }
    }
}

/// Allows nothing.
#[derive(Debug, Clone)]
struct Dead;

impl BeamConstraint for Dead {
    fn mask(&mut self, words: &mut [u32]) -> bool {
        words.fill(0);
        true
    }
    fn advance(&mut self, _: u32) {}
    fn is_accepting(&self) -> bool {
        false
    }
}

#[test]
fn beams_that_cannot_go_on_are_an_error_and_options_are_checked() {
    let table = Table::random(4, &mut Stream::new(3, 0));
    let base = || BeamOptions {
        width: 2,
        max_new_tokens: 3,
        eos_tokens: vec![3],
        ..Default::default()
    };
    assert!(matches!(
        table.search(base(), Dead),
        Err(SamplingError::NoCandidates { .. })
    ));
    let infeasible = BeamOptions {
        must_include: vec![vec![0, 1], vec![2, 0, 2]],
        ..base()
    };
    assert_eq!(
        BeamSearch::new(infeasible, 4).unwrap_err(),
        SamplingError::Infeasible { needed: 5, left: 3 }
    );
    for wrong in [
        BeamOptions { width: 0, ..base() },
        BeamOptions {
            groups: 3,
            ..base()
        },
        BeamOptions {
            max_new_tokens: 0,
            ..base()
        },
        BeamOptions {
            diversity_penalty: -1.0,
            ..base()
        },
        BeamOptions {
            length_penalty: f64::NAN,
            ..base()
        },
        BeamOptions {
            eos_tokens: vec![4],
            ..base()
        },
        BeamOptions {
            must_include: vec![vec![]],
            ..base()
        },
        BeamOptions {
            must_include: vec![vec![9]],
            ..base()
        },
    ] {
        assert!(BeamSearch::new(wrong.clone(), 4).is_err(), "{wrong:?}");
    }
    let mut search = BeamSearch::new(base(), 4).unwrap();
    assert!(matches!(
        search.step(&[]),
        Err(SamplingError::Length { name: "rows", .. })
    ));
    assert!(matches!(
        search.step(&[&[0.0; 3]]),
        Err(SamplingError::Length { name: "row", .. })
    ));
    assert!(matches!(
        search.step(&[&[f64::NAN; 4]]),
        Err(SamplingError::InvalidLogits { .. })
    ));
}

#[test]
fn a_beam_as_wide_as_the_tree_finds_the_best_texts() {
    // Width vocab^length holds every text.
    let mut stream = Stream::new(8, 0);
    for _ in 0..20 {
        let table = Table::random(4, &mut stream);
        let all = table.exhaustive(
            3,
            4,
            |score, length| score / (length as f64).powf(0.6),
            |_| true,
        );
        let options = BeamOptions {
            width: 256,
            length_penalty: 0.6,
            early_stopping: EarlyStopping::Never,
            max_new_tokens: 4,
            eos_tokens: vec![3],
            ..Default::default()
        };
        let found = table.search(options, Unconstrained).unwrap();
        for (found, (score, text)) in found.iter().zip(&all).take(5) {
            assert!((found.score - score).abs() < 1e-9);
            // Texts may tie; the score is the text's own in any case.
            assert!(
                (table.logprob(&found.tokens) - table.logprob(text)).abs()
                    < 1e-9 * text.len() as f64
                    || found.tokens.len() != text.len()
            );
        }
    }
}

#[test]
fn diverse_groups_report_both_scores() {
    let table = Table::random(6, &mut Stream::new(5, 0));
    let options = BeamOptions {
        width: 6,
        groups: 3,
        diversity_penalty: 0.8,
        length_penalty: 0.0,
        max_new_tokens: 4,
        eos_tokens: vec![5],
        ..Default::default()
    };
    let found = table.search(options, Unconstrained).unwrap();
    for hypothesis in &found {
        assert!((hypothesis.logprob - table.logprob(&hypothesis.tokens)).abs() < 1e-12);
        assert!(hypothesis.score <= hypothesis.logprob + 1e-12);
    }
    assert!(
        found.iter().any(|h| h.score < h.logprob - 0.5),
        "no penalty anywhere"
    );
}

#[test]
fn phrases_know_their_distances() {
    let phrases = Phrases::new(&[vec![1, 2, 3], vec![3, 1], vec![2]]).unwrap();
    // 1 2 3 1 holds all three.
    let mut state = phrases.start();
    for (token, needed) in [(1, 3), (2, 2), (3, 1), (1, 0)] {
        assert!(phrases.advancing(state).contains(&token));
        state = phrases.next(state, token);
        assert_eq!(phrases.needed(state), needed);
    }
    assert!(phrases.is_done(state));
    // A wrong token loses the progress, not what is done.
    let lost = [1, 2, 9]
        .iter()
        .fold(phrases.start(), |state, token| phrases.next(state, *token));
    assert_eq!(phrases.needed(lost), 4);
    let many: Vec<Vec<u32>> = (0..20).map(|i| vec![i, i + 100]).collect();
    assert!(matches!(
        Phrases::new(&many),
        Err(SamplingError::OutOfRange {
            name: "must_include",
            ..
        })
    ));
}

#[test]
fn speculation_is_strict_at_its_edges() {
    let (p, q) = ([0.0, 1.0], [0.5, 0.5]);
    // u = 0 never accepts what the target excludes.
    let got = verify(
        &[p, p],
        &[Draft {
            token: 0,
            law: DraftLaw::Drawn(&q),
        }],
        || 0.0,
    )
    .unwrap();
    assert_eq!((got.accepted, got.token), (0, 1));
    assert_eq!(accept_probability(&p, DraftLaw::Certain, 0), 0.0);
    // Equal laws leave no residual: the target law stands in.
    assert_eq!(residual(&q, DraftLaw::Drawn(&q), 0), q);
    assert_eq!(verify_greedy(&[3, 4, 5], &[3, 9]).unwrap(), (1, 4));
    assert!(matches!(
        verify_greedy(&[3], &[3]),
        Err(SamplingError::Length { .. })
    ));
    assert!(matches!(
        verify(
            &[p],
            &[Draft {
                token: 0,
                law: DraftLaw::Certain
            }],
            || 0.0
        ),
        Err(SamplingError::Length { .. })
    ));
    let broken = [f64::NAN, 1.0];
    assert!(matches!(
        verify(&[broken], &[], || 0.0),
        Err(SamplingError::InvalidLaw { .. })
    ));
    let damped = damped_draft_law(&[0.5, 0.3, 0.2], 1, 0.5).unwrap();
    assert!((damped[0] - 0.25 / 0.75).abs() < 1e-12);
}

#[test]
fn draft_lengths_follow_their_rules() {
    assert!((expected_tokens(0.8, 4) - (1.0 - 0.8f64.powi(5)) / 0.2).abs() < 1e-12);
    for alpha in [0.0, 0.3, 0.6, 0.8, 0.95] {
        let best = best_length(alpha, 0.1, 16);
        for other in 1..=16 {
            assert!(speed_up(alpha, best, 0.1) >= speed_up(alpha, other, 0.1));
        }
    }
    let with = |rule| {
        DraftLength::new(DraftLengthOptions {
            rule,
            ..Default::default()
        })
        .unwrap()
    };
    let mut heuristic = with(LengthRule::Heuristic);
    heuristic.observe(4, 4, None);
    assert_eq!(heuristic.next(), 6);
    heuristic.observe(6, 2, None);
    assert_eq!(heuristic.next(), 5);
    let mut constant = with(LengthRule::Constant);
    constant.observe(4, 0, None);
    assert_eq!(constant.next(), 4);
    let mut adaptive = with(LengthRule::Adaptive);
    for _ in 0..100 {
        let drafted = adaptive.next();
        adaptive.observe(drafted, drafted, Some(0.02));
    }
    assert_eq!(adaptive.next(), 16);
    assert!(adaptive.stops(0.01) && !adaptive.stops(0.5));
    assert!(
        DraftLength::new(DraftLengthOptions {
            start: 0,
            ..Default::default()
        })
        .is_err()
    );
}

#[test]
fn ads_has_its_limits() {
    let p = [0.5, 0.3, 0.2];
    let alike: [&[f32]; 3] = [&[1.0, 0.0], &[1.0, 0.0], &[0.0, 1.0]];
    let apart: [&[f32]; 3] = [&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0], &[0.0, 0.0, 1.0]];
    let law = |rows: &[&[f32]; 3], subset_size, beta| {
        Ads::new(
            &p,
            rows,
            AdsOptions {
                subset_size,
                beta,
                adaptive: false,
            },
        )
        .unwrap()
        .law()
        .to_vec()
    };
    let plain = |law: Vec<f64>| law.iter().zip(&p).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(plain(law(&alike, 2, 0.0)) && plain(law(&alike, 1, 0.9)) && plain(law(&alike, 3, 0.9)));
    assert!(plain(law(&apart, 2, 0.9)) && !plain(law(&alike, 2, 0.9)));
    // Zero rows are orthogonal to everything; zero probabilities stay zero.
    let zeros: [&[f32]; 3] = [&[0.0], &[0.0], &[0.0]];
    assert!(plain(law(&zeros, 2, 0.9)));
    let one_hot = Ads::new(&[0.0, 1.0, 0.0], &alike, AdsOptions::default()).unwrap();
    assert_eq!(one_hot.law(), [0.0, 1.0, 0.0]);
    // Duplicates at full repulsion never share a subset.
    let full = Ads::new(
        &p,
        &alike,
        AdsOptions {
            subset_size: 2,
            beta: 1.0,
            adaptive: false,
        },
    )
    .unwrap();
    let mut stream = Stream::new(4, 0);
    for _ in 0..200 {
        let subset = full.subset_given(0, || stream.unit()).unwrap();
        assert_eq!(subset, [0, 2]);
    }
    // Probabilities over many orders of magnitude stay finite.
    let steep: Vec<f64> = (0..64).map(|i| 10f64.powi(-5 * i)).collect();
    let rows: Vec<Vec<f32>> = (0..64)
        .map(|i| vec![(i % 5) as f32 - 2.0, (i % 3) as f32])
        .collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    for subset_size in [2, 8, 30, 63] {
        let ads = Ads::new(
            &steep,
            &rows,
            AdsOptions {
                subset_size,
                beta: 0.5,
                adaptive: false,
            },
        )
        .unwrap();
        assert!(
            (ads.law().iter().sum::<f64>() - 1.0).abs() < 1e-9
                && ads.law().iter().all(|p| p.is_finite())
        );
    }
    assert!(
        Ads::new(
            &p,
            &alike,
            AdsOptions {
                subset_size: 65,
                ..Default::default()
            }
        )
        .is_err()
    );
    assert!(Ads::new(&[f64::NAN, 0.5, 0.5], &alike, AdsOptions::default()).is_err());
    assert!(KDpp::new(&[1.0, 1.0, 1.0, 1.0], 2, 2).is_err());
}

#[test]
fn ensembles_refuse_what_does_not_fit() {
    let (a, b): (&[f64], &[f64]) = (&[1.0, 0.0], &[0.0, 1.0]);
    assert!(matches!(
        product(&[a, b], &[0.5, 0.5]),
        Err(SamplingError::NoCandidates { .. })
    ));
    assert_eq!(product(&[a, b], &[1.0, 0.0]).unwrap(), [1.0, 0.0]);
    assert!(average(&[], &[]).is_err());
    assert!(average(&[a, &[1.0]], &[0.5, 0.5]).is_err());
    assert!(average(&[a, b], &[0.5]).is_err());
    // A tie of votes goes to the larger average, then to the lower id.
    assert_eq!(
        majority(&[&[0.6, 0.4], &[0.1, 0.9]], &[0.5, 0.5])
            .unwrap()
            .token,
        1
    );
    assert_eq!(majority(&[a, b], &[0.5, 0.5]).unwrap().token, 0);
}

/// Allows tokens by the sum of those before.
#[derive(Debug, Clone)]
struct Sums(u32);

impl BeamConstraint for Sums {
    fn mask(&mut self, words: &mut [u32]) -> bool {
        if self.0.is_multiple_of(3) {
            return false;
        }
        for (at, word) in words.iter_mut().enumerate() {
            *word = 0x5555_5555_u32.rotate_left(self.0.wrapping_mul(7) + at as u32);
        }
        true
    }

    fn advance(&mut self, token: u32) {
        self.0 += token;
    }

    fn is_accepting(&self) -> bool {
        !self.0.is_multiple_of(4)
    }
}

#[test]
fn a_search_over_logits_is_the_search_over_their_logarithms() {
    // More than two blocks, the last one not full.
    let vocab = 150;
    let variants: [fn(&mut BeamOptions); 5] = [
        |_| {},
        |options| options.width = 40,
        |options| (options.groups, options.diversity_penalty) = (2, 0.5),
        |options| options.must_include = vec![vec![7, 9], vec![130]],
        |options| options.sampled = Some((3, 0)),
    ];
    let mut stream = Stream::new(31, 0);
    for round in 0..60 {
        let mut options = BeamOptions {
            max_new_tokens: 6,
            eos_tokens: vec![4, 149],
            early_stopping: EarlyStopping::Never,
            ..BeamOptions::default()
        };
        variants[round % variants.len()](&mut options);
        let mut read = BeamSearch::with_constraint(options.clone(), vocab, Sums(0)).unwrap();
        let mut written = BeamSearch::with_constraint(options, vocab, Sums(0)).unwrap();
        while !written.is_done() {
            // Few different values, so that there are ties, and whole stretches without any hope.
            let mut logits = || -> Vec<f32> {
                let dead = (stream.unit() * 3.0) as usize;
                (0..vocab)
                    .map(|token| match token / 64 == dead && token % 16 != 0 {
                        true => f32::NEG_INFINITY,
                        false => (stream.unit() * 12.0).floor() as f32 * 0.37,
                    })
                    .collect()
            };
            let lines: Vec<Vec<f32>> = written.live().iter().map(|_| logits()).collect();
            let scores: Vec<Vec<f64>> = lines
                .iter()
                .map(|line| {
                    let normaliser = log_normaliser(line);
                    line.iter().map(|x| f64::from(*x) - normaliser).collect()
                })
                .collect();
            let scores: Vec<&[f64]> = scores.iter().map(Vec::as_slice).collect();
            let rows: Vec<LogRow<'_>> = lines.iter().map(|line| LogRow::of_logits(line)).collect();
            let (moved, same) = (read.step_logits(&rows), written.step(&scores));
            assert_eq!(moved, same);
            if same.is_err() {
                break;
            }
        }
        assert_eq!(read.finish(), written.finish());
    }
}

#[test]
fn rows_of_logits_are_checked() {
    let search = || BeamSearch::new(BeamOptions::default(), 3).unwrap();
    let refused = |line: &[f32]| {
        search()
            .step_logits(&[LogRow::of_logits(line)])
            .unwrap_err()
    };
    for bad in [f32::NAN, f32::INFINITY] {
        let error = refused(&[0.0, bad, 1.0]);
        let SamplingError::InvalidLogits { token, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(token, 1);
    }
    assert!(matches!(
        refused(&[f32::NEG_INFINITY; 3]),
        SamplingError::InvalidLogits { .. }
    ));
    assert!(matches!(refused(&[0.0; 4]), SamplingError::Length { .. }));
    // Log-probabilities may say that nothing follows.
    let dead = [f32::NEG_INFINITY; 3];
    let error = search().step_logits(&[LogRow::of_logprobs(&dead)]);
    assert!(matches!(error, Err(SamplingError::NoCandidates { .. })));
}
