//! Vectors computed from vectors.

use super::{Method, SteeringVector};
use crate::error::SteeringError;
use crate::linalg::{cosine, norm, scaled, unit};
use crate::point::{Point, Site};
use std::collections::BTreeMap;

impl SteeringVector {
    /// The directions of some layers alone.
    ///
    /// # Errors
    /// [`SteeringError::NoDirection`] for a layer that the vector does not have.
    pub fn of_layers(&self, layers: &[usize]) -> Result<Self, SteeringError> {
        if let Some(missing) = layers.iter().find(|layer| !self.layers().contains(layer)) {
            return Err(self.no_direction(format!("layer {missing}")));
        }
        self.mapped(|point, values| {
            layers
                .contains(&point.layer)
                .then(|| (point, values.to_vec()))
        })
    }

    /// The same rows of the stream named at another site: `resid_post.L` becomes `resid_pre.(L+1)` and back.
    ///
    /// # Errors
    /// [`SteeringError::Move`] where a direction has no such name.
    pub fn moved_to(&self, site: Site) -> Result<Self, SteeringError> {
        for point in self.points() {
            point.moved_to(site)?;
        }
        let mut moved =
            self.mapped(|point, values| Some((point.moved_to(site).ok()?, values.to_vec())))?;
        moved.stream_norms = self
            .stream_norms
            .iter()
            .filter_map(|(point, norm)| Some((point.moved_to(site).ok()?, *norm)))
            .collect();
        Ok(moved)
    }

    /// The same directions at another site of the same layers, which is another place unless it is the same site.
    ///
    /// Mechanex reads at `resid_post` and acts at `resid_pre` of the same layer: that is
    /// `relabelled(Site::ResidPre)`.
    ///
    /// # Errors
    /// [`SteeringError::Exclusive`] where a layer has directions at several sites.
    pub fn relabelled(&self, site: Site) -> Result<Self, SteeringError> {
        if self.layers().len() != self.directions.len() {
            return Err(SteeringError::Exclusive {
                first: "a site",
                second: "a vector with several directions a layer",
                reason: "one place has one direction",
            });
        }
        let mut relabelled =
            self.mapped(|point, values| Some((site.at(point.layer), values.to_vec())))?;
        relabelled.provenance.read_at = self.provenance.read_at.or_else(|| self.site());
        relabelled.stream_norms.clear();
        Ok(relabelled)
    }

    /// The vector times a number.
    ///
    /// # Errors
    /// [`SteeringError::NotFinite`] where a number overflows.
    pub fn scaled(&self, factor: f32) -> Result<Self, SteeringError> {
        self.mapped(|point, values| Some((point, scaled(values, f64::from(factor)))))
    }

    /// Every direction with length 1.
    ///
    /// # Errors
    /// [`SteeringError::ZeroDirection`] where one has length 0.
    pub fn unit(&self) -> Result<Self, SteeringError> {
        if let Some((point, _)) = self.directions().find(|(_, values)| norm(values) == 0.0) {
            let operation = "a unit vector";
            return Err(SteeringError::ZeroDirection { point, operation });
        }
        self.mapped(|point, values| Some((point, unit(values)?)))
    }

    /// The sum of two vectors, place by place; a place that one lacks counts as 0.
    ///
    /// # Errors
    /// [`SteeringError::Width`] where the widths differ.
    pub fn plus(&self, other: &SteeringVector) -> Result<Self, SteeringError> {
        if (self.d_model, self.rows) != (other.d_model, other.rows) {
            return Err(SteeringError::Width {
                what: format!("steering vector {}", other.display_name()),
                given: other.d_model * other.rows,
                wanted: self.d_model * self.rows,
            });
        }
        let mut directions = self.directions.clone();
        for (point, values) in &other.directions {
            match directions.get_mut(point) {
                Some(sum) => sum.iter_mut().zip(values).for_each(|(a, b)| *a += b),
                None => {
                    directions.insert(*point, values.clone());
                }
            }
        }
        let mut sum = SteeringVector::with_rows(Method::Combined, self.rows, directions)?;
        sum.model = self.model.clone();
        sum.units = self.units;
        sum.stream_norms = other.stream_norms.clone();
        sum.stream_norms.extend(&self.stream_norms);
        Ok(sum)
    }

    /// The cosine between the directions of two vectors at each place that both have.
    pub fn cosines(&self, other: &SteeringVector) -> BTreeMap<Point, f64> {
        self.directions
            .iter()
            .filter_map(|(point, values)| {
                let theirs = other.directions.get(point)?;
                (theirs.len() == values.len()).then(|| (*point, cosine(values, theirs)))
            })
            .collect()
    }

    /// The directions changed, everything else kept.
    fn mapped(
        &self,
        change: impl Fn(Point, &[f32]) -> Option<(Point, Vec<f32>)>,
    ) -> Result<Self, SteeringError> {
        let directions: BTreeMap<Point, Vec<f32>> = self
            .directions()
            .filter_map(|(point, values)| change(point, values))
            .collect();
        let checked = SteeringVector::with_rows(self.method.clone(), self.rows, directions)?;
        let stream_norms = self.stream_norms.iter();
        Ok(SteeringVector {
            directions: checked.directions,
            stream_norms: stream_norms
                .filter(|(point, _)| self.directions.contains_key(point))
                .map(|(point, norm)| (*point, *norm))
                .collect(),
            ..self.clone()
        })
    }
}
