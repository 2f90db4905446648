//! Measures of the page in pixels. Text has room to spare, since its width depends on the fonts of the reader's machine.

pub(super) const WIDTH: u32 = 1000;
/// Left end of all content.
pub(super) const LEFT: i32 = 24;
/// Right end of all content.
pub(super) const RIGHT: i32 = WIDTH as i32 - 24;
/// Height of a heading.
pub(super) const HEADING: i32 = 34;
