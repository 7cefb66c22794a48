//! `mx steer make`.

use super::progress::Told;
use super::{said, store};
use crate::flags::ModelFlags;
use crate::interrupt::Interrupt;
use crate::{load, terminal};
use clap::Args;
use mx::pipeline::Loaded;
use mx::steer::apply::parse_layers;
use mx::steer::format::pairs::{Negatives, Pair};
use mx::steer::format::{Limits, pairs};
use mx::steer::make::few_shot::{Ended, FewShotOptions, Start};
use mx::steer::make::{Judges, LayerChoice, LayerScore, Recipe, TokenPair, make, make_at_best};
use mx::steer::presets::PresetRef;
use mx::steer::{Method, Point, Site, SteeringError, SteeringVector, Units};
use mx::steering::{ModelReader, NeutralDamage, make_few_shot, shape, tokenise};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct MakeFlags {
    /// Pairs, one JSON object a line: prompt, positive_answer, negative_answer (or positive, negative)
    #[arg(required_unless_present = "preset")]
    pairs: Option<PathBuf>,
    /// Take a preset's bundled pairs instead of a file: brevity, tone_control.warm, …
    #[arg(long, value_name = "PRESET", conflicts_with = "pairs")]
    preset: Option<PresetRef>,
    /// Method: caa, caa_mechanex, mean_difference, pca_diff, pca_center, repe, few-shot
    #[arg(long, default_value = "caa")]
    method: String,
    /// Layers, for example 10-14,20; auto takes the one that separates held-out pairs best [default: eight from two
    /// thirds of the depth on; few-shot: the first of them]
    #[arg(long)]
    layers: Option<String>,
    /// Share of the pairs held out to choose the layer
    #[arg(long, value_name = "SHARE", default_value_t = 0.25)]
    held_out: f64,
    /// What strength 1 is: raw, unit, relative (a tenth of the stream's norm) [default: the method's]
    #[arg(long, value_name = "NAME", value_parser = units)]
    units: Option<Units>,
    /// Name of the vector [default: that of the file or preset]
    #[arg(long)]
    name: Option<String>,
    /// Label of the vector
    #[arg(long)]
    label: Option<String>,
    #[command(flatten)]
    few_shot: FewShotFlags,
    #[command(flatten)]
    model: ModelFlags,
}

/// The descent of `--method few-shot`.
#[derive(Args)]
#[command(next_help_heading = "Few-shot")]
struct FewShotFlags {
    /// Steps of the descent, one more than Mechanex counts [default: 21]
    #[arg(long, value_name = "N")]
    steps: Option<std::num::NonZeroUsize>,
    /// Step size of Adam [default: 0.1]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// Loss at which the descent stops
    #[arg(long, value_name = "LOSS", allow_negative_numbers = true)]
    target_loss: Option<f64>,
    /// Longest vector
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    max_norm: Option<f64>,
    /// Seed of the direction it starts from [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Which layers, as typed.
enum Layers {
    Default,
    Auto,
    These(Vec<usize>),
}

pub(super) fn run(flags: &MakeFlags) -> anyhow::Result<()> {
    let few_shot = Method::from(flags.method.clone()) == Method::FewShot;
    flags.few_shot.check(few_shot)?;
    let layers = match flags.layers.as_deref() {
        None => Layers::Default,
        Some("auto") => Layers::Auto,
        Some(text) => Layers::These(parse_layers(text).map_err(mx::Error::from)?),
    };
    let pairs = flags.pairs(few_shot)?;
    let interrupt = Interrupt::install()?;
    let model = load::model(&flags.model, &interrupt)?;
    let tokens = tokenise(&pairs, &model)?;
    let maker = Maker {
        flags,
        model: &model,
        tokens: &tokens,
        interrupt: &interrupt,
    };
    let mut made = match few_shot {
        true => maker.few_shot(&layers)?,
        false => maker.by_recipe(&layers)?,
    };
    made.model = shape(&model).identity();
    made.name = flags.vector_name();
    made.label = flags.label.clone().unwrap_or_default();
    made.units = flags.units.unwrap_or(made.units);
    made.provenance.source = Some(format!("{} pairs", pairs.len()));
    made.provenance.pairs_digest = Some(pairs::digest(&pairs));
    if !flags.model.quiet {
        for (point, norm) in made.norms() {
            let share = match made.stream_norms.get(&point) {
                Some(stream) if *stream > 0.0 => {
                    format!(", {:.0} % of the stream", 100.0 * norm / f64::from(*stream))
                }
                _ => String::new(),
            };
            terminal::note(format_args!("{point}: length {norm:.3}{share}"));
        }
    }
    said(store()?.put(&made))
}

impl MakeFlags {
    fn pairs(&self, few_shot: bool) -> anyhow::Result<Vec<Pair>> {
        if let Some(preset) = self.preset {
            let pairs = preset.preset.pairs(preset.tone);
            return Ok(pairs.map_err(mx::Error::from)?);
        }
        let negatives = match few_shot {
            true => Negatives::Optional,
            false => Negatives::Required,
        };
        let path = self.pairs.as_deref().unwrap_or("-".as_ref());
        let pairs = pairs::load(path, negatives, &Limits::default());
        Ok(pairs.map_err(mx::Error::from)?)
    }

    fn vector_name(&self) -> String {
        match (&self.name, &self.preset, &self.pairs) {
            (Some(name), _, _) => name.clone(),
            (None, Some(preset), _) => preset.to_string(),
            (None, None, file) => {
                let stem = file.as_deref().and_then(|file| file.file_stem());
                stem.unwrap_or_default().to_string_lossy().into_owned()
            }
        }
    }
}

impl FewShotFlags {
    /// Refuses options of the descent for a method without one.
    fn check(&self, few_shot: bool) -> Result<(), mx::Error> {
        let given = [
            ("--steps", self.steps.is_some()),
            ("--learning-rate", self.learning_rate.is_some()),
            ("--target-loss", self.target_loss.is_some()),
            ("--max-norm", self.max_norm.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given && !few_shot) {
            Some((flag, _)) => Err(mx::Error::Unsupported {
                what: format!("{flag} without --method few-shot"),
                reason: "only few-shot optimisation takes steps".to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn options(&self) -> FewShotOptions {
        let default = FewShotOptions::default();
        FewShotOptions {
            start: self.seed.map_or(default.start, Start::Seed),
            iterations: self.steps.map_or(default.iterations, |n| n.get() - 1),
            learning_rate: self.learning_rate.unwrap_or(default.learning_rate),
            target_loss: self.target_loss,
            max_norm: self.max_norm,
            ..default
        }
    }
}

struct Maker<'a> {
    flags: &'a MakeFlags,
    model: &'a Loaded,
    tokens: &'a [TokenPair],
    interrupt: &'a Interrupt,
}

impl Maker<'_> {
    fn told(&self, what: &'static str) -> Told {
        Told::new(what, self.flags.model.quiet, self.interrupt.current())
    }

    fn by_recipe(&self, layers: &Layers) -> anyhow::Result<SteeringVector> {
        let shape = shape(self.model);
        let given = match layers {
            Layers::These(layers) => layers.clone(),
            Layers::Default => Vec::new(),
            Layers::Auto => (0..shape.layers).collect(),
        };
        let recipe = Recipe::named(&self.flags.method, &given, &shape).map_err(mx::Error::from)?;
        if matches!(layers, Layers::Auto) {
            return Ok(self.best(&recipe)?.0);
        }
        let mut told = self.told("reading pairs");
        let mut watch = |progress| told.step(progress);
        let mut reader = ModelReader::new(self.model);
        Ok(make(&recipe, self.tokens, &mut reader, &mut watch).map_err(mx::Error::from)?)
    }

    /// The vector of the layer that held-out pairs speak for, with the ranking told.
    fn best(&self, recipe: &Recipe) -> anyhow::Result<(SteeringVector, LayerScore)> {
        let mut told = self.told("reading pairs");
        let mut watch = |progress| told.step(progress);
        let neutral = NeutralDamage::new(self.model)?;
        let units = self.flags.units;
        let mut prepare =
            |vector: &mut SteeringVector| vector.units = units.unwrap_or(vector.units);
        let choice = LayerChoice {
            held_out: share(self.flags.held_out)?,
            ..LayerChoice::default()
        };
        let mut harm = |vector: &SteeringVector| neutral.of(vector, 1.0);
        let (vector, ranked) = make_at_best(
            recipe,
            self.tokens,
            &choice,
            &mut ModelReader::new(self.model),
            &mut prepare,
            Judges {
                damage: &mut harm,
                effects: None,
            },
            &mut watch,
        )
        .map_err(mx::Error::from)?;
        drop(told);
        let chosen = vector.points().next();
        let score = ranked.iter().find(|score| Some(score.point) == chosen);
        let score = *score.ok_or_else(|| mx::Error::from(SteeringError::Cancelled))?;
        if !self.flags.model.quiet {
            terminal::note(format_args!(
                "{} of {} places: d' {:.2}, {:.0} % of held-out pairs on the right side",
                score.point,
                ranked.len(),
                score.d_prime,
                100.0 * score.sign_accuracy
            ));
        }
        Ok((vector, score))
    }

    fn few_shot(&self, layers: &Layers) -> anyhow::Result<SteeringVector> {
        let shape = shape(self.model);
        let points: Vec<Point> = match layers {
            Layers::These(layers) => layers.iter().map(|l| Site::ResidPre.at(*l)).collect(),
            Layers::Default => shape
                .mechanex_layers()
                .take(1)
                .map(|layer| Site::ResidPre.at(layer))
                .collect(),
            Layers::Auto => {
                let places = shape.middle_layers().map(|layer| Site::ResidPre.at(layer));
                vec![self.best(&Recipe::caa(places))?.1.point]
            }
        };
        let mut told = self.told("descending");
        let mut watch = |progress| told.step(progress);
        let options = self.flags.few_shot.options();
        let (vector, descents) =
            make_few_shot(self.model, self.tokens, &points, &options, &mut watch)?;
        drop(told);
        for descent in descents.iter().filter(|_| !self.flags.model.quiet) {
            let ended = match descent.ended {
                Ended::Iterations => "all steps taken",
                Ended::Converged => "converged",
                Ended::TargetLoss => "target loss reached",
            };
            let first = descent.losses.first().copied().unwrap_or(f64::NAN);
            let last = descent.losses.last().copied().unwrap_or(f64::NAN);
            terminal::note(format_args!(
                "{}: loss {first:.4} to {last:.4} in {} steps, {ended}",
                descent.point,
                descent.norms.len()
            ));
        }
        Ok(vector)
    }
}

fn share(given: f64) -> Result<f64, mx::Error> {
    match given > 0.0 && given < 1.0 {
        true => Ok(given),
        false => Err(mx::Error::Request {
            field: "held-out".to_owned(),
            given: given.to_string(),
            wanted: "a share above 0 and below 1".to_owned(),
        }),
    }
}

fn units(text: &str) -> Result<Units, String> {
    match text {
        "raw" => Ok(Units::Raw),
        "unit" => Ok(Units::Unit),
        "relative" => Ok(Units::RELATIVE),
        _ => Err("wanted raw, unit or relative".to_owned()),
    }
}
