//! Tables of tensors for `inspect` and `verify`.

use fused_rans::file::{CodingReport, RelativeError, Report, StoredAs, TensorReport, WorstLine};

use super::table::{Align, Table};
use super::text::{printable, shape, size};

/// Returns the table that `inspect` prints.
pub(crate) fn report_table(report: &Report) -> Table {
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

/// Describes a coding as `I8 2x 4+3 row`: two I8 weights per symbol, 4 bits of each coded and 3 raw, one scale per row.
fn coding(coding: &CodingReport) -> String {
    let CodingReport { dtype, weights_per_symbol, raw_bits, .. } = coding;
    let mut text = format!("{dtype} {weights_per_symbol}x {}+{raw_bits}", 8 / weights_per_symbol);
    let scales = [
        (coding.row_scales, " row"),
        (coding.large_integers, " large"),
        (coding.group_scales, " group"),
        (coding.zero_points, " zero"),
    ];
    scales.iter().filter(|(has, _)| *has).for_each(|(_, word)| text.push_str(word));
    text
}

/// Returns the table of relative errors that `verify --against` prints for quantized tensors. Rows and columns have their
/// index behind their error.
pub(crate) fn error_table(errors: &[RelativeError]) -> Table {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("quantized tensor", Left),
        ("relative error", Right),
        ("worst row", Right),
        ("worst column", Right),
    ]);
    let line = |worst: &WorstLine| format!("{:.5} ({})", worst.relative_error, worst.index);
    for error in errors {
        table.row(vec![
            printable(&error.tensor),
            format!("{:.5}", error.relative_error),
            line(&error.worst_row),
            line(&error.worst_column),
        ]);
    }
    table
}
