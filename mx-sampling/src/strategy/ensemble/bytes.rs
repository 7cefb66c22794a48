//! Ensembles over different vocabularies, by the bytes of their tokens.

use std::collections::BTreeMap;

use crate::draw::check_law;
use crate::error::SamplingError;
use crate::strategy::speculative::normalise;

/// The union of several vocabularies: tokens with equal bytes are one.
#[derive(Debug, Clone, PartialEq)]
pub struct UnionVocabulary {
    entries: Vec<Vec<u8>>,
    /// Per vocabulary and token the entry of the union.
    maps: Vec<Vec<u32>>,
}

impl UnionVocabulary {
    /// Builds the union; its entries are sorted by bytes.
    #[must_use]
    pub fn new<T: AsRef<[u8]>>(vocabularies: &[Vec<T>]) -> Self {
        let mut index: BTreeMap<&[u8], u32> = BTreeMap::new();
        for token in vocabularies.iter().flatten() {
            index.insert(token.as_ref(), 0);
        }
        for (entry, slot) in index.values_mut().enumerate() {
            *slot = entry as u32;
        }
        let maps = vocabularies
            .iter()
            .map(|vocabulary| {
                vocabulary
                    .iter()
                    .map(|token| index[token.as_ref()])
                    .collect()
            })
            .collect();
        Self {
            entries: index.into_keys().map(<[u8]>::to_vec).collect(),
            maps,
        }
    }

    /// The byte strings of the union, sorted.
    #[must_use]
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// `Σ w_m p_m` over equal byte strings, normalised; one law per vocabulary.
    ///
    /// ```
    /// use mx_sampling::strategy::ensemble::UnionVocabulary;
    ///
    /// let union = UnionVocabulary::new(&[vec!["a", "b"], vec!["b", "c"]]);
    /// let law = union.average(&[&[0.5, 0.5], &[0.5, 0.5]], &[1.0, 1.0])?;
    /// assert_eq!(law, [0.25, 0.5, 0.25]);
    /// # Ok::<(), mx_sampling::SamplingError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A number or length of laws or weights that does not fit, or invalid entries.
    pub fn average(&self, laws: &[&[f64]], weights: &[f64]) -> Result<Vec<f64>, SamplingError> {
        for (name, given) in [("laws", laws.len()), ("weights", weights.len())] {
            if given != self.maps.len() {
                return Err(SamplingError::Length {
                    name,
                    given,
                    wanted: self.maps.len(),
                });
            }
        }
        check_law("weights", weights)?;
        let mut union = vec![0.0; self.entries.len()];
        for ((law, weight), map) in laws.iter().zip(weights).zip(&self.maps) {
            if law.len() != map.len() {
                return Err(SamplingError::Length {
                    name: "law",
                    given: law.len(),
                    wanted: map.len(),
                });
            }
            check_law("law", law)?;
            map.iter()
                .zip(*law)
                .for_each(|(&entry, p)| union[entry as usize] += weight * p);
        }
        normalise(&mut union);
        Ok(union)
    }
}

/// The marginal of the next byte, given the bytes so far of the token that is being formed.
#[derive(Debug, Clone, PartialEq)]
pub struct ByteMarginal {
    /// Mass of the tokens that go on with each byte.
    pub next: [f64; 256],
    /// Mass of the tokens that end here.
    pub ends: f64,
}

impl ByteMarginal {
    /// Mass of everything that starts with the prefix.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.ends + self.next.iter().sum::<f64>()
    }

    /// The distribution of the next byte within the token, normalised; `None` when no token goes on.
    #[must_use]
    pub fn law(&self) -> Option<[f64; 256]> {
        let total: f64 = self.next.iter().sum();
        (total > 0.0).then(|| self.next.map(|mass| mass / total))
    }
}

/// The tokens of a vocabulary in the order of their bytes: every prefix is a range.
///
/// Build it once per vocabulary; [`ByteTrie::masses`] then takes one pass per law and
/// [`ByteTrie::marginal`] a binary search per byte that occurs.
#[derive(Debug, Clone, PartialEq)]
pub struct ByteTrie {
    tokens: Vec<Vec<u8>>,
    order: Vec<u32>,
}

impl ByteTrie {
    /// Sorts the tokens.
    #[must_use]
    pub fn new<T: AsRef<[u8]>>(tokens: &[T]) -> Self {
        let tokens: Vec<Vec<u8>> = tokens.iter().map(|token| token.as_ref().to_vec()).collect();
        let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
        order.sort_by(|a, b| tokens[*a as usize].cmp(&tokens[*b as usize]).then(a.cmp(b)));
        Self { tokens, order }
    }

    /// Cumulative masses of a law in byte order, for [`marginal`](Self::marginal).
    ///
    /// # Errors
    ///
    /// [`SamplingError::Length`] or [`SamplingError::InvalidLaw`].
    pub fn masses(&self, law: &[f64]) -> Result<Vec<f64>, SamplingError> {
        if law.len() != self.tokens.len() {
            return Err(SamplingError::Length {
                name: "law",
                given: law.len(),
                wanted: self.tokens.len(),
            });
        }
        check_law("law", law)?;
        let mut sum = 0.0;
        let mut masses = Vec::with_capacity(law.len() + 1);
        masses.push(0.0);
        for &token in &self.order {
            sum += law[token as usize];
            masses.push(sum);
        }
        Ok(masses)
    }

    /// The marginal of the byte after `prefix`, not normalised.
    ///
    /// ```
    /// use mx_sampling::strategy::ensemble::ByteTrie;
    ///
    /// let trie = ByteTrie::new(&["a", "ab", "b"]);
    /// let masses = trie.masses(&[0.25, 0.5, 0.25])?;
    /// assert_eq!(trie.marginal(&masses, b"").next[usize::from(b'a')], 0.75);
    /// let after_a = trie.marginal(&masses, b"a");
    /// assert_eq!((after_a.ends, after_a.next[usize::from(b'b')]), (0.25, 0.5));
    /// # Ok::<(), mx_sampling::SamplingError>(())
    /// ```
    #[must_use]
    pub fn marginal(&self, masses: &[f64], prefix: &[u8]) -> ByteMarginal {
        let token = |at: &u32| &self.tokens[*at as usize][..];
        let start = self.order.partition_point(|at| token(at) < prefix);
        let len = self.order[start..].partition_point(|at| token(at).starts_with(prefix));
        let end = start + len;
        let ended =
            start + self.order[start..end].partition_point(|at| token(at).len() == prefix.len());
        let mass = |from: usize, to: usize| {
            masses.get(to).copied().unwrap_or(0.0) - masses.get(from).copied().unwrap_or(0.0)
        };
        let mut marginal = ByteMarginal {
            next: [0.0; 256],
            ends: mass(start, ended),
        };
        let mut from = ended;
        while from < end {
            let byte = token(&self.order[from])[prefix.len()];
            let to =
                from + self.order[from..end].partition_point(|at| token(at)[prefix.len()] == byte);
            marginal.next[usize::from(byte)] = mass(from, to);
            from = to;
        }
        marginal
    }

    /// The tokens whose bytes start with `prefix`, in byte order.
    pub fn starting_with<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        let token = |at: &u32| &self.tokens[*at as usize][..];
        let start = self.order.partition_point(|at| token(at) < prefix);
        self.order[start..]
            .iter()
            .copied()
            .take_while(move |at| token(at).starts_with(prefix))
    }
}
