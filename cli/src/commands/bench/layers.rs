//! The layers of a file, compressed or not.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use fused_rans::file::{CompressedFile, FileError};
use fused_rans::{Blob, Dtype, Matrix, encode};
use safetensors::tensor::{Metadata, TensorInfo};

use crate::terminal::Failure;

/// A file without a single layer.
#[derive(Debug, thiserror::Error)]
#[error("{}: no layer to measure: {why}", path.display())]
pub(super) struct NoLayers {
    pub(super) path: PathBuf,
    pub(super) why: &'static str,
}

/// The layers of a file, at least one.
pub(super) struct Layers {
    path: PathBuf,
    source: Source,
    names: Vec<String>,
}

enum Source {
    Compressed(CompressedFile),
    Plain(Plain),
}

/// A file of which every matrix is compressed when it is asked for.
struct Plain {
    file: File,
    metadata: Metadata,
    /// Where the tensors start.
    data_start: u64,
}

impl Layers {
    /// Opens a file and finds its layers: what is compressed, or could be.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let (source, names, why) = match CompressedFile::open(path) {
            Ok(file) => {
                let names = file.blob_names().map(ToOwned::to_owned).collect::<Vec<_>>();
                (Source::Compressed(file), names, "nothing in it is compressed")
            }
            // A valid file, that much has been checked.
            Err(FileError::NotCompressed { .. }) => {
                let plain = Plain::open(path)?;
                let names = plain.names();
                (Source::Plain(plain), names, "no matrix of BF16, F16, F8_E4M3 or I8")
            }
            Err(error) => return Err(error.into()),
        };
        let path = path.to_owned();
        if names.is_empty() {
            return Err(NoLayers { path, why }.into());
        }
        Ok(Self { path, source, names })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the layers, in the file's order.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// What `job` makes of a layer; `None` for one that compression does not make smaller.
    pub(super) fn with<T>(
        &self,
        name: &str,
        job: impl FnOnce(&Blob<'_>) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        match &self.source {
            Source::Compressed(file) => job(&file.blob(name)?).map(Some),
            Source::Plain(plain) => match plain.compress(name)? {
                Some(blob) => job(&blob).map(Some),
                None => Ok(None),
            },
        }
    }
}

impl Plain {
    fn open(path: &Path) -> Result<Self, Failure> {
        let fault = |error: &dyn std::error::Error| format!("{}: {error}", path.display());
        let mut file = File::open(path).map_err(|error| fault(&error))?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|error| fault(&error))?;
        let length = u64::from_le_bytes(length);
        let mut header = Vec::new();
        file.by_ref().take(length).read_to_end(&mut header).map_err(|error| fault(&error))?;
        let metadata = serde_json::from_slice(&header).map_err(|error| fault(&error))?;
        Ok(Self { file, metadata, data_start: 8 + length })
    }

    /// Names of the matrices that the codec takes, in the order of their data.
    fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.retain(|name| self.metadata.info(name).and_then(matrix).is_some());
        names
    }

    /// The blob of a layer, or `None` if it would not be smaller.
    fn compress(&self, name: &str) -> Result<Option<Blob<'static>>, Failure> {
        let Some(info) = self.metadata.info(name) else { return Ok(None) };
        let Some((dtype, rows, cols)) = matrix(info) else { return Ok(None) };
        let (start, end) = info.data_offsets;
        let mut weights = vec![0; end - start];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_start + start as u64))?;
        file.read_exact(&mut weights)?;
        Ok(encode(Matrix::from_bytes(dtype, &weights, rows, cols)?).ok())
    }
}

/// Type and shape of a matrix that the codec takes.
fn matrix(info: &TensorInfo) -> Option<(Dtype, usize, usize)> {
    let dtype = Dtype::ALL.into_iter().find(|dtype| dtype.name() == info.dtype.to_string())?;
    match *info.shape {
        [rows, cols] if rows > 0 && cols > 0 => Some((dtype, rows, cols)),
        _ => None,
    }
}
