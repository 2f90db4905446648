//! Faults of models that are not faults of one of their files.

use std::path::PathBuf;

use crate::ErrorKind;

/// Why a model, or its output folder, was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFault {
    /// A folder without any safetensors file.
    #[error("{}: no .safetensors file is in this folder, nor in a folder inside of it", path.display())]
    NoWeights {
        /// Folder at fault.
        path: PathBuf,
    },
    /// A folder of a Hugging Face cache, which has every file twice.
    #[error("{}: this is a cache, not a model: name one of the folders in its `snapshots`", path.display())]
    Cache {
        /// Folder at fault.
        path: PathBuf,
    },
    /// A folder with more entries than any model.
    #[error("{}: more than {limit} files are in this folder: name a model's own folder", path.display())]
    TooManyEntries {
        /// Folder at fault.
        path: PathBuf,
        /// Largest number of entries.
        limit: usize,
    },
    /// A folder that holds more than one model. A warning of [`Model::faults`](crate::file::Model::faults).
    #[error(
        "{}: this folder holds more than one model, {first} and {second}; to take one, name it",
        path.display()
    )]
    SeveralModels {
        /// Folder at fault.
        path: PathBuf,
        /// File or index of a model.
        first: String,
        /// File or index of another model.
        second: String,
    },
    /// The index is invalid, or disagrees with the shards.
    #[error("{}: this index does not fit (complete the download, or delete the index: then all files of its folder are the model)", path.display())]
    Index {
        /// Index at fault.
        path: PathBuf,
        /// The fault.
        source: IndexFault,
    },
    /// Two files of a folder contain a tensor of the same name. A warning of
    /// [`Model::faults`](crate::file::Model::faults).
    #[error("{}: tensor `{tensor}` is in {}, too; each file is taken as it is", path.display(), other.display())]
    TensorTwice {
        /// Shard at fault.
        path: PathBuf,
        /// The other shard.
        other: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// The output exists and is not an empty folder.
    #[error(
        "{}: exists, and is not an empty folder; choose another output",
        path.display()
    )]
    OutputExists {
        /// The output.
        path: PathBuf,
    },
    /// The output folder would be inside the input folder.
    #[error(
        "{}: the output is inside the input folder {}; choose another output",
        path.display(), input.display()
    )]
    OutputInside {
        /// The output.
        path: PathBuf,
        /// Folder of the input.
        input: PathBuf,
    },
    /// The other one of two compared models has no shard of this name.
    #[error("{}: has no counterpart in {}", path.display(), against.display())]
    NoCounterpart {
        /// Shard at fault.
        path: PathBuf,
        /// Model without the shard.
        against: PathBuf,
    },
}

/// A fault of the index of a sharded model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexFault {
    /// Larger than any real index.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// Not JSON, or JSON of another form.
    #[error(
        "it is not the JSON of an index, an object whose `weight_map` has a file for every tensor"
    )]
    Json(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No tensor is listed.
    #[error("its `weight_map` is empty")]
    Empty,
    /// A tensor is listed twice.
    #[error("tensor `{0}` is listed twice")]
    Duplicate(String),
    /// A shard's name leads out of the folder, or does not end in `.safetensors`.
    #[error("tensor `{tensor}`: `{shard}` is not the plain name of a .safetensors file")]
    ShardName {
        /// Name of the tensor.
        tensor: String,
        /// Name of the file.
        shard: String,
    },
    /// A listed file is missing.
    #[error("tensor `{tensor}`: its file `{shard}` does not exist")]
    NoShard {
        /// Name of a tensor that should be in the file.
        tensor: String,
        /// Name of the file.
        shard: String,
    },
    /// A tensor is not in the file that the index lists for it.
    #[error("tensor `{tensor}` is not in its file `{shard}`")]
    NotInShard {
        /// Name of the tensor.
        tensor: String,
        /// Name of the file.
        shard: String,
    },
}

impl ModelFault {
    /// Returns the kind of this fault.
    pub(in crate::file) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoWeights { .. }
            | Self::Cache { .. }
            | Self::TooManyEntries { .. }
            | Self::SeveralModels { .. }
            | Self::OutputExists { .. }
            | Self::OutputInside { .. } => ErrorKind::InvalidArgument,
            Self::Index { .. } | Self::TensorTwice { .. } | Self::NoCounterpart { .. } => {
                ErrorKind::Corruption
            }
        }
    }
}
