//! Attention against a plain f64 version, and against itself in other divisions.
#![allow(clippy::unwrap_used)]

use super::super::kernels::Isa;
use super::super::kv::KvShape;
use super::super::testing::{Random, kernels};
use super::*;

const FORMATS: [KvFormat; 4] = [
    KvFormat::F32,
    KvFormat::F16,
    KvFormat::Fixed16,
    KvFormat::Fixed8,
];

struct Case {
    params: AttentionParams,
    shape: KvShape,
    len: usize,
    queries: Vec<f32>,
    /// `[position][kv_head][head_dim]`
    keys: Vec<f32>,
    values: Vec<f32>,
    cache: KvCache,
}

impl Case {
    fn new(format: KvFormat, heads: usize, kv_heads: usize, head_dim: usize, len: usize) -> Self {
        let mut random = Random::new((heads * 1000 + head_dim + len) as u64);
        let shape = KvShape {
            layers: 2,
            kv_heads,
            head_dim,
            format,
        };
        let params = AttentionParams {
            heads,
            scale: 1.0 / (head_dim as f32).sqrt(),
            window: None,
            softcap: None,
        };
        let mut case = Self {
            params,
            shape,
            len,
            queries: random.gauss(len * heads * head_dim),
            keys: random.gauss(len * kv_heads * head_dim),
            values: random.gauss(len * kv_heads * head_dim),
            cache: KvCache::new(shape).unwrap(),
        };
        // Queries with a preference, so that the weights are not all alike.
        case.queries.iter_mut().for_each(|x| *x *= 3.0);
        let mut cache = case.cache.clone();
        case.append(&mut cache, len);
        case.cache = cache;
        case
    }

    /// Adds the next `count` positions to layer 1.
    fn append(&self, cache: &mut KvCache, count: usize) {
        cache.reserve(count);
        let (start, hd) = (cache.len(), self.shape.head_dim);
        for (head, writer) in cache.writers(1, count).iter_mut().enumerate() {
            for i in 0..count {
                let at = ((start + i) * self.shape.kv_heads + head) * hd;
                writer.write(
                    Kernels::best(),
                    i,
                    &self.keys[at..at + hd],
                    &self.values[at..at + hd],
                );
            }
        }
        cache.advance(count);
    }

    fn width(&self) -> usize {
        self.params.heads * self.shape.head_dim
    }

    /// Positions `rows`, in tiles of `tile` positions.
    fn attend(&self, k: Kernels, cache: &KvCache, rows: Range<usize>, tile: usize) -> Vec<f32> {
        let width = self.width();
        let mut out = vec![f32::NAN; rows.len() * width];
        let mut scratch = AttentionScratch::default();
        let group = width / self.shape.kv_heads;
        let queries = &self.queries[rows.start * width..rows.end * width];
        let tiles = queries
            .chunks(tile * width)
            .zip(out.chunks_mut(tile * width));
        for (i, (queries, out)) in tiles.enumerate() {
            let mut out = TileMut::new(out, width);
            for kv_head in 0..self.shape.kv_heads {
                let tile = QueryTile {
                    queries,
                    stride: width,
                    first_position: rows.start + i * tile,
                    layer: 1,
                    kv_head,
                };
                let mut out = out.columns(kv_head * group..(kv_head + 1) * group);
                k.attend(&self.params, cache, tile, &mut scratch, &mut out)
                    .unwrap();
            }
        }
        out
    }

    fn reference(&self, position: usize, head: usize) -> Vec<f64> {
        let hd = self.shape.head_dim;
        let kv_head = head * self.shape.kv_heads / self.params.heads;
        let q = &self.queries[position * self.width() + head * hd..][..hd];
        let scores: Vec<(usize, f64)> = key_range(position, self.params.window)
            .map(|j| {
                let key = &self.keys[(j * self.shape.kv_heads + kv_head) * hd..][..hd];
                let dot: f64 = q
                    .iter()
                    .zip(key)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum();
                let score = dot * f64::from(self.params.scale);
                let capped = |cap: f32| f64::from(cap) * (score / f64::from(cap)).tanh();
                (j, self.params.softcap.map_or(score, capped))
            })
            .collect();
        let peak = scores.iter().fold(f64::MIN, |m, s| m.max(s.1));
        let sum: f64 = scores.iter().map(|s| (s.1 - peak).exp()).sum();
        let mut out = vec![0.0; hd];
        for (j, score) in scores {
            let weight = (score - peak).exp() / sum;
            let value = &self.values[(j * self.shape.kv_heads + kv_head) * hd..][..hd];
            for (out, v) in out.iter_mut().zip(value) {
                *out += weight * f64::from(*v);
            }
        }
        out
    }

    fn check(&self, tolerance: f64) {
        let got = self.attend(Kernels::best(), &self.cache, 0..self.len, 8);
        for position in 0..self.len {
            for head in 0..self.params.heads {
                let at = position * self.width() + head * self.shape.head_dim;
                for (got, want) in got[at..].iter().zip(self.reference(position, head)) {
                    assert!(
                        (f64::from(*got) - want).abs() < tolerance,
                        "{:?} position {position} head {head}: {got} {want}",
                        self.shape.format
                    );
                }
            }
        }
    }
}

fn tolerance(format: KvFormat) -> f64 {
    match format {
        KvFormat::F32 => 2e-5,
        KvFormat::F16 | KvFormat::Fixed16 => 1.5e-2,
        KvFormat::Fixed8 => 0.12,
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn agrees_with_f64() {
    for format in FORMATS {
        for (heads, kv_heads, head_dim, len) in [
            (9, 3, 64, 70),
            (4, 4, 16, 300),
            (7, 1, 80, 130),
            (2, 1, 128, 40),
            (1, 1, 256, 20),
        ] {
            Case::new(format, heads, kv_heads, head_dim, len).check(tolerance(format));
        }
        let mut case = Case::new(format, 6, 2, 32, 600);
        for window in [1, 5, 64, 300, 10_000] {
            case.params.window = Some(window);
            case.check(tolerance(format));
        }
        case.params.softcap = Some(5.0);
        case.check(tolerance(format));
    }
}

#[test]
fn the_division_does_not_change_a_bit() {
    for format in FORMATS {
        for window in [None, Some(100)] {
            let mut case = Case::new(format, 6, 2, 32, 530);
            case.params.window = window;
            let k = Kernels::best();
            let want = case.attend(k, &case.cache, 0..case.len, case.len);
            for tile in [1, 3, 8, 64] {
                let got = case.attend(k, &case.cache, 0..case.len, tile);
                assert_eq!(bits(&want), bits(&got), "{format:?} tile {tile}");
            }
            // Token by token, over a cache that knows nothing of later positions.
            let mut cache = KvCache::new(case.shape).unwrap();
            let width = case.width();
            for p in 0..case.len {
                case.append(&mut cache, 1);
                let got = case.attend(k, &cache, p..p + 1, 1);
                let want = &want[p * width..(p + 1) * width];
                assert_eq!(bits(want), bits(&got), "{format:?} position {p}");
            }
        }
    }
}

#[test]
fn spans_on_their_own_merge_to_the_same_bits() {
    for format in FORMATS {
        for window in [None, Some(300)] {
            let mut case = Case::new(format, 6, 2, 32, 800);
            case.params.window = window;
            let (k, hd, group) = (Kernels::best(), 32, 3);
            let position = case.len - 1;
            let want = case.attend(k, &case.cache, position..case.len, 1);
            let len = record_len(hd);
            let spans = spans(position..case.len, window);
            for kv_head in 0..2 {
                let mut records = vec![0.0; spans.len() * group * len];
                for (span, records) in spans.clone().zip(records.chunks_mut(group * len)) {
                    let tile = QueryTile {
                        queries: &case.queries[position * case.width()..],
                        stride: case.width(),
                        first_position: position,
                        layer: 1,
                        kv_head,
                    };
                    let scratch = &mut AttentionScratch::default();
                    k.attend_span(&case.params, &case.cache, tile, span, scratch, records)
                        .unwrap();
                }
                for head in 0..group {
                    let mut out = [0.0; 32];
                    k.merge_spans(&records[head * len..], group * len, &mut out);
                    let at = (kv_head * group + head) * hd;
                    assert_eq!(bits(&want[at..at + hd]), bits(&out), "{format:?}");
                }
            }
        }
    }
}

#[test]
fn all_instruction_sets_agree() {
    for format in FORMATS {
        for (heads, kv_heads, head_dim) in [(9, 3, 64), (5, 1, 48), (2, 2, 96)] {
            let case = Case::new(format, heads, kv_heads, head_dim, 270);
            let scalar = Kernels::with(Isa::Scalar).unwrap();
            let want = case.attend(scalar, &case.cache, 0..case.len, 7);
            for k in kernels() {
                let got = case.attend(k, &case.cache, 0..case.len, 7);
                assert_eq!(bits(&want), bits(&got), "{format:?} {}", k.isa());
            }
        }
    }
}

#[test]
fn later_positions_cannot_be_felt() {
    for format in FORMATS {
        let mut case = Case::new(format, 6, 2, 32, 100);
        let want = case.attend(Kernels::best(), &case.cache, 0..90, 8);
        // What lies behind position 90, once written and then cut off, is poison.
        let mut cache = case.cache.clone();
        cache.truncate(90);
        let at = 90 * 2 * 32;
        case.keys[at..].fill(f32::NAN);
        case.values[at..].fill(f32::INFINITY);
        case.append(&mut cache, 10);
        let got = case.attend(Kernels::best(), &cache, 0..90, 8);
        assert_eq!(bits(&want), bits(&got), "{format:?}");
        let poisoned = case.attend(Kernels::best(), &cache, 90..100, 8);
        assert!(poisoned.iter().all(|x| !x.is_finite()), "{format:?}");
    }
}

#[test]
fn forks_share_until_one_writes() {
    for format in FORMATS {
        let case = Case::new(format, 6, 2, 32, 150);
        let mut trunk = KvCache::new(case.shape).unwrap();
        case.append(&mut trunk, 100);
        let mut fork = trunk.fork();
        case.append(&mut fork, 50);
        let k = Kernels::best();
        let want = case.attend(k, &case.cache, 0..150, 8);
        assert_eq!(bits(&want), bits(&case.attend(k, &fork, 0..150, 8)));
        // The trunk goes elsewhere; the fork does not notice.
        let other = Case::new(format, 6, 2, 32, 151);
        other.append(&mut trunk, 51);
        assert_eq!(bits(&want), bits(&case.attend(k, &fork, 0..150, 8)));
        fork.truncate(70);
        case.append(&mut fork, 80);
        assert_eq!(bits(&want), bits(&case.attend(k, &fork, 0..150, 8)));
        assert_eq!((trunk.len(), fork.len()), (151, 150));
    }
}

#[test]
fn what_lies_between_the_rows_of_queries_is_not_read() {
    let case = Case::new(KvFormat::F16, 6, 2, 32, 10);
    let (k, width, gap) = (Kernels::best(), case.width(), 7);
    let want = case.attend(k, &case.cache, 3..9, 6);
    let mut queries = Vec::new();
    for row in case.queries[3 * width..9 * width].chunks(width) {
        queries.extend(row);
        queries.extend([f32::NAN; 7]);
    }
    let mut got = vec![0.0; 6 * width];
    let mut out = TileMut::new(&mut got, width);
    for kv_head in 0..2 {
        let tile = QueryTile {
            queries: &queries,
            stride: width + gap,
            first_position: 3,
            layer: 1,
            kv_head,
        };
        let mut out = out.columns(kv_head * width / 2..(kv_head + 1) * width / 2);
        let scratch = &mut AttentionScratch::default();
        k.attend(&case.params, &case.cache, tile, scratch, &mut out)
            .unwrap();
    }
    assert_eq!(bits(&want), bits(&got));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let case = Case::new(KvFormat::F16, 6, 2, 32, 10);
    let k = Kernels::best();
    let width = case.width();
    let tile = QueryTile {
        queries: &case.queries[..2 * width],
        stride: width,
        first_position: 3,
        layer: 1,
        kv_head: 0,
    };
    let scratch = &mut AttentionScratch::default();
    let mut out = vec![0.0; 2 * 96];
    let attend = |params: &AttentionParams, tile, scratch: &mut _, out: &mut [f32]| {
        k.attend(
            params,
            &case.cache,
            tile,
            scratch,
            &mut TileMut::new(out, 96),
        )
    };
    assert!(attend(&case.params, tile, scratch, &mut out).is_ok());
    let wrong = QueryTile { layer: 2, ..tile };
    assert!(attend(&case.params, wrong, scratch, &mut out).is_err());
    let wrong = QueryTile { kv_head: 2, ..tile };
    assert!(attend(&case.params, wrong, scratch, &mut out).is_err());
    let wrong = QueryTile {
        first_position: usize::MAX,
        ..tile
    };
    assert!(attend(&case.params, wrong, scratch, &mut out).is_err());
    let wrong = QueryTile {
        first_position: 63,
        ..tile
    };
    assert!(attend(&case.params, wrong, scratch, &mut out).is_err());
    let wrong = QueryTile {
        stride: width - 1,
        ..tile
    };
    assert!(attend(&case.params, wrong, scratch, &mut out).is_err());
    assert!(attend(&case.params, tile, scratch, &mut out[..96]).is_err());
    let params = AttentionParams {
        heads: 5,
        ..case.params
    };
    assert!(attend(&params, tile, scratch, &mut out).is_err());
    for head_dim in [0, 8, 1024] {
        let shape = KvShape {
            head_dim,
            ..case.shape
        };
        assert!(KvCache::new(shape).is_err());
    }
}
