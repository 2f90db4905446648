//! Names, shapes and sizes as text.

/// A name without the control characters that would disturb a terminal.
pub(crate) fn printable(name: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    name.chars().map(escape).collect()
}

/// `512x2048`; `scalar` for no dimension.
pub(crate) fn shape(sides: &[usize]) -> String {
    if sides.is_empty() {
        return "scalar".to_owned();
    }
    let sides: Vec<String> = sides.iter().map(ToString::to_string).collect();
    sides.join("x")
}

/// Bytes in a unit that suits them.
#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
pub(crate) fn percent(stored: u64, original: u64) -> String {
    if original == 0 {
        return String::new();
    }
    format!(", {:.1} % of the size", 100.0 * stored as f64 / original as f64)
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
