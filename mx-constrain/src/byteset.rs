//! A set of byte values: four words, one bit each.

use std::fmt;

/// A set of byte values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ByteSet([u64; 4]);

impl ByteSet {
    /// The set without members.
    pub const EMPTY: Self = Self([0; 4]);
    /// All 256 byte values.
    pub const ALL: Self = Self([u64::MAX; 4]);
    /// The bytes from 0x80 on: parts of characters that take more than one byte in UTF-8.
    pub const WIDE: Self = Self([0, 0, u64::MAX, u64::MAX]);

    /// The set of one byte.
    pub const fn of(byte: u8) -> Self {
        let mut words = [0; 4];
        words[(byte >> 6) as usize] = 1 << (byte & 63);
        Self(words)
    }

    /// The bytes from `first` to `last`, both included. Empty when `first > last`.
    pub const fn range(first: u8, last: u8) -> Self {
        let mut set = Self::EMPTY;
        let mut byte = first as u16;
        while byte <= last as u16 {
            set.0[(byte >> 6) as usize] |= 1 << (byte & 63);
            byte += 1;
        }
        set
    }

    /// Whether `byte` is a member.
    #[inline]
    pub const fn contains(&self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] >> (byte & 63) & 1 == 1
    }

    /// Adds `byte`.
    #[inline]
    pub const fn insert(&mut self, byte: u8) {
        self.0[(byte >> 6) as usize] |= 1 << (byte & 63);
    }

    /// Takes `byte` out.
    #[inline]
    pub const fn remove(&mut self, byte: u8) {
        self.0[(byte >> 6) as usize] &= !(1 << (byte & 63));
    }

    /// The members of either set.
    #[inline]
    pub const fn union(&self, other: &Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]])
    }

    /// The members of both sets.
    #[inline]
    pub const fn intersection(&self, other: &Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0] & b[0], a[1] & b[1], a[2] & b[2], a[3] & b[3]])
    }

    /// The members of this set that are not in `other`.
    #[inline]
    pub const fn difference(&self, other: &Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0] & !b[0], a[1] & !b[1], a[2] & !b[2], a[3] & !b[3]])
    }

    /// The bytes that are no members.
    #[inline]
    pub const fn complement(&self) -> Self {
        let a = self.0;
        Self([!a[0], !a[1], !a[2], !a[3]])
    }

    /// Whether every member is in `other` too.
    #[inline]
    pub const fn is_subset(&self, other: &Self) -> bool {
        self.difference(other).is_empty()
    }

    /// Whether there is no member.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        let a = self.0;
        a[0] | a[1] | a[2] | a[3] == 0
    }

    /// Number of members.
    #[inline]
    pub const fn len(&self) -> usize {
        let a = self.0;
        (a[0].count_ones() + a[1].count_ones() + a[2].count_ones() + a[3].count_ones()) as usize
    }

    /// Number of members below `byte`.
    #[inline]
    pub const fn rank(&self, byte: u8) -> usize {
        let mut below = Self::EMPTY;
        let word = (byte >> 6) as usize;
        let mut at = 0;
        while at < word {
            below.0[at] = self.0[at];
            at += 1;
        }
        below.0[word] = self.0[word] & ((1 << (byte & 63)) - 1);
        below.len()
    }

    /// The member, when there is exactly one.
    #[inline]
    pub fn single(&self) -> Option<u8> {
        if self.len() == 1 {
            self.iter().next()
        } else {
            None
        }
    }

    /// The members in ascending order.
    #[inline]
    pub fn iter(&self) -> Iter {
        Iter {
            words: self.0,
            at: 0,
        }
    }
}

/// The members of a [`ByteSet`] in ascending order.
#[derive(Debug, Clone)]
pub struct Iter {
    words: [u64; 4],
    at: usize,
}

impl Iterator for Iter {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        while self.at < 4 {
            let word = self.words[self.at];
            if word != 0 {
                self.words[self.at] = word & (word - 1);
                return Some((self.at as u32 * 64 + word.trailing_zeros()) as u8);
            }
            self.at += 1;
        }
        None
    }
}

impl FromIterator<u8> for ByteSet {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        let mut set = Self::EMPTY;
        for byte in bytes {
            set.insert(byte);
        }
        set
    }
}

impl IntoIterator for &ByteSet {
    type Item = u8;
    type IntoIter = Iter;

    fn into_iter(self) -> Iter {
        self.iter()
    }
}

impl fmt::Debug for ByteSet {
    /// Ranges, with printable ASCII as characters: `[0-9 a-f 0x80-0xff]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for ByteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |f: &mut fmt::Formatter<'_>, byte: u8| match byte {
            0x21..=0x7e => write!(f, "{}", byte as char),
            _ => write!(f, "0x{byte:02x}"),
        };
        f.write_str("[")?;
        let mut bytes = self.iter().peekable();
        let mut first = true;
        while let Some(low) = bytes.next() {
            let mut high = low;
            while bytes
                .peek()
                .is_some_and(|&next| next == high.wrapping_add(1))
            {
                high = bytes.next().unwrap_or(high);
            }
            if !first {
                f.write_str(" ")?;
            }
            first = false;
            show(f, low)?;
            if high > low {
                f.write_str("-")?;
                show(f, high)?;
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_behave_like_sets() {
        let digits = ByteSet::range(b'0', b'9');
        assert_eq!(digits.len(), 10);
        assert_eq!(
            digits.iter().collect::<Vec<_>>(),
            (b'0'..=b'9').collect::<Vec<_>>()
        );
        assert_eq!(digits.to_string(), "[0-9]");
        assert_eq!(ByteSet::ALL.difference(&ByteSet::WIDE).len(), 128);
        assert_eq!(digits.complement().union(&digits), ByteSet::ALL);
        assert_eq!(ByteSet::of(b'x').single(), Some(b'x'));
        assert_eq!(digits.single(), None);
        assert_eq!(
            (
                digits.rank(b'0'),
                digits.rank(b'7'),
                digits.rank(b'a'),
                digits.rank(0)
            ),
            (0, 7, 10, 0)
        );
        assert_eq!(ByteSet::ALL.rank(255), 255);
        assert!(ByteSet::EMPTY.is_subset(&digits) && !ByteSet::ALL.is_subset(&digits));
        assert_eq!(
            [0u8, 255, 63, 64]
                .into_iter()
                .collect::<ByteSet>()
                .to_string(),
            "[0x00 ?-@ 0xff]"
        );
    }
}
