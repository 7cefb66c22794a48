//! Memory that starts at a cache line, in huge pages where it is large.

use memmap2::MmapMut;

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

/// Zeroed bytes for weights: large ones are mapped and, where the system offers it, backed by huge
/// pages, which makes filling them several times and streaming them about a third faster.
#[derive(Debug)]
pub(crate) enum Pages {
    Heap(Aligned<u8>),
    Mapped(MmapMut),
}

/// From this size on memory is mapped: one huge page of most systems.
const MAP_FROM: usize = 2 << 20;

impl Pages {
    /// `len` zeros. The caller has checked that the size is sane.
    pub(crate) fn new(len: usize) -> Self {
        if len < MAP_FROM {
            return Self::Heap(Aligned::new(len));
        }
        let Ok(map) = MmapMut::map_anon(len) else {
            return Self::Heap(Aligned::new(len));
        };
        // Advice: where it is refused, pages stay small.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Self::Mapped(map)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes.as_slice(),
            Self::Mapped(bytes) => bytes,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes.as_mut_slice(),
            Self::Mapped(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_and_writable() {
        for len in [0, 100, MAP_FROM, MAP_FROM + 100] {
            let mut pages = Pages::new(len);
            assert_eq!(pages.as_slice().len(), len);
            assert!(pages.as_slice().iter().all(|&b| b == 0));
            assert_eq!(pages.as_slice().as_ptr().align_offset(LINE), 0);
            pages.as_mut_slice().fill(1);
        }
    }

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
