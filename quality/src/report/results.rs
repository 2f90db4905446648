//! Stores rows as CSV files.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::measure::Row;
use crate::measure::formats::REFERENCE;

/// A CSV file to which rows are added.
pub struct Writer {
    path: PathBuf,
    csv: csv::Writer<File>,
}

impl Writer {
    /// Creates the file, or replaces an existing one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::io(path, "write"))?;
        Ok(Self { path: path.to_owned(), csv: csv::Writer::from_writer(file) })
    }

    /// Adds a row and flushes the file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, row: &Row) -> Result<(), Error> {
        let added = self.csv.serialize(row).map_err(io::Error::from);
        added.and_then(|()| self.csv.flush()).map_err(Error::io(&self.path, "write"))
    }
}

/// Reads the rows of several files. If several have a format, the first one counts.
///
/// # Errors
/// [`Error::Io`], [`Error::Invalid`]; [`Error::Unpaired`] for a file whose reference differs from the first file's.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Row>, Error> {
    let mut all: Vec<Row> = Vec::new();
    for path in paths {
        let rows = read_one(path)?;
        let measured = |rows: &[Row]| rows.first().map(|row| (row.tokens, row.mean_nll));
        if !all.is_empty() && measured(&rows) != measured(&all) {
            return Err(Error::Unpaired { path: path.clone() });
        }
        for row in rows {
            if all.iter().all(|earlier| earlier.format != row.format) {
                all.push(row);
            }
        }
    }
    Ok(all)
}

/// Reads the rows of a file, whose first one must be the reference.
fn read_one(path: &Path) -> Result<Vec<Row>, Error> {
    const KIND: &str = "table of results";
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let rows: Result<Vec<Row>, csv::Error> = csv::Reader::from_reader(file).deserialize().collect();
    let rows = rows.map_err(Error::invalid(path, KIND))?;
    match rows.first() {
        Some(row) if row.is_reference() => Ok(rows),
        _ => Err(Error::invalid(path, KIND)(format!("its first row is not {REFERENCE}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::row;
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.csv");
        let rows = [
            Row { standard_error: None, ..row(REFERENCE, 0.0) },
            row("rate=4 calibrated spread", 1.0 / 3.0),
        ];
        let mut writer = Writer::create(&path).unwrap();
        for (i, row) in rows.iter().enumerate() {
            writer.add(row).unwrap();
            // An interrupted job leaves all finished rows.
            assert_eq!(read(std::slice::from_ref(&path)).unwrap(), rows[..=i]);
        }
        let head = fs::read_to_string(&path).unwrap();
        assert!(head.starts_with("format,stored_bits,relative_weight_error,"), "{head}");
    }

    #[test]
    fn files_of_the_same_reference_become_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, rows: &[Row]| {
            let path = directory.path().join(name);
            let mut writer = Writer::create(&path).unwrap();
            rows.iter().for_each(|row| writer.add(row).unwrap());
            path
        };
        let (reference, int8, int4) = (row(REFERENCE, 0.0), row("int8", 0.1), row("int4", 0.2));
        let first = file("1.csv", &[reference.clone(), int8.clone()]);
        let second = file("2.csv", &[reference.clone(), int8.clone(), int4.clone()]);
        let paths = [first.clone(), second];
        assert_eq!(read(&paths).unwrap(), [reference.clone(), int8.clone(), int4]);

        let other = file("3.csv", &[Row { mean_nll: 1.0, ..reference }]);
        assert!(matches!(read(&[first, other]), Err(Error::Unpaired { .. })));
        for invalid in [file("4.csv", &[int8]), file("5.csv", &[])] {
            assert!(matches!(read(&[invalid]), Err(Error::Invalid { .. })));
        }
    }
}
