//! Hugging Face folders: which files are the model, and which are copied along with it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use super::index::{self, Index};
use super::{INDEX_SUFFIX, is_safetensors};
use crate::file::error::{FileError, ModelFault};

/// Name of the only file of a model that is not sharded.
const SINGLE: &str = "model.safetensors";

/// Name of the index that is preferred where there are several.
const INDEX: &str = "model.safetensors.index.json";

/// Extensions of weights in other formats.
const OTHER_WEIGHTS: [&str; 8] = ["bin", "pt", "pth", "gguf", "onnx", "h5", "msgpack", "ckpt"];

/// The files of a folder, by their roles.
pub(in crate::file) struct Folder {
    pub(in crate::file) index: Option<(OsString, Index)>,
    /// The model's safetensors files, in the order of their names.
    pub(in crate::file) shards: Vec<OsString>,
    /// Files that are copied as they are, the index among them.
    pub(in crate::file) companions: Vec<OsString>,
    /// Entries that are left out: other weights, hidden files, folders.
    pub(in crate::file) left_out: Vec<OsString>,
}

impl Folder {
    /// Lists the folder `path`, and chooses the model in it.
    pub(in crate::file) fn read(path: &Path) -> Result<Self, FileError> {
        let Listing { weights, indexes, mut companions, mut left_out } = Listing::read(path)?;
        let (index, shards) = choose(path, &weights, &indexes)?;
        let name = index.as_ref().map(|(name, _)| name);
        companions.extend(name.cloned());
        left_out
            .extend(weights.into_iter().filter(|weights| shards.binary_search(weights).is_err()));
        left_out.extend(indexes.into_iter().filter(|index| Some(index) != name));
        companions.sort_unstable();
        left_out.sort_unstable();
        Ok(Self { index, shards, companions, left_out })
    }
}

/// The chosen index, if there is one, and the shards.
type Choice = (Option<(OsString, Index)>, Vec<OsString>);

/// Chooses the model: the files that the index lists, or `model.safetensors`, or else all files. Refuses a folder with
/// an index and a `model.safetensors` that it does not list, since programs differ in which of the two they load.
fn choose(path: &Path, weights: &[OsString], indexes: &[OsString]) -> Result<Choice, FileError> {
    let several = |first: &OsStr, second: &OsStr| ModelFault::SeveralModels {
        path: path.to_owned(),
        first: first.to_string_lossy().into_owned(),
        second: second.to_string_lossy().into_owned(),
    };
    let single = weights.iter().find(|name| *name == SINGLE);
    let name = match (indexes.iter().find(|name| *name == INDEX), indexes) {
        (Some(name), _) | (None, [name]) => name,
        (None, [first, second, ..]) if single.is_none() => {
            return Err(several(first, second).into());
        }
        (None, _) => {
            let shards = single.map_or_else(|| weights.to_vec(), |single| vec![single.clone()]);
            return match shards.is_empty() {
                true => Err(ModelFault::NoWeights { path: path.to_owned() }.into()),
                false => Ok((None, shards)),
            };
        }
    };
    let index = index::read(&path.join(name))?;
    match single {
        Some(single) if !index.contains_key(SINGLE) => Err(several(single, name).into()),
        _ => {
            let shards = index.keys().map(OsString::from).collect();
            Ok((Some((name.clone(), index)), shards))
        }
    }
}

/// The entries of a folder by kind, each in the order of their names.
#[derive(Default)]
struct Listing {
    weights: Vec<OsString>,
    indexes: Vec<OsString>,
    companions: Vec<OsString>,
    left_out: Vec<OsString>,
}

impl Listing {
    fn read(path: &Path) -> Result<Self, FileError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(FileError::io(path, "read"))? {
            names.push(entry.map_err(FileError::io(path, "read"))?.file_name());
        }
        names.sort_unstable();
        let mut listing = Self::default();
        for name in names {
            // Follows links. A broken link counts as a file: copying it, or opening it as a shard, then reports what is
            // missing.
            let is_file = fs::metadata(path.join(&name)).map_or(true, |status| status.is_file());
            listing.kind(&name, is_file).push(name);
        }
        Ok(listing)
    }

    /// Returns the list that an entry of this name belongs to.
    fn kind(&mut self, name: &OsStr, is_file: bool) -> &mut Vec<OsString> {
        let text = name.to_string_lossy();
        // Weights in other formats have indexes, too: `pytorch_model.bin.index.json`.
        let indexed = Path::new(text.strip_suffix(".index.json").unwrap_or(&text));
        let other = indexed.extension().is_some_and(|ending| {
            OTHER_WEIGHTS.iter().any(|other| ending.eq_ignore_ascii_case(other))
        });
        if !is_file || text.starts_with('.') || other {
            &mut self.left_out
        } else if text.ends_with(INDEX_SUFFIX) {
            &mut self.indexes
        } else if is_safetensors(Path::new(name)) {
            &mut self.weights
        } else {
            &mut self.companions
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_classified_by_name() {
        let kind = |name: &str| {
            let mut listing = Listing::default();
            listing.kind(name.as_ref(), true).push(name.into());
            let Listing { weights, indexes, companions, left_out } = listing;
            [weights, indexes, companions, left_out].iter().position(|names| !names.is_empty())
        };
        for name in ["model.safetensors", "model-00001-of-00002.safetensors", "a.b.safetensors"] {
            assert_eq!(kind(name), Some(0), "{name}");
        }
        for name in ["model.safetensors.index.json", "model.fp16.safetensors.index.json"] {
            assert_eq!(kind(name), Some(1), "{name}");
        }
        let companions = ["config.json", "tokenizer.model", "LICENSE", "README.md", "index.json"];
        for name in companions.into_iter().chain(["safetensors", "bin", "merges.txt"]) {
            assert_eq!(kind(name), Some(2), "{name}");
        }
        let left_out = ["pytorch_model.bin", "a.GGUF", ".gitattributes", "._model.safetensors"];
        for name in left_out.into_iter().chain(["pytorch_model.bin.index.json", "x.onnx"]) {
            assert_eq!(kind(name), Some(3), "{name}");
        }
    }
}
