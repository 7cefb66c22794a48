//! Texts of numbers that stand for all texts with the same future.

use super::decimal::Decimal;
use super::numbers::{Exponent, NumberSpec, SHORT, STANDS, digits, split, successor, undigits};

impl NumberSpec {
    /// A text with the same future.
    pub(super) fn stand_in(&self, text: String) -> String {
        if self.exact {
            return text;
        }
        if self.exponent == Exponent::Any {
            return short_of_sign(&text);
        }
        let parts = split(&text);
        if parts.exponent.is_some() {
            return text;
        }
        let marked = text.starts_with(STANDS);
        if self.exponent == Exponent::Short && !marked && text.len() <= SHORT {
            return text;
        }
        let mut out = String::new();
        if self.exponent == Exponent::Short {
            out.push(STANDS);
        }
        if parts.negative {
            out.push('-');
        }
        match parts.fraction {
            None => out.push_str(&self.whole_stand_in(parts.negative, parts.whole)),
            Some(fraction) => {
                out.push_str(parts.whole);
                out.push('.');
                out.push_str(&self.fraction_stand_in(parts.negative, parts.whole, fraction));
            }
        }
        out
    }

    pub(super) fn points_of(&self, negative: bool) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.points
            .iter()
            .filter(move |p| p.is_zero() || p.is_negative() == negative)
            .map(Decimal::parts)
    }

    pub(super) fn whole_stand_in(&self, negative: bool, whole: &str) -> String {
        if whole.is_empty() || whole == "0" {
            return whole.to_owned();
        }
        let given = digits(whole);
        let points: Vec<Vec<u8>> = self.points_of(negative).map(|(whole, _)| whole).collect();
        let longest = points.iter().map(Vec::len).max().unwrap_or(0);
        let one = Decimal::scaled(1, 0);
        if !self.steps.iter().all(|step| one.is_multiple(step)) {
            let Some(period) = self.period else {
                return whole.to_owned();
            };
            let len = longest + period.units.to_string().len() + 2;
            if given.len() <= len {
                return whole.to_owned();
            }
            let residue = |digits: &[u8]| {
                digits
                    .iter()
                    .fold(0u128, |r, &d| (r * 10 + u128::from(d)) % period.units)
            };
            let mut base = vec![0; len];
            base[0] = 1;
            let missing = (residue(&given) + period.units - residue(&base)) % period.units;
            let sum = Decimal::from_digits(&base, 0).add(&Decimal::scaled(missing, 0));
            return undigits(&sum.parts().0);
        }
        if given.len() > longest {
            return undigits(
                &std::iter::once(1)
                    .chain(std::iter::repeat_n(0, longest))
                    .collect::<Vec<_>>(),
            );
        }
        let prefixes = points
            .iter()
            .filter(|p| p.len() >= given.len())
            .map(|p| p[..given.len()].to_vec());
        let mut lowest = vec![0; given.len()];
        lowest[0] = 1;
        undigits(&nearest(&given, prefixes, lowest))
    }

    pub(super) fn fraction_stand_in(&self, negative: bool, whole: &str, fraction: &str) -> String {
        let given = digits(fraction);
        let trimmed: Vec<u8> = digits(whole).into_iter().skip_while(|&d| d == 0).collect();
        let mut points: Vec<Vec<u8>> = self
            .points_of(negative)
            .filter(|(whole, _)| *whole == trimmed)
            .map(|(_, fraction)| fraction)
            .collect();
        if self.integers {
            points.push(Vec::new());
        }
        let places = self.steps.iter().map(|s| s.places).max().unwrap_or(0);
        let kept = points.iter().map(Vec::len).max().unwrap_or(0).max(places);
        let (head, tail) = given.split_at(given.len().min(kept));
        // Every number of so many places is a multiple of a step such as 0.01.
        let mut out = match self.steps.iter().all(|step| step.units == 1) {
            false => head.to_vec(),
            true => {
                let prefixes = points.iter().map(|p| {
                    let mut p = p.clone();
                    p.resize(p.len().max(head.len()), 0);
                    p.truncate(head.len());
                    p
                });
                nearest(head, prefixes, vec![0; head.len()])
            }
        };
        if tail.iter().any(|&d| d != 0) {
            // With no step and no point near, what follows changes nothing.
            let matters = !points.is_empty() || !self.steps.is_empty();
            out.push(u8::from(matters));
        } else if out.is_empty() && !given.is_empty() {
            out.push(0);
        }
        undigits(&out)
    }
}

/// The smallest text between the same two points.
fn nearest(given: &[u8], points: impl Iterator<Item = Vec<u8>>, lowest: Vec<u8>) -> Vec<u8> {
    let below = points.filter(|p| p.as_slice() <= given).max();
    match below {
        Some(point) if point == given => point,
        Some(point) => successor(&point),
        None => lowest,
    }
}

/// For numbers of which only the sign matters: whether they are zero, and where their text stands.
fn short_of_sign(text: &str) -> String {
    let parts = split(text);
    let nonzero = |part: &str| part.bytes().any(|b| (b'1'..=b'9').contains(&b));
    let mut out = String::new();
    if parts.negative {
        out.push('-');
    }
    if parts.exponent.is_some() {
        out.push(
            if nonzero(parts.whole) || parts.fraction.is_some_and(nonzero) {
                '1'
            } else {
                '0'
            },
        );
    } else {
        out.push_str(match parts.whole {
            "" => "",
            whole if nonzero(whole) => "1",
            _ => "0",
        });
        if let Some(fraction) = parts.fraction {
            out.push('.');
            if !fraction.is_empty() {
                out.push(if nonzero(fraction) { '1' } else { '0' });
            }
        }
    }
    if let Some(exponent) = parts.exponent {
        out.push('e');
        out.push_str(match exponent {
            "" => "",
            "+" | "-" => "+",
            digits => {
                let digits = digits.trim_start_matches(['+', '-']);
                match (digits < "3", digits.len()) {
                    (true, 1) => "1",
                    (true, 2) => "10",
                    (false, 1) => "9",
                    (false, 2) => "90",
                    _ => "100",
                }
            }
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    pub(super) fn stand_ins_of_signs() {
        for (text, short) in [
            ("-120", "-1"),
            ("0.00", "0.0"),
            ("0.01e-7", "1e9"),
            ("2e27", "1e10"),
            ("-", "-"),
            ("3.", "1."),
            ("0e-", "0e+"),
        ] {
            assert_eq!(short_of_sign(text), short);
        }
        assert_eq!(successor(&[9, 9]), [1, 0, 0]);
    }
}
