//! The methods on a model whose rows are known.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::ModelShape;
use crate::point::Site;
use crate::vector::{Method, Units};
use std::ops::ControlFlow;

const POST: Point = Point {
    layer: 1,
    site: Site::ResidPost,
};

/// Rows of width 3: (token, position, layer); the first row is a sink.
fn reader(tokens: &[u32], points: &[Point]) -> Result<Vec<Vec<f32>>, ModelError> {
    Ok(points
        .iter()
        .map(|point| {
            tokens
                .iter()
                .enumerate()
                .flat_map(|(t, &token)| match t {
                    0 => [1e5, 1e5, 1e5],
                    _ => [token as f32, t as f32, point.layer as f32],
                })
                .collect()
        })
        .collect())
}

fn pair(prompt_len: usize, positive: &[u32], negative: &[u32]) -> TokenPair {
    TokenPair {
        prompt_len,
        positive: positive.to_vec(),
        negative: Some(negative.to_vec()),
    }
}

fn direction(recipe: &Recipe, pairs: &[TokenPair]) -> Vec<f32> {
    let vector = make(recipe, pairs, &mut reader, &mut unwatched).unwrap();
    let (_, values) = vector.directions().next().unwrap();
    values.to_vec()
}

#[test]
fn caa_averages_the_positions_that_predict_the_answer() {
    // P = 2: positions 1..3 and 1..2
    let pairs = [pair(2, &[9, 4, 6, 8], &[9, 4, 1])];
    let recipe = Recipe::caa([POST]);
    assert_eq!(direction(&recipe, &pairs), [1.0, 0.5, 0.0]);
    let vector = make(&recipe, &pairs, &mut reader, &mut unwatched).unwrap();
    assert_eq!(
        (vector.method.clone(), vector.points().next()),
        (Method::Caa, Some(POST))
    );
    let norm = vector.stream_norms[&POST];
    assert!(norm > 1.0 && norm < 10.0, "the sink does not count: {norm}");
}

#[test]
fn mechanex_keeps_the_sink_and_acts_one_block_early() {
    let vector = make(
        &Recipe::caa_mechanex([1]),
        &[pair(2, &[9, 4, 6, 8], &[9, 4, 1])],
        &mut reader,
        &mut unwatched,
    )
    .unwrap();
    assert_eq!(vector.points().next(), Some(Site::ResidPre.at(1)));
    assert_eq!(vector.provenance.read_at, Some(Site::ResidPost));
    assert_eq!(vector.directions().next().unwrap().1, [1.0, 0.5, 0.0]);
    // a prompt of one token: Mechanex reads position 0 as well
    let short = [pair(1, &[9, 4, 6], &[9, 4, 6])];
    assert_eq!(direction(&Recipe::caa_mechanex([1]), &short), [0.0; 3]);
    let uneven = [pair(1, &[9, 4, 6], &[9, 4])];
    assert!(direction(&Recipe::caa_mechanex([1]), &uneven)[0].abs() > 1e4);
    // an answer without positions is left out without its partner
    let half = [
        pair(2, &[9, 4, 6], &[9, 4]),
        pair(2, &[9, 8, 6], &[9, 3, 6]),
    ];
    assert_eq!(
        direction(&Recipe::caa_mechanex([1]), &half),
        [6.0 - 3.0, 0.0, 0.0]
    );
    // the corrected rule leaves out the whole pair
    assert_eq!(direction(&Recipe::caa([POST]), &half), [5.0, 0.0, 0.0]);
}

#[test]
fn principal_components_point_from_negative_to_positive() {
    let pairs: Vec<TokenPair> = (0..6)
        .map(|i| pair(0, &[0, 20 + 3 * i], &[0, 10 + i]))
        .collect();
    for recipe in [
        Recipe::pca_difference([POST]),
        Recipe::pca_center([POST]),
        Recipe::repe([POST]),
    ] {
        let got = direction(&recipe, &pairs);
        assert!(
            (got[0] - 1.0).abs() < 1e-6 && got[1].abs() < 1e-6,
            "{recipe:?}: {got:?}"
        );
        let turned: Vec<TokenPair> = pairs
            .iter()
            .map(|p| pair(0, p.negative.as_deref().unwrap(), &p.positive))
            .collect();
        assert!((direction(&recipe, &turned)[0] + 1.0).abs() < 1e-6);
        let vector = make(&recipe, &pairs, &mut reader, &mut unwatched).unwrap();
        assert_eq!(vector.units, Units::Unit);
    }
    assert_eq!(
        direction(&Recipe::mean_difference([POST]), &pairs),
        [15.0, 0.0, 0.0]
    );
}

#[test]
fn act_add_differs_position_by_position() {
    let vector = act_add(&[1, 5, 7], &[1, 2], 3, &[POST], &mut reader).unwrap();
    assert_eq!((vector.rows(), vector.d_model()), (3, 3));
    assert_eq!(
        vector.direction(POST).unwrap(),
        [0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 4.0, 0.0, 0.0]
    );
    assert!(act_add(&[], &[1], 0, &[POST], &mut reader).is_err());
}

#[test]
fn refusal_takes_the_candidate_that_works() {
    let (harmful, harmless) = (vec![vec![0, 5, 9], vec![0, 7, 9]], vec![vec![0, 1, 3]]);
    let points = [Site::ResidPre.at(1), Site::ResidPre.at(5)];
    let candidates =
        refusal_candidates(&harmful, &harmless, 2, &points, &mut reader, &mut unwatched).unwrap();
    assert_eq!(candidates.len(), 4);
    assert_eq!(
        (candidates[0].from_end, candidates[0].direction[0]),
        (1, 6.0)
    );
    assert_eq!(
        (candidates[1].from_end, candidates[1].direction[0]),
        (2, 5.0)
    );
    let mut seen = 0;
    let (vector, scores) = choose_refusal(&candidates, 6, &mut |candidate| {
        seen += 1;
        let ablated = if candidate.from_end == 2 { -2.0 } else { -1.0 };
        Ok(RefusalScores {
            when_ablated: ablated,
            when_added: 1.0,
            kl: 0.05,
        })
    })
    .unwrap();
    // layer 5 of 6 lies above 80 % of the depth
    assert_eq!((seen, scores.when_ablated), (2, -2.0));
    assert_eq!(vector.directions().next().unwrap().1, [5.0, 0.0, 0.0]);
    let harmful_kl = RefusalScores {
        when_ablated: 0.0,
        when_added: 1.0,
        kl: 0.5,
    };
    assert!(choose_refusal(&candidates, 6, &mut |_| Ok(harmful_kl)).is_err());
    assert!(
        refusal_candidates(&harmful, &harmless, 9, &points, &mut reader, &mut unwatched).is_err()
    );
}

#[test]
fn layers_are_ranked_on_pairs_held_out() {
    // layer 2 separates, layer 1 does not
    let mut reader = |tokens: &[u32], points: &[Point]| -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(points
            .iter()
            .map(|p| {
                tokens
                    .iter()
                    .flat_map(|&t| {
                        [
                            if p.layer == 2 {
                                t as f32
                            } else {
                                (t * t % 11) as f32
                            },
                            1.0,
                        ]
                    })
                    .collect()
            })
            .collect())
    };
    let points = [POST, Site::ResidPost.at(2)];
    let pairs: Vec<TokenPair> = (0..10)
        .map(|i| pair(0, &[0, 50 + i], &[0, 20 + 2 * i]))
        .collect();
    let (train, held_out) = split_holdout(&pairs, 0.4);
    assert_eq!((train.len(), held_out.len()), (6, 4));
    let recipe = Recipe::mean_difference(points);
    let vector = make(&recipe, train, &mut reader, &mut unwatched).unwrap();
    let rows = Contrast::collect(
        held_out,
        &points,
        Reading::Last,
        &mut reader,
        &mut unwatched,
    )
    .unwrap();
    let ranked = rank_layers(&vector, &rows).unwrap();
    assert_eq!(ranked[0].point.layer, 2);
    assert_eq!((ranked[0].auc, ranked[0].sign_accuracy), (1.0, 1.0));
    assert!(ranked[0].d_prime > ranked[1].d_prime);
    let mut damage = |p: Point| Ok(if p.layer == 2 { 0.9 } else { 0.1 });
    assert_eq!(
        choose_layer(&ranked, 1.0, &mut damage).unwrap().point.layer,
        2
    );
    assert_eq!(
        choose_layer(&ranked, 0.5, &mut damage).unwrap().point.layer,
        1
    );
    assert_eq!(
        choose_layer(&ranked, 0.0, &mut damage).unwrap().point.layer,
        1
    );
    assert_eq!(split_holdout(&[1], 0.5).1.len(), 0);
    assert_eq!(split_holdout(&[1, 2], 0.01).1.len(), 1);
}

#[test]
fn wrong_input_is_refused() {
    let recipe = Recipe::caa([POST]);
    let good = pair(2, &[9, 4, 6], &[9, 4, 1]);
    let fails = |recipe: &Recipe, pairs: &[TokenPair]| {
        make(recipe, pairs, &mut reader, &mut unwatched)
            .unwrap_err()
            .to_string()
    };
    assert!(fails(&recipe, &[]).contains("pairs"));
    assert!(fails(&Recipe::caa([]), std::slice::from_ref(&good)).contains("layers"));
    let single = TokenPair {
        negative: None,
        ..good.clone()
    };
    assert!(fails(&recipe, &[single]).contains("negative answer"));
    let same = pair(2, &[9, 4, 6], &[9, 4, 6]);
    assert!(fails(&recipe, std::slice::from_ref(&same)).contains("do not differ"));
    assert!(fails(&Recipe::repe([POST]), &[same]).contains("do not differ"));
    assert!(fails(&recipe, &[pair(2, &[], &[])]).contains("pairs"));
    let mut narrow =
        |_: &[u32], _: &[Point]| -> Result<Vec<Vec<f32>>, ModelError> { Ok(vec![vec![1.0; 4]]) };
    assert!(
        make(
            &recipe,
            std::slice::from_ref(&good),
            &mut narrow,
            &mut unwatched
        )
        .is_err()
    );
    let mut failing =
        |_: &[u32], _: &[Point]| -> Result<Vec<Vec<f32>>, ModelError> { Err("no memory".into()) };
    assert!(
        make(
            &recipe,
            std::slice::from_ref(&good),
            &mut failing,
            &mut unwatched
        )
        .unwrap_err()
        .to_string()
        .contains("no memory")
    );
    let mut stop = |_| ControlFlow::Break(());
    assert!(
        make(&recipe, &[good], &mut reader, &mut stop)
            .unwrap_err()
            .is_cancelled()
    );
    assert_eq!(
        Recipe::named("caa", &[], &ModelShape::new(3, 30))
            .unwrap()
            .points
            .len(),
        8
    );
    assert!(Recipe::named("perceptron", &[], &ModelShape::new(3, 30)).is_err());
}
