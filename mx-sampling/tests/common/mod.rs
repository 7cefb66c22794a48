//! Pearson's test and the distances that the statistical tests use.

/// False-alarm rate of a suite; each test gets its share.
const RATE: f64 = 1e-6;

/// Tests that share the rate.
const TESTS: f64 = 100.0;

/// Pearson χ² of counts against a law, with bins merged to an expectation of at least 10: statistic and
/// p-value.
pub(crate) fn chi_squared(counts: &[u64], law: &[f64]) -> (f64, f64) {
    let n: u64 = counts.iter().sum();
    let mut order: Vec<usize> = (0..law.len()).collect();
    order.sort_by(|a, b| law[*a].total_cmp(&law[*b]));
    let mut bins: Vec<(f64, f64)> = Vec::new();
    let (mut seen, mut expected) = (0.0, 0.0);
    for at in order {
        // What cannot happen must not.
        if law[at] == 0.0 && counts[at] > 0 {
            return (f64::INFINITY, 0.0);
        }
        seen += counts[at] as f64;
        expected += law[at] * n as f64;
        if expected >= 10.0 {
            bins.push((seen, expected));
            (seen, expected) = (0.0, 0.0);
        }
    }
    if let Some(last) = bins.last_mut() {
        last.0 += seen;
        last.1 += expected;
    }
    let statistic: f64 = bins
        .iter()
        .map(|(seen, expected)| (seen - expected).powi(2) / expected)
        .sum();
    let freedom = bins.len().saturating_sub(1) as f64;
    (
        statistic,
        if freedom == 0.0 {
            1.0
        } else {
            upper_gamma(freedom / 2.0, statistic / 2.0)
        },
    )
}

/// Whether the counts may come from the law, by χ² and by total variation.
pub(crate) fn fits(counts: &[u64], law: &[f64]) -> bool {
    chi_squared(counts, law).1 >= RATE / TESTS
        && variation(counts, law) < variation_bound(counts, law)
}

/// Fails unless the counts may come from the law.
pub(crate) fn assert_fits(what: &str, counts: &[u64], law: &[f64]) {
    let (statistic, p) = chi_squared(counts, law);
    let (distance, bound) = (variation(counts, law), variation_bound(counts, law));
    assert!(
        fits(counts, law),
        "{what}: χ² {statistic:.1}, p {p:e}, variation {distance:.5} of {bound:.5}\n{counts:?}"
    );
}

fn variation(counts: &[u64], law: &[f64]) -> f64 {
    let n = counts.iter().sum::<u64>() as f64;
    counts
        .iter()
        .zip(law)
        .map(|(count, p)| (*count as f64 / n - p).abs())
        .sum::<f64>()
        / 2.0
}

/// Mean bound plus McDiarmid at the rate of one test.
fn variation_bound(counts: &[u64], law: &[f64]) -> f64 {
    let n = counts.iter().sum::<u64>() as f64;
    let cells = law.len() as f64;
    0.5 * (2.0 * (cells - 1.0) / (std::f64::consts::PI * n)).sqrt()
        + ((TESTS / RATE).ln() / (2.0 * n)).sqrt()
}

/// The regularised upper incomplete gamma function.
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        for _ in 0..10_000 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return 1.0 - front * sum;
    }
    // Continued fraction by Lentz.
    let tiny = 1e-300;
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / tiny;
    let mut d = 1.0 / b;
    let mut h = d;
    for i in 1..10_000 {
        let an = -f64::from(i) * (f64::from(i) - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        let delta = d * c;
        h *= delta;
        if (delta - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * h
}

/// Lanczos.
fn ln_gamma(x: f64) -> f64 {
    const C: [f64; 6] = [
        76.180_091_729_471_46,
        -86.505_320_329_416_77,
        24.014_098_240_830_91,
        -1.231_739_572_450_155,
        1.208_650_973_866_179e-3,
        -5.395_239_384_953e-6,
    ];
    let series: f64 = C
        .iter()
        .enumerate()
        .map(|(i, c)| c / (x + 1.0 + i as f64))
        .sum::<f64>()
        + 1.000_000_000_190_015;
    (x + 0.5) * (x + 5.5).ln() - (x + 5.5) + (2.506_628_274_631_000_5 * series / x).ln()
}

#[test]
fn the_gamma_function_knows_the_quantiles_of_chi_squared() {
    // Upper 5 % and 1e-6 points from tables.
    for (freedom, statistic, p) in [
        (1.0, 3.841_459, 0.05),
        (15.0, 24.995_79, 0.05),
        (63.0, 82.528_73, 0.05),
        (7.0, 40.522, 1e-6),
    ] {
        let got = upper_gamma(freedom / 2.0, statistic / 2.0);
        assert!(
            (got / p - 1.0_f64).abs() < 1e-3,
            "{freedom} {statistic}: {got}"
        );
    }
}
