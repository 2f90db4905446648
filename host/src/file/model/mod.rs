//! Whole models: a single file, the shards that an index lists, or a Hugging Face folder.
//!
//! | path | model | output |
//! |---|---|---|
//! | `*.safetensors.index.json` | the index and the files that it lists | a folder of these |
//! | a folder | in it and in each folder inside of it: the files that an index lists, or `model.safetensors`, or else all `*.safetensors` | a folder, with tokenizer, configuration and so on |
//! | anything else | a single file | a file |
//!
//! Jobs process the files of a model one after another. Files keep their names, and indexes are copied as they are: a
//! compressed model is a model again. Jobs leave out weights in other formats, incomplete downloads, safetensors files
//! that are not part of the model, hidden entries, and links to folders.
//!
//! Jobs do not need an index to be right, since they give back every file byte for byte: what is wrong with it is a
//! warning. Only an index that cannot be read, or that leads out of its folder, is an error.
//!
//! An output folder must be empty or not exist. It appears only when complete.

mod agreement;
mod folder;
mod index;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use folder::Folder;

use crate::file::error::{FileError, IndexFault, ModelFault};
use crate::file::format::header::Tensor;
use crate::file::format::tensor_file::TensorFile;
use crate::file::write::file::parent;

/// End of the name of every index.
const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// A model on disk. Open one to list its files before a job, or without one.
///
/// A path is a single safetensors file, the index of a sharded model (`*.safetensors.index.json`), or a folder: then
/// the model is what its index lists, or its `model.safetensors`, or else all its safetensors files, and the same for each
/// folder inside of it.
///
/// The headers of all files have been read. The weights have not been read, and no file is kept open.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    /// The folder of all its files.
    root: PathBuf,
    /// In the order of their names.
    shards: Vec<Shard>,
    companions: Vec<PathBuf>,
    left_out: Vec<PathBuf>,
    faults: Vec<ModelFault>,
}

/// One safetensors file of a model.
#[derive(Debug)]
pub(in crate::file) struct Shard {
    pub(in crate::file) path: PathBuf,
    /// Its path in the folder of the model.
    pub(in crate::file) name: PathBuf,
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
        Ok(match name.to_ascii_lowercase().ends_with(INDEX_SUFFIX) {
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
    /// [`FileError::Model`] if an index is invalid, if one that was named lists missing files, and if a folder contains no
    /// safetensors file; the errors of [`TensorFile::open`]; [`FileError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let (root, folder) = match PathKind::new(path)? {
            PathKind::File => (parent(path), Folder::default()),
            PathKind::Index => (parent(path), indexed(path)?),
            PathKind::Folder => (path, Folder::read(path)?),
        };
        let Folder { indexes, shards, companions, left_out, mut faults, .. } = folder;
        let (shards, names) = match shards.is_empty() {
            true => {
                let (shard, names) = Shard::read(path.to_owned(), name_of(path))?;
                (vec![shard], vec![names])
            }
            false => {
                let read = shards.into_iter().map(|name| Shard::read(root.join(&name), name));
                read.collect::<Result<Vec<_>, _>>()?.into_iter().unzip()
            }
        };
        faults.extend(agreement::faults(root, &indexes, &shards, &names));
        let (path, root) = (path.to_owned(), root.to_owned());
        Ok(Self { path, root, shards, companions, left_out, faults })
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

    /// Returns the paths, in the model's folder, of the files that jobs copy as they are: the indexes and, of a folder,
    /// tokenizer, configuration and so on.
    pub fn companions(&self) -> impl Iterator<Item = &Path> {
        self.companions.iter().map(PathBuf::as_path)
    }

    /// Returns the paths, in the model's folder, of the entries that jobs leave out: weights in other formats or of other
    /// models, incomplete downloads, hidden entries, links to folders. Empty for a model that was opened by its index.
    pub fn left_out(&self) -> impl Iterator<Item = &Path> {
        self.left_out.iter().map(PathBuf::as_path)
    }

    /// Returns what is wrong with the model, though its files can be compressed one by one: an index of other shards, a
    /// tensor that the index lists elsewhere or that is in two files, two models in one folder.
    pub fn faults(&self) -> impl Iterator<Item = &ModelFault> {
        self.faults.iter()
    }
}

impl Shard {
    /// Reads the header of the shard `path`, whose path in the model is `name`. Returns the names of its tensors, too, in
    /// the order of their data.
    fn read(path: PathBuf, name: PathBuf) -> Result<(Self, Vec<String>), FileError> {
        let file = TensorFile::open(&path)?;
        let tensors = file.tensors();
        let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
        let shard = Self {
            path,
            name,
            is_compressed: matches!(file, TensorFile::Compressed(_)),
            tensors: names.len(),
            tensor_bytes: tensors.iter().map(Tensor::byte_len).sum(),
            file_bytes: file.file_bytes(),
        };
        Ok((shard, names))
    }
}

/// Returns the files that the index `path` lists.
fn indexed(path: &Path) -> Result<Folder, FileError> {
    let index = index::read(path)?;
    let root = parent(path);
    // Before any header is read, which takes a while for many shards.
    for (shard, tensors) in &index {
        let file = root.join(shard);
        if !file.try_exists().map_err(FileError::io(&file, "open"))? {
            let (tensor, shard) = (tensors[0].clone(), shard.clone());
            return Err(index::invalid(path, IndexFault::NoShard { tensor, shard }));
        }
    }
    let name = name_of(path);
    Ok(Folder {
        shards: index.keys().map(PathBuf::from).collect(),
        companions: vec![name.clone()],
        indexes: vec![(name, index)],
        ..Folder::default()
    })
}

/// Returns the name of a file, as a path.
fn name_of(path: &Path) -> PathBuf {
    path.file_name().map(PathBuf::from).unwrap_or_default()
}

/// Returns whether the name of a file is that of a safetensors file.
fn is_safetensors(name: &Path) -> bool {
    name.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"))
}
