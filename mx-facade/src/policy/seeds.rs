//! Seeds of the steps of a run.

/// The seed of the step that begins at this slot of this round. The first one is the run's own, so that a policy which
/// asks for nothing gives what no policy gives. The others are mixed (SplitMix64) from seed, round and slot.
pub(crate) fn step_seed(seed: u64, round: usize, slot: usize) -> u64 {
    if round == 0 && slot == 0 {
        return seed;
    }
    let place = ((round as u64) << 32) ^ slot as u64;
    // 53 bits survive readers that keep numbers as doubles.
    mix(seed ^ mix(place)) >> 11
}

fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::step_seed;
    use std::collections::HashSet;

    #[test]
    fn every_step_has_its_own() {
        assert_eq!(step_seed(7, 0, 0), 7);
        let seeds: HashSet<u64> = (0..64)
            .flat_map(|round| (0..64).map(move |slot| step_seed(7, round, slot)))
            .collect();
        assert_eq!(seeds.len(), 64 * 64);
        assert!(seeds.iter().all(|seed| *seed < 1 << 53));
    }
}
