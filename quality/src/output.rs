//! Writes outputs that appear only when complete.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use tempfile::TempDir;

use crate::Error;

/// Start of the names of temporary folders, by which a user finds those of a killed process.
pub(crate) const PREFIX: &str = ".fused-rans-quality-";

/// A file or folder that is written to a temporary folder beside its target and moved there by [`Output::commit`]. Dropping
/// it before that removes it.
pub(crate) struct Output {
    target: PathBuf,
    folder: TempDir,
}

impl Output {
    /// Starts a file, which will replace an existing one.
    pub(crate) fn file(target: &Path) -> Result<Self, Error> {
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent);
        let folder = folder.map_err(Error::io(target, "write"))?;
        Ok(Self { target: target.to_owned(), folder })
    }

    /// Starts a folder, which must not exist.
    pub(crate) fn folder(target: &Path) -> Result<Self, Error> {
        match fs::symlink_metadata(target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(target, "write")(error)),
            Ok(_) => return Err(Error::Exists { path: target.to_owned() }),
        }
        let output = Self::file(target)?;
        fs::create_dir(output.path()).map_err(Error::io(target, "write"))?;
        Ok(output)
    }

    /// Returns the path to write to. It lies inside of the temporary folder, because that folder's own permissions are
    /// narrower than an output's should be.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// Writes a whole file.
    pub(crate) fn write(target: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        let output = Self::file(target)?;
        fs::write(output.path(), bytes).map_err(Error::io(target, "write"))?;
        output.commit()
    }

    /// Moves the output to its target.
    pub(crate) fn commit(self) -> Result<(), Error> {
        fs::rename(self.path(), &self.target).map_err(Error::io(&self.target, "write"))
    }
}

/// Writes a new safetensors file with default permissions.
pub(crate) fn save(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Result<(), Error> {
    // The library creates files that only the owner can read.
    let new = File::create(path).and_then(|file| file.metadata());
    let permissions = new.map_err(Error::io(path, "write"))?.permissions();
    safetensors::serialize_to_file(tensors, Some(metadata), path)
        .map_err(Error::invalid(path, "safetensors file"))?;
    fs::set_permissions(path, permissions).map_err(Error::io(path, "write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_output_leaves_nothing_and_a_folder_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("model");
        let abandoned = Output::folder(&target).unwrap();
        fs::write(abandoned.path().join("a"), "a").unwrap();
        drop(abandoned);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

        Output::folder(&target).unwrap().commit().unwrap();
        assert!(matches!(Output::folder(&target), Err(Error::Exists { .. })));
        Output::write(&directory.path().join("file"), "1").unwrap();
        Output::write(&directory.path().join("file"), "2").unwrap();
        assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"2");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
