//! Seeds of the steps of a run.

/// Largest seed: 53 bits survive readers that keep numbers as doubles.
const LARGEST: u64 = (1 << 53) - 1;

/// The seed of the step that begins at this slot of this round. The first one is the run's own, so that a policy which
/// asks for nothing gives what no policy gives. The others are mixed (SplitMix64) from seed, round and slot.
/// Whoever generates takes seeds up to `largest`.
pub(crate) fn step_seed(seed: u64, round: usize, slot: usize, largest: u64) -> u64 {
    if round == 0 && slot == 0 {
        return seed;
    }
    let place = ((round as u64) << 32) ^ slot as u64;
    within(mix(seed ^ mix(place)) >> 11, largest)
}

/// A number as a seed of at most `largest`.
pub(crate) fn within(word: u64, largest: u64) -> u64 {
    word % (largest.min(LARGEST) + 1)
}

fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{LARGEST, step_seed};
    use std::collections::HashSet;

    #[test]
    fn every_step_has_its_own() {
        assert_eq!(step_seed(7, 0, 0, 3), 7);
        for largest in [u64::MAX, (1 << 31) - 1] {
            let seeds: HashSet<u64> = (0..64)
                .flat_map(|round| (0..64).map(move |slot| step_seed(7, round, slot, largest)))
                .collect();
            assert!(seeds.len() >= 64 * 64 - 16, "{}", seeds.len());
            assert!(seeds.iter().all(|seed| *seed <= LARGEST.min(largest)));
        }
        assert_eq!(step_seed(7, 1, 0, 0), 0);
    }
}
