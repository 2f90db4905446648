//! Files and folders that become outputs when they are complete.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem;
use std::path::{self, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Start of every temporary name, so that what a killed process left can be recognized.
const PREFIX: &str = ".fused-rans-";

/// Names tried before [`Temporary::create`] gives up. Each is one of 2^48.
const ATTEMPTS: usize = 1 << 10;

/// Paths of the temporary files and folders of all jobs in this process.
static ALL: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Runs `job`, which creates something in a temporary folder, while [`abandon_outputs`] cannot remove that folder.
pub(in crate::file) fn make<T>(job: impl FnOnce() -> T) -> T {
    let _held = hold();
    job()
}

fn hold() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or a folder under a temporary name. Removed when dropped, unless [`Self::persist`] has given it its final
/// name. For outputs of the program.
#[doc(hidden)]
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// Calls `create` with unused names in `directory` until it succeeds. `create` must refuse to open what exists, as
    /// [`fs::create_dir`] and [`fs::File::create_new`] do.
    ///
    /// # Errors
    /// The first error of `create` other than [`io::ErrorKind::AlreadyExists`].
    pub fn create<T>(
        directory: &Path,
        mut create: impl FnMut(&Path) -> io::Result<T>,
    ) -> io::Result<(T, Self)> {
        let mut all = hold();
        // A later change of the current directory must not lead to another file.
        let directory = path::absolute(directory)?;
        for _ in 0..ATTEMPTS {
            let path = directory.join(random_name());
            match create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    let made = made?;
                    all.insert(path.clone());
                    return Ok((made, Self(path)));
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no temporary name is free"))
    }

    /// Returns its current path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Renames it to `place`, its final name. Replaces what is there where the operating system does so: a file
    /// replaces a file, on Unix a folder an empty folder.
    ///
    /// # Errors
    /// If the operating system refuses to rename it; it is then removed.
    pub fn persist(self, place: &Path) -> io::Result<()> {
        let mut all = hold();
        fs::rename(&self.0, place)?;
        all.remove(&self.0);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut all = hold();
        if all.remove(&self.0) {
            remove(&self.0);
        }
    }
}

/// Returns an unpredictable name: the standard library keys its hashes with the operating system's randomness.
fn random_name() -> String {
    let random = RandomState::new().hash_one(std::process::id());
    format!("{PREFIX}{:012x}", random >> 16)
}

/// Removes a file or a folder. Ignores failures, because the caller cannot react to them.
fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

/// Removes the incomplete outputs of all jobs in this process. Call it when a signal tells the program to end in the
/// middle of a job, and exit right after: from then on every job that starts or completes an output blocks.
pub fn abandon_outputs() {
    let all = hold();
    all.iter().for_each(|path| remove(path));
    mem::forget(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unused_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mut tries = 0;
        let ((), temporary) = Temporary::create(directory.path(), |path| {
            tries += 1;
            if tries < 3 { Err(io::ErrorKind::AlreadyExists.into()) } else { fs::create_dir(path) }
        })
        .unwrap();
        assert_eq!((tries, temporary.path().parent()), (3, Some(directory.path())));
        let name = temporary.path().file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(PREFIX) && name != random_name(), "{name}");
        drop(temporary);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let full = |_: &Path| Err::<(), _>(io::ErrorKind::AlreadyExists.into());
        let error = Temporary::create(directory.path(), full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
