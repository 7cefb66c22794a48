//! Dynamic temperature.

use crate::math;

/// Temperatures below this are 0: greedy.
pub const GREEDY_BELOW: f64 = 1e-5;

/// The temperature that follows the entropy (llama.cpp's `temp_ext`):
/// `T = lo + (hi − lo)·(H / ln n)^x` with `lo = max(0, T₀ − r)` and `hi = T₀ + r`.
///
/// `entropy` is in nats, `live` the number of candidates; a single candidate has the entropy ratio 0.
///
/// ```
/// use mx_sampling::dynamic_temperature;
///
/// assert_eq!(dynamic_temperature(1.0, 0.5, 1.0, 0.0, 50), 0.5);
/// assert_eq!(dynamic_temperature(1.0, 0.5, 1.0, (50f64).ln(), 50), 1.5);
/// ```
#[must_use]
pub fn dynamic_temperature(
    temperature: f64,
    range: f64,
    exponent: f64,
    entropy: f64,
    live: usize,
) -> f64 {
    let low = (temperature - range).max(0.0);
    let high = temperature + range;
    if live < 2 {
        return low;
    }
    let ratio = (entropy / math::ln(live as f64)).clamp(0.0, 1.0);
    low + (high - low) * math::pow(ratio, exponent)
}
