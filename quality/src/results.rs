//! The table's file.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::formats::REFERENCE;

/// What a format costs. The names are the file's columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The format.
    pub format: String,
    /// Bits a weight of the matrices that are quantized, everything that is stored counted. Embeddings
    /// and norms are the same in all formats; they do not count.
    pub stored_bits: f64,
    /// As [`Errors::weight`](crate::distortion::Errors::weight).
    pub relative_weight_error: f64,
    /// As [`Errors::output`](crate::distortion::Errors::output).
    pub relative_output_error: f64,
    /// Windows of the text.
    pub windows: usize,
    /// Tokens that are scored.
    pub tokens: usize,
    /// Mean negative log-likelihood, in nats a token.
    pub mean_nll: f64,
    /// e to that.
    pub perplexity: f64,
    /// Mean difference to the reference, in nats a token.
    pub nll_difference: f64,
    /// Standard error of that, paired; `None` for one window.
    pub standard_error: Option<f64>,
    /// Perplexity over the reference's.
    pub perplexity_ratio: f64,
    /// Seconds that this row took.
    pub seconds: f64,
}

impl Row {
    /// By how many percent perplexity is above the reference's.
    #[must_use]
    pub fn increase(&self) -> f64 {
        100.0 * self.nll_difference.exp_m1()
    }

    /// Standard error of [`increase`](Self::increase), to first order.
    #[must_use]
    pub fn increase_error(&self) -> Option<f64> {
        self.standard_error.map(|error| 100.0 * self.perplexity_ratio * error)
    }

    /// Whether this is the reference itself.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.format == REFERENCE
    }
}

/// A file that rows are added to.
pub struct Writer {
    path: PathBuf,
    csv: csv::Writer<File>,
}

impl Writer {
    /// Starts the file; replaces the one that is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::io(path, "write"))?;
        Ok(Self { path: path.to_owned(), csv: csv::Writer::from_writer(file) })
    }

    /// Adds a row. It is in the file when this returns.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, row: &Row) -> Result<(), Error> {
        let added = self.csv.serialize(row).map_err(io::Error::from);
        added.and_then(|()| self.csv.flush()).map_err(Error::io(&self.path, "write"))
    }
}

/// The rows of several files, each format once.
///
/// # Errors
/// [`Error::Io`], [`Error::Invalid`]; [`Error::Unpaired`] for a file whose reference is not the first
/// one's.
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

/// The rows of a file, the reference first.
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

/// A Markdown table of `rows`.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text =
        "| format | bits a weight | weight error | output error | perplexity | increase |\n\
                    |---|--:|--:|--:|--:|--:|\n"
            .to_owned();
    for row in rows {
        let Row { format, stored_bits, perplexity, .. } = row;
        let error = row.standard_error.filter(|_| !row.is_reference());
        let error = error.map(|error| format!(" ± {:.3}", error * perplexity)).unwrap_or_default();
        let [weights, outputs] =
            [row.relative_weight_error, row.relative_output_error].map(|error| 100.0 * error);
        let increase = match (row.is_reference(), row.increase_error()) {
            (true, _) => String::new(),
            (_, None) => format!("{:+.2} %", row.increase()),
            (_, Some(error)) => format!("{:+.2} ± {error:.2} %", row.increase()),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {format} | {stored_bits:.2} | {weights:.2} % | {outputs:.2} % | {perplexity:.3}{error} | {increase} |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    pub(crate) fn row(format: &str, nll_difference: f64) -> Row {
        Row {
            format: format.to_owned(),
            stored_bits: 4.1 + nll_difference,
            relative_weight_error: 0.1,
            relative_output_error: 1.0 / 30.0,
            windows: 4,
            tokens: 2044,
            mean_nll: 3.6 + nll_difference,
            perplexity: (3.6 + nll_difference).exp(),
            nll_difference,
            standard_error: Some(nll_difference / 10.0),
            perplexity_ratio: nll_difference.exp(),
            seconds: 1.5,
        }
    }

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
            // What is there when the next row is interrupted.
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

    #[test]
    fn markdown_shows_the_paired_error() {
        let text = markdown(&[row(REFERENCE, 0.0), row("int4", 0.1)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| bf16 | 4.10 | 10.00 % | 3.33 % | 36.598 |  |");
        // e^3.7 = 40.447; 1 % of that; e^0.1 = 1.10517.
        let expected = "| int4 | 4.20 | 10.00 % | 3.33 % | 40.447 ± 0.404 | +10.52 ± 1.11 % |";
        assert_eq!(lines[3], expected);
    }
}
