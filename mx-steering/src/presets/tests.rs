//! The bundled texts, the metrics, and the way from pairs to a measured vector.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::error::ModelError;
use crate::evaluate::AnswerSums;
use crate::make::{Judges, TokenPair, unwatched};
use crate::model::{ModelShape, Warning};
use crate::point::Point;
use crate::vector::{SteeringVector, Units};
use std::collections::BTreeSet;

const TONES: [Tone; 3] = [Tone::Formal, Tone::Warm, Tone::Neutral];

#[test]
fn every_vector_preset_has_enough_pairs_of_sense() {
    for preset in Preset::ALL {
        assert_eq!(
            preset.name().replace('_', "-").parse::<Preset>().unwrap(),
            preset
        );
        if preset.kind() != PresetKind::Vector {
            assert!(preset.pairs(Tone::Formal).is_err());
            continue;
        }
        for tone in TONES {
            let pairs = preset.pairs(tone).unwrap();
            assert!(
                (32..=64).contains(&pairs.len()),
                "{preset}: {}",
                pairs.len()
            );
            let prompts: BTreeSet<&str> = pairs
                .iter()
                .map(|p| p.messages[0].content.as_str())
                .collect();
            assert_eq!(prompts.len(), pairs.len(), "{preset} asks something twice");
            for pair in &pairs {
                let negative = pair.negative.as_deref().unwrap();
                assert!(
                    !pair.positive.trim().is_empty() && pair.positive != negative,
                    "{pair:?}"
                );
                assert!(plain_prompt(pair).starts_with("Question: "));
            }
            for held in held_out(preset) {
                assert!(
                    !prompts.contains(held.prompt),
                    "{preset} is judged on {:?}",
                    held.prompt
                );
            }
        }
        assert!(held_out(preset).len() >= 12);
    }
    assert!(
        "concise"
            .parse::<Preset>()
            .unwrap_err()
            .to_string()
            .contains("brevity")
    );
}

/// A metric that cannot tell a preset's own poles apart measures nothing.
#[test]
fn metrics_agree_with_the_pairs() {
    let any = HeldOut {
        prompt: "",
        fields: &[],
        answers: None,
    };
    let sample = |text: &str| Sample {
        text: text.to_owned(),
        tokens: text.split_whitespace().count(),
    };
    for preset in [
        Preset::Brevity,
        Preset::RefusalStrength,
        Preset::SafetyStyle,
        Preset::ToneControl,
    ] {
        for tone in TONES {
            let metric = preset.metric(tone, &[]);
            let pairs = preset.pairs(tone).unwrap();
            let mean = |texts: Vec<&str>| {
                texts
                    .iter()
                    .map(|text| metric.score(&any, &sample(text)))
                    .sum::<f64>()
                    / texts.len() as f64
            };
            let positive = mean(pairs.iter().map(|p| p.positive.as_str()).collect());
            let negative = mean(
                pairs
                    .iter()
                    .map(|p| p.negative.as_deref().unwrap())
                    .collect(),
            );
            assert!(
                positive > negative,
                "{preset} {tone:?}: {positive} against {negative}"
            );
            if matches!(metric, Metric::Refusal | Metric::Caveat) {
                assert!(
                    positive > 0.7 && negative < 0.1,
                    "{preset}: {positive} against {negative}"
                );
            }
        }
    }
    // the form of each pair stands in its prompt: words in quotes that end with a colon
    for pair in Preset::FormatRigidity.pairs(Tone::Formal).unwrap() {
        let prompt = &pair.messages[0].content;
        let fields: Vec<&str> = prompt
            .split('\'')
            .skip(1)
            .step_by(2)
            .map(|f| f.trim_end_matches(':'))
            .collect();
        let fields = if prompt.contains("or 'No:'") {
            vec!["Yes"]
        } else {
            fields
        };
        let held = HeldOut {
            prompt: "",
            fields: Box::leak(fields.iter().map(|f| &*f.to_string().leak()).collect()),
            answers: None,
        };
        assert_eq!(
            Metric::Form.score(&held, &sample(&pair.positive)),
            1.0,
            "{pair:?}"
        );
        assert_eq!(
            Metric::Form.score(&held, &sample(pair.negative.as_deref().unwrap())),
            0.0,
            "{pair:?}"
        );
    }
}

#[test]
fn metrics_of_text() {
    let any = HeldOut {
        prompt: "",
        fields: &["City", "Country"],
        answers: None,
    };
    let score = |metric: &Metric, text: &str| {
        metric.score(
            &any,
            &Sample {
                text: text.into(),
                tokens: 7,
            },
        )
    };
    assert_eq!(score(&Metric::Tokens, "x"), -7.0);
    assert_eq!(score(&Metric::Json, " {\"a\": 1} "), 1.0);
    assert_eq!(score(&Metric::Json, "Sure: {}"), 0.0);
    assert_eq!(score(&Metric::Form, "City: Rome\nCountry: Italy\n"), 1.0);
    assert_eq!(score(&Metric::Form, "City: Rome\nCountry:\n"), 0.5);
    assert_eq!(
        score(&Metric::Form, "Sure!\nCity: Rome\n\nCountry: Italy\nBye"),
        0.5
    );
    assert_eq!(score(&Metric::Form, "Country: Italy\nCity: Rome"), 0.5);
    assert_eq!(score(&Metric::Form, "It lies in Rome."), 0.0);
    assert_eq!(score(&Metric::Refusal, "I\u{2019}m sorry, no."), 1.0);
    let late = format!("{}I cannot", "Sure. ".repeat(50));
    assert_eq!(score(&Metric::Refusal, &late), 0.0);
    let terms = Metric::Terms(vec!["Tort".into()]);
    assert_eq!(score(&terms, "A tort is a wrong"), 20.0);
    assert_eq!(score(&terms, ""), 0.0);
    assert!(!Metric::Belief.needs_text());
}

#[test]
fn cache_names_differ_by_model_tone_and_preset() {
    let names: BTreeSet<String> = Preset::ALL
        .into_iter()
        .flat_map(|p| TONES.map(|t| p.cache_name(t, "ab/../cd")))
        .collect();
    assert_eq!(names.len(), 7 + 3);
    assert!(
        names
            .iter()
            .all(|name| name.ends_with(":abcd") && !name.contains('/'))
    );
    assert_ne!(
        Preset::Brevity.cache_name(Tone::Formal, "a"),
        Preset::Brevity.cache_name(Tone::Formal, "b")
    );
}

/// Rows of width 2: the second number tells the poles apart, in layer 4 only.
fn reader(tokens: &[u32], points: &[Point]) -> Result<Vec<Vec<f32>>, ModelError> {
    Ok(points
        .iter()
        .map(|p| {
            let row = |&t: &u32| {
                [
                    10.0,
                    if p.layer == 4 {
                        t as f32
                    } else {
                        (t * 7 % 5) as f32
                    },
                ]
            };
            tokens.iter().flat_map(row).collect()
        })
        .collect())
}

/// A model whose answers get shorter, and whose text gets worse, with the strength.
struct Shrinking;

impl PresetModel for Shrinking {
    fn answer(
        &mut self,
        prompt: &str,
        steer: Option<(&SteeringVector, f32)>,
    ) -> Result<Sample, ModelError> {
        let strength = steer.map_or(0.0, |(_, s)| s);
        let tokens = 40 + prompt.len() % 7 - (5.0 * strength) as usize;
        Ok(Sample {
            text: "a b".into(),
            tokens,
        })
    }

    fn belief(
        &mut self,
        _: &Pair,
        steer: Option<(&SteeringVector, f32)>,
    ) -> Result<AnswerSums, ModelError> {
        let gap = f64::from(steer.map_or(0.0, |(_, s)| s));
        Ok(AnswerSums {
            positive: -1.0,
            negative: -1.0 + gap,
        })
    }

    fn surprise(
        &mut self,
        text: &str,
        steer: Option<(&SteeringVector, f32)>,
    ) -> Result<Vec<f64>, ModelError> {
        let strength = f64::from(steer.map_or(0.0, |(_, s)| s));
        Ok(vec![2.0 + 0.05 * strength * strength; text.len() % 5 + 1])
    }
}

#[test]
fn from_pairs_to_a_measured_vector() {
    let model = ModelShape::new(2, 10);
    let pairs: Vec<TokenPair> = (0..12)
        .map(|i| TokenPair {
            prompt_len: 1,
            positive: vec![1, 30 + i, 1],
            negative: Some(vec![1, 3 + i % 4, 1]),
        })
        .collect();
    let mut vector = compute(
        Preset::Brevity,
        &pairs,
        &model,
        &mut reader,
        Judges {
            damage: &mut |_| Ok(0.1),
            effects: None,
        },
        &mut unwatched,
    )
    .unwrap();
    assert_eq!(
        (vector.layers(), vector.units, vector.name.as_str()),
        (vec![4], Units::RELATIVE, "brevity")
    );
    assert!(vector.check(&model).unwrap().is_empty());
    // layer 4 does damage: the next best is taken
    let mut damage = |v: &SteeringVector| Ok(if v.layers() == [4] { 9.0 } else { 0.0 });
    let other = compute(
        Preset::Brevity,
        &pairs,
        &model,
        &mut reader,
        Judges {
            damage: &mut damage,
            effects: None,
        },
        &mut unwatched,
    )
    .unwrap();
    assert_ne!(other.layers(), [4]);
    // what a vector does outweighs what it separates, and an even effect a wild one
    let mut effects = |v: &SteeringVector| {
        Ok(match v.layers()[..] {
            [5] => vec![1.0, 1.1, 0.9],
            [4] => vec![9.0, -8.0, 2.1],
            _ => vec![0.0, 0.0, 0.0],
        })
    };
    let judges = Judges {
        damage: &mut |_| Ok(0.1),
        effects: Some(&mut effects),
    };
    let other = compute(
        Preset::Brevity,
        &pairs,
        &model,
        &mut reader,
        judges,
        &mut unwatched,
    )
    .unwrap();
    assert_eq!(other.layers(), [5]);

    let metric = Preset::Brevity.default_metric();
    let report = tune(
        Preset::Brevity,
        &metric,
        &mut vector,
        &[1.0, 2.0, 4.0],
        1.3,
        &mut Shrinking,
        &mut unwatched,
    )
    .unwrap();
    // exp(0.05·4) is bearable, exp(0.05·16) is not
    assert_eq!(
        (report.strength, report.effect.mean, report.effect.n),
        (2.0, 10.0, 8)
    );
    assert!(report.warning().is_none() && Preset::Brevity.warning(&vector).is_none());
    assert_eq!(vector.measured.as_ref().unwrap().strength, Some(2.0));
    assert!((report.perplexity.unwrap().ratio - 0.2f64.exp()).abs() < 1e-9);
    assert_eq!(PresetReport::table(&[report]).rows.len(), 1);

    // belief falls with this model's strength, so the preset is not shown to work
    let metric = Preset::Truthfulness.default_metric();
    let report = tune(
        Preset::Truthfulness,
        &metric,
        &mut vector,
        &[1.0],
        2.0,
        &mut Shrinking,
        &mut unwatched,
    )
    .unwrap();
    assert_eq!(report.effect.mean, -1.0);
    assert!(matches!(report.warning(), Some(Warning::Unproven { .. })));
    assert!(Preset::Truthfulness.warning(&vector).is_some());
    let refusal = measure(
        Preset::RefusalStrength,
        &Metric::Refusal,
        &vector,
        1.0,
        Split::All,
        &mut Shrinking,
        &mut unwatched,
    );
    assert_eq!(refusal.unwrap().side.unwrap().effect.mean, 0.0);
    assert!(
        compute(
            Preset::JsonCompliance,
            &pairs,
            &model,
            &mut reader,
            Judges {
                damage: &mut |_| Ok(0.1),
                effects: None,
            },
            &mut unwatched
        )
        .is_err()
    );
    assert!(
        compute(
            Preset::Brevity,
            &pairs[..1],
            &model,
            &mut reader,
            Judges {
                damage: &mut |_| Ok(0.1),
                effects: None,
            },
            &mut unwatched
        )
        .is_err()
    );
}
