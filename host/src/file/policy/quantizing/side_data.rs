//! Tensors that belong to others which are quantized already: their scales, zero points and low-rank factors.

use std::collections::HashMap;

use crate::file::format::header::Tensor;

/// The places in a model where tensors of codes are, with the size of the largest tensor at each.
#[derive(Debug, Default)]
pub(super) struct CodePlaces<'a>(HashMap<&'a str, u64>);

impl<'a> CodePlaces<'a> {
    /// Finds them among all tensors of a model, since scales may be in another file.
    ///
    /// FP8 and GPTQ have `X.weight` or `X.qweight`, with scales in `X.`; bitsandbytes has `X.weight`, with scales in
    /// `X.weight.`. So a tensor of codes marks both: the module that it is in, and its own name.
    pub(super) fn new(tensors: impl Iterator<Item = &'a Tensor>) -> Self {
        let mut places = HashMap::new();
        for tensor in tensors.filter(|tensor| tensor.dtype.may_be_codes()) {
            let name = tensor.name.as_str();
            for place in [module(name), Some(name)].into_iter().flatten() {
                let largest: &mut u64 = places.entry(place).or_default();
                *largest = tensor.byte_len().max(*largest);
            }
        }
        Self(places)
    }

    /// Returns whether `tensor` belongs to codes: whether it is beside them, and smaller.
    pub(super) fn has_beside(&self, tensor: &Tensor) -> bool {
        let name = tensor.name.as_str();
        let codes = match module(name) {
            Some(module) => self.0.get(module),
            // All tensors that are in no module are beside each other. Only `X_scale` belongs to `X` there.
            None => name.rmatch_indices('_').find_map(|(end, _)| self.0.get(&name[..end])),
        };
        codes.is_some_and(|&bytes| tensor.byte_len() < bytes)
    }
}

/// Returns the part of a name before the last dot.
fn module(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(module, _)| module)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::format::dtype::TensorDtype;

    fn tensor(name: &str, dtype: TensorDtype, bytes: usize) -> Tensor {
        Tensor { name: name.to_owned(), dtype, shape: vec![1, bytes], range: 0..bytes }
    }

    #[test]
    fn scales_belong_to_the_codes_beside_them() {
        use TensorDtype::{BF16, F8_E4M3, F32, I32, I64, U8};
        let codes = [
            tensor("fp8.q.weight", F8_E4M3, 100),
            tensor("gptq.q.qweight", I32, 100),
            tensor("bnb.q.weight", U8, 100),
            tensor("root", U8, 100),
            tensor("index.ids", I64, 1000),
        ];
        let places = CodePlaces::new(codes.iter());
        let beside = |name: &str, bytes| places.has_beside(&tensor(name, F32, bytes));
        for name in ["fp8.q.weight_scale_inv", "gptq.q.scales", "bnb.q.weight.absmax", "root_scale"]
        {
            assert!(beside(name, 99), "{name}");
            assert!(!beside(name, 100), "{name}");
        }
        for name in ["fp8.k.weight", "fp8.weight", "index.weight", "q", "roots", "root2_scale"] {
            assert!(!beside(name, 1), "{name}");
        }
        assert!(!places.has_beside(&tensor("x", BF16, 1)));
    }
}
