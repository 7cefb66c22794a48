//! Exponential and logarithm in plain IEEE arithmetic.
//!
//! The functions of the standard library call the system's mathematics library, whose last bit differs
//! between systems. A seed that promises the same token everywhere must not depend on it.

use std::f64::consts::LN_2;

const LN_2_HI: f64 = 6.931_471_803_691_238e-1;
const LN_2_LO: f64 = 1.908_214_929_270_587_7e-10;

/// `eˣ`, within 1 ulp or so; `0` below −745, `∞` above 709.8, NaN for NaN.
#[must_use]
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x < -745.2 {
        return 0.0;
    }
    if x > 709.79 {
        return f64::INFINITY;
    }
    let n = (x / LN_2).round_ties_even();
    let r = (x - n * LN_2_HI) - n * LN_2_LO;
    // Taylor series to r^13: |r| ≤ 0.347, so the first dropped term is below 5e-18.
    let mut sum = 1.0;
    for k in (1..=13u32).rev() {
        sum = 1.0 + sum * r / f64::from(k);
    }
    scale_by_power_of_two(sum, n as i32)
}

/// `ln x`, within 1 ulp or so; `−∞` at 0, NaN below.
#[must_use]
pub(crate) fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    let (mut mantissa, mut exponent) = split(x);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m − 1)/(m + 1)); |s| ≤ 0.172, so s^25 is below 1e-19.
    let f = mantissa - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut series = 0.0;
    for k in (1..=11u32).rev() {
        series = z * (1.0 / f64::from(2 * k + 1) + series);
    }
    // 2s = f − s·f, which keeps the leading term exact.
    let tail = s * (2.0 * series - f);
    let k = f64::from(exponent);
    k * LN_2_HI + (f + (tail + k * LN_2_LO))
}

/// `xʸ` for `x ≥ 0`.
#[must_use]
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    if y == 0.0 {
        return 1.0;
    }
    if x == 0.0 {
        return if y > 0.0 { 0.0 } else { f64::INFINITY };
    }
    if y.fract() == 0.0 && y.abs() <= 64.0 {
        let mut product = 1.0;
        for _ in 0..y.abs() as u32 {
            product *= x;
        }
        return if y < 0.0 { 1.0 / product } else { product };
    }
    exp(y * ln(x))
}

/// The smallest `f32` that is not below `x`.
#[must_use]
pub(crate) fn round_up_to_f32(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) < x {
        nearest.next_up()
    } else {
        nearest
    }
}

/// `m` in `[1, 2)` and `e` with `x = m · 2ᵉ`, for finite `x > 0`.
fn split(x: f64) -> (f64, i32) {
    let (x, shift) = if x < f64::MIN_POSITIVE {
        (x * 2f64.powi(54), -54)
    } else {
        (x, 0)
    };
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    (
        f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52)),
        exponent + shift,
    )
}

fn scale_by_power_of_two(x: f64, n: i32) -> f64 {
    let power = |n: i32| f64::from_bits(((n + 1023) as u64) << 52);
    if n < -1022 {
        x * power(n + 600) * power(-600)
    } else if n > 1023 {
        x * power(n - 1) * 2.0
    } else {
        x * power(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        a == b || (a - b).abs() <= 4.5e-16 * b.abs().max(f64::MIN_POSITIVE)
    }

    #[test]
    fn exp_and_ln_agree_with_the_system_within_two_ulp() {
        let mut x = -740.0;
        while x < 709.0 {
            let (own, system) = (exp(x), x.exp());
            assert!(
                close(own, system) || system < 1e-300,
                "exp({x}) = {own}, system {system}"
            );
            x += 0.377;
        }
        let mut x = 1e-310;
        while x < 1e300 {
            assert!(
                close(ln(x), x.ln()),
                "ln({x}) = {}, system {}",
                ln(x),
                x.ln()
            );
            x *= 1.77;
        }
        for x in [
            0.999_999_999,
            1.0,
            1.000_000_001,
            0.5,
            2.0,
            std::f64::consts::E,
        ] {
            assert!(
                close(ln(x), x.ln()),
                "ln({x}) = {}, system {}",
                ln(x),
                x.ln()
            );
        }
        // The lower half of the upper part is 0, so that its multiples are exact.
        assert_eq!(
            LN_2_HI.to_bits() & 0xffff_f000,
            LN_2_HI.to_bits() & 0xffff_ffff
        );
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert!(ln(-1.0).is_nan());
    }

    #[test]
    fn thresholds_round_up() {
        for x in [0.1, -0.1, 1.0, 3.3e-40, -7.123_456_789] {
            let up = round_up_to_f32(x);
            assert!(f64::from(up) >= x && f64::from(up.next_down()) < x);
        }
    }
}
