//! Places in a decoder: sites, and sites with their layer.

use crate::error::SteeringError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A kind of place in a block, holding one row of `d_model` numbers a token.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// Input of the block, before its first norm.
    ResidPre,
    /// Output of attention, before it is added to the stream.
    AttnOut,
    /// The stream between attention and feed-forward network.
    ResidMid,
    /// Output of the feed-forward network, before it is added.
    MlpOut,
    /// Output of the block; the same row as the next block's [`Site::ResidPre`].
    #[default]
    ResidPost,
}

/// The names understood, for errors.
const SITES: &str = "resid_pre, attn_out, resid_mid, mlp_out or resid_post";

/// The form of a point, for errors.
const POINTS: &str = "SITE.LAYER with site resid_pre, attn_out, resid_mid, mlp_out or resid_post, or blocks.LAYER.hook_SITE";

impl Site {
    /// All sites, in the order of the forward pass.
    pub const ALL: [Site; 5] = [
        Site::ResidPre,
        Site::AttnOut,
        Site::ResidMid,
        Site::MlpOut,
        Site::ResidPost,
    ];

    /// This site of layer `layer`.
    pub fn at(self, layer: usize) -> Point {
        Point { layer, site: self }
    }

    /// The name, as in `resid_pre`.
    pub fn name(self) -> &'static str {
        match self {
            Site::ResidPre => "resid_pre",
            Site::AttnOut => "attn_out",
            Site::ResidMid => "resid_mid",
            Site::MlpOut => "mlp_out",
            Site::ResidPost => "resid_post",
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Site {
    type Err = SteeringError;

    fn from_str(text: &str) -> Result<Self, SteeringError> {
        Site::ALL
            .into_iter()
            .find(|site| site.name() == text)
            .ok_or_else(|| unknown("site", text, SITES))
    }
}

/// A site of one layer. Layers count from 0; points sort in the order of the forward pass.
///
/// Written `resid_pre.12`; the name that TransformerLens gives it (`blocks.12.hook_resid_pre`) parses too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Point {
    /// The block.
    pub layer: usize,
    /// The place in it.
    pub site: Site,
}

impl Point {
    /// The point that names the same row of the stream at another site: `resid_post.L` is `resid_pre.(L+1)`.
    ///
    /// # Errors
    /// [`SteeringError::Move`] where the two are different rows.
    pub fn moved_to(self, to: Site) -> Result<Point, SteeringError> {
        match (self.site, to) {
            (from, to) if from == to => Some(self),
            (Site::ResidPost, Site::ResidPre) => {
                self.layer.checked_add(1).map(|layer| to.at(layer))
            }
            (Site::ResidPre, Site::ResidPost) => {
                self.layer.checked_sub(1).map(|layer| to.at(layer))
            }
            _ => None,
        }
        .ok_or(SteeringError::Move { from: self, to })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.site, self.layer)
    }
}

impl FromStr for Point {
    type Err = SteeringError;

    fn from_str(text: &str) -> Result<Self, SteeringError> {
        let parts = match text.strip_prefix("blocks.") {
            Some(rest) => rest.split_once(".hook_").map(|(layer, site)| (site, layer)),
            None => text.split_once('.'),
        };
        parts
            .and_then(|(site, layer)| Some(site.parse::<Site>().ok()?.at(layer_number(layer)?)))
            .ok_or_else(|| unknown("hook point", text, POINTS))
    }
}

impl TryFrom<String> for Point {
    type Error = SteeringError;

    fn try_from(text: String) -> Result<Self, SteeringError> {
        text.parse()
    }
}

impl From<Point> for String {
    fn from(point: Point) -> String {
        point.to_string()
    }
}

/// A layer written in decimal digits alone.
pub(crate) fn layer_number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// An unknown name, cut to a length fit for a message.
pub(crate) fn unknown(what: &'static str, given: &str, wanted: &'static str) -> SteeringError {
    const SHOWN: usize = 80;
    SteeringError::Unknown {
        what,
        given: given.chars().take(SHOWN).collect(),
        wanted,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip() {
        for site in Site::ALL {
            let point = site.at(11);
            assert_eq!(point.to_string().parse::<Point>().unwrap(), point);
            let hook = format!("blocks.11.hook_{site}");
            assert_eq!(hook.parse::<Point>().unwrap(), point);
        }
        for wrong in [
            "",
            "final",
            "resid_pre",
            "resid_pre.x",
            "resid_pre.+1",
            "blocks.3.attn.hook_z",
        ] {
            assert!(wrong.parse::<Point>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_same_row_moves() {
        let post = Site::ResidPost.at(3);
        assert_eq!(post.moved_to(Site::ResidPre).unwrap(), Site::ResidPre.at(4));
        assert_eq!(
            Site::ResidPre.at(4).moved_to(Site::ResidPost).unwrap(),
            post
        );
        assert!(Site::ResidPre.at(0).moved_to(Site::ResidPost).is_err());
        assert!(post.moved_to(Site::MlpOut).is_err());
        assert!(
            Site::ResidPost
                .at(usize::MAX)
                .moved_to(Site::ResidPre)
                .is_err()
        );
    }
}
