//! Selections without sorting: the k-th token, and the prefix that holds a given mass.

use crate::row::{Row, Shape, order_key};

/// Bins of a selection by mass.
pub(crate) const BINS: usize = 2048;

/// Sorting key range that the bins cover, in nats; what lies beyond shares the last bin.
const RANGE: f64 = 32.0;

/// Below this many entries a selection by mass sorts.
const SORTED: usize = 32;

/// What a prefix by mass is ordered by. Ties follow the total order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MassOrder {
    /// Probability descending.
    Probability,
    /// Distance of `a = (x − max)/t` from this centre, ascending.
    Distance(f64),
}

impl MassOrder {
    /// The key of a logit: smaller comes first, never negative.
    fn key(self, value: f32, max: f64, inv_t: f64) -> f64 {
        let a = (f64::from(value) - max) * inv_t;
        match self {
            Self::Probability => -a,
            Self::Distance(centre) => (a - centre).abs(),
        }
    }
}

impl Row<'_> {
    /// Keeps the first `k` tokens of the total order.
    pub(crate) fn keep_top(&mut self, k: usize) {
        let n = match self.shape {
            Shape::List(n) => n,
            _ => {
                let bound = self.top_bound(k);
                self.gather(bound)
            }
        };
        if n <= k {
            return;
        }
        let cut = self.nth_key(n, k);
        self.retain(|at, value| order_key(value, at) <= cut);
    }

    /// A logit that at least `k` tokens reach, from the block maxima.
    fn top_bound(&mut self, k: usize) -> f32 {
        let s = &mut *self.s;
        if k > s.block_max.len() {
            return f32::NEG_INFINITY;
        }
        s.keys.clear();
        s.keys.extend(
            s.block_max
                .iter()
                .enumerate()
                .map(|(at, &x)| order_key(x, at)),
        );
        let (_, nth, _) = s.keys.select_nth_unstable(k - 1);
        crate::row::key_value(*nth)
    }

    /// The key of the `k`-th of the first `n` list entries, counted from 1.
    fn nth_key(&mut self, n: usize, k: usize) -> u64 {
        let s = &mut *self.s;
        s.keys.clear();
        s.keys.extend(
            s.values[..n]
                .iter()
                .enumerate()
                .map(|(at, &x)| order_key(x, at)),
        );
        *s.keys.select_nth_unstable(k - 1).1
    }

    /// Fills `keys` with the first `m` tokens of the total order, sorted, and returns how many there are.
    ///
    /// The positions in the keys are positions of the present shape.
    pub(crate) fn sort_top(&mut self, m: usize) -> usize {
        let bound = match self.shape {
            Shape::List(_) => f32::NEG_INFINITY,
            _ => self.top_bound(m),
        };
        let Self {
            logits, s, shape, ..
        } = self;
        let values = match *shape {
            Shape::List(n) => &s.values[..n],
            _ => &logits[..],
        };
        s.keys.clear();
        s.keys.extend(
            values
                .iter()
                .enumerate()
                .filter(|(_, x)| **x >= bound && **x > f32::NEG_INFINITY)
                .map(|(at, &x)| order_key(x, at)),
        );
        if s.keys.len() > m {
            s.keys.select_nth_unstable(m);
            s.keys.truncate(m);
        }
        s.keys.sort_unstable();
        s.keys.len()
    }

    /// Keeps every token whose logit is at least `threshold`, and at least `min_keep` tokens.
    pub(crate) fn keep_at_least(&mut self, threshold: f64) {
        let threshold = crate::math::round_up_to_f32(threshold);
        if threshold == f32::NEG_INFINITY {
            return;
        }
        let kept = match self.shape {
            Shape::List(n) => self.s.values[..n]
                .iter()
                .filter(|x| **x >= threshold)
                .count(),
            _ if self.max < threshold => 0,
            _ => {
                let n = self.gather(threshold);
                if n < self.min_keep {
                    self.shape = Shape::Dense;
                }
                n
            }
        };
        if kept < self.min_keep {
            self.keep_top(self.min_keep);
        } else if self.len() > kept {
            self.retain(|_, value| value >= threshold);
        }
    }

    /// Keeps the shortest prefix of `order` with at least `fraction` of the mass: a token stays iff the mass
    /// before it is below `fraction` of the whole.
    pub(crate) fn keep_mass(&mut self, fraction: f64, order: MassOrder) {
        let target = fraction * self.sums().z;
        let n = self.to_list();
        self.sums();
        let cut = self.mass_cut(n, target, order);
        let Some((key, at)) = cut else { return };
        let (max, inv_t) = (f64::from(self.max), 1.0 / self.t);
        match order {
            MassOrder::Probability => self.retain(|at, value| order_key(value, at) <= key),
            MassOrder::Distance(_) => {
                let limit = order.key(self.s.values[at], max, inv_t);
                self.retain(|at, value| {
                    let distance = order.key(value, max, inv_t);
                    distance < limit || (distance == limit && order_key(value, at) <= key)
                });
                self.refresh_max();
            }
        }
    }

    /// The last kept entry of the list as key and position; `None` when everything stays.
    fn mass_cut(&mut self, n: usize, target: f64, order: MassOrder) -> Option<(u64, usize)> {
        let (max, inv_t, min_keep) = (f64::from(self.max), 1.0 / self.t, self.min_keep);
        let s = &mut *self.s;
        let key = |at: usize| order.key(s.values[at], max, inv_t);
        let bin = |at: usize| ((key(at) * (BINS as f64 / RANGE)) as usize).min(BINS - 1);
        s.bins.fill(0.0);
        for at in 0..n {
            s.bins[bin(at)] += f64::from(s.weights[at]);
        }
        let mut before = 0.0;
        let mut chosen = BINS;
        for (b, mass) in s.bins.iter().enumerate() {
            if *mass > 0.0 && before + mass >= target {
                chosen = b;
                break;
            }
            before += mass;
        }
        s.keys.clear();
        s.keys
            .extend((0..n).filter(|&at| bin(at) == chosen).map(|at| at as u64));
        let compare = |a: &u64, b: &u64| {
            let (a, b) = (*a as usize, *b as usize);
            key(a)
                .total_cmp(&key(b))
                .then(order_key(s.values[a], a).cmp(&order_key(s.values[b], b)))
        };
        let last = last_by_mass(
            &mut s.keys,
            before,
            target,
            |at| f64::from(s.weights[at as usize]),
            compare,
        );
        let mut cut = last.map(|at| at as usize);
        if min_keep > 1 {
            cut = cut.map(|at| {
                s.keys.clear();
                s.keys
                    .extend((0..n as u64).filter(|other| compare(other, &(at as u64)).is_le()));
                let kept = s.keys.len();
                if kept >= min_keep || min_keep >= n {
                    return if kept >= min_keep { at } else { usize::MAX };
                }
                s.keys.clear();
                s.keys.extend(0..n as u64);
                *s.keys.select_nth_unstable_by(min_keep - 1, compare).1 as usize
            });
        }
        cut.filter(|&at| at != usize::MAX)
            .map(|at| (order_key(s.values[at], at), at))
    }
}

/// The entry at which the mass, summed in the order of `compare` and starting from `before`, first reaches
/// `target`; `None` when there are no entries.
fn last_by_mass(
    entries: &mut [u64],
    mut before: f64,
    target: f64,
    mass: impl Fn(u64) -> f64,
    compare: impl Fn(&u64, &u64) -> std::cmp::Ordering,
) -> Option<u64> {
    let mut rest = entries;
    while rest.len() > SORTED {
        let middle = rest.len() / 2;
        rest.select_nth_unstable_by(middle, &compare);
        let (left, right) = rest.split_at_mut(middle);
        let left_mass: f64 = left.iter().map(|&entry| mass(entry)).sum();
        if before + left_mass >= target {
            rest = left;
        } else {
            before += left_mass;
            rest = right;
        }
    }
    rest.sort_unstable_by(&compare);
    for &entry in rest.iter() {
        before += mass(entry);
        if before >= target {
            return Some(entry);
        }
    }
    // Rounding may leave the sum just short of a target that the halves had reached.
    rest.last().copied()
}
