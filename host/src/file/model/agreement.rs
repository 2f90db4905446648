//! Whether the files of a model agree with each other, and with their indexes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use super::Shard;
use super::index::Index;
use crate::file::error::{IndexFault, ModelFault};

/// Returns the disagreements between the indexes and `shards`, which contain the tensors `names`; at most one for each
/// index, and one for each folder with a tensor in two files. All are of a model in the folder `root`.
pub(super) fn faults(
    root: &Path,
    indexes: &[(PathBuf, Index)],
    shards: &[Shard],
    names: &[Vec<String>],
) -> Vec<ModelFault> {
    let misplaced = indexes.iter().filter_map(|(path, index)| {
        let fault = misplaced(path.parent().unwrap_or(Path::new("")), index, shards, names)?;
        Some(ModelFault::Index { path: root.join(path), source: fault })
    });
    misplaced.chain(twice(shards, names)).collect()
}

/// Returns the first tensor that is not in the file that an index in the folder `part` lists for it.
fn misplaced(
    part: &Path,
    index: &Index,
    shards: &[Shard],
    names: &[Vec<String>],
) -> Option<IndexFault> {
    for (shard, tensors) in index {
        let place = shards.iter().position(|other| other.name == part.join(shard))?;
        let mut names: Vec<&str> = names[place].iter().map(String::as_str).collect();
        names.sort_unstable();
        let is_missing = |tensor: &&String| names.binary_search(&tensor.as_str()).is_err();
        if let Some(tensor) = tensors.iter().find(is_missing) {
            return Some(IndexFault::NotInShard { tensor: tensor.clone(), shard: shard.clone() });
        }
    }
    None
}

/// Returns the first tensor of each folder that is in two of its files.
fn twice(shards: &[Shard], names: &[Vec<String>]) -> Vec<ModelFault> {
    let mut places: HashMap<(&Path, &str), usize> = HashMap::new();
    let mut found: Vec<(&Path, ModelFault)> = Vec::new();
    for (place, (shard, names)) in shards.iter().zip(names).enumerate() {
        let folder = shard.name.parent().unwrap_or(Path::new(""));
        for tensor in names {
            match places.entry((folder, tensor)) {
                Entry::Vacant(entry) => _ = entry.insert(place),
                Entry::Occupied(_) if found.iter().any(|(other, _)| *other == folder) => {}
                Entry::Occupied(entry) => {
                    let (path, other) = (shard.path.clone(), shards[*entry.get()].path.clone());
                    let tensor = tensor.clone();
                    found.push((folder, ModelFault::TensorTwice { path, other, tensor }));
                }
            }
        }
    }
    found.into_iter().map(|(_, fault)| fault).collect()
}
