//! Prints rows as a Markdown table.

use std::fmt::Write as _;

use crate::measure::Row;

/// Returns a Markdown table of `rows`.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text =
        "| format | bits per weight | weight error | output error | perplexity | increase |\n\
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
    use super::super::tests::row;
    use super::*;
    use crate::measure::formats::REFERENCE;

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
