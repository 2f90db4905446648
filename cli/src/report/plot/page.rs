//! Measures of the page in pixels. Text is placed by eye, since the width of a text depends on the fonts of whoever reads the SVG.

pub(super) const WIDTH: u32 = 1000;
/// Left end of all content.
pub(super) const LEFT: i32 = 24;
/// Right end of all content.
pub(super) const RIGHT: i32 = WIDTH as i32 - 24;
/// Height of a heading.
pub(super) const HEADING: i32 = 34;
