//! A sweep over places and strengths.

use super::Table;
use crate::error::SteeringError;
use crate::make::{Watch, tell};
use crate::point::Point;
use serde::{Deserialize, Serialize};

/// One place at one strength.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Where.
    pub point: Point,
    /// How strong.
    pub strength: f32,
    /// The effect; larger is better.
    pub effect: f64,
    /// The damage, for example a KL divergence on neutral prompts; smaller is better.
    pub damage: f64,
}

/// All cells of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The cells, place by place.
    pub cells: Vec<Cell>,
}

/// Measures effect and damage of every place at every strength.
///
/// # Errors
/// What `measure` fails with, and [`SteeringError::Cancelled`].
pub fn sweep(
    points: &[Point],
    strengths: &[f32],
    measure: &mut dyn FnMut(Point, f32) -> Result<(f64, f64), SteeringError>,
    watch: &mut Watch<'_>,
) -> Result<Sweep, SteeringError> {
    let total = points.len() * strengths.len();
    let mut cells = Vec::with_capacity(total);
    for &point in points {
        for &strength in strengths {
            tell(watch, cells.len(), total, None)?;
            let (effect, damage) = measure(point, strength)?;
            cells.push(Cell {
                point,
                strength,
                effect,
                damage,
            });
        }
    }
    tell(watch, total, total, None)?;
    Ok(Sweep { cells })
}

impl Sweep {
    /// The cell with the largest effect whose damage is at most `bound`.
    pub fn best(&self, bound: f64) -> Option<&Cell> {
        self.cells
            .iter()
            .filter(|cell| cell.damage <= bound && cell.effect.is_finite())
            .max_by(|a, b| a.effect.total_cmp(&b.effect))
    }

    /// A table with one line a cell.
    pub fn table(&self) -> Table {
        let mut table = Table::new(["layer", "strength", "effect", "damage"]);
        for cell in &self.cells {
            table.push([
                cell.point.layer as f64,
                f64::from(cell.strength),
                cell.effect,
                cell.damage,
            ]);
        }
        table
    }
}
