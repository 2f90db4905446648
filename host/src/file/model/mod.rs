//! Whole models: a single file, the shards that an index lists, or a Hugging Face folder.
//!
//! | path | model | output |
//! |---|---|---|
//! | `*.safetensors.index.json` | the index and the files that it lists | a folder of these |
//! | a folder | the files that its index lists, or its `model.safetensors`, or else all its `*.safetensors` | a folder, with tokenizer, configuration and so on |
//! | anything else | a single file | a file |
//!
//! Jobs process the files of a model one after another. Files keep their names, and the index is copied as it is: a
//! compressed model is a model again. Jobs leave out weights in other formats, safetensors files that are not part of the
//! model, hidden files, and folders inside the folder.
//!
//! An output folder must be empty or not exist. It appears only when complete.

mod folder;
mod index;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use folder::Folder;
use index::Index;

use crate::file::error::{FileError, IndexFault, ModelFault};
use crate::file::format::header::Tensor;
use crate::file::format::tensor_file::TensorFile;
use crate::file::write::file::parent;

/// End of the name of every index.
const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// A model on disk. Open one to list its files before a job, or without one.
///
/// A path is a single safetensors file, the index of a sharded model (`*.safetensors.index.json`), or a folder: then
/// the model is what the folder's index lists, or its `model.safetensors`, or else all its safetensors files.
///
/// The headers of all files have been read and agree with the index. The weights have not been read, and no file is
/// kept open.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    /// The folder of all its files.
    root: PathBuf,
    /// In the order of their names.
    shards: Vec<Shard>,
    companions: Vec<OsString>,
    left_out: Vec<OsString>,
}

/// One safetensors file of a model.
#[derive(Debug)]
pub(in crate::file) struct Shard {
    pub(in crate::file) path: PathBuf,
    pub(in crate::file) is_compressed: bool,
    /// Number of tensors.
    pub(in crate::file) tensors: usize,
    /// Size of the tensors in bytes, before compression.
    pub(in crate::file) tensor_bytes: u64,
    /// Size of the file in bytes.
    pub(in crate::file) file_bytes: u64,
}

/// The kinds of paths that name a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::file) enum PathKind {
    File,
    Index,
    Folder,
}

impl PathKind {
    /// Looks at the path, and at its name.
    pub(in crate::file) fn new(path: &Path) -> Result<Self, FileError> {
        let status = fs::metadata(path).map_err(FileError::io(path, "open"))?;
        let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
        Ok(match name.ends_with(INDEX_SUFFIX) {
            _ if status.is_dir() => Self::Folder,
            true => Self::Index,
            false => Self::File,
        })
    }
}

impl Model {
    /// Opens the model `path`: a safetensors file, compressed or not, the index of a sharded model, or a folder. Reads
    /// the headers of all its files.
    ///
    /// # Errors
    /// [`FileError::Model`] if an index is invalid or disagrees with its shards, if two shards contain the same tensor,
    /// and if a folder contains no model, or more than one; the errors of [`TensorFile::open`]; [`FileError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let (root, shards, companions, left_out) = match PathKind::new(path)? {
            PathKind::File => {
                let (shards, _) = read_shards(vec![path.to_owned()])?;
                (parent(path), shards, Vec::new(), Vec::new())
            }
            PathKind::Index => {
                let root = parent(path);
                let index = index::read(path)?;
                let shards = read_indexed(path, &index, paths(root, index.keys()))?;
                let companions = path.file_name().map(OsStr::to_owned).into_iter().collect();
                (root, shards, companions, Vec::new())
            }
            PathKind::Folder => {
                let Folder { index, shards, companions, left_out } = Folder::read(path)?;
                let shards = paths(path, &shards);
                let shards = match index {
                    Some((name, index)) => read_indexed(&path.join(name), &index, shards)?,
                    None => read_shards(shards)?.0,
                };
                (path, shards, companions, left_out)
            }
        };
        let (path, root) = (path.to_owned(), root.to_owned());
        Ok(Self { path, root, shards, companions, left_out })
    }

    /// Opens a model with at least one compressed file.
    pub(in crate::file) fn open_compressed(path: &Path) -> Result<Self, FileError> {
        let model = Self::open(path)?;
        match model.shards.iter().any(|shard| shard.is_compressed) {
            true => Ok(model),
            false => Err(FileError::NotCompressed { path: path.to_owned() }),
        }
    }

    /// Returns the path that the model was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the folder of all files.
    pub(in crate::file) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the paths of the model's safetensors files, in the order of their names.
    pub fn shards(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Returns the model's safetensors files, in the order of their names.
    pub(in crate::file) fn files(&self) -> &[Shard] {
        &self.shards
    }

    /// Returns the size of all tensors in bytes, before compression. Most jobs report this total: see
    /// [`Progress`](crate::file::Progress).
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.tensor_bytes).sum()
    }

    /// Returns the names of the files that jobs copy as they are: the index and, of a folder, tokenizer, configuration
    /// and so on.
    pub fn companions(&self) -> impl Iterator<Item = &Path> {
        self.companions.iter().map(Path::new)
    }

    /// Returns the names of the folder's entries that jobs leave out: weights in other formats or of other models,
    /// hidden files, folders. Empty for a model that was opened by its index.
    pub fn left_out(&self) -> impl Iterator<Item = &Path> {
        self.left_out.iter().map(Path::new)
    }
}

impl Shard {
    /// Reads the header of the shard `path`. Returns the names of its tensors, too, in the order of their data.
    fn read(path: PathBuf) -> Result<(Self, Vec<String>), FileError> {
        let file = TensorFile::open(&path)?;
        let tensors = file.tensors();
        let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
        let shard = Self {
            path,
            is_compressed: matches!(file, TensorFile::Compressed(_)),
            tensors: names.len(),
            tensor_bytes: tensors.iter().map(Tensor::byte_len).sum(),
            file_bytes: file.file_bytes(),
        };
        Ok((shard, names))
    }

    /// Returns the name of the file.
    pub(in crate::file) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

/// Returns the paths of the files `names` in the folder `root`.
fn paths(root: &Path, names: impl IntoIterator<Item = impl AsRef<Path>>) -> Vec<PathBuf> {
    names.into_iter().map(|name| root.join(name)).collect()
}

/// Index of the shard that contains a tensor, by the tensor's name.
type Places = HashMap<String, usize>;

/// Reads the headers of the shards that the index `path` lists, in its order, and checks that they agree with it.
fn read_indexed(path: &Path, index: &Index, shards: Vec<PathBuf>) -> Result<Vec<Shard>, FileError> {
    let invalid = |fault| Err(index::invalid(path, fault));
    // Before any header is read, which takes a while for many shards.
    for ((shard, tensors), file) in index.iter().zip(&shards) {
        if !file.try_exists().map_err(FileError::io(file, "open"))? {
            let (tensor, shard) = (tensors[0].clone(), shard.clone());
            return invalid(IndexFault::NoShard { tensor, shard });
        }
    }
    let (shards, places) = read_shards(shards)?;
    for (place, (shard, tensors)) in index.iter().enumerate() {
        if let Some(tensor) = tensors.iter().find(|tensor| places.get(*tensor) != Some(&place)) {
            let (tensor, shard) = (tensor.clone(), shard.clone());
            return invalid(IndexFault::NotInShard { tensor, shard });
        }
    }
    Ok(shards)
}

/// Reads the headers of shards, and checks that no tensor is in two of them.
fn read_shards(paths: Vec<PathBuf>) -> Result<(Vec<Shard>, Places), FileError> {
    let mut shards: Vec<Shard> = Vec::with_capacity(paths.len());
    let mut places = Places::new();
    for path in paths {
        let (shard, names) = Shard::read(path)?;
        for tensor in names {
            match places.entry(tensor) {
                Entry::Vacant(entry) => _ = entry.insert(shards.len()),
                Entry::Occupied(entry) => {
                    let (path, other) = (shard.path, shards[*entry.get()].path.clone());
                    let tensor = entry.key().clone();
                    return Err(ModelFault::TensorTwice { path, other, tensor }.into());
                }
            }
        }
        shards.push(shard);
    }
    Ok((shards, places))
}

/// Returns whether the name of a file is that of a safetensors file.
fn is_safetensors(name: &Path) -> bool {
    name.extension().is_some_and(|ending| ending == "safetensors")
}
