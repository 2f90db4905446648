//! Output files.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::file::error::FileError;
use crate::file::write::temporary::Temporary;

/// A file that is written under a temporary name in the folder of its final one, and renamed when it is complete.
/// Removed if dropped before.
pub(in crate::file) struct OutputFile {
    path: PathBuf,
    // Before `temporary`, so that the file is closed when it is removed.
    file: BufWriter<File>,
    temporary: Temporary,
}

impl OutputFile {
    /// Starts the output `path` of a job that reads `input`.
    pub(in crate::file) fn create(path: &Path, input: &Path) -> Result<Self, FileError> {
        let status = fs::metadata(path);
        let is_folder = status.as_ref().is_ok_and(fs::Metadata::is_dir);
        if is_folder || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            let name = input.file_name().unwrap_or("model.safetensors".as_ref());
            let (path, example) = (path.to_owned(), path.join(name));
            return Err(FileError::FolderOutput { path, example });
        }
        match status {
            Ok(status) if !status.is_file() => {
                return Err(FileError::NotAFile { path: path.to_owned() });
            }
            Ok(_) if same_file(path, input).map_err(FileError::io(path, "read"))? => {
                return Err(FileError::SameFile { path: path.to_owned() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FileError::io(path, "write")(error)),
        }
        let parent = parent(path);
        let create = |path: &Path| File::options().write(true).create_new(true).open(path);
        let (file, temporary) =
            Temporary::create(parent, create).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => FileError::NoFolder { path: parent.to_owned() },
                _ => FileError::io(path, "write")(error),
            })?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { path: path.to_owned(), file, temporary })
    }

    /// Returns its final path.
    pub(in crate::file) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes to a file that exists, and is not renamed.
    #[cfg(all(test, target_os = "linux"))]
    pub(in crate::file) fn for_test(path: &Path) -> Self {
        let file = File::options().write(true).open(path).unwrap();
        let ((), temporary) = Temporary::create(&std::env::temp_dir(), |_| Ok(())).unwrap();
        Self { path: path.to_owned(), file: BufWriter::new(file), temporary }
    }

    /// Appends `bytes`.
    pub(in crate::file) fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(FileError::io(&self.path, "write"))
    }

    /// Continues at the offset `position`.
    pub(in crate::file) fn seek(&mut self, position: u64) -> Result<(), FileError> {
        let position = self.file.seek(SeekFrom::Start(position));
        position.map(drop).map_err(FileError::io(&self.path, "write"))
    }

    /// Syncs the file to the disk, renames it to its final name, and returns its size. The folder is not synced: if the
    /// system crashes soon after, the name may lead to the former file, but never to a part of the output.
    pub(in crate::file) fn commit(self) -> Result<u64, FileError> {
        let Self { path, file, temporary } = self;
        let finish = || -> io::Result<u64> {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            let bytes = file.metadata()?.len();
            drop(file);
            temporary.persist(&path)?;
            Ok(bytes)
        };
        finish().map_err(FileError::io(&path, "write"))
    }
}

/// Returns the folder of a file.
pub(in crate::file) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns whether both paths lead to one file, by links of any kind.
#[cfg(unix)]
fn same_file(a: &Path, b: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| -> io::Result<_> {
        let status = fs::metadata(path)?;
        Ok((status.dev(), status.ino()))
    };
    Ok(id(a)? == id(b)?)
}

/// Returns whether both paths lead to one file, by symbolic links.
#[cfg(not(unix))]
fn same_file(a: &Path, b: &Path) -> io::Result<bool> {
    Ok(fs::canonicalize(a)? == fs::canonicalize(b)?)
}
