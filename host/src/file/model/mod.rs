//! Whole models: one file, the shards that an index names, or a Hugging Face folder.
//!
//! | path | what it stands for | becomes |
//! |---|---|---|
//! | `*.safetensors.index.json` | the index and the files that it names | a folder of these |
//! | a folder | what its index names, or its `model.safetensors`, or else all its `*.safetensors` | a folder, with tokenizer, configuration and so on |
//! | anything else | a single file | a file |
//!
//! A model's files are processed one after another. Their names stay, and the index is copied as it
//! is: a compressed model is a model again. Weights in other formats, safetensors files that are no
//! part of the model, hidden files and folders inside the folder do not go along.
//!
//! An output folder must not exist yet, or be empty; it appears only when complete.

mod error;
mod folder;
mod index;
mod jobs;
mod output;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

pub use error::{IndexFault, ModelFault};
use folder::Folder;
use index::Index;
pub use jobs::{compress_model, decompress_model, inspect_model, verify_model};

use crate::file::error::FileError;
use crate::file::format::compressed::{CompressedFile, unmarked};
use crate::file::format::container;
use crate::file::format::header::Tensor;
use crate::file::format::mapped::{Mapped, PlainFile};

/// How the name of every index ends.
const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// A model on disk: its headers have been read and agree with its index, the weights have not been
/// looked at. Nothing is kept open.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    /// The folder of all its files.
    root: PathBuf,
    /// In order of name.
    shards: Vec<Shard>,
    companions: Vec<OsString>,
    left_out: Vec<OsString>,
}

/// One safetensors file of a model.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    is_compressed: bool,
    tensors: usize,
    /// Bytes of its tensors, before compression.
    tensor_bytes: u64,
    /// Bytes of the file as it is.
    file_bytes: u64,
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Index,
    Folder,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, FileError> {
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
    /// Opens the model that `path` stands for: a safetensors file, compressed or not, the index of
    /// a sharded model, or a folder. Reads the headers of all its files.
    ///
    /// # Errors
    /// [`FileError::Model`] for an invalid index, one that does not agree with its shards, a tensor
    /// in two shards, and for a folder without a model or with several; what can be wrong with a
    /// shard; [`FileError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        match Kind::of(path)? {
            Kind::File => {
                let (shards, _) = read_shards(vec![path.to_owned()])?;
                let (path, root) = (path.to_owned(), parent.to_owned());
                Ok(Self { path, root, shards, companions: Vec::new(), left_out: Vec::new() })
            }
            Kind::Index => {
                let index = index::read(path)?;
                let shards = read_indexed(path, &index, paths(parent, index.keys()))?;
                let companions = path.file_name().map(OsStr::to_owned).into_iter().collect();
                let (path, root) = (path.to_owned(), parent.to_owned());
                Ok(Self { path, root, shards, companions, left_out: Vec::new() })
            }
            Kind::Folder => {
                let Folder { index, shards, companions, left_out } = Folder::read(path)?;
                let shards = paths(path, &shards);
                let shards = match index {
                    Some((name, index)) => read_indexed(&path.join(name), &index, shards)?,
                    None => read_shards(shards)?.0,
                };
                let (path, root) = (path.to_owned(), path.to_owned());
                Ok(Self { path, root, shards, companions, left_out })
            }
        }
    }

    /// Path that the model was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The safetensors files of the model, in order of name.
    pub fn shards(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Bytes of all tensors, before compression: what the progress of every job counts up to, but for those that spread a rate
    /// ([`Progress`](crate::file::Progress)).
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.tensor_bytes).sum()
    }

    /// Names of the files that are copied as they are: the index and, of a folder, tokenizer,
    /// configuration and so on.
    pub fn companions(&self) -> impl Iterator<Item = &Path> {
        self.companions.iter().map(Path::new)
    }

    /// Names of what is in a model's folder and does not go along: weights in other formats or of
    /// other models, hidden files, folders. Always empty for a model that is named by its index.
    pub fn left_out(&self) -> impl Iterator<Item = &Path> {
        self.left_out.iter().map(Path::new)
    }
}

impl Shard {
    /// The shard `path`, and the names of its tensors in the order of their data.
    fn read(path: PathBuf) -> Result<(Self, Vec<String>), FileError> {
        let mapped = Mapped::open(&path)?;
        let file_bytes = mapped.len();
        let is_compressed = container::is_marked(mapped.header_text());
        let (names, tensor_bytes) = if is_compressed {
            names_and_bytes(CompressedFile::from_marked(mapped)?.tensors())
        } else {
            let plain = PlainFile::from_unmarked(mapped)?;
            if let Some(fault) = unmarked(&plain) {
                return Err(fault);
            }
            names_and_bytes(plain.tensors())
        };
        let shard = Self { path, is_compressed, tensors: names.len(), tensor_bytes, file_bytes };
        Ok((shard, names))
    }

    /// Name of the file.
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

fn names_and_bytes(tensors: &[Tensor]) -> (Vec<String>, u64) {
    let names = tensors.iter().map(|tensor| tensor.name.clone()).collect();
    (names, tensors.iter().map(|tensor| tensor.bytes() as u64).sum())
}

/// Paths of the files `names` in the folder `root`.
fn paths(root: &Path, names: impl IntoIterator<Item = impl AsRef<Path>>) -> Vec<PathBuf> {
    names.into_iter().map(|name| root.join(name)).collect()
}

/// Which shard, counted from 0, holds a tensor.
type Places = HashMap<String, usize>;

/// Reads the headers of the shards that the index `path` names, in its order, and checks that they
/// agree with it.
fn read_indexed(path: &Path, index: &Index, shards: Vec<PathBuf>) -> Result<Vec<Shard>, FileError> {
    let invalid = |fault| Err(index::invalid(path, fault));
    // First of all shards, as reading so many headers takes a while.
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

/// Reads the headers of shards; checks that no tensor is in two of them.
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

/// Whether a file is a safetensors file, by its name.
fn is_safetensors(name: &Path) -> bool {
    name.extension().is_some_and(|ending| ending == "safetensors")
}
