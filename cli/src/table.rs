//! Tables for people.

use std::fmt;

use fused_rans::file::{CodingReport, RelativeError, Report, StoredAs, TensorReport};

/// Characters that a column has room for, so that a file's longest name does not widen every line, or beyond what can be
/// formatted. Longer cells move what follows.
const WIDEST: usize = 120;

/// A table with aligned columns: those of text to the left, those of numbers to the right.
pub(super) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
    /// Rows from here on stand below a rule.
    foot: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

impl Table {
    /// A table with these column titles.
    pub(super) fn new(columns: &[(&str, Align)]) -> Self {
        let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let align = columns.iter().map(|(_, align)| *align).collect();
        Self { align, rows: vec![titles], foot: usize::MAX }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.align.len());
        self.rows.push(cells);
    }

    /// The last row, below a rule.
    pub(super) fn total(&mut self, cells: Vec<String>) {
        self.foot = self.rows.len();
        self.row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let widths = self.rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0).min(WIDEST)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        let rule = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        for (index, row) in self.rows.iter().enumerate() {
            if index == 1 || index == self.foot {
                writeln!(f, "{}", "-".repeat(rule))?;
            }
            let mut line = String::new();
            for ((cell, &width), align) in row.iter().zip(&widths).zip(&self.align) {
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}  ")),
                    Align::Right => line.push_str(&format!("{cell:>width$}  ")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// What `inspect` prints.
pub(super) fn report_table(report: &Report) -> Table {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("tensor", Left),
        ("shape", Left),
        ("dtype", Left),
        ("format", Left),
        ("coded as", Left),
        ("weights", Right),
        ("stored bytes", Right),
        ("bits/weight", Right),
        ("entropy", Right),
        ("exceptions", Right),
    ]);
    for tensor in &report.tensors {
        table.row(tensor_row(tensor));
    }
    let totals = &report.totals;
    table.total(vec![
        format!("file ({} before compression)", size(totals.original_bytes)),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        totals.weights.to_string(),
        totals.stored_bytes.to_string(),
        format!("{:.3}", totals.bits_per_weight),
        format!("{:.3}", totals.entropy_bits_per_weight),
        totals.exceptions.to_string(),
    ]);
    table
}

fn tensor_row(tensor: &TensorReport) -> Vec<String> {
    let format = match tensor.format {
        StoredAs::Lossless => "lossless",
        StoredAs::Quantized => "quantized",
        _ => "raw",
    };
    vec![
        printable(&tensor.name),
        shape(&tensor.shape),
        tensor.dtype.clone(),
        format.to_owned(),
        tensor.coding.as_ref().map(coding).unwrap_or_default(),
        tensor.weights.to_string(),
        tensor.stored_bytes.to_string(),
        format!("{:.3}", tensor.bits_per_weight),
        format!("{:.3}", tensor.entropy_bits_per_weight),
        tensor.exceptions.to_string(),
    ]
}

/// `I8 2x 4+3 row`: two weights a symbol, of which 4 bits are coded and 3 raw, with a scale a row.
fn coding(coding: &CodingReport) -> String {
    let CodingReport { dtype, weights_per_symbol, raw_bits, .. } = coding;
    let mut text = format!("{dtype} {weights_per_symbol}x {}+{raw_bits}", 8 / weights_per_symbol);
    let scales = [
        (coding.row_scales, " row"),
        (coding.large_integers, " wide"),
        (coding.group_scales, " group"),
        (coding.zero_points, " zero"),
    ];
    scales.iter().filter(|(has, _)| *has).for_each(|(_, word)| text.push_str(word));
    text
}

/// What `verify --against` prints of quantized tensors.
pub(super) fn error_table(errors: &[RelativeError]) -> Table {
    let mut table =
        Table::new(&[("quantized tensor", Align::Left), ("relative error", Align::Right)]);
    for error in errors {
        table.row(vec![printable(&error.tensor), format!("{:.5}", error.relative_error)]);
    }
    table
}

/// A name without the control characters that would disturb a terminal.
pub(super) fn printable(name: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    name.chars().map(escape).collect()
}

/// `512x2048`; `scalar` for no dimension.
pub(super) fn shape(sides: &[usize]) -> String {
    if sides.is_empty() {
        return "scalar".to_owned();
    }
    let sides: Vec<String> = sides.iter().map(ToString::to_string).collect();
    sides.join("x")
}

/// Bytes in a unit that suits them.
#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
pub(super) fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(vec![printable("é\n"), "1".into()]);
        table.total(vec!["sum".into(), "1000".into()]);
        let lines = ["name     n", "----------", "é\\n      1", "----------", "sum   1000"];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn sizes_and_shapes() {
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1_500), "1.50 kB");
        assert_eq!(size(2_621_736), "2.62 MB");
        assert_eq!(shape(&[]), "scalar");
        assert_eq!(shape(&[2, 3]), "2x3");
    }
}
