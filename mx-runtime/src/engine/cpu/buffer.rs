//! Memory that starts at a cache line.

/// Bytes of a cache line and of the widest vector.
const LINE: usize = 64;

/// A fixed number of values, the first of which lies at the start of a cache line.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// `len` default values. The caller has checked that the size is sane.
    pub(crate) fn new(len: usize) -> Self {
        let extra = LINE / size_of::<T>().max(1);
        let data = vec![T::default(); len + extra];
        // `align_offset` may decline with `usize::MAX`; then the data is merely slower to read.
        let start = match data.as_ptr().align_offset(LINE) {
            offset if offset <= extra => offset,
            _ => 0,
        };
        Self { data, start, len }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.len);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_a_line_also_when_cloned() {
        for len in [0, 1, 5, 1000] {
            let mut buffer = Aligned::<u16>::new(len);
            buffer.as_mut_slice().fill(3);
            let copy = buffer.clone();
            assert_eq!(copy.as_slice(), vec![3; len]);
            assert_eq!(copy.as_slice().as_ptr().align_offset(LINE), 0);
        }
    }
}
