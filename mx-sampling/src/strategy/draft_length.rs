//! How many tokens to draft.

use crate::error::SamplingError;
use crate::math;

/// Most drafts of one round.
pub const MAX_DRAFTS: usize = 1024;

/// Most branches that are shared among the outcomes of a round.
const MAX_BRANCHES: usize = 1 << 16;

/// Expected tokens per round, `(1 − α^(K+1)) / (1 − α)`, for K drafts accepted with chance α each.
///
/// ```
/// use mx_sampling::strategy::draft_length::expected_tokens;
///
/// assert_eq!(expected_tokens(0.5, 2), 1.75);
/// assert_eq!(expected_tokens(1.0, 4), 5.0);
/// ```
#[must_use]
pub fn expected_tokens(alpha: f64, drafts: usize) -> f64 {
    if drafts > MAX_DRAFTS && alpha != 1.0 {
        return (1.0 - math::pow(alpha, drafts as f64 + 1.0)) / (1.0 - alpha);
    } else if drafts > MAX_DRAFTS {
        return drafts as f64 + 1.0;
    }
    // The sum form has no singularity at α = 1.
    let mut sum = 0.0;
    let mut power = 1.0;
    for _ in 0..=drafts {
        sum += power;
        power *= alpha;
    }
    sum
}

/// Speed-up over plain decoding, `expected_tokens / (1 + c·K)`, for a draft that costs `c` of a target step.
#[must_use]
pub fn speed_up(alpha: f64, drafts: usize, cost: f64) -> f64 {
    expected_tokens(alpha, drafts) / (1.0 + cost * drafts as f64)
}

/// The number of drafts in `1..=max` with the largest speed-up; the smaller one on ties. At most [`MAX_DRAFTS`].
#[must_use]
pub fn best_length(alpha: f64, cost: f64, max: usize) -> usize {
    // The sum of `expected_tokens` grows by a term per draft.
    let (mut best, mut largest) = (1, f64::NEG_INFINITY);
    let (mut sum, mut power) = (1.0, alpha);
    for drafts in 1..=max.min(MAX_DRAFTS) {
        sum += power;
        power *= alpha;
        let gain = sum / (1.0 + cost * drafts as f64);
        if gain > largest {
            (best, largest) = (drafts, gain);
        }
    }
    best
}

/// How the draft length follows the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum LengthRule {
    /// Always the same.
    Constant,
    /// Two more when all were accepted, otherwise one less, at least 1 (transformers' `heuristic`).
    Heuristic,
    /// The length that maximises the expected speed-up, from running averages of acceptance and cost.
    Adaptive,
}

/// Settings of [`DraftLength`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DraftLengthOptions {
    /// The rule.
    pub rule: LengthRule,
    /// Length of the first round; at least 1.
    pub start: usize,
    /// Largest length; at least `start`, at most [`MAX_DRAFTS`].
    pub max: usize,
    /// Weight of the newest observation in the running averages; `(0, 1]`.
    pub rate: f64,
    /// Drafting stops early once the product of the draft's own probabilities falls below this; 0 never.
    pub stop_below: f64,
    /// Cost of a draft step as a share of a target step, until it is measured; `>= 0`.
    pub cost: f64,
}

impl Default for DraftLengthOptions {
    fn default() -> Self {
        Self {
            rule: LengthRule::Adaptive,
            start: 4,
            max: 16,
            rate: 0.1,
            stop_below: 0.05,
            cost: 0.1,
        }
    }
}

/// Chooses the number of drafts per round.
///
/// The choice depends on verified rounds and on the draft's confidence in tokens it has already drawn, never
/// on the value of tokens that are not verified yet; so the output law stays the target's.
///
/// ```
/// use mx_sampling::strategy::draft_length::{DraftLength, DraftLengthOptions};
///
/// let mut length = DraftLength::new(DraftLengthOptions::default())?;
/// assert_eq!(length.next(), 4);
/// for _ in 0..50 {
///     let drafted = length.next();
///     length.observe(drafted, 0, None); // nothing is ever accepted
/// }
/// assert_eq!(length.next(), 1);
/// # Ok::<(), mx_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DraftLength {
    options: DraftLengthOptions,
    length: usize,
    alpha: f64,
    cost: f64,
}

impl DraftLength {
    /// Starts with the first length of the options.
    ///
    /// # Errors
    ///
    /// [`SamplingError::OutOfRange`].
    pub fn new(options: DraftLengthOptions) -> Result<Self, SamplingError> {
        let DraftLengthOptions {
            start,
            max,
            rate,
            stop_below,
            cost,
            ..
        } = options;
        SamplingError::check(start >= 1, "speculative_steps", start as f64, ">= 1")?;
        SamplingError::check(
            (start..=MAX_DRAFTS).contains(&max),
            "speculative_steps_max",
            max as f64,
            ">= speculative_steps and <= 1024",
        )?;
        SamplingError::check(rate > 0.0 && rate <= 1.0, "rate", rate, "in (0, 1]")?;
        SamplingError::check(
            (0.0..1.0).contains(&stop_below),
            "stop_below",
            stop_below,
            "in [0, 1)",
        )?;
        SamplingError::check(
            cost >= 0.0 && cost.is_finite(),
            "cost",
            cost,
            "a finite number >= 0",
        )?;
        // An acceptance of 0.7 and the first length are both only where the averages start.
        Ok(Self {
            options,
            length: start,
            alpha: 0.7,
            cost,
        })
    }

    /// The number of drafts for the next round.
    #[must_use]
    #[allow(clippy::should_implement_trait)] // a round is not an item of a sequence
    pub fn next(&self) -> usize {
        self.length
    }

    /// Takes in a round: how many were drafted and accepted, and the measured cost ratio if there is one.
    pub fn observe(&mut self, drafted: usize, accepted: usize, cost: Option<f64>) {
        let rate = self.options.rate;
        if let Some(cost) = cost.filter(|cost| *cost >= 0.0 && cost.is_finite()) {
            self.cost += rate * (cost - self.cost);
        }
        // Every examined draft is one observation: the accepted ones and the first rejected one.
        for examined in 0..drafted.min(accepted.saturating_add(1)) {
            let outcome = if examined < accepted { 1.0 } else { 0.0 };
            self.alpha += rate * (outcome - self.alpha);
        }
        self.length = match self.options.rule {
            LengthRule::Constant => self.length,
            LengthRule::Heuristic if drafted > 0 && accepted == drafted => {
                (self.length + 2).min(self.options.max)
            }
            LengthRule::Heuristic => self.length.saturating_sub(1).max(1),
            LengthRule::Adaptive => best_length(self.alpha, self.cost, self.options.max),
        };
    }

    /// Whether to stop drafting: `product` is the product of the draft's probabilities of its tokens so far.
    #[must_use]
    pub fn stops(&self, product: f64) -> bool {
        product < self.options.stop_below
    }

    /// The running estimate of the acceptance rate.
    #[must_use]
    pub fn acceptance(&self) -> f64 {
        self.alpha
    }
}

/// Shares `budget` pre-drafted branches among the outcomes `0..=drafts` accepted of a round (speculative
/// speculative decoding, Kumar 2026): each branch goes where the chance of that outcome, divided by the branches
/// it would then have, is largest; the earlier outcome on ties. Drafts beyond [`MAX_DRAFTS`] and branches beyond 65 536
/// are not counted.
///
/// ```
/// use mx_sampling::strategy::draft_length::fan_out;
///
/// assert_eq!(fan_out(1.0, 2, 5), [0, 0, 5]);
/// assert_eq!(fan_out(0.0, 2, 5), [5, 0, 0]);
/// assert_eq!(fan_out(0.5, 2, 8).iter().sum::<usize>(), 8);
/// ```
#[must_use]
pub fn fan_out(alpha: f64, drafts: usize, budget: usize) -> Vec<usize> {
    let alpha = alpha.clamp(0.0, 1.0);
    let drafts = drafts.min(MAX_DRAFTS);
    let mut shares = vec![0; drafts + 1];
    for _ in 0..budget.min(MAX_BRANCHES) {
        // The next branch goes where the chance per branch is largest.
        let mut best = 0;
        let mut best_gain = f64::NEG_INFINITY;
        let mut reach = 1.0;
        for (position, &share) in shares.iter().enumerate() {
            let ends_here = if position == drafts {
                reach
            } else {
                reach * (1.0 - alpha)
            };
            let gain = ends_here / (share + 1) as f64;
            if gain > best_gain {
                (best, best_gain) = (position, gain);
            }
            reach *= alpha;
        }
        shares[best] += 1;
    }
    shares
}
