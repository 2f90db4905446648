//! Output folders.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::file::error::{FileError, ModelFault};
use crate::file::format::mapped::Stamp;
use crate::file::write::file::parent;
use crate::file::write::temporary::{Temporary, make};

/// A folder that is filled under a temporary name beside its final one, and renamed when it is complete. Removed if
/// dropped before.
pub(in crate::file) struct OutputFolder {
    /// The output, as the caller wrote it.
    path: PathBuf,
    /// The same without links: the path that the folder is renamed to.
    place: PathBuf,
    temporary: Temporary,
}

impl OutputFolder {
    /// Starts the output `path` of a job that reads files in the folder `input`.
    pub(in crate::file) fn create(path: &Path, input: &Path) -> Result<Self, FileError> {
        let place = place(path)?;
        let root = fs::canonicalize(input).map_err(FileError::io(input, "read"))?;
        if place == root {
            return Err(FileError::SameFile { path: path.to_owned() });
        }
        if place.starts_with(&root) {
            let (path, input) = (path.to_owned(), input.to_owned());
            return Err(ModelFault::OutputInside { path, input }.into());
        }
        let exists = is_empty_folder(&place, path)?;
        // Nothing can be renamed to the root of the file system.
        let Some(parent) = place.parent() else { return Err(taken(path)) };
        let temporary = Temporary::create(parent, |path| fs::create_dir(path));
        let ((), temporary) = temporary.map_err(FileError::io(path, "write"))?;
        if exists {
            // `commit` must not fail after hours of work, as it would where a volume is mounted. So this tries now whether
            // an empty folder can replace the one that exists.
            let probe = temporary.path().join("probe");
            let replace = make(|| fs::create_dir(&probe).and_then(|()| fs::rename(&probe, &place)));
            replace.map_err(FileError::io(path, "replace"))?;
        }
        Ok(Self { path: path.to_owned(), place, temporary })
    }

    /// Returns the current path of the file `name` in the folder.
    pub(in crate::file) fn file(&self, name: &Path) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// Creates the folders that the file `name` is in. Returns its current path.
    pub(in crate::file) fn create_parent(&self, name: &Path) -> Result<PathBuf, FileError> {
        let file = self.file(name);
        let made = make(|| fs::create_dir_all(parent(&file)));
        made.map_err(FileError::io(&self.path.join(name), "write"))?;
        Ok(file)
    }

    /// Copies a file into the folder. Follows links.
    pub(in crate::file) fn copy(&self, from: &Path, name: &Path) -> Result<(), FileError> {
        let status = fs::metadata(from).map_err(FileError::io(from, "open"))?;
        if !status.is_file() {
            return Err(FileError::NotAFile { path: from.to_owned() });
        }
        let mut source = File::open(from).map_err(FileError::io(from, "open"))?;
        let stamp = Stamp::new(&source).map_err(FileError::io(from, "read"))?;
        let (to, copy) = (self.create_parent(name)?, self.path.join(name));
        let target = make(|| File::create_new(to));
        let mut target = target.map_err(FileError::io(&copy, "write"))?;
        io::copy(&mut source, &mut target).map_err(|fault| {
            let path = if FileError::is_no_space(&fault) { &copy } else { from };
            FileError::io(path, "copy")(fault)
        })?;
        stamp.check(&source, from)?;
        target.sync_all().map_err(FileError::io(&copy, "write"))
    }

    /// Copies the files `names` of the folder `root`.
    pub(in crate::file) fn copy_all<'a>(
        &self,
        root: &Path,
        names: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), FileError> {
        names.into_iter().try_for_each(|name| self.copy(&root.join(name), name))
    }

    /// Replaces a path of [`Self::file`] in an error by the file's final path.
    pub(in crate::file) fn renamed(&self, mut error: FileError) -> FileError {
        if let FileError::Io { path, .. } | FileError::NoSpace { path, .. } = &mut error
            && let Ok(file) = path.strip_prefix(self.temporary.path())
        {
            *path = self.path.join(file);
        }
        error
    }

    /// Renames the folder to its final name. Fails if something else has been put there meanwhile, and leaves that
    /// alone.
    pub(in crate::file) fn commit(self) -> Result<(), FileError> {
        let Self { path, place, temporary } = self;
        let finish = || -> io::Result<()> {
            // If the system crashes, the final name must not lead to a part of the files.
            #[cfg(unix)]
            sync_folders(temporary.path())?;
            temporary.persist(&place)
        };
        finish().map_err(FileError::io(&path, "write"))
    }
}

/// Syncs a folder, and the folders in it.
#[cfg(unix)]
fn sync_folders(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(path)?.sync_all()
}

/// Returns whether there is an empty folder at `place`, which the caller wrote as `path`. Anything else there is an
/// error.
fn is_empty_folder(place: &Path, path: &Path) -> Result<bool, FileError> {
    match fs::read_dir(place) {
        Ok(mut entries) => match entries.next() {
            None => Ok(true),
            Some(_) => Err(taken(path)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(taken(path)),
        Err(error) => Err(FileError::io(path, "read")(error)),
    }
}

fn taken(path: &Path) -> FileError {
    ModelFault::OutputExists { path: path.to_owned() }.into()
}

/// Returns `path` without links, whether it exists or not.
fn place(path: &Path) -> Result<PathBuf, FileError> {
    match fs::symlink_metadata(path) {
        Ok(_) => match fs::canonicalize(path) {
            // A link that leads nowhere cannot be replaced by a folder.
            Err(error) if error.kind() == ErrorKind::NotFound => Err(taken(path)),
            place => place.map_err(FileError::io(path, "read")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = parent(path);
            let folder = fs::canonicalize(parent).map_err(|error| match error.kind() {
                ErrorKind::NotFound => FileError::NoFolder { path: parent.to_owned() },
                _ => FileError::io(path, "write")(error),
            })?;
            let name = path.file_name().ok_or(error).map_err(FileError::io(path, "write"))?;
            Ok(folder.join(name))
        }
        Err(error) => Err(FileError::io(path, "write")(error)),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// Makes an empty folder `in` and starts the output `out` of it.
    fn start() -> (TempDir, OutputFolder) {
        let all = TempDir::new().unwrap();
        fs::create_dir(all.path().join("in")).unwrap();
        let folder = OutputFolder::create(&all.path().join("out"), &all.path().join("in")).unwrap();
        (all, folder)
    }

    fn count(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn errors_have_the_final_name() {
        let (all, folder) = start();
        let temporary = folder.file("file".as_ref());
        let (here, elsewhere) = (all.path().join("out/file"), all.path().join("in/file"));
        for (kind, what) in
            [(ErrorKind::Other, "cannot write"), (ErrorKind::StorageFull, "no space")]
        {
            for (path, named) in [(&temporary, &here), (&elsewhere, &elsewhere)] {
                let error = folder.renamed(FileError::io(path, "write")(kind.into())).to_string();
                let start = format!("{}: {what}", named.display());
                assert!(error.starts_with(&start), "{error}");
            }
        }
    }

    #[test]
    fn nothing_is_left_without_a_commit() {
        let (all, folder) = start();
        fs::write(folder.file("file".as_ref()), "1").unwrap();
        assert_eq!(count(all.path()), 2);
        drop(folder);
        assert_eq!(count(all.path()), 1);
    }

    #[test]
    fn what_others_have_put_there_meanwhile_stays() {
        let (all, folder) = start();
        let out = all.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("theirs"), "1").unwrap();
        let error = folder.commit().unwrap_err();
        assert!(matches!(error, FileError::Io { path, .. } if path == out));
        assert_eq!((count(all.path()), count(&out)), (2, 1));
    }
}
