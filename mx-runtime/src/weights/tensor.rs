//! [`RawTensor`]: a view of one tensor in a weight file.

use super::{StoredType, TensorType, WeightsError, dequantize_into};

/// One tensor as it stands in its file.
#[derive(Clone, Debug)]
pub struct RawTensor<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// How the values are stored.
    pub dtype: TensorType,
    /// Dimensions, outermost first: `[out, in]` for a matrix whose rows are outputs. A scalar has none.
    pub shape: Vec<usize>,
    /// The values, row after row. No alignment is promised.
    pub bytes: &'a [u8],
}

impl<'a> RawTensor<'a> {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values in one row, the innermost dimension; 1 for a scalar.
    pub fn row_values(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes of one row. The readers only hand out tensors whose rows are whole blocks.
    pub fn row_bytes(&self) -> usize {
        self.row_values() / self.dtype.block_values() * self.dtype.block_bytes()
    }

    /// Number of rows: the product of all dimensions but the innermost.
    pub fn rows(&self) -> usize {
        self.shape
            .split_last()
            .map_or(1, |(_, outer)| outer.iter().product())
    }

    /// The bytes of row `index`, counted over all outer dimensions; none beyond the last.
    pub fn row(&self, index: usize) -> Option<&'a [u8]> {
        let begin = index.checked_mul(self.row_bytes())?;
        self.bytes
            .get(begin..begin.checked_add(self.row_bytes())?)
            .filter(|_| index < self.rows())
    }

    /// All values as f32. Costs one allocation of four bytes a value; see [`dequantize_into`] for the arithmetic.
    ///
    /// # Errors
    /// [`WeightsError::BlockLength`] if `shape` and `bytes` do not belong together, which no reader hands out.
    pub fn to_f32(&self) -> Result<Vec<f32>, WeightsError> {
        // Checked before the allocation: the fields are public.
        let values = self
            .shape
            .iter()
            .try_fold(1usize, |product, &dim| product.checked_mul(dim));
        match values.filter(|&values| self.dtype.bytes_for(values) == Some(self.bytes.len())) {
            Some(values) => {
                let mut out = vec![0.0; values];
                dequantize_into(self.dtype, self.bytes, &mut out)?;
                Ok(out)
            }
            None => Err(WeightsError::BlockLength {
                dtype: self.dtype,
                bytes: self.bytes.len(),
                values: values.unwrap_or(usize::MAX),
            }),
        }
    }
}

/// What a file says about a tensor, whether or not it can be used as weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorEntry<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// How the values are stored.
    pub dtype: StoredType,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// Bytes in the file.
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rows_are_counted_over_all_outer_dimensions() {
        let bytes: Vec<u8> = (0..48).collect();
        let tensor = RawTensor {
            name: "w",
            dtype: TensorType::F16,
            shape: vec![2, 3, 4],
            bytes: &bytes,
        };
        assert_eq!(
            (
                tensor.len(),
                tensor.rows(),
                tensor.row_values(),
                tensor.row_bytes()
            ),
            (24, 6, 4, 8)
        );
        assert_eq!(tensor.row(5), Some(&bytes[40..]));
        assert_eq!(tensor.row(6), None);
        let scalar = RawTensor {
            name: "s",
            dtype: TensorType::F32,
            shape: vec![],
            bytes: &bytes[..4],
        };
        assert_eq!(
            (scalar.len(), scalar.rows(), scalar.row(0)),
            (1, 1, Some(&bytes[..4]))
        );
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused_before_allocating() {
        for shape in [vec![3], vec![usize::MAX, 2], vec![1 << 40]] {
            let tensor = RawTensor {
                name: "w",
                dtype: TensorType::F32,
                shape,
                bytes: &[0; 8],
            };
            assert_eq!(tensor.to_f32().unwrap_err().kind(), "block_length");
        }
    }
}
