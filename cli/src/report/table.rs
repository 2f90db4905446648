//! Tables with aligned columns.

use std::fmt;

/// Largest width of a column in characters. Without it, the longest name of a file would widen every line, possibly beyond
/// what `format!` accepts. A longer cell shifts the rest of its line.
const MAX_WIDTH: usize = 120;

/// A table. Align columns of text to the left and columns of numbers to the right.
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
    /// Index of the row above which the second rule is drawn.
    foot: usize,
}

/// Alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

impl Table {
    /// Creates a table with these column titles.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let align = columns.iter().map(|(_, align)| *align).collect();
        Self { align, rows: vec![titles], foot: usize::MAX }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.align.len());
        self.rows.push(cells);
    }

    /// Adds the last row, below a rule.
    pub(crate) fn total(&mut self, cells: Vec<String>) {
        self.foot = self.rows.len();
        self.row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let widths = self.rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0).min(MAX_WIDTH)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text::printable;

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(vec![printable("é\n"), "1".into()]);
        table.total(vec!["sum".into(), "1000".into()]);
        let lines = ["name     n", "----------", "é\\n      1", "----------", "sum   1000"];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), lines);
    }
}
