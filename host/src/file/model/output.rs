//! Output folders that appear only when complete.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::error::ModelFault;
use crate::file::FileError;
use crate::file::format::mapped::Stamp;
use crate::file::write::temporary::{Temporary, make};

/// A folder that is written beside its final place and renamed when it is complete. Dropped before
/// that, it leaves nothing behind.
pub(in crate::file) struct OutputFolder {
    /// As the caller calls it.
    path: PathBuf,
    /// The same without links: where the folder is renamed to.
    place: PathBuf,
    temporary: Temporary,
}

impl OutputFolder {
    /// Starts the output `path` of a job that reads files of the folder `input`.
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
        // The root of all folders cannot be renamed to.
        let Some(parent) = place.parent() else { return Err(taken(path)) };
        let temporary = Temporary::create(parent, |path| fs::create_dir(path));
        let ((), temporary) = temporary.map_err(FileError::io(path, "write"))?;
        if exists {
            // What `commit` will do must not fail after hours, as it does where a volume is
            // mounted: one empty folder replaces another.
            let probe = temporary.path().join("probe");
            let replace = make(|| fs::create_dir(&probe).and_then(|()| fs::rename(&probe, &place)));
            replace.map_err(FileError::io(path, "replace"))?;
        }
        Ok(Self { path: path.to_owned(), place, temporary })
    }

    /// Where to write the file `name` of the folder.
    pub(in crate::file) fn file(&self, name: &OsStr) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// Copies a file, or what a link leads to, into the folder.
    pub(in crate::file) fn copy(&self, from: &Path, name: &OsStr) -> Result<(), FileError> {
        let status = fs::metadata(from).map_err(FileError::io(from, "open"))?;
        if !status.is_file() {
            return Err(FileError::NotAFile { path: from.to_owned() });
        }
        let mut source = File::open(from).map_err(FileError::io(from, "open"))?;
        let stamp = Stamp::of(&source).map_err(FileError::io(from, "read"))?;
        let (to, copy) = (self.file(name), self.path.join(name));
        let target = make(|| File::create_new(to));
        let mut target = target.map_err(FileError::io(&copy, "write"))?;
        io::copy(&mut source, &mut target).map_err(|fault| {
            let path = if FileError::is_no_space(&fault) { &copy } else { from };
            FileError::io(path, "copy")(fault)
        })?;
        stamp.check(&source, from)?;
        target.sync_all().map_err(FileError::io(&copy, "write"))
    }

    /// Puts the name that a file will have into an error about one that [`Self::file`] named.
    pub(in crate::file) fn renamed(&self, mut error: FileError) -> FileError {
        if let FileError::Io { path, .. } | FileError::NoSpace { path, .. } = &mut error
            && let Ok(file) = path.strip_prefix(self.temporary.path())
        {
            *path = self.path.join(file);
        }
        error
    }

    /// Gives the folder its name. What has been put there meanwhile stays, and is an error.
    pub(in crate::file) fn commit(self) -> Result<(), FileError> {
        let Self { path, place, temporary } = self;
        let finish = || -> io::Result<()> {
            // So that no crash of the system leaves the name with a part of the files.
            #[cfg(unix)]
            File::open(temporary.path())?.sync_all()?;
            temporary.persist(&place)
        };
        finish().map_err(FileError::io(&path, "write"))
    }
}

/// Whether there is an empty folder at `place`, called `path` by the caller; an error if there is
/// anything else.
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

/// `path` without links, whether it exists or not.
fn place(path: &Path) -> Result<PathBuf, FileError> {
    match fs::symlink_metadata(path) {
        Ok(_) => match fs::canonicalize(path) {
            // A link that leads nowhere cannot be replaced by a folder.
            Err(error) if error.kind() == ErrorKind::NotFound => Err(taken(path)),
            place => place.map_err(FileError::io(path, "read")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let parent = fs::canonicalize(parent).map_err(FileError::io(path, "write"))?;
            let name = path.file_name().ok_or(error).map_err(FileError::io(path, "write"))?;
            Ok(parent.join(name))
        }
        Err(error) => Err(FileError::io(path, "write")(error)),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A place with an empty folder `in`, and an output `out` of it.
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
