//! Folders: which files are models, and which are copied along with them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::index::{self, Index};
use super::{INDEX_SUFFIX, is_safetensors};
use crate::file::error::{FileError, IndexFault, ModelFault};

/// Name of the only file of a model that is not sharded.
const SINGLE: &str = "model.safetensors";

/// Name of the index that is preferred where there are several.
const INDEX: &str = "model.safetensors.index.json";

/// Endings of weights in other formats, and of archives of them.
const OTHER_WEIGHTS: [&str; 31] = [
    "bin",
    "pt",
    "pth",
    "ckpt",
    "pkl",
    "pickle",
    "gguf",
    "ggml",
    "onnx",
    "onnx_data",
    "h5",
    "hdf5",
    "keras",
    "msgpack",
    "ot",
    "tflite",
    "pb",
    "npz",
    "npy",
    "mlmodel",
    "nemo",
    "mar",
    "engine",
    "plan",
    "pdparams",
    "pdiparams",
    "zip",
    "tar",
    "7z",
    "rar",
    "llamafile",
];

/// Endings of files whose download has not been completed.
const INCOMPLETE: [&str; 6] = ["incomplete", "part", "partial", "crdownload", "download", "aria2"];

/// Files of models that consist of the models in folders: of diffusers and of sentence-transformers.
const PIPELINES: [&str; 2] = ["model_index.json", "modules.json"];

/// Depth of folders in folders that are read. A pipeline has one level.
const MAX_DEPTH: usize = 8;

/// Most entries that are read, so that a slip like `/` ends with an error.
const MAX_ENTRIES: usize = 100_000;

/// The files of a folder and of the folders in it, by their roles. Paths are relative to it, and in the order of their
/// names.
#[derive(Debug, Default)]
pub(in crate::file) struct Folder {
    /// The indexes that hold, with the folder that each is in.
    pub(in crate::file) indexes: Vec<(PathBuf, Index)>,
    /// The safetensors files.
    pub(in crate::file) shards: Vec<PathBuf>,
    /// Files that are copied as they are, the indexes among them.
    pub(in crate::file) companions: Vec<PathBuf>,
    /// Entries that are left out: other weights, incomplete downloads, hidden files, links to folders.
    pub(in crate::file) left_out: Vec<PathBuf>,
    /// What is wrong, but does not keep the files from being compressed one by one.
    pub(in crate::file) faults: Vec<ModelFault>,
    /// Number of entries read.
    pub(in crate::file) entries: usize,
}

impl Folder {
    /// Lists the folder `root` and the folders in it, and chooses the models in each.
    pub(in crate::file) fn read(root: &Path) -> Result<Self, FileError> {
        let listing = Listing::read(root)?;
        let has = |name: &str| listing.folders.iter().any(|folder| folder == name);
        if has("blobs") && has("snapshots") {
            return Err(ModelFault::Cache { path: root.to_owned() }.into());
        }
        // A model may have others inside of it: copies in other formats, earlier states of a training.
        let is_pipeline =
            PIPELINES.iter().any(|name| listing.companions.iter().any(|file| file == name));
        let takes_parts = is_pipeline || listing.weights.is_empty();
        let mut all = Self::default();
        all.add_part(root, Path::new(""), listing, (0, takes_parts))?;
        if all.shards.is_empty() {
            return Err(ModelFault::NoWeights { path: root.to_owned() }.into());
        }
        for paths in [&mut all.shards, &mut all.companions, &mut all.left_out] {
            paths.sort_unstable();
        }
        Ok(all)
    }

    /// Adds the folder `part` of `root`, which lies so deep in it. The weights in folders inside of it are left out unless
    /// `takes_parts`.
    fn add_part(
        &mut self,
        root: &Path,
        part: &Path,
        listing: Listing,
        (depth, takes_parts): (usize, bool),
    ) -> Result<(), FileError> {
        let Listing { weights, indexes, companions, left_out, folders } = listing;
        self.entries += weights.len() + companions.len() + left_out.len() + folders.len();
        if self.entries > MAX_ENTRIES {
            let path = root.to_owned();
            return Err(ModelFault::TooManyEntries { path, limit: MAX_ENTRIES }.into());
        }
        let paths = |names: Vec<OsString>| names.into_iter().map(|name| part.join(name));
        self.companions.extend(paths(companions));
        self.left_out.extend(paths(left_out));
        match depth == 0 || takes_parts {
            true => self.choose(root, part, weights, indexes)?,
            false => self.left_out.extend(paths(weights).chain(paths(indexes))),
        }
        for folder in folders {
            let folder = part.join(folder);
            // A folder that may not be read, such as `lost+found`, is no part of a model.
            match Listing::read(&root.join(&folder)) {
                Ok(listing) if depth < MAX_DEPTH => {
                    self.add_part(root, &folder, listing, (depth + 1, takes_parts))?;
                }
                _ => self.left_out.push(folder),
            }
        }
        Ok(())
    }

    /// Chooses the models among the safetensors files `weights` of the folder `part`: the files that the indexes list, and
    /// `model.safetensors`; without these, all. An index of which no file is there is one of other shards: then all, too.
    fn choose(
        &mut self,
        root: &Path,
        part: &Path,
        weights: Vec<OsString>,
        indexes: Vec<OsString>,
    ) -> Result<(), FileError> {
        // Programs load the one of this name; others beside it are of variants.
        let is_preferred = |name: &OsString| indexes.len() == 1 || *name == INDEX;
        let has_preferred = indexes.iter().any(is_preferred);
        // In parts of a pipeline other files are variants of it, which have other names in other parts.
        let is_model = part.as_os_str().is_empty();
        let single =
            weights.iter().filter(|name| *name == SINGLE && (is_model || !indexes.is_empty()));
        let mut chosen: Vec<OsString> = single.cloned().collect();
        let mut is_stale = false;
        for name in &indexes {
            if has_preferred && !is_preferred(name) {
                self.left_out.push(part.join(name));
                continue;
            }
            let path = root.join(part).join(name);
            let index = index::read(&path)?;
            self.companions.push(part.join(name));
            let missing = index.iter().find(|(shard, _)| {
                weights.binary_search_by(|name| name.as_os_str().cmp(shard.as_ref())).is_err()
            });
            if let Some((shard, tensors)) = missing {
                let fault =
                    IndexFault::NoShard { tensor: tensors[0].clone(), shard: shard.clone() };
                if index.keys().any(|shard| weights.iter().any(|name| name == shard.as_str())) {
                    // A download that is not complete: nobody wants to find out later.
                    return Err(index::invalid(&path, fault));
                }
                self.faults.push(ModelFault::Index { path, source: fault });
                is_stale = true;
                continue;
            }
            if let Some(single) = weights.iter().find(|name| *name == SINGLE)
                && !index.contains_key(SINGLE)
            {
                let [first, second] =
                    [single, name].map(|name| name.to_string_lossy().into_owned());
                self.faults.push(ModelFault::SeveralModels {
                    path: root.join(part),
                    first,
                    second,
                });
            }
            chosen.extend(index.keys().map(OsString::from));
            self.indexes.push((part.join(name), index));
        }
        for name in weights {
            let path = part.join(&name);
            match chosen.is_empty() || is_stale || chosen.contains(&name) {
                true => self.shards.push(path),
                false => self.left_out.push(path),
            }
        }
        Ok(())
    }
}

/// Returns whether a name is that of an index, of a variant, too: `model.safetensors.index.fp16.json`.
fn is_index(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(INDEX_SUFFIX) || name.ends_with(".json") && name.contains(".safetensors.index.")
}

/// The entries of a folder by kind, each in the order of their names.
#[derive(Default)]
struct Listing {
    weights: Vec<OsString>,
    indexes: Vec<OsString>,
    companions: Vec<OsString>,
    left_out: Vec<OsString>,
    folders: Vec<OsString>,
}

/// What an entry of a folder is, apart from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    File,
    Folder,
    /// A link to a folder, a device, a pipe.
    Other,
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
            let entry = path.join(&name);
            let kind = match (fs::symlink_metadata(&entry), fs::metadata(&entry)) {
                (Ok(status), _) if status.is_dir() => EntryKind::Folder,
                (_, Ok(status)) if !status.is_file() => EntryKind::Other,
                // A broken link counts as a file: copying it, or opening it as a shard, then reports what is missing.
                _ => EntryKind::File,
            };
            listing.list(&name, kind).push(name);
        }
        Ok(listing)
    }

    /// Returns the list that an entry of this name belongs to.
    fn list(&mut self, name: &OsString, kind: EntryKind) -> &mut Vec<OsString> {
        let text = name.to_string_lossy();
        // Weights in other formats have indexes, too: `pytorch_model.bin.index.json`.
        let indexed = Path::new(text.strip_suffix(".index.json").unwrap_or(&text));
        let other = indexed.extension().is_some_and(|ending| {
            let mut others = OTHER_WEIGHTS.iter().chain(&INCOMPLETE);
            others.any(|other| ending.eq_ignore_ascii_case(other))
        });
        match kind {
            _ if text.starts_with('.') => &mut self.left_out,
            EntryKind::Folder => &mut self.folders,
            EntryKind::Other => &mut self.left_out,
            EntryKind::File if other => &mut self.left_out,
            EntryKind::File if is_index(&text) => &mut self.indexes,
            EntryKind::File if is_safetensors(Path::new(name)) => &mut self.weights,
            EntryKind::File => &mut self.companions,
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
            listing.list(&name.into(), EntryKind::File).push(name.into());
            let Listing { weights, indexes, companions, left_out, .. } = listing;
            [weights, indexes, companions, left_out].iter().position(|names| !names.is_empty())
        };
        for name in ["model.safetensors", "model-00001-of-00002.safetensors", "A.B.SAFETENSORS"] {
            assert_eq!(kind(name), Some(0), "{name}");
        }
        let variants = ["model.safetensors.index.fp16.json", "MODEL.fp16.SafeTensors.Index.json"];
        for name in variants.into_iter().chain(["model.safetensors.index.json"]) {
            assert_eq!(kind(name), Some(1), "{name}");
        }
        let companions = ["config.json", "tokenizer.model", "LICENSE", "README.md", "index.json"];
        for name in companions.into_iter().chain(["safetensors", "bin", "merges.txt.gz"]) {
            assert_eq!(kind(name), Some(2), "{name}");
        }
        let left_out = ["pytorch_model.bin", "a.GGUF", ".gitattributes", "._model.safetensors"];
        let left_out = left_out.into_iter().chain(["pytorch_model.bin.index.json", "x.onnx"]);
        let left_out =
            left_out.chain(["model-2.safetensors.incomplete", "y.Part", "rust_model.ot"]);
        for name in left_out.chain(["64.tflite", "weights.npz", "x.npy", "m.mlmodel", "m.nemo"]) {
            assert_eq!(kind(name), Some(3), "{name}");
        }
    }
}
