//! Names, shapes and sizes as text.

use std::path::Path;

/// Escapes control characters, which would disturb a terminal.
pub(crate) fn printable(name: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    name.chars().map(escape).collect()
}

/// Returns a path without what would disturb a terminal.
pub(crate) fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// Formats a shape as `512x2048`, or `scalar` if it has no dimension.
pub(crate) fn shape(sides: &[usize]) -> String {
    if sides.is_empty() {
        return "scalar".to_owned();
    }
    let sides: Vec<String> = sides.iter().map(ToString::to_string).collect();
    sides.join("x")
}

/// Formats a number of bytes as `2.62 MB`.
#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// Formats the stored share of the original bytes as `, 68.2 % of the size`; empty if the original has no bytes.
pub(crate) fn percent(stored: u64, original: u64) -> String {
    if original == 0 {
        return String::new();
    }
    format!(", {} of the size", share(stored, original))
}

/// Formats a share of the whole as `68.2 %`.
#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
pub(crate) fn share(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shapes() {
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1_500), "1.50 kB");
        assert_eq!(size(2_621_736), "2.62 MB");
        assert_eq!(shape(&[]), "scalar");
        assert_eq!(shape(&[2, 3]), "2x3");
    }
}
