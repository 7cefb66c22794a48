//! Exact decimal numbers of any size: no binary floating point decides what a schema allows.

use std::cmp::Ordering;

/// Exponents beyond this are refused when a schema names them: their digits would have to be written out.
pub(super) const MAX_EXPONENT: i64 = 4_096;

/// A number `±digits · 10^exponent`. Digits carry no zeros at either end, so equal numbers are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Decimal {
    negative: bool,
    /// Values 0 to 9, most significant first; empty for zero.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Zero.
    pub(super) fn zero() -> Self {
        Self {
            negative: false,
            digits: Vec::new(),
            exponent: 0,
        }
    }

    fn new(negative: bool, mut digits: Vec<u8>, mut exponent: i64) -> Self {
        while digits.last() == Some(&0) {
            digits.pop();
            exponent += 1;
        }
        let lead = digits.iter().take_while(|&&d| d == 0).count();
        digits.drain(..lead);
        match digits.is_empty() {
            true => Self::zero(),
            false => Self {
                negative,
                digits,
                exponent,
            },
        }
    }

    /// An integer times a power of ten.
    pub(super) fn scaled(value: u128, exponent: i64) -> Self {
        Self::new(
            false,
            value.to_string().bytes().map(|b| b - b'0').collect(),
            exponent,
        )
    }

    /// Reads JSON's number syntax; `None` for anything else and for exponents of more than nine digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                let digits = exponent.strip_prefix('+').unwrap_or(exponent);
                if digits.len() > 10 {
                    return None;
                }
                (mantissa, digits.parse::<i64>().ok()?)
            }
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty()
            || !whole
                .bytes()
                .chain(fraction.bytes())
                .all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let digits = whole
            .bytes()
            .chain(fraction.bytes())
            .map(|b| b - b'0')
            .collect();
        Some(Self::new(
            negative,
            digits,
            exponent - fraction.len() as i64,
        ))
    }

    /// Whether this is zero.
    pub(super) fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Whether this is below zero.
    pub(super) fn is_negative(&self) -> bool {
        self.negative
    }

    /// Whether this is a whole number.
    pub(super) fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    /// Without its sign.
    pub(super) fn abs(&self) -> Self {
        Self {
            negative: false,
            ..self.clone()
        }
    }

    /// With the opposite sign.
    pub(super) fn neg(&self) -> Self {
        Self {
            negative: !self.negative && !self.is_zero(),
            ..self.clone()
        }
    }

    /// The power of ten of the last digit, zero for whole numbers: how many places it needs behind the point.
    pub(super) fn places(&self) -> usize {
        usize::try_from(-self.exponent).unwrap_or(0)
    }

    /// Number of digits before the point (at least 0).
    pub(super) fn whole_len(&self) -> usize {
        usize::try_from(self.digits.len() as i64 + self.exponent).unwrap_or(0)
    }

    /// Whether the digits written out stay within [`MAX_EXPONENT`] places on either side.
    pub(super) fn is_moderate(&self) -> bool {
        self.exponent.abs() <= MAX_EXPONENT && self.digits.len() <= MAX_EXPONENT as usize
    }

    /// The digits of the absolute value before and behind the point, without superfluous zeros.
    pub(super) fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let point = self.digits.len() as i64 + self.exponent;
        let mut whole = Vec::new();
        let mut fraction = Vec::new();
        if point <= 0 {
            fraction.resize(usize::try_from(-point).unwrap_or(0), 0);
            fraction.extend(&self.digits);
        } else if self.exponent >= 0 {
            whole.extend(&self.digits);
            whole.resize(usize::try_from(point).unwrap_or(0), 0);
        } else {
            let (a, b) = self.digits.split_at(usize::try_from(point).unwrap_or(0));
            whole.extend(a);
            fraction.extend(b);
        }
        (whole, fraction)
    }

    fn cmp_abs(&self, other: &Self) -> Ordering {
        match (self.is_zero(), other.is_zero()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let size = |d: &Self| d.digits.len() as i64 + d.exponent;
        size(self)
            .cmp(&size(other))
            .then_with(|| self.digits.cmp(&other.digits))
    }

    /// The absolute value in units of `10^-places`, rounded down, modulo `modulus`.
    fn rem_abs(&self, modulus: u128, places: usize) -> u128 {
        let shift = self.exponent + places as i64;
        let kept = match shift < 0 {
            true => self
                .digits
                .len()
                .saturating_sub(usize::try_from(-shift).unwrap_or(usize::MAX)),
            false => self.digits.len(),
        };
        let zeros = std::iter::repeat_n(&0, usize::try_from(shift).unwrap_or(0));
        self.digits[..kept].iter().chain(zeros).fold(0, |r, &d| {
            (mul_mod(r, 10, modulus) + u128::from(d) % modulus) % modulus
        })
    }

    /// Whether this is a whole multiple of `step`.
    pub(super) fn is_multiple(&self, step: &Step) -> bool {
        self.places() <= step.places && self.rem_abs(step.units, step.places) == 0
    }

    /// The smallest multiple of `step` that is not below this.
    pub(super) fn next_multiple(&self, step: &Step) -> Self {
        // Round towards the right end in units first, then add or take away what is missing.
        let units = self.floor_abs(step.places);
        let exact = units == self.abs();
        let r = units.rem_abs(step.units, step.places);
        let unit = |n: u128| Self::scaled(n, -(step.places as i64));
        match self.negative {
            true => units.sub_abs(&unit(r)).neg(),
            false if r == 0 && exact => units,
            false => units.add_abs(&unit(step.units - r)),
        }
    }

    /// The absolute value cut behind `places` places.
    fn floor_abs(&self, places: usize) -> Self {
        let drop = -(self.exponent + places as i64);
        match usize::try_from(drop) {
            Ok(drop) if drop > 0 => {
                let kept = self.digits.len().saturating_sub(drop);
                Self::new(false, self.digits[..kept].to_vec(), -(places as i64))
            }
            _ => self.abs(),
        }
    }

    fn aligned(&self, exponent: i64) -> Vec<u8> {
        let mut digits = self.digits.clone();
        digits.resize(
            digits.len() + usize::try_from(self.exponent - exponent).unwrap_or(0),
            0,
        );
        digits.reverse();
        digits
    }

    fn add_abs(&self, other: &Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return if self.is_zero() {
                other.abs()
            } else {
                self.abs()
            };
        }
        let exponent = self.exponent.min(other.exponent);
        let (a, b) = (self.aligned(exponent), other.aligned(exponent));
        let mut carry = 0;
        let mut sum: Vec<u8> = (0..a.len().max(b.len()))
            .map(|i| {
                let d = a.get(i).unwrap_or(&0) + b.get(i).unwrap_or(&0) + carry;
                carry = d / 10;
                d % 10
            })
            .collect();
        sum.push(carry);
        sum.reverse();
        Self::new(false, sum, exponent)
    }

    /// `|self| − |other|` for `|self| ≥ |other|`.
    fn sub_abs(&self, other: &Self) -> Self {
        if other.is_zero() {
            return self.abs();
        }
        let exponent = self.exponent.min(other.exponent);
        let (a, b) = (self.aligned(exponent), other.aligned(exponent));
        let mut borrow = 0i16;
        let mut difference: Vec<u8> = (0..a.len())
            .map(|i| {
                let d = i16::from(a[i]) - i16::from(*b.get(i).unwrap_or(&0)) - borrow;
                borrow = i16::from(d < 0);
                (d + 10 * borrow) as u8
            })
            .collect();
        difference.reverse();
        Self::new(false, difference, exponent)
    }

    /// Half of it.
    pub(super) fn half(&self) -> Self {
        let mut carry = 0;
        let mut digits: Vec<u8> = self
            .digits
            .iter()
            .rev()
            .map(|&d| {
                let n = d * 5 + carry;
                carry = n / 10;
                n % 10
            })
            .collect();
        digits.push(carry);
        digits.reverse();
        Self::new(self.negative, digits, self.exponent - 1)
    }

    /// A whole number from its digits, times a power of ten.
    pub(super) fn from_digits(digits: &[u8], exponent: i64) -> Self {
        Self::new(false, digits.to_vec(), exponent)
    }

    /// The sum.
    pub(super) fn add(&self, other: &Self) -> Self {
        if self.negative == other.negative {
            let sum = self.add_abs(other);
            return if self.negative { sum.neg() } else { sum };
        }
        let (larger, smaller) = match self.cmp_abs(other) {
            Ordering::Less => (other, self),
            _ => (self, other),
        };
        let difference = larger.sub_abs(smaller);
        if larger.negative {
            difference.neg()
        } else {
            difference
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.cmp_abs(other),
            (true, true) => other.cmp_abs(self),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A divisor: `units · 10^-places`, in lowest places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Step {
    pub(super) units: u128,
    pub(super) places: usize,
}

/// Units above this could overflow while residues are computed.
const MAX_UNITS: u128 = 1 << 120;

/// Places that a divisor may have behind the point.
const MAX_PLACES: usize = 30;

impl Step {
    /// The step from one whole number to the next.
    pub(super) const ONE: Self = Self {
        units: 1,
        places: 0,
    };

    /// A positive divisor; `None` when it is not positive or has too many digits.
    pub(super) fn new(value: &Decimal) -> Option<Self> {
        if value.negative || value.is_zero() || value.exponent > 36 {
            return None;
        }
        let places = value.places();
        let units = value
            .digits
            .iter()
            .try_fold(0u128, |n, &d| n.checked_mul(10)?.checked_add(u128::from(d)))?;
        let units =
            units.checked_mul(10u128.checked_pow(u32::try_from(value.exponent.max(0)).ok()?)?)?;
        (units < MAX_UNITS && places <= MAX_PLACES).then_some(Self { units, places })
    }

    /// The smallest step that both divide; `None` when it has too many digits.
    pub(super) fn lcm(self, other: Self) -> Option<Self> {
        let places = self.places.max(other.places);
        let raise = |s: Self| {
            s.units
                .checked_mul(10u128.checked_pow((places - s.places) as u32)?)
        };
        let (a, b) = (raise(self)?, raise(other)?);
        let units = (a / gcd(a, b)).checked_mul(b)?;
        (units < MAX_UNITS).then_some(Self { units, places })
    }

    /// The step as a number.
    pub(super) fn value(self) -> Decimal {
        Decimal::scaled(self.units, -(self.places as i64))
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `a · small mod m` for `m` below [`MAX_UNITS`] and `small` at most 16: cannot overflow.
fn mul_mod(a: u128, small: u128, m: u128) -> u128 {
    (a % m) * small % m
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn d(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn equal_numbers_are_equal_values() {
        for (a, b) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("-0", "0"),
            ("0.10", "1E-1"),
            ("12e-1", "1.2"),
        ] {
            assert_eq!(d(a), d(b));
        }
        assert!(d("1e400") > d("9e399") && d("-1e400") < d("-9e399") && d("0.1") > d("0.09"));
    }

    #[test]
    fn arithmetic_is_exact() {
        for (a, b, sum) in [
            ("0.1", "0.2", "0.3"),
            ("-5", "3", "-2"),
            ("1e30", "1", "1000000000000000000000000000001"),
        ] {
            assert_eq!(d(a).add(&d(b)), d(sum));
        }
        let step = Step::new(&d("0.01")).unwrap();
        assert!(
            d("0.29").is_multiple(&step)
                && !d("0.295").is_multiple(&step)
                && d("1e300").is_multiple(&step)
        );
        assert_eq!(d("0.295").next_multiple(&step), d("0.3"));
        assert_eq!(d("-0.295").next_multiple(&step), d("-0.29"));
        assert_eq!(d("-0.3").next_multiple(&step), d("-0.3"));
        assert_eq!(
            Step::new(&d("0.6"))
                .unwrap()
                .lcm(Step::new(&d("4")).unwrap())
                .unwrap()
                .value(),
            d("12")
        );
    }
}
