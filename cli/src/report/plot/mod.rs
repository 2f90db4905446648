//! The chart of `inspect --plot`: bits per weight and entropy of a model's layers, as an SVG file.
//!
//! [`Chart`] arranges a report into panels and rows. `draw` turns it into SVG: `panels` and `list` draw its parts with the
//! colors, fonts and marks of `paint`, at the pixel positions of `page`.

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

/// An SVG file that is written under a temporary name beside its final path and renamed when it is complete. Dropped
/// before that, it removes the temporary file.
pub(crate) struct Plot<'a> {
    model: &'a Path,
    path: &'a Path,
    // Declared before `temporary`, so that the file is closed before it is removed.
    file: File,
    temporary: Temporary,
}

impl<'a> Plot<'a> {
    /// Creates the temporary file of the chart `path` of `model`. Call it before the model is read, which may take long, so
    /// that a missing or read-only folder is reported at once.
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
        // Opened here, because `tempfile` would create a file that others cannot read.
        let create = |path: &Path| File::options().write(true).create_new(true).open(path);
        let (file, temporary) = Temporary::create(folder, create).map_err(fault(path))?;
        Ok(Self { model, path, file, temporary })
    }

    /// Draws `report` and moves the file to its final path.
    pub(crate) fn finish(self, report: &Report) -> Result<(), Failure> {
        let Self { model, path, mut file, temporary } = self;
        let svg = draw::svg(&Chart::new(report, model))?;
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
