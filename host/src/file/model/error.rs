//! What can be wrong with a model, beyond what can be wrong with one of its files.

use std::path::PathBuf;

use crate::file::ErrorKind;

/// Why a model, or the folder that it is to be written to, was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFault {
    /// A folder without any safetensors file.
    #[error("{}: no .safetensors file is in this folder", path.display())]
    NoWeights {
        /// Folder at fault.
        path: PathBuf,
    },
    /// A folder in which it is not clear which files are the model.
    #[error(
        "{}: this folder holds more than one model, {first} and {second}; name one of these files",
        path.display()
    )]
    SeveralModels {
        /// Folder at fault.
        path: PathBuf,
        /// A file that stands for a model.
        first: String,
        /// A file that stands for another.
        second: String,
    },
    /// The index is invalid, or does not agree with the shards.
    #[error("{}: invalid index", path.display())]
    Index {
        /// Index at fault.
        path: PathBuf,
        /// What is wrong with it.
        source: IndexFault,
    },
    /// Two shards hold a tensor of the same name.
    #[error("{}: tensor `{tensor}` is in {}, too", path.display(), other.display())]
    TensorTwice {
        /// Shard at fault.
        path: PathBuf,
        /// Shard that has the tensor, too.
        other: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// Something is where the output is to be.
    #[error(
        "{}: exists, and is not an empty folder; choose another output",
        path.display()
    )]
    OutputExists {
        /// Output that was asked for.
        path: PathBuf,
    },
    /// The output would be a part of the input.
    #[error(
        "{}: the output is inside the input folder {}; choose another output",
        path.display(), input.display()
    )]
    OutputInside {
        /// Output that was asked for.
        path: PathBuf,
        /// Folder that the input is in.
        input: PathBuf,
    },
    /// A shard that the other of two compared models does not have.
    #[error("{}: has no counterpart in {}", path.display(), against.display())]
    NoCounterpart {
        /// Shard at fault.
        path: PathBuf,
        /// Model in which it has no counterpart.
        against: PathBuf,
    },
}

/// What is wrong with the index of a sharded model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexFault {
    /// Larger than any index is.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// Not JSON of the right form.
    #[error(
        "it is not the JSON of an index, an object whose `weight_map` has a file for every tensor"
    )]
    Json(#[source] serde_json::Error),
    /// It names no tensor.
    #[error("its `weight_map` is empty")]
    Empty,
    /// It has two files for one tensor.
    #[error("tensor `{0}` is listed twice")]
    Duplicate(String),
    /// A shard's name that leads elsewhere, or is not that of a safetensors file.
    #[error("tensor `{tensor}`: `{shard}` is not the plain name of a .safetensors file")]
    ShardName {
        /// Name of the tensor.
        tensor: String,
        /// Name of the file.
        shard: String,
    },
    /// A file that the index names is missing.
    #[error("tensor `{tensor}`: its file `{shard}` does not exist")]
    NoShard {
        /// Name of a tensor that should be in it.
        tensor: String,
        /// Name of the file.
        shard: String,
    },
    /// A tensor is not in the file that the index names.
    #[error("tensor `{tensor}` is not in its file `{shard}`")]
    NotInShard {
        /// Name of the tensor.
        tensor: String,
        /// Name of the file.
        shard: String,
    },
}

impl ModelFault {
    /// The kind of this fault.
    pub(in crate::file) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoWeights { .. }
            | Self::SeveralModels { .. }
            | Self::OutputExists { .. }
            | Self::OutputInside { .. } => ErrorKind::InvalidArgument,
            Self::Index { .. } | Self::TensorTwice { .. } | Self::NoCounterpart { .. } => {
                ErrorKind::Corruption
            }
        }
    }
}
