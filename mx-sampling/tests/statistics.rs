//! Laws by counting, with fixed seeds, and wrong variants that the same tests must catch.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{assert_fits, chi_squared, fits};
use mx_sampling::strategy::beam::{BeamOptions, BeamSearch};
use mx_sampling::strategy::determinantal::{Ads, AdsOptions, KDpp};
use mx_sampling::strategy::speculative::{
    Draft, DraftLaw, Replacement, TreeNode, accept_probability, acceptance_rate, residual, verify,
    verify_candidates, verify_tree,
};
use mx_sampling::{Sampler, SamplingOptions, Stream, draw_from_law, gumbel_max};

const DRAWS: usize = 200_000;
const SEQUENCES: usize = 400_000;

/// A random law of `n` tokens; some of them excluded.
fn law(stream: &mut Stream, n: usize, holes: bool) -> Vec<f64> {
    let weights: Vec<f64> = (0..n)
        .map(|i| {
            let u = stream.unit();
            if holes && i > 0 && stream.unit() < 0.3 {
                0.0
            } else {
                u * u + 1e-3
            }
        })
        .collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

fn count(n: usize, draws: usize, mut draw: impl FnMut() -> usize) -> Vec<u64> {
    let mut counts = vec![0; n];
    for _ in 0..draws {
        counts[draw()] += 1;
    }
    counts
}

#[test]
fn draws_follow_the_law_of_the_chain() {
    let logits: Vec<f32> = (0..16).map(|i| ((i * 7) % 16) as f32 * 0.4).collect();
    for options in [
        SamplingOptions {
            temperature: Some(0.8),
            ..Default::default()
        },
        SamplingOptions {
            top_k: Some(7),
            temperature: Some(1.3),
            ..Default::default()
        },
        SamplingOptions {
            top_p: Some(0.8),
            ..Default::default()
        },
        SamplingOptions {
            typical_p: Some(0.7),
            ..Default::default()
        },
    ] {
        let mut sampler = Sampler::new(&options, logits.len(), 11, 0).unwrap();
        let mut wanted = vec![0.0; logits.len()];
        sampler
            .law(&mut logits.clone(), None)
            .unwrap()
            .write_to(&mut wanted);
        let counts = count(logits.len(), DRAWS, || {
            sampler.sample(&mut logits.clone(), None).unwrap().token as usize
        });
        assert_fits(&format!("{options:?}"), &counts, &wanted);
    }
}

#[test]
fn a_gumbel_draw_has_the_same_law() {
    let logits = [0.3f32, -1.0, 2.0, f32::NEG_INFINITY, 1.1, 0.0];
    let weights: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp()).collect();
    let total: f64 = weights.iter().sum();
    let wanted: Vec<f64> = weights.iter().map(|w| w / total).collect();
    let mut stream = Stream::new(5, 0);
    let counts = count(logits.len(), DRAWS, || {
        let uniforms: Vec<f64> = logits.iter().map(|_| stream.unit()).collect();
        gumbel_max(&logits, &uniforms).unwrap() as usize
    });
    assert_fits("gumbel", &counts, &wanted);
}

#[test]
fn xtc_acts_with_its_probability() {
    let options = SamplingOptions {
        xtc_probability: Some(0.3),
        xtc_threshold: Some(0.2),
        ..Default::default()
    };
    let logits = [0.4f32.ln(), 0.35f32.ln(), 0.25f32.ln()];
    let mut sampler = Sampler::new(&options, 3, 3, 0).unwrap();
    let counts = count(3, DRAWS, || {
        sampler.sample(&mut logits.clone(), None).unwrap().token as usize
    });
    // With chance 0.3 only the least likely top choice is left.
    assert_fits("xtc", &counts, &[0.7 * 0.4, 0.7 * 0.35, 0.7 * 0.25 + 0.3]);
}

#[test]
fn one_speculative_position_keeps_the_target_law() {
    let mut stream = Stream::new(77, 0);
    for case in 0..6 {
        let (p, q) = (
            law(&mut stream, 8, case % 2 == 1),
            law(&mut stream, 8, case % 3 == 1),
        );
        let mut accepted = 0u64;
        let counts = count(8, DRAWS, || {
            let token = draw_from_law(&q, stream.unit()).unwrap() as u32;
            let draft = [Draft {
                token,
                law: DraftLaw::Drawn(&q),
            }];
            let got = verify(&[&p, &p], &draft, || stream.unit()).unwrap();
            accepted += got.accepted as u64;
            if got.accepted == 1 {
                token as usize
            } else {
                got.token as usize
            }
        });
        assert_fits(&format!("case {case}"), &counts, &p);
        let alpha = acceptance_rate(&p, &q);
        let deviation = (alpha * (1.0 - alpha) / DRAWS as f64).sqrt();
        assert!((accepted as f64 / DRAWS as f64 - alpha).abs() < 5.0 * deviation.max(1e-9));
    }
}

#[test]
fn certain_drafts_keep_the_target_law() {
    let mut stream = Stream::new(78, 0);
    for token in 0..4u32 {
        let p = law(&mut stream, 6, token == 3);
        let counts = count(6, DRAWS, || {
            let got = verify(
                &[&p, &p],
                &[Draft {
                    token,
                    law: DraftLaw::Certain,
                }],
                || stream.unit(),
            )
            .unwrap();
            if got.accepted == 1 {
                token as usize
            } else {
                got.token as usize
            }
        });
        assert_fits(&format!("certain {token}"), &counts, &p);
    }
}

#[test]
fn several_candidates_keep_the_target_law() {
    let mut stream = Stream::new(79, 0);
    for replacement in [Replacement::With, Replacement::Without] {
        for candidates in 1..4 {
            let (p, q) = (
                law(&mut stream, 6, candidates == 2),
                law(&mut stream, 6, false),
            );
            let counts = count(6, DRAWS, || {
                let tokens = draw_several(&q, candidates, replacement, &mut stream);
                verify_candidates(&p, &q, &tokens, replacement, || stream.unit())
                    .unwrap()
                    .token as usize
            });
            assert_fits(&format!("{candidates} {replacement:?}"), &counts, &p);
        }
    }
}

fn draw_several(q: &[f64], n: usize, replacement: Replacement, stream: &mut Stream) -> Vec<u32> {
    let mut left = q.to_vec();
    (0..n)
        .map(|_| {
            let token = draw_from_law(&left, stream.unit()).unwrap();
            if replacement == Replacement::Without {
                left[token] = 0.0;
            }
            token as u32
        })
        .collect()
}

/// A Markov model over 4 tokens.
struct Model(Vec<Vec<f64>>);

impl Model {
    fn next(&self, text: &[u32]) -> &[f64] {
        &self.0[text.last().map_or(4, |token| *token as usize)]
    }
}

fn joint(model: &Model) -> Vec<f64> {
    let mut law = vec![0.0; 64];
    for (cell, slot) in law.iter_mut().enumerate() {
        let text = [(cell / 16) as u32, (cell / 4 % 4) as u32, (cell % 4) as u32];
        *slot = (0..3)
            .map(|at| model.next(&text[..at])[text[at] as usize])
            .product();
    }
    law
}

fn cell(text: &[u32]) -> usize {
    text[..3]
        .iter()
        .fold(0, |cell, token| cell * 4 + *token as usize)
}

/// How a round goes wrong, for the negative controls.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Accepts with p instead of p/q.
    AcceptWithTarget,
    /// Draws from p after a rejection.
    ResidualIsTarget,
    /// Draws the bonus token from the draft law.
    BonusFromDraft,
}

fn round(
    target: &Model,
    drafter: &Model,
    text: &mut Vec<u32>,
    length: usize,
    fault: Fault,
    stream: &mut Stream,
) {
    let start = text.len();
    let mut drafted = text.clone();
    for _ in 0..length {
        drafted.push(draw_from_law(drafter.next(&drafted), stream.unit()).unwrap() as u32);
    }
    let laws: Vec<&[f64]> = (0..length)
        .map(|at| drafter.next(&drafted[..start + at]))
        .collect();
    let targets: Vec<&[f64]> = (0..=length)
        .map(|at| target.next(&drafted[..start + at]))
        .collect();
    if fault == Fault::None {
        let drafts: Vec<Draft<'_>> = (0..length)
            .map(|at| Draft {
                token: drafted[start + at],
                law: DraftLaw::Drawn(laws[at]),
            })
            .collect();
        let got = verify(&targets, &drafts, || stream.unit()).unwrap();
        text.extend(&drafted[start..start + got.accepted]);
        text.push(got.token);
        return;
    }
    for at in 0..length {
        let token = drafted[start + at];
        let law = DraftLaw::Drawn(laws[at]);
        let chance = match fault {
            Fault::AcceptWithTarget => targets[at][token as usize],
            _ => accept_probability(targets[at], law, token),
        };
        if stream.unit() < chance {
            text.push(token);
            continue;
        }
        let rest = if fault == Fault::ResidualIsTarget {
            targets[at].to_vec()
        } else {
            residual(targets[at], law, token)
        };
        text.push(draw_from_law(&rest, stream.unit()).unwrap() as u32);
        return;
    }
    let bonus = if fault == Fault::BonusFromDraft {
        drafter.next(text)
    } else {
        target.next(text)
    };
    text.push(draw_from_law(bonus, stream.unit()).unwrap() as u32);
}

fn sequences(
    target: &Model,
    drafter: &Model,
    length: usize,
    fault: Fault,
    n: usize,
    seed: u64,
) -> Vec<u64> {
    let mut stream = Stream::new(seed, 1);
    let mut text = Vec::new();
    count(64, n, || {
        text.clear();
        while text.len() < 3 {
            round(target, drafter, &mut text, length, fault, &mut stream);
        }
        cell(&text)
    })
}

fn models() -> (Model, Vec<(&'static str, Model)>) {
    let mut stream = Stream::new(4, 4);
    let target = Model((0..5).map(|_| law(&mut stream, 4, false)).collect());
    let map = |f: &dyn Fn(&[f64]) -> Vec<f64>| Model(target.0.iter().map(|row| f(row)).collect());
    let tilted = |row: &[f64]| {
        let weights: Vec<f64> = row.iter().map(|p| p.powf(2.5)).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    };
    let drafters = vec![
        ("equal", map(&|row| row.to_vec())),
        ("one-hot", map(&|_| vec![0.0, 1.0, 0.0, 0.0])),
        ("temperature", map(&tilted)),
        (
            "other",
            Model((0..5).map(|_| law(&mut stream, 4, true)).collect()),
        ),
    ];
    (target, drafters)
}

#[test]
fn speculative_sequences_keep_the_joint_law() {
    let (target, drafters) = models();
    let wanted = joint(&target);
    for (name, drafter) in &drafters {
        for length in [1, 3, 5] {
            let counts = sequences(
                &target,
                drafter,
                length,
                Fault::None,
                SEQUENCES,
                length as u64,
            );
            assert_fits(&format!("{name}, {length} drafts"), &counts, &wanted);
        }
    }
    // Supports that do not meet: nothing is ever accepted, the law stays.
    let halves = |first: bool| {
        let row = if first {
            vec![0.3, 0.7, 0.0, 0.0]
        } else {
            vec![0.0, 0.0, 0.6, 0.4]
        };
        Model(vec![row; 5])
    };
    let counts = sequences(&halves(true), &halves(false), 3, Fault::None, SEQUENCES, 9);
    assert_fits("disjoint", &counts, &joint(&halves(true)));
}

#[test]
fn wrong_speculation_is_caught() {
    let (target, drafters) = models();
    let wanted = joint(&target);
    let drafter = &drafters[3].1;
    for fault in [
        Fault::AcceptWithTarget,
        Fault::ResidualIsTarget,
        Fault::BonusFromDraft,
    ] {
        let counts = sequences(&target, drafter, 1, fault, DRAWS, 3);
        assert!(!fits(&counts, &wanted), "fault {} passes", fault as u8);
        assert!(chi_squared(&counts, &wanted).0 > 1000.0);
    }
    // A draft law taken before its truncation: verified against other numbers than it was drawn from.
    let p = [0.4, 0.3, 0.2, 0.1];
    let full = [0.25, 0.25, 0.25, 0.25];
    let truncated = [0.5, 0.5, 0.0, 0.0];
    let mut stream = Stream::new(6, 0);
    let counts = count(4, DRAWS, || {
        let token = draw_from_law(&truncated, stream.unit()).unwrap() as u32;
        let got = verify(
            &[p, p],
            &[Draft {
                token,
                law: DraftLaw::Drawn(&full),
            }],
            || stream.unit(),
        )
        .unwrap();
        if got.accepted == 1 {
            token as usize
        } else {
            got.token as usize
        }
    });
    assert!(!fits(&counts, &p));
}

#[test]
fn trees_of_drafts_keep_the_joint_law() {
    let (target, drafters) = models();
    let drafter = &drafters[2].1;
    let wanted = joint(&target);
    for replacement in [Replacement::With, Replacement::Without] {
        let mut stream = Stream::new(12, 0);
        let mut text: Vec<u32> = Vec::new();
        let counts = count(64, DRAWS, || {
            text.clear();
            while text.len() < 3 {
                tree_round(&target, drafter, &mut text, replacement, &mut stream);
            }
            cell(&text)
        });
        assert_fits(&format!("tree {replacement:?}"), &counts, &wanted);
    }
}

/// Two candidates at the first position, two below each of them.
fn tree_round(
    target: &Model,
    drafter: &Model,
    text: &mut Vec<u32>,
    replacement: Replacement,
    stream: &mut Stream,
) {
    let mut nodes: Vec<TreeNode<'_>> = Vec::new();
    let mut texts: Vec<Vec<u32>> = Vec::new();
    for parent in [None, Some(0), Some(1)] {
        let base = parent.map_or(text.clone(), |at| texts[at].clone());
        let law = drafter.next(&base);
        for token in draw_several(law, 2, replacement, stream) {
            nodes.push(TreeNode {
                parent,
                token,
                law: DraftLaw::Drawn(law),
            });
            let mut next = base.clone();
            next.push(token);
            texts.push(next);
        }
    }
    let root = text.clone();
    let law_at = |node: Option<usize>| target.next(node.map_or(&root[..], |at| &texts[at][..]));
    let got = verify_tree(&nodes, law_at, replacement, || stream.unit()).unwrap();
    text.extend(got.path.iter().map(|at| nodes[*at].token));
    text.push(got.token);
}

fn kernel() -> Vec<f64> {
    let rows: [[f64; 3]; 6] = [
        [1.0, 0.2, 0.0],
        [0.9, 0.3, 0.1],
        [0.0, 1.0, 0.4],
        [0.1, 0.8, 0.9],
        [-0.5, 0.3, 1.2],
        [0.7, -0.7, 0.2],
    ];
    let mut kernel = vec![0.0; 36];
    for i in 0..6 {
        for j in 0..6 {
            let dot: f64 = rows[i].iter().zip(&rows[j]).map(|(x, y)| x * y).sum();
            kernel[i * 6 + j] = dot + if i == j { 0.3 } else { 0.0 };
        }
    }
    kernel
}

fn subsets(n: usize, k: usize) -> Vec<Vec<usize>> {
    (0u32..1 << n)
        .filter(|bits| bits.count_ones() as usize == k)
        .map(|bits| (0..n).filter(|i| (bits >> i) & 1 == 1).collect())
        .collect()
}

#[test]
fn k_dpp_subsets_follow_the_determinants() {
    let dpp = KDpp::new(&kernel(), 6, 3).unwrap();
    let all = subsets(6, 3);
    let law: Vec<f64> = all.iter().map(|subset| dpp.probability(subset)).collect();
    assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    let mut stream = Stream::new(21, 0);
    let counts = count(all.len(), DRAWS, || {
        let subset = dpp.sample(|| stream.unit());
        all.iter().position(|other| *other == subset).unwrap()
    });
    assert_fits("k-DPP", &counts, &law);
    for (item, share) in dpp.inclusion().into_iter().enumerate() {
        let seen: u64 = all
            .iter()
            .zip(&counts)
            .filter(|(subset, _)| subset.contains(&item))
            .map(|(_, n)| *n)
            .sum();
        let deviation = (share * (1.0 - share) / DRAWS as f64).sqrt();
        assert!((seen as f64 / DRAWS as f64 - share).abs() < 5.0 * deviation);
    }
    // The negative control: subsets drawn without repulsion.
    let mut stream = Stream::new(22, 0);
    let flat = KDpp::new(
        &(0..36)
            .map(|at| if at % 7 == 0 { kernel()[at] } else { 0.0 })
            .collect::<Vec<_>>(),
        6,
        3,
    )
    .unwrap();
    let counts = count(all.len(), DRAWS, || {
        let subset = flat.sample(|| stream.unit());
        all.iter().position(|other| *other == subset).unwrap()
    });
    assert!(!fits(&counts, &law));
}

#[test]
fn ads_is_subset_then_token() {
    let rows: [&[f32]; 6] = [
        &[1.0, 0.1, 0.0],
        &[0.9, 0.2, 0.0],
        &[0.0, 1.0, 0.3],
        &[-0.2, 0.4, 1.0],
        &[0.5, -0.8, 0.1],
        &[0.95, 0.15, 0.1],
    ];
    let p = [0.3, 0.25, 0.2, 0.12, 0.08, 0.05];
    let ads = Ads::new(
        &p,
        &rows,
        AdsOptions {
            subset_size: 3,
            beta: 0.6,
            adaptive: false,
        },
    )
    .unwrap();
    let mut stream = Stream::new(31, 0);
    let all = subsets(6, 3);
    let mut subset_counts = vec![0u64; all.len()];
    let counts = count(6, DRAWS, || {
        let token = draw_from_law(ads.law(), stream.unit()).unwrap();
        let subset = ads.subset_given(token, || stream.unit()).unwrap();
        assert!(subset.len() == 3 && subset.contains(&token));
        subset_counts[all.iter().position(|other| *other == subset).unwrap()] += 1;
        token
    });
    assert_fits("ads tokens", &counts, ads.law());
    // The other way round: choose Y with weight det(L_Y)·Σ r_i.
    let root = 0.6f64.sqrt();
    let norm = |row: &[f32]| {
        row.iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let mut kernel = vec![0.0; 36];
    for i in 0..6 {
        for j in 0..6 {
            let dot: f64 = rows[i]
                .iter()
                .zip(rows[j])
                .map(|(x, y)| f64::from(*x) * f64::from(*y))
                .sum();
            let cosine = dot / (norm(rows[i]) * norm(rows[j]));
            kernel[i * 6 + j] =
                (root * cosine + if i == j { 1.0 - root } else { 0.0 }) * (p[i] * p[j]).sqrt();
        }
    }
    let dpp = KDpp::new(&kernel, 6, 3).unwrap();
    let weights: Vec<f64> = all
        .iter()
        .map(|subset| {
            dpp.probability(subset)
                * subset
                    .iter()
                    .map(|i| p[*i] / ads.independent_inclusion()[*i])
                    .sum::<f64>()
        })
        .collect();
    let total: f64 = weights.iter().sum();
    let law: Vec<f64> = weights.iter().map(|w| w / total).collect();
    assert_fits("ads subsets", &subset_counts, &law);
    assert!(!fits(&counts, &p), "the repulsion changes nothing");
}

#[test]
fn a_sampled_beam_draws_without_replacement() {
    let row = [0.5f64.ln(), 0.3f64.ln(), 0.15f64.ln(), 0.05f64.ln()];
    let p = row.map(f64::exp);
    // Ordered pairs of the two continuations that a width of 1 looks at; the better one goes on.
    let mut law = vec![0.0; 4];
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            law[a.min(b)] += p[a] * p[b] / (1.0 - p[a]);
        }
    }
    let counts: Vec<u64> = {
        let mut counts = vec![0; 4];
        for seed in 0..60_000 {
            let options = BeamOptions {
                width: 1,
                max_new_tokens: 3,
                sampled: Some((seed, 0)),
                ..Default::default()
            };
            let mut search = BeamSearch::new(options, 4).unwrap();
            counts[search.step(&[&row]).unwrap()[0].token as usize] += 1;
        }
        counts
    };
    assert_fits("sampled beam", &counts, &law);
}

#[test]
fn streams_of_one_seed_are_independent() {
    // Pairs of draws from neighbouring streams fill the square evenly.
    let counts = {
        let mut counts = vec![0u64; 64];
        for index in 0..40_000 {
            let (mut a, mut b) = (Stream::new(9, index), Stream::new(9, index + 1));
            counts[(a.unit() * 8.0) as usize * 8 + (b.unit() * 8.0) as usize] += 1;
        }
        counts
    };
    assert_fits("streams", &counts, &[1.0 / 64.0; 64]);
}
