//! Every instruction set computes the same bits, and the passes compute what they say.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::math;

/// Rows of many shapes and lengths, with ties and −inf.
fn rows() -> Vec<Vec<f32>> {
    let mut state = 1u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut rows = Vec::new();
    for len in [1, 2, 15, 16, 17, 63, 64, 65, 127, 200, 1000, 4096, 5003] {
        rows.push((0..len).map(|_| next() * 20.0 - 10.0).collect());
        rows.push((0..len).map(|_| (next() * 4.0).floor()).collect());
        rows.push(
            (0..len)
                .map(|_| {
                    if next() < 0.3 {
                        f32::NEG_INFINITY
                    } else {
                        next() * 200.0 - 190.0
                    }
                })
                .collect(),
        );
        rows.push(
            (0..len)
                .map(|i| {
                    if i % 97 == 0 {
                        next() * 3.0
                    } else {
                        f32::NEG_INFINITY
                    }
                })
                .collect(),
        );
    }
    rows
}

fn block_count(row: &[f32]) -> usize {
    row.len().div_ceil(BLOCK)
}

/// Runs `pass` on every set and checks that the result is that of the portable one.
fn agree<T: PartialEq + std::fmt::Debug>(what: &str, pass: impl Fn(Backend) -> T) -> T {
    let wanted = pass(Backend::portable());
    for backend in Backend::available() {
        assert_eq!(pass(*backend), wanted, "{what} on {}", backend.name());
    }
    wanted
}

#[test]
fn scans_agree_and_find_the_maxima() {
    for row in rows() {
        let (max, blocks) = agree("scan", |backend| {
            let mut blocks = vec![0.0; block_count(&row)];
            let max = scan(backend, &row, &mut blocks);
            (max, blocks)
        });
        assert_eq!(max, row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        for (block, top) in row.chunks(BLOCK).zip(blocks) {
            assert_eq!(top, block.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
        for at in [0, row.len() / 2, row.len() - 1] {
            let mut broken = row.clone();
            broken[at] = f32::NAN;
            let found =
                |backend| scan(backend, &broken, &mut vec![0.0; block_count(&row)]).is_nan();
            assert!(agree("NaN", found), "NaN at {at} of {}", row.len());
        }
    }
}

#[test]
fn masked_scans_agree_and_remove() {
    for row in rows() {
        for pattern in [0u32, u32::MAX, 0xaaaa_aaaa, 0x0001_8000] {
            let mask: Vec<u32> = (0..row.len().div_ceil(32) as u32)
                .map(|i| pattern.rotate_left(i))
                .collect();
            let (max, _, masked) = agree("masked scan", |backend| {
                let mut work = row.clone();
                let mut blocks = vec![0.0; block_count(&row)];
                let max = mask_scan(backend, &mut work, &mask, &mut blocks);
                (max, blocks, work)
            });
            let wanted: Vec<f32> = row
                .iter()
                .enumerate()
                .map(|(i, x)| {
                    if (mask[i / 32] >> (i % 32)) & 1 == 1 {
                        *x
                    } else {
                        f32::NEG_INFINITY
                    }
                })
                .collect();
            assert_eq!(masked, wanted);
            assert_eq!(
                max,
                wanted.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
        }
    }
}

#[test]
fn masked_scans_stop_at_what_is_broken() {
    for row in rows() {
        for (at, broken) in [
            (0, f32::NAN),
            (row.len() - 1, f32::INFINITY),
            (row.len() / 2, f32::NAN),
        ] {
            let mut broken_row = row.clone();
            broken_row[at] = broken;
            for mask in [0, u32::MAX] {
                let mask = vec![mask; row.len().div_ceil(32)];
                let stopped = agree("broken", |backend| {
                    let mut work = broken_row.clone();
                    let max =
                        mask_scan(backend, &mut work, &mask, &mut vec![0.0; block_count(&row)]);
                    max.is_nan() && (work[at].is_nan() || work[at] == f32::INFINITY)
                });
                assert!(stopped, "{at} of {}", row.len());
            }
        }
    }
}

#[test]
fn exponential_sums_agree_to_the_bit_and_with_double_precision() {
    for row in rows() {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            continue;
        }
        for inv_t in [1.0f32, 0.37, 12.5] {
            let mut block_max = vec![0.0; block_count(&row)];
            scan(Backend::portable(), &row, &mut block_max);
            let (sums, blocks) = agree("sums", |backend| {
                let mut blocks = vec![0.0; block_count(&row)];
                let sums = exp_sums(backend, &row, &block_max, max, inv_t, &mut blocks);
                let total = exp_total(
                    backend,
                    &row,
                    &block_max,
                    max,
                    inv_t,
                    &mut vec![0.0; blocks.len()],
                );
                assert_eq!(total.to_bits(), sums.z.to_bits());
                (sums, blocks)
            });
            agree("list", |backend| {
                let mut weights = vec![0.0; row.len()];
                let mut list_blocks = vec![0.0; block_count(&row)];
                let list = exp_list(backend, &row, max, inv_t, &mut weights, &mut list_blocks);
                assert_eq!(
                    (list.z.to_bits(), list.az.to_bits()),
                    (sums.z.to_bits(), sums.az.to_bits())
                );
                assert_eq!(list_blocks, blocks);
                for (x, weight) in row.iter().zip(&weights) {
                    assert_eq!(exp_one((x - max) * inv_t).to_bits(), weight.to_bits());
                }
                weights.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            });
            let exact = |x: &f32| f64::from((x - max) * inv_t);
            let z: f64 = row.iter().map(|x| math::exp(exact(x))).sum();
            let az: f64 = row
                .iter()
                .map(exact)
                .filter(|a| *a > -700.0)
                .map(|a| a * math::exp(a))
                .sum();
            assert!((sums.z - z).abs() <= 2e-7 * z, "{} {z}", sums.z);
            assert!(
                (sums.az - az).abs() <= 1e-6 * (1.0 + az.abs()),
                "{} {az}",
                sums.az
            );
        }
    }
}

#[test]
fn the_exponential_is_within_two_units_of_the_last_place() {
    let mut a = -86.99f32;
    while a <= 0.0 {
        let exact = math::exp(f64::from(a));
        let error = (f64::from(exp_one(a)) - exact).abs() / exact;
        assert!(error < 2e-7, "e^{a}: relative error {error:e}");
        a += 0.0037;
    }
    assert_eq!(exp_one(0.0), 1.0);
    for out in [-87.001, -1e9, f32::NEG_INFINITY] {
        assert_eq!(exp_one(out), 0.0);
    }
}

#[test]
fn gathers_agree_and_keep_the_order() {
    for row in rows() {
        let mut block_max = vec![0.0; block_count(&row)];
        let max = scan(Backend::portable(), &row, &mut block_max);
        for threshold in [f32::NEG_INFINITY, max, max - 3.0, 0.0, 1e9] {
            let list = agree("gather", |backend| {
                let mut ids = vec![0; row.len() + BLOCK];
                let mut values = vec![0.0; row.len() + BLOCK];
                let n = gather(backend, &row, &block_max, threshold, &mut ids, &mut values);
                ids.into_iter().zip(values).take(n).collect::<Vec<_>>()
            });
            let live = row
                .iter()
                .enumerate()
                .filter(|(_, x)| **x >= threshold && **x > f32::NEG_INFINITY);
            assert_eq!(
                list,
                live.map(|(id, x)| (id as u32, *x)).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn bins_and_compaction_agree() {
    for row in rows() {
        let live: Vec<f32> = row
            .iter()
            .copied()
            .filter(|x| *x > f32::NEG_INFINITY)
            .collect();
        let max = live.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let bins = Bins {
            max: f64::from(max),
            inv_t: 0.9,
            centre: -2.5,
            per_nat: 64.0,
            last: 2047.0,
        };
        let numbers = agree("bins", |backend| {
            let mut numbers = vec![0; live.len()];
            bin_numbers(backend, &live, &bins, &mut numbers);
            numbers
        });
        for (x, number) in live.iter().zip(&numbers) {
            assert_eq!(*number, (bins.key(*x) * 64.0).min(2047.0) as u16);
        }
        for limit in [0, 100, 300, 2047] {
            let (kept, inside) = agree("compaction", |backend| {
                let mut ids: Vec<u32> = (0..(live.len() + BLOCK) as u32).map(|i| i * 3).collect();
                let mut values = live.clone();
                values.resize(live.len() + BLOCK, 0.0);
                let mut inside = Vec::new();
                let n = compact(backend, &mut ids, &mut values, &numbers, limit, &mut inside);
                (
                    ids.into_iter().zip(values).take(n).collect::<Vec<_>>(),
                    inside,
                )
            });
            let entries = live
                .iter()
                .enumerate()
                .filter(|(i, _)| numbers[*i] <= limit);
            assert_eq!(
                kept,
                entries.map(|(i, x)| (i as u32 * 3, *x)).collect::<Vec<_>>()
            );
            let equal: Vec<u32> = (0..live.len())
                .filter(|i| numbers[*i] == limit)
                .map(|i| i as u32 * 3)
                .collect();
            assert_eq!(
                inside
                    .iter()
                    .map(|at| kept[*at as usize].0)
                    .collect::<Vec<_>>(),
                equal
            );
        }
    }
}

#[test]
fn moments_and_counts_agree() {
    for row in rows() {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            continue;
        }
        let got = agree("moments", |backend| moments(backend, &row, max));
        let live: Vec<f64> = row
            .iter()
            .filter(|x| **x > f32::NEG_INFINITY)
            .map(|x| f64::from(*x) - f64::from(max))
            .collect();
        assert_eq!(got.count, live.len());
        assert_eq!(
            agree("count", |backend| count_live(backend, &row)),
            live.len()
        );
        let (sum, squares): (f64, f64) = (live.iter().sum(), live.iter().map(|x| x * x).sum());
        assert!((got.sum - sum).abs() <= 1e-5 * (1.0 + sum.abs()));
        assert!((got.squares - squares).abs() <= 1e-5 * (1.0 + squares));
    }
}
