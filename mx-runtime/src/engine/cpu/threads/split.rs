//! Ways to cut a mutable buffer into disjoint parts that threads may write at the same time.

use std::marker::PhantomData;
use std::ops::Range;

/// Something that can be handed out in disjoint parts, addressed by ranges of units.
///
/// # Safety
///
/// For any set of disjoint unit ranges, the parts returned by [`Split::part`] must not alias.
pub unsafe trait Split: Sync {
    /// What a thread receives.
    type Part;

    /// Number of units that the whole consists of.
    fn units(&self) -> usize;

    /// The part that belongs to `units`.
    ///
    /// # Safety
    ///
    /// `units` lies in `0..self.units()` and overlaps no range that was asked for before.
    unsafe fn part(&self, units: Range<usize>) -> Self::Part;
}

/// Units without data: for stages that only need the range of their work.
#[derive(Debug, Clone, Copy)]
pub struct Units(pub usize);

// SAFETY: the parts hold nothing.
unsafe impl Split for Units {
    type Part = ();

    fn units(&self) -> usize {
        self.0
    }

    unsafe fn part(&self, _units: Range<usize>) {}
}

/// A slice cut into runs of `width` elements; the last run may be shorter.
#[derive(Debug)]
pub struct Rows<'a, T> {
    data: *mut T,
    len: usize,
    width: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T: Send> Rows<'a, T> {
    /// Cuts `data` into units of `width` elements (at least one).
    pub fn new(data: &'a mut [T], width: usize) -> Self {
        Self {
            len: data.len(),
            data: data.as_mut_ptr(),
            width: width.max(1),
            borrow: PhantomData,
        }
    }
}

// SAFETY: the pointer stands for an exclusive borrow whose elements may move between threads.
unsafe impl<T: Send> Sync for Rows<'_, T> {}

// SAFETY: disjoint unit ranges map to disjoint element ranges.
unsafe impl<'a, T: Send> Split for Rows<'a, T> {
    type Part = &'a mut [T];

    fn units(&self) -> usize {
        self.len.div_ceil(self.width)
    }

    unsafe fn part(&self, units: Range<usize>) -> &'a mut [T] {
        let start = (units.start * self.width).min(self.len);
        let end = (units.end * self.width).min(self.len);
        // SAFETY: start..end lies in the borrowed slice and no other part covers it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), end.saturating_sub(start)) }
    }
}

/// A row-major matrix cut into groups of `width` columns; the last group may be narrower.
#[derive(Debug)]
pub struct Columns<'a, T> {
    data: *mut T,
    rows: usize,
    cols: usize,
    width: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T: Send> Columns<'a, T> {
    /// Cuts the columns of `data` (`[rows, cols]`, as many whole rows as it holds) into units of
    /// `width` columns.
    pub fn new(data: &'a mut [T], cols: usize, width: usize) -> Self {
        Self {
            rows: data.len().checked_div(cols).unwrap_or(0),
            data: data.as_mut_ptr(),
            cols,
            width: width.max(1),
            borrow: PhantomData,
        }
    }
}

// SAFETY: the pointer stands for an exclusive borrow whose elements may move between threads.
unsafe impl<T: Send> Sync for Columns<'_, T> {}

// SAFETY: disjoint unit ranges map to disjoint column ranges, and a tile reaches only its own.
unsafe impl<'a, T: Send> Split for Columns<'a, T> {
    type Part = TileMut<'a, T>;

    fn units(&self) -> usize {
        self.cols.div_ceil(self.width)
    }

    unsafe fn part(&self, units: Range<usize>) -> TileMut<'a, T> {
        let start = (units.start * self.width).min(self.cols);
        let end = (units.end * self.width).min(self.cols);
        TileMut {
            // SAFETY: start <= cols, so the pointer stays in the matrix or one past its end.
            data: unsafe { self.data.add(start) },
            rows: self.rows,
            cols: end.saturating_sub(start),
            stride: self.cols,
            borrow: PhantomData,
        }
    }
}

/// A row-major matrix cut into a grid; unit `u` is the tile in row `u / across`, column
/// `u % across` of the grid, where `across` is the number of tiles side by side.
#[derive(Debug)]
pub struct Grid<'a, T> {
    data: *mut T,
    rows: usize,
    cols: usize,
    tile_rows: usize,
    tile_cols: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T: Send> Grid<'a, T> {
    /// Cuts `data` (`[rows, cols]`) into tiles of `tile_rows` x `tile_cols`, narrower at the edges.
    pub fn new(data: &'a mut [T], cols: usize, tile_rows: usize, tile_cols: usize) -> Self {
        Self {
            rows: data.len().checked_div(cols).unwrap_or(0),
            data: data.as_mut_ptr(),
            cols,
            tile_rows: tile_rows.max(1),
            tile_cols: tile_cols.max(1),
            borrow: PhantomData,
        }
    }
}

// SAFETY: the pointer stands for an exclusive borrow whose elements may move between threads.
unsafe impl<T: Send> Sync for Grid<'_, T> {}

// SAFETY: a part gives out only the tiles of its own units, and tiles are disjoint.
unsafe impl<'a, T: Send> Split for Grid<'a, T> {
    type Part = Tiles<'a, T>;

    fn units(&self) -> usize {
        self.rows.div_ceil(self.tile_rows) * self.cols.div_ceil(self.tile_cols)
    }

    unsafe fn part(&self, units: Range<usize>) -> Tiles<'a, T> {
        Tiles {
            data: self.data,
            rows: self.rows,
            cols: self.cols,
            tile_rows: self.tile_rows,
            tile_cols: self.tile_cols,
            units,
            borrow: PhantomData,
        }
    }
}

/// The tiles of a range of units of a [`Grid`].
#[derive(Debug)]
pub struct Tiles<'a, T> {
    data: *mut T,
    rows: usize,
    cols: usize,
    tile_rows: usize,
    tile_cols: usize,
    units: Range<usize>,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: stands for exclusive borrows of its tiles.
unsafe impl<T: Send> Send for Tiles<'_, T> {}

impl<T> Tiles<'_, T> {
    /// The tile of `unit`, or `None` when the unit belongs to another part.
    pub fn tile(&mut self, unit: usize) -> Option<TileMut<'_, T>> {
        if !self.units.contains(&unit) {
            return None;
        }
        let across = self.cols.div_ceil(self.tile_cols);
        let (row, col) = (
            unit / across * self.tile_rows,
            unit % across * self.tile_cols,
        );
        Some(TileMut {
            // SAFETY: `unit` is below the grid's count, so row < rows and col < cols.
            data: unsafe { self.data.add(row * self.cols + col) },
            rows: self.tile_rows.min(self.rows - row),
            cols: self.tile_cols.min(self.cols - col),
            stride: self.cols,
            borrow: PhantomData,
        })
    }
}

/// A rectangle of a row-major matrix, borrowed for writing.
#[derive(Debug)]
pub struct TileMut<'a, T> {
    data: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: a tile is an exclusive borrow of its elements.
unsafe impl<T: Send> Send for TileMut<'_, T> {}

impl<'a, T> TileMut<'a, T> {
    /// All of `data` as a matrix with `cols` columns (as many whole rows as it holds).
    pub fn new(data: &'a mut [T], cols: usize) -> Self {
        Self {
            rows: data.len().checked_div(cols).unwrap_or(0),
            data: data.as_mut_ptr(),
            cols,
            stride: cols,
            borrow: PhantomData,
        }
    }

    /// Rows of the tile.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the tile.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `row` of the tile, empty when the tile has no such row.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        if row >= self.rows {
            return &mut [];
        }
        // SAFETY: row < rows, so the row's `cols` elements lie in the borrowed rectangle, and the
        // result borrows the tile exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride), self.cols) }
    }

    /// The columns `cols` of this tile (clipped to its width), borrowed again.
    pub fn columns(&mut self, cols: Range<usize>) -> TileMut<'_, T> {
        let (start, end) = (cols.start.min(self.cols), cols.end.min(self.cols));
        TileMut {
            // SAFETY: start <= cols, so the pointer stays within a row of the rectangle.
            data: unsafe { self.data.add(start) },
            rows: self.rows,
            cols: end.saturating_sub(start),
            stride: self.stride,
            borrow: PhantomData,
        }
    }
}

macro_rules! split_tuple {
    ($($name:ident $index:tt),+) => {
        // SAFETY: every member splits disjointly by the same units.
        unsafe impl<$($name: Split),+> Split for ($($name,)+) {
            type Part = ($($name::Part,)+);

            fn units(&self) -> usize {
                usize::MAX$(.min(self.$index.units()))+
            }

            unsafe fn part(&self, units: Range<usize>) -> Self::Part {
                // SAFETY: the range lies within every member's units (the minimum of them).
                unsafe { ($(self.$index.part(units.clone()),)+) }
            }
        }
    };
}

split_tuple!(A 0, B 1);
split_tuple!(A 0, B 1, C 2);
split_tuple!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        let mut data = vec![0u32; 7 * 10];
        let split = Columns::new(&mut data, 10, 3);
        assert_eq!(split.units(), 4);
        for range in [0..1, 1..3, 3..4] {
            // SAFETY: the ranges are disjoint and in bounds.
            let mut tile = unsafe { split.part(range) };
            for r in 0..tile.rows() {
                tile.row(r).iter_mut().for_each(|x| *x += 1);
            }
        }
        assert!(data.iter().all(|&x| x == 1));

        let grid = Grid::new(&mut data, 10, 4, 3);
        assert_eq!(grid.units(), 2 * 4);
        for range in [0..3, 3..8] {
            // SAFETY: the ranges are disjoint and in bounds.
            let mut tiles = unsafe { grid.part(range.clone()) };
            assert!(tiles.tile(range.end).is_none());
            for unit in range {
                let mut tile = tiles.tile(unit).expect("own unit");
                for r in 0..tile.rows() {
                    tile.row(r).iter_mut().for_each(|x| *x += 1);
                }
            }
        }
        assert!(data.iter().all(|&x| x == 2));

        let rows = Rows::new(&mut data, 8);
        assert_eq!(rows.units(), 9);
        for range in [0..5, 5..9] {
            // SAFETY: the ranges are disjoint and in bounds.
            unsafe { rows.part(range) }.iter_mut().for_each(|x| *x += 1);
        }
        assert!(data.iter().all(|&x| x == 3));
    }
}
