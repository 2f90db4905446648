//! The list: one line per tensor, with its bits per weight as marks and as numbers.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos::{Center, Left, Right};

use super::axis::BitAxis;
use super::chart::Row;
use super::name::label;
use super::page::{HEADING, LEFT, RIGHT};
use super::paint::{
    Canvas, Drawn, ENTROPY, Font, GRAY, INK, PALE, STORED, entropy_mark, line, plot, stored_mark,
    write,
};

/// Horizontal pixels of the marks.
const DOTS: Range<i32> = LEFT + 360..RIGHT - 150;
/// Right ends of the two columns of numbers, in pixels.
const NUMBERS: [i32; 2] = [RIGHT - 68, RIGHT];
/// Height of a line in pixels.
const LINE: i32 = 22;
/// Height of the axis below the last line, with numbers and name, in pixels.
const AXIS: i32 = 54;
/// Characters of a name that fit before the marks.
const NAME_CHARS: usize = 48;
/// Approximate number of steps of the axis.
const STEPS: f64 = 8.0;

/// Returns the height of the list of `rows`, in pixels.
pub(super) fn height(rows: &[Row]) -> i32 {
    HEADING + lines(rows) + AXIS
}

/// Returns the height of the lines alone, in pixels.
fn lines(rows: &[Row]) -> i32 {
    LINE * i32::try_from(rows.len()).unwrap_or(0)
}

/// Draws the list of `rows`; its upper edge is at `top`.
pub(super) fn draw(canvas: &Canvas<'_>, heading: &str, rows: &[Row], top: i32) -> Drawn {
    let head = top + HEADING / 2;
    write(canvas, heading, (Font::Heading, INK, Left), (LEFT, head))?;
    for ((word, color), right) in
        [("stored", STORED), ("entropy", ENTROPY)].into_iter().zip(NUMBERS)
    {
        write(canvas, word, (Font::Small, color, Right), (right, head))?;
    }
    let axis =
        BitAxis::over(rows.iter().flat_map(|row| [row.bits.stored, row.bits.entropy]), STEPS);
    let (top, bottom) = (top + HEADING, top + HEADING + lines(rows));
    let count = f64::from(bottom - top) / f64::from(LINE);
    let area = plot(canvas, (axis.low()..axis.high(), 0.0..count), (DOTS, top..bottom));
    for tick in axis.ticks() {
        line(&area, (tick, 0.0), (tick, count), PALE.stroke_width(1))?;
        let (x, _) = area.map_coordinate(&(tick, 0.0));
        write(canvas, &axis.tick_label(tick), (Font::Small, GRAY, Center), (x, bottom + 12))?;
    }
    let middle = (DOTS.start + DOTS.end) / 2;
    write(canvas, "bits per weight", (Font::Small, GRAY, Center), (middle, bottom + 30))?;
    for (row, y) in rows.iter().zip((0..).map(|index| count - 0.5 - f64::from(index))) {
        let (stored, entropy) = ((row.bits.stored, y), (row.bits.entropy, y));
        line(&area, (axis.low(), y), (axis.high(), y), PALE.stroke_width(1))?;
        line(&area, entropy, stored, GRAY.stroke_width(1))?;
        stored_mark(&area, stored)?;
        entropy_mark(&area, entropy)?;
        let (_, y) = area.map_coordinate(&stored);
        write(canvas, &label(&row.name, NAME_CHARS), (Font::Body, INK, Left), (LEFT, y))?;
        for ((bits, color), right) in
            [(stored.0, STORED), (entropy.0, ENTROPY)].into_iter().zip(NUMBERS)
        {
            write(canvas, &format!("{bits:.3}"), (Font::Body, color, Right), (right, y))?;
        }
    }
    Ok(())
}
