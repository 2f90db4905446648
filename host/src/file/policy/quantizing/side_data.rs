//! Tensors that belong to others which are quantized already: their scales, zero points and low-rank factors.

use std::collections::HashMap;
use std::path::Path;

use crate::file::format::header::Tensor;
use crate::file::format::plain::PlainFile;
use crate::file::write::file::parent;

/// Names of tensors of codes that are the only layer of their module, so that all else there belongs to them.
const LAYERS: [&str; 9] = [
    "weight",
    "qweight",
    "weight_packed",
    "weight_q",
    "w_q",
    "packed_weight",
    "quant_weight",
    "indices",
    "codes",
];

/// Ends of names of codes that their scales have other ends for.
const CODES: [&str; 4] = ["_packed", "_blocks", "_quantized", "_codes"];

/// Modules between a layer and its side data: `lora_A.default.weight`.
const MAX_DEPTH: usize = 2;

/// The places in the files of a folder where tensors of codes are, with the size of the largest tensor at each.
#[derive(Debug, Default)]
pub(super) struct CodePlaces<'a> {
    /// Modules of one layer, whose weights are codes.
    modules: HashMap<&'a str, u64>,
    /// Starts of the names of what belongs to codes.
    starts: HashMap<&'a str, u64>,
}

impl<'a> CodePlaces<'a> {
    /// Finds them among all tensors of a folder, since scales may be in another file.
    ///
    /// FP8 and GPTQ have `X.weight` or `X.qweight`, with scales in `X.`; bitsandbytes has `X.weight`, with scales in
    /// `X.weight.`; MXFP4 has `X_blocks`, with `X_scales`.
    pub(super) fn new(tensors: impl Iterator<Item = &'a Tensor>) -> Self {
        let mut places = Self::default();
        for tensor in tensors.filter(|tensor| tensor.dtype.may_be_codes()) {
            let (name, bytes) = (tensor.name.as_str(), tensor.byte_len());
            let start = CODES.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            add(&mut places.starts, start, bytes);
            let Some((module, leaf)) = name.rsplit_once('.') else { continue };
            if LAYERS.iter().any(|layer| leaf.eq_ignore_ascii_case(layer)) {
                // Adapters of a quantized layer are beside it.
                for module in [Some(module), module.strip_suffix(".base_layer")] {
                    module.into_iter().for_each(|module| add(&mut places.modules, module, bytes));
                }
            }
        }
        places
    }

    /// Returns whether `tensor` belongs to codes: whether it is beside them, and smaller.
    pub(super) fn has_beside(&self, tensor: &Tensor) -> bool {
        let name = tensor.name.as_str();
        let starts = name.rmatch_indices(['_', '.']).map(|(end, _)| &name[..end]);
        let belongs = starts.filter_map(|start| self.starts.get(start)).max();
        let modules = name.rmatch_indices('.').map(|(end, _)| &name[..end]).take(1 + MAX_DEPTH);
        let is_in = modules.filter_map(|module| self.modules.get(module)).max();
        belongs.max(is_in).is_some_and(|&bytes| tensor.byte_len() < bytes)
    }
}

/// The places of each folder of a model. Folders of a pipeline have models of their own, with the same names.
#[derive(Debug)]
pub(super) struct FolderPlaces<'a>(HashMap<&'a Path, CodePlaces<'a>>);

impl<'a> FolderPlaces<'a> {
    /// Finds the places in all files.
    pub(super) fn new(files: &'a [PlainFile]) -> Self {
        let mut folders: HashMap<&Path, Vec<&PlainFile>> = HashMap::new();
        for file in files {
            folders.entry(parent(file.path())).or_default().push(file);
        }
        let places = folders.into_iter().map(|(folder, files)| {
            (folder, CodePlaces::new(files.into_iter().flat_map(PlainFile::tensors)))
        });
        Self(places.collect())
    }

    /// Returns the places of the folder of the file `path`, one of those given to [`Self::new`].
    pub(super) fn of(&self, path: &Path) -> &CodePlaces<'a> {
        &self.0[parent(path)]
    }
}

/// Notes the size of a tensor at `place`, if it is the largest.
fn add<'a>(places: &mut HashMap<&'a str, u64>, place: &'a str, bytes: u64) {
    let largest = places.entry(place).or_default();
    *largest = bytes.max(*largest);
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
            tensor("attn.wq", U8, 100),
            tensor("attn.attn_mask", U8, 100),
            tensor("mlp.experts.gate_up_proj_blocks", U8, 100),
            tensor("vptq.q.indices", I32, 100),
            tensor("lora.q.base_layer.weight", U8, 100),
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
        for name in ["attn.wk", "attn.in_proj_weight", "mlp.experts.down_proj"] {
            assert!(!beside(name, 1), "{name}");
        }
        for name in ["vptq.q.centroids.weight", "lora.q.lora_A.default.weight", "attn.wq_scale"] {
            assert!(beside(name, 1), "{name}");
        }
        assert!(beside("mlp.experts.gate_up_proj_bias", 1));
        assert!(!places.has_beside(&tensor("x", BF16, 1)));
    }
}
