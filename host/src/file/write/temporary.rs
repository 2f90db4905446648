//! Files and folders that become outputs when they are complete.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How they are called, so that what a killed process left can be found.
const PREFIX: &str = ".fused-rans-";

/// Those of all jobs.
static ALL: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Has `job` make something in a temporary folder, while [`abandon_outputs`] waits with removing that.
pub(in crate::file) fn make<T>(job: impl FnOnce() -> T) -> T {
    let _held = hold();
    job()
}

fn hold() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or a folder with a name of its own, until it is given its final one. Dropped before that, it is removed.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// Has `create` make one in `directory`.
    ///
    /// # Errors
    /// Those of `create`.
    pub fn create<T>(
        directory: &Path,
        create: impl FnMut(&Path) -> io::Result<T>,
    ) -> io::Result<(T, Self)> {
        let mut all = hold();
        let made = tempfile::Builder::new().prefix(PREFIX).make_in(directory, create)?;
        let (made, path) = made.into_parts();
        let path = path.keep()?;
        all.insert(path.clone());
        Ok((made, Self(path)))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Gives it its name; what has had the name is replaced, as far as the operating system does that.
    ///
    /// # Errors
    /// If it does not.
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

/// Removes a file or a folder. Nobody could do anything about a failure.
fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

/// Removes what the jobs that run in this process have written so far: for programs that are told to end, by a signal, in
/// the middle of a job. No job begins or completes an output afterwards but waits for the end of the process, for which the
/// caller must see.
pub fn abandon_outputs() {
    let all = hold();
    all.iter().for_each(|path| remove(path));
    mem::forget(all);
}
