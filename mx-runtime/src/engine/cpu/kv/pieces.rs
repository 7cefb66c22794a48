//! Equal pieces of large mappings, each with an owner of its own.
//!
//! A block of a key-value cache is about a megabyte: too small for huge pages, without which
//! reading a long cache is a third slower. So blocks are cut from mappings of several of them.
//! Returned pieces are used again; the memory goes back to the system with the last cache that
//! takes from the source.
//!
//! Unsafe code: a piece reaches its bytes through the address of the mapping, which cannot be
//! split safely into parts that are owned one by one.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::super::buffer::Pages;

/// Pieces that are mapped together, at most.
const PIECES: usize = 8;

/// Bytes above which fewer pieces are mapped together.
const EXTENT: usize = 64 << 20;

/// Size of a huge page, the unit of large mappings.
const HUGE: usize = 2 << 20;

/// Bytes of a cache line; every piece starts at one.
const LINE: usize = 64;

/// Hands out pieces of one size. Clones share the mappings.
#[derive(Debug, Clone)]
pub(super) struct PieceSource {
    shared: Arc<Mutex<Shared>>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Shared {
    free: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    extent: Arc<Extent>,
    start: usize,
}

/// A mapping; its bytes are reached only through the pieces.
#[derive(Debug)]
struct Extent {
    base: *mut u8,
    _pages: Pages,
}

// SAFETY: the pointer is used by pieces only, each of which reaches its own bytes.
unsafe impl Send for Extent {}
// SAFETY: as above; the extent itself offers nothing.
unsafe impl Sync for Extent {}

/// Bytes that belong to their holder alone. Their first contents are unspecified.
#[derive(Debug)]
pub(super) struct Piece {
    place: Option<Place>,
    bytes: usize,
    source: Weak<Mutex<Shared>>,
}

impl PieceSource {
    /// A source of pieces of at least `bytes` bytes, a size that the caller has checked.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            shared: Arc::default(),
            bytes: bytes.next_multiple_of(LINE).max(LINE),
        }
    }

    /// A piece that nobody else holds.
    pub(super) fn take(&self) -> Piece {
        let mut shared = lock(&self.shared);
        if shared.free.is_empty() {
            let count = (EXTENT / self.bytes).clamp(1, PIECES);
            let len = self.bytes * count;
            let len = if len < HUGE {
                len
            } else {
                len.next_multiple_of(HUGE)
            };
            let mut pages = Pages::new(len);
            let extent = Arc::new(Extent {
                base: pages.as_mut_slice().as_mut_ptr(),
                _pages: pages,
            });
            // Taken from the end: the first piece comes first.
            shared.free.extend((0..count).rev().map(|index| Place {
                extent: Arc::clone(&extent),
                start: index * self.bytes,
            }));
        }
        Piece {
            place: shared.free.pop(),
            bytes: self.bytes,
            source: Arc::downgrade(&self.shared),
        }
    }
}

impl Piece {
    pub(super) fn as_slice(&self) -> &[u8] {
        let Some(place) = &self.place else {
            return &[];
        };
        // SAFETY: the place was cut from its extent, `bytes` long, and is held by this piece
        // alone; the extent lives as long as the place.
        unsafe { std::slice::from_raw_parts(place.extent.base.add(place.start), self.bytes) }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        let Some(place) = &self.place else {
            return &mut [];
        };
        // SAFETY: as in `as_slice`, and the piece is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(place.extent.base.add(place.start), self.bytes) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let (Some(place), Some(source)) = (self.place.take(), self.source.upgrade()) {
            lock(&source).free.push(place);
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_are_used_again() {
        for bytes in [1, 100, 1 << 20, 3 << 20] {
            let source = PieceSource::new(bytes);
            let mut pieces: Vec<Piece> = (0..19).map(|_| source.take()).collect();
            for (index, piece) in pieces.iter_mut().enumerate() {
                assert_eq!(piece.as_slice().as_ptr().align_offset(LINE), 0);
                assert!(piece.as_slice().len() >= bytes);
                piece.as_mut_slice().fill(index as u8);
            }
            for (index, piece) in pieces.iter().enumerate() {
                assert!(piece.as_slice().iter().all(|&b| b == index as u8));
            }
            let addresses: Vec<_> = pieces.iter().map(|p| p.as_slice().as_ptr()).collect();
            drop(pieces);
            let again = source.take();
            assert!(addresses.contains(&again.as_slice().as_ptr()));
            drop(source);
            assert_eq!(again.as_slice().len(), bytes.next_multiple_of(LINE));
        }
    }
}
