//! `mx steer eval` and `mx steer plot`.

use super::progress::Told;
use super::{print, store, vector};
use crate::flags::ModelFlags;
use crate::interrupt::Interrupt;
use crate::{load, terminal};
use anyhow::Context;
use clap::Args;
use mx::pipeline::Loaded;
use mx::steer::evaluate::LogitShift;
use mx::steer::format::pairs::Negatives;
use mx::steer::format::{Limits, pairs};
use mx::steer::plot::Chart;
use mx::steer::presets::{
    MAX_PERPLEXITY_RATIO, Preset, PresetKind, PresetModel, PresetRef, PresetReport, STRENGTHS,
    Split, measure, tune,
};
use mx::steering::{MeasuredModel, Vectors};
use std::path::PathBuf;

/// Strengths of the logit shift, unless others are given.
const SHIFT: [f32; 5] = [-1.0, -0.5, 0.5, 1.0, 2.0];

#[derive(Args)]
pub(crate) struct EvalFlags {
    /// The preset, for example brevity or tone_control.warm; or all
    preset: String,
    /// Judge this vector (id, name or file) by the preset's metric instead of the preset's own
    #[arg(long, value_name = "VECTOR")]
    vector: Option<String>,
    /// Words of the domain, with commas between them; for domain_specific
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    terms: Vec<String>,
    /// Strength [default: the vector's own, on all held-out prompts]
    #[arg(long, allow_negative_numbers = true)]
    strength: Option<f32>,
    /// Choose a strength on half of the held-out prompts, judge it on the others, and keep it with the vector
    #[arg(long, conflicts_with = "strength")]
    tune: bool,
    /// JSON instead of a table: an object, or for all an array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelFlags,
}

#[derive(Args)]
pub(crate) struct PlotFlags {
    /// The vector
    vector: String,
    /// Pairs, one JSON object a line
    pairs: PathBuf,
    /// The file to write
    #[arg(long, default_value = "shift.svg")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelFlags,
}

/// A report under the name that was evaluated.
#[derive(serde::Serialize)]
struct Named {
    name: String,
    layers: Vec<usize>,
    #[serde(flatten)]
    report: PresetReport,
}

pub(super) fn eval(flags: &EvalFlags) -> anyhow::Result<()> {
    let all = flags.preset == "all";
    let presets = match all {
        true => PresetRef::bundled(),
        false => vec![flags.preset.parse().map_err(mx::Error::from)?],
    };
    flags.check(&presets)?;
    let interrupt = Interrupt::install()?;
    let model = load::model(&flags.model, &interrupt)?;
    let evaluation = Evaluation {
        flags,
        model: &model,
        interrupt: &interrupt,
    };
    let mut reports = Vec::new();
    for preset in presets {
        let report = match preset.preset.kind() {
            PresetKind::Constraint => evaluation.constraint(preset.preset)?,
            _ => evaluation.vector(preset)?,
        };
        if let Some(warning) = report.report.warning() {
            terminal::warn(warning);
        }
        reports.push(report);
    }
    if flags.json {
        let text = match &reports[..] {
            [one] if !all => serde_json::to_string_pretty(one)?,
            many => serde_json::to_string_pretty(many)?,
        };
        return print(&(text + "\n"));
    }
    print(&table(&reports))
}

impl EvalFlags {
    fn check(&self, presets: &[PresetRef]) -> Result<(), mx::Error> {
        let refused = |what: &str, reason: &str| {
            Err(mx::Error::Unsupported {
                what: what.to_owned(),
                reason: reason.to_owned(),
            })
        };
        let domain = |p: &PresetRef| p.preset == Preset::DomainSpecific;
        if presets.iter().any(domain) && (self.vector.is_none() || self.terms.is_empty()) {
            return refused(
                "domain_specific without --vector and --terms",
                "vector and words of a domain are the caller's: make the vector with mx steer make",
            );
        }
        if !self.terms.is_empty() && !presets.iter().any(domain) {
            return refused(
                "--terms",
                "only domain_specific counts words of the caller's",
            );
        }
        if self.vector.is_some() && presets.len() > 1 {
            return refused(
                "--vector with all",
                "name the preset whose metric judges it",
            );
        }
        Ok(())
    }
}

struct Evaluation<'a> {
    flags: &'a EvalFlags,
    model: &'a Loaded,
    interrupt: &'a Interrupt,
}

impl Evaluation<'_> {
    fn told(&self, what: &'static str) -> Told {
        Told::new(what, self.flags.model.quiet, self.interrupt.current())
    }

    fn vector(&self, preset: PresetRef) -> anyhow::Result<Named> {
        let flags = self.flags;
        let store = store()?;
        let mut steered = match &flags.vector {
            Some(reference) => vector(reference)?,
            None => {
                if !flags.model.quiet {
                    terminal::note(format_args!(
                        "{preset}: making the vector for this model, unless it is kept already"
                    ));
                }
                let vectors = Vectors::new(store.clone());
                vectors
                    .find(&preset.to_string(), self.model)?
                    .as_ref()
                    .clone()
            }
        };
        let metric = preset.preset.metric(preset.tone, &flags.terms);
        let mut measured = MeasuredModel::new(self.model);
        let mut told = self.told("measuring");
        let mut watch = |progress| told.step(progress);
        let own = steered.measured.as_ref().and_then(|m| m.strength);
        let strength = flags
            .strength
            .or(own)
            .unwrap_or_else(|| preset.preset.default_strength());
        let report = match flags.tune {
            false => measure(
                preset.preset,
                &metric,
                &steered,
                strength,
                Split::All,
                &mut measured,
                &mut watch,
            ),
            true => tune(
                preset.preset,
                &metric,
                &mut steered,
                &STRENGTHS,
                MAX_PERPLEXITY_RATIO,
                &mut measured,
                &mut watch,
            ),
        };
        let report = report.map_err(mx::Error::from)?;
        drop(told);
        // what was measured of a vector at its own strength stays with it
        if flags.strength.is_none() {
            if !flags.tune {
                report.keep_in(&mut steered);
            }
            store.put(&steered).map_err(mx::Error::from)?;
        }
        Ok(Named {
            name: match &flags.vector {
                Some(_) => steered.display_name(),
                None => preset.to_string(),
            },
            layers: steered.layers(),
            report,
        })
    }

    /// The preset that is a mask: answers without and with it.
    fn constraint(&self, preset: Preset) -> anyhow::Result<Named> {
        let mut told = self.told("measuring");
        let mut watch = |progress| told.step(progress);
        let mut measured = MeasuredModel::new(self.model);
        let report = measured.constrained(preset, &mut watch)?;
        Ok(Named {
            name: preset.to_string(),
            layers: Vec::new(),
            report,
        })
    }
}

/// One line a preset, as Markdown.
fn table(reports: &[Named]) -> String {
    let columns = [
        "preset",
        "layer",
        "strength",
        "metric",
        "plain",
        "steered",
        "effect (95 % interval)",
        "perplexity ×",
        "prompts",
    ];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    for Named {
        name,
        layers,
        report,
    } in reports
    {
        let effect = &report.effect;
        let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
        let shown = match report.warning() {
            Some(_) => ": not shown",
            None => "",
        };
        rows.push(vec![
            terminal::printable(name),
            layers.join(","),
            report.strength.to_string(),
            report.metric.clone(),
            format!("{:.2}", report.base),
            format!("{:.2}", report.steered),
            format!(
                "{:+.2} ({:+.2} to {:+.2}){shown}",
                effect.mean, effect.low, effect.high
            ),
            match report.perplexity {
                Some(perplexity) => format!("{:.2}", perplexity.ratio),
                None => "–".to_owned(),
            },
            effect.n.to_string(),
        ]);
        if let Some(side) = &report.side {
            let Some(row) = rows.last_mut() else { continue };
            row[3] = format!("{} ({}: {:+.2})", row[3], side.name, side.effect.mean);
        }
    }
    rows.insert(1, vec!["---".to_owned(); columns.len()]);
    rows.iter()
        .map(|row| format!("| {} |\n", row.join(" | ")))
        .collect()
}

pub(super) fn plot(flags: &PlotFlags) -> anyhow::Result<()> {
    let pairs = pairs::load(&flags.pairs, Negatives::Required, &Limits::default())
        .map_err(mx::Error::from)?;
    let vector = vector(&flags.vector)?;
    let interrupt = Interrupt::install()?;
    let model = load::model(&flags.model, &interrupt)?;
    let cancel = interrupt.current();
    let mut measured = MeasuredModel::new(&model);
    let mut score = |strength: f32, index: usize| {
        if cancel.is_cancelled() {
            return Err(mx::steer::SteeringError::Cancelled);
        }
        let steer = (strength != 0.0).then_some((&vector, strength));
        measured
            .belief(&pairs[index], steer)
            .map_err(mx::steer::SteeringError::Model)
    };
    let shift = LogitShift::measure(&SHIFT, pairs.len(), 1, &mut score).map_err(mx::Error::from)?;
    let svg = Chart::of_shift(&vector.display_name(), &shift).to_svg();
    std::fs::write(&flags.out, svg)
        .with_context(|| format!("cannot write {}", flags.out.display()))?;
    print(&shift.table().to_string())
}
