//! Temperature and top-p per candidate and retry, as the policy contract has them.

/// Least temperature that cooling reaches.
const COLDEST: f64 = 0.05;
/// Least top-p that cooling reaches.
const NARROWEST: f64 = 0.2;
/// Cooling per retry.
const TEMPERATURE_STEP: f64 = 0.08;
const TOP_P_STEP: f64 = 0.04;
/// Diversity cycles over so many slots.
const DIVERSITY_CYCLE: usize = 3;
const DIVERSITY_STEP: f64 = 0.1;
const HOTTEST: f64 = 2.0;

/// The entry of a schedule for a candidate: index `round · candidates + slot`, clamped to the last one.
///
/// `round` counts from 0 and `candidates` is the number per round. `None` for an empty schedule.
///
/// ```
/// use mx_sampling::strategy::schedule::scheduled;
///
/// let schedule = [0.2, 0.5, 0.9];
/// assert_eq!(scheduled(&schedule, 0, 1, 2), Some(0.5));
/// assert_eq!(scheduled(&schedule, 7, 0, 2), Some(0.9));
/// ```
#[must_use]
pub fn scheduled(schedule: &[f64], round: usize, slot: usize, candidates: usize) -> Option<f64> {
    let index = round.saturating_mul(candidates).saturating_add(slot);
    schedule.get(index).or(schedule.last()).copied()
}

/// The temperature of a candidate slot with `diversity_strength`: slot 0 keeps its temperature, the others
/// get `T + (slot mod 3)·0.1·strength`, clamped to `[0.05, 2]`.
#[must_use]
pub fn diversified(temperature: f64, slot: usize, strength: f64) -> f64 {
    if slot == 0 {
        return temperature;
    }
    let steps = (slot % DIVERSITY_CYCLE) as f64;
    (temperature + steps * DIVERSITY_STEP * strength).clamp(COLDEST, HOTTEST)
}

/// Temperature and top-p after the cooling of retry `retry` (from 1), applied to the values of the round
/// before: `T ← max(0.05, T − 0.08·r)`, `p ← max(0.2, p − 0.04·r)`. What is below the floor already stays as it is.
///
/// ```
/// use mx_sampling::strategy::schedule::cooled;
///
/// let (mut t, mut p) = (0.7, 0.9);
/// for retry in 1..=2 {
///     (t, p) = cooled(t, p, retry);
/// }
/// assert!((t - 0.46).abs() < 1e-12 && (p - 0.78).abs() < 1e-12);
/// ```
#[must_use]
pub fn cooled(temperature: f64, top_p: f64, retry: u32) -> (f64, f64) {
    let r = f64::from(retry);
    (
        COLDEST
            .min(temperature)
            .max(temperature - TEMPERATURE_STEP * r),
        NARROWEST.min(top_p).max(top_p - TOP_P_STEP * r),
    )
}
