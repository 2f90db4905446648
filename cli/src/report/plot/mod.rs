//! `inspect --plot`: what a model's layers take, as a chart in a file.

mod axis;
mod chart;
mod draw;
mod list;
mod name;
mod page;
mod paint;
mod panels;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use fused_rans::file::{FileError, Report, Temporary};

use self::chart::Chart;
use crate::terminal::Failure;

/// A chart that is written beside its final place and renamed when it is complete. Dropped before
/// that, it leaves nothing behind.
pub(crate) struct Plot<'a> {
    model: &'a Path,
    path: &'a Path,
    // Before `temporary`, so that the file is closed when it is removed.
    file: File,
    temporary: Temporary,
}

impl<'a> Plot<'a> {
    /// Starts the chart `path` of `model`. To be done before the model is read, which may take
    /// long: a folder that is missing or closed is found here.
    pub(crate) fn create(path: &'a Path, model: &'a Path) -> Result<Self, FileError> {
        if fs::metadata(path).is_ok_and(|status| !status.is_file()) {
            return Err(FileError::NotAFile { path: path.to_owned() });
        }
        let real = |path| fs::canonicalize(path).ok();
        if real(path).is_some_and(|path| real(model) == Some(path)) {
            return Err(FileError::SameFile { path: path.to_owned() });
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        // Files that `tempfile` opens itself, others cannot read.
        let create = |path: &Path| File::options().write(true).create_new(true).open(path);
        let (file, temporary) = Temporary::create(folder, create).map_err(fault(path))?;
        Ok(Self { model, path, file, temporary })
    }

    /// Draws `report`, what is known of the model.
    pub(crate) fn finish(self, report: &Report) -> Result<(), Failure> {
        let Self { model, path, mut file, temporary } = self;
        let svg = draw::svg(&Chart::of(report, model))?;
        let finish = || -> io::Result<()> {
            file.write_all(svg.as_bytes())?;
            file.sync_all()?;
            drop(file);
            temporary.persist(path)
        };
        Ok(finish().map_err(fault(path))?)
    }
}

fn fault(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    |source| FileError::Io { path: path.to_owned(), action: "write", source }
}
