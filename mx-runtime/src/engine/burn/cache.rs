//! Keys and values of one sequence as burn tensors.

use crate::engine::KvState;
use burn::prelude::*;
use std::any::Any;

/// Positions by which a full cache grows at least.
const GROWTH: usize = 64;

/// Keys and values of all layers. Positions past the sequence's length are leftovers of a truncation or a failed
/// step and are overwritten by the next append, so truncating costs nothing.
#[derive(Debug, Clone)]
pub(super) struct BurnKv {
    layers: Vec<Option<LayerKv>>,
}

/// `[kv_heads, capacity, head_dim]` each.
#[derive(Debug, Clone)]
struct LayerKv {
    keys: Tensor<3>,
    values: Tensor<3>,
}

impl BurnKv {
    pub(super) fn new(layers: usize) -> Self {
        BurnKv {
            layers: vec![None; layers],
        }
    }

    /// Puts `keys` and `values` (`[kv_heads, new, head_dim]`) behind the first `len` positions and returns those of
    /// all `len + new` positions.
    pub(super) fn append(
        &mut self,
        layer: usize,
        len: usize,
        keys: Tensor<3>,
        values: Tensor<3>,
    ) -> (Tensor<3>, Tensor<3>) {
        // Taken out so that the tensors are uniquely owned and written in place.
        let (old_keys, old_values) = match self.layers[layer].take() {
            Some(kv) if len > 0 => (Some(kv.keys), Some(kv.values)),
            _ => (None, None),
        };
        let total = len + keys.dims()[1];
        let keys = written(old_keys, len, keys);
        let values = written(old_values, len, values);
        self.layers[layer] = Some(LayerKv {
            keys: keys.clone(),
            values: values.clone(),
        });
        (keys.narrow(1, 0, total), values.narrow(1, 0, total))
    }
}

/// `old[.., ..len, ..]` followed by `new`, in the memory of `old` where it has room.
fn written(old: Option<Tensor<3>>, len: usize, new: Tensor<3>) -> Tensor<3> {
    let Some(old) = old else { return new };
    let [kv_heads, capacity, head_dim] = old.dims();
    let total = len + new.dims()[1];
    if total <= capacity {
        return old.slice_assign([0..kv_heads, len..total, 0..head_dim], new);
    }
    let spare = GROWTH.max(total / 2);
    let room = Tensor::zeros([kv_heads, spare, head_dim], (&new.device(), new.dtype()));
    Tensor::cat(vec![old.narrow(1, 0, len), new, room], 1)
}

impl KvState for BurnKv {
    fn fork(&self) -> Box<dyn KvState> {
        Box::new(self.clone())
    }

    fn truncate(&mut self, len: usize) {
        if len == 0 {
            self.layers.fill(None);
        }
    }

    fn bytes(&self) -> usize {
        let size = |t: &Tensor<3>| t.dims().iter().product::<usize>() * t.dtype().size();
        self.layers
            .iter()
            .flatten()
            .map(|kv| size(&kv.keys) + size(&kv.values))
            .sum()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
