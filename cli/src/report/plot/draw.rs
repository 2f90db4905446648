//! Draws a [`Chart`] as SVG: from top to bottom a header, the panels, the list and the notes.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos::Left;

use super::chart::Chart;
use super::list;
use super::name::label;
use super::page::{HEADING, LEFT, RIGHT, WIDTH};
use super::paint::{
    Canvas, Drawn, ENTROPY, Font, GRAY, INK, Picture, STORED, entropy_mark, plot, stored_mark,
    write,
};
use super::panels::Grid;

/// Heights of the header, a note and the lower margin, in pixels.
const HEADER: i32 = 88;
const NOTE: i32 = 18;
const FOOT: i32 = 16;

/// Left edge of the legend in pixels.
const LEGEND: i32 = RIGHT - 160;
/// Characters of the title that fit before the legend.
const TITLE_CHARS: usize = 60;

/// Text of a chart without panels and list.
const EMPTY: &str = "Nothing to show: no compressed tensor and no matrix with weights.";

/// Returns the text of an SVG file that shows `chart`.
pub(super) fn svg(chart: &Chart) -> Picture<String> {
    let grid = Grid::new(&chart.sections);
    let bodies = chart.sections.iter().map(|section| grid.section_height(section));
    let list = match (&*chart.sections, &*chart.rows) {
        ([], []) => HEADING,
        (_, []) => 0,
        (_, rows) => list::height(rows),
    };
    let notes = NOTE * i32::try_from(chart.notes.len()).unwrap_or(0);
    let height = HEADER + bodies.sum::<i32>() + list + notes + FOOT;

    let mut text = String::new();
    let canvas = SVGBackend::with_string(&mut text, (WIDTH, height.unsigned_abs()));
    let canvas = canvas.into_drawing_area();
    canvas.fill(&WHITE)?;
    header(&canvas, chart)?;
    let mut top = HEADER;
    for section in &chart.sections {
        grid.section(&canvas, section, top)?;
        top += grid.section_height(section);
    }
    match (&*chart.sections, &*chart.rows) {
        ([], []) => write(&canvas, EMPTY, (Font::Body, INK, Left), (LEFT, top + HEADING / 2))?,
        (_, []) => {}
        ([], rows) => list::draw(&canvas, "Tensors", rows, top)?,
        (_, rows) => list::draw(&canvas, "Other tensors", rows, top)?,
    }
    top += list;
    for note in &chart.notes {
        write(&canvas, note, (Font::Small, GRAY, Left), (LEFT, top + NOTE / 2))?;
        top += NOTE;
    }
    canvas.present()?;
    drop(canvas);
    Ok(text)
}

/// Draws title, totals and legend.
fn header(canvas: &Canvas<'_>, chart: &Chart) -> Drawn {
    let title = label(&chart.title, TITLE_CHARS);
    write(canvas, &title, (Font::Title, INK, Left), (LEFT, 32))?;
    write(canvas, &chart.subtitle, (Font::Body, INK, Left), (LEFT, 58))?;
    let swatch = plot(canvas, (0.0..2.0, 0.0..1.0), (LEGEND..LEGEND + 28, 20..70));
    let lines = [(0.76, STORED, 2), (0.24, ENTROPY, 1)];
    for (y, color, width) in lines {
        let stroke = color.stroke_width(width);
        swatch.draw(&PathElement::new(vec![(0.0, y), (2.0, y)], stroke))?;
    }
    stored_mark(&swatch, (1.0, 0.76))?;
    entropy_mark(&swatch, (1.0, 0.24))?;
    write(canvas, "stored", (Font::Body, STORED, Left), (LEGEND + 38, 32))?;
    write(canvas, "entropy", (Font::Body, ENTROPY, Left), (LEGEND + 38, 58))
}
