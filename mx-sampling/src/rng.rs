//! The random words: one ChaCha8 stream per sequence, one 64-bit word per decision.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// Scale of the unit float: the upper 53 bits of a word times 2⁻⁵³.
const UNIT: f64 = 1.0 / (1u64 << 53) as f64;

/// A counter-based stream of random words, derived from `(seed, index)`.
///
/// The generator is ChaCha with 8 rounds. The key holds the seed (little endian) in its first 8 bytes
/// and zeros after them; the 64-bit nonce is the stream index. Word `n` is the pair of 32-bit words
/// `2n` (low half) and `2n + 1` (high half) of the key stream. These choices are frozen: a seed gives the
/// same words on every system and in every later version.
///
/// ```
/// use mx_sampling::Stream;
///
/// let mut stream = Stream::new(42, 0);
/// let u = stream.unit();
/// assert!((0.0..1.0).contains(&u));
/// assert_eq!(stream.position(), 1);
/// stream.seek(0);
/// assert_eq!(stream.unit(), u);
/// ```
pub struct Stream {
    rng: ChaCha8Rng,
    seed: u64,
    index: u64,
    position: u64,
}

impl Stream {
    /// The stream number `index` of `seed`, at its first word.
    #[must_use]
    pub fn new(seed: u64, index: u64) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Self {
            rng,
            seed,
            index,
            position: 0,
        }
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        self.position += 1;
        self.rng.next_u64()
    }

    /// The next word as a number in `[0, 1)` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        unit(self.word())
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The stream index.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many words were taken.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves to just before word `position`, forwards or backwards, in constant time.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
        self.rng.set_word_pos(u128::from(position) * 2);
    }
}

impl Clone for Stream {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.seed, self.index);
        copy.seek(self.position);
        copy
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("seed", &self.seed)
            .field("index", &self.index)
            .field("position", &self.position)
            .finish()
    }
}

/// A random word as a number in `[0, 1)`: its upper 53 bits times 2⁻⁵³.
#[must_use]
pub fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_frozen() {
        let words = |seed, index| {
            let mut stream = Stream::new(seed, index);
            [stream.word(), stream.word(), stream.word()]
        };
        // The first is the known key stream of ChaCha8 with a zero key and a zero nonce.
        assert_eq!(
            words(0, 0)[0].to_le_bytes(),
            [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]
        );
        assert_ne!(words(1, 0), words(0, 1));
        assert_ne!(words(1, 0), words(1, 1));
    }

    #[test]
    fn seek_reaches_every_word() {
        let mut stream = Stream::new(7, 3);
        let words: Vec<u64> = (0..100).map(|_| stream.word()).collect();
        for position in [0usize, 1, 7, 8, 31, 32, 33, 99, 5] {
            stream.seek(position as u64);
            assert_eq!(stream.word(), words[position]);
        }
    }

    #[test]
    fn unit_stays_below_one() {
        assert_eq!(unit(0), 0.0);
        assert!(unit(u64::MAX) < 1.0);
    }
}
