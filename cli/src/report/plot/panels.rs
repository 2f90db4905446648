//! Panels: one per kind of matrix, with bits per weight over the layer number.

use std::ops::RangeInclusive;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos::{Center, Left, Right};

use super::axis::{BitAxis, layer_ticks};
use super::chart::{Panel, Section};
use super::name::label;
use super::page::{HEADING, LEFT, RIGHT};
use super::paint::{
    Canvas, Drawn, ENTROPY, Font, GRAY, INK, PALE, STORED, curves, line, plot, write, write_upwards,
};

/// Left edge of the first panel in pixels. The numbers of the axis are to its left.
const START: i32 = LEFT + 48;
/// Pixels between two panels.
const GAP: i32 = 26;
/// Pixels above a panel, for its name and means.
const ABOVE: i32 = 42;
/// Pixels below a panel, for the layer numbers.
const BELOW: i32 = 36;
/// Height of all lines of panels together, in pixels, if each panel then has a height between `MIN_HEIGHT` and `MAX_HEIGHT`.
const LINES: i32 = 520;
const MIN_HEIGHT: i32 = 130;
const MAX_HEIGHT: i32 = 240;
/// Approximate number of steps of an axis of bits.
const BIT_STEPS: f64 = 7.0;
/// Approximate number of layer numbers below a panel.
const LAYER_TICKS: u32 = 5;
/// Smallest number of pixels per layer at which marks are drawn; with fewer they would overlap.
const MARK_SPACING: i32 = 6;
/// Width of a character in a panel's name, in pixels.
const CHAR_WIDTH: i32 = 7;

/// Size of every panel in pixels.
pub(super) struct Grid {
    width: i32,
    height: i32,
}

/// Axes that the panels of a section share.
struct Axes {
    bits: BitAxis,
    layers: RangeInclusive<u32>,
}

impl Grid {
    /// Computes the size at which all panels of `sections` fit the page.
    pub(super) fn new(sections: &[Section]) -> Self {
        let lines = || sections.iter().flat_map(|section| &section.panels);
        let columns = lines().map(Vec::len).max().map_or(1, signed);
        let width = (RIGHT - START - GAP * (columns - 1)) / columns;
        let height = LINES / signed(lines().count()).max(1);
        Self { width, height: height.clamp(MIN_HEIGHT, MAX_HEIGHT) }
    }

    fn line_height(&self) -> i32 {
        ABOVE + self.height + BELOW
    }

    /// Returns the height of `section` in pixels.
    pub(super) fn section_height(&self, section: &Section) -> i32 {
        HEADING + self.line_height() * signed(section.panels.len())
    }

    /// Draws `section`; its upper edge is at `top`.
    pub(super) fn section(&self, canvas: &Canvas<'_>, section: &Section, top: i32) -> Drawn {
        write(canvas, section.heading, (Font::Heading, INK, Left), (LEFT, top + HEADING / 2))?;
        let axes = Axes::new(section);
        let mut top = top + HEADING;
        for panels in &section.panels {
            self.axis_names(canvas, &axes, top)?;
            let mut left = START;
            for panel in panels {
                self.panel(canvas, &axes, panel, (left, top))?;
                left += self.width + GAP;
            }
            top += self.line_height();
        }
        Ok(())
    }

    /// Draws the numbers and names of the axes to the left of a line of panels.
    fn axis_names(&self, canvas: &Canvas<'_>, axes: &Axes, top: i32) -> Drawn {
        let (top, bottom) = (top + ABOVE, top + ABOVE + self.height);
        write_upwards(canvas, "bits per weight", (LEFT + 6, (top + bottom) / 2))?;
        write(canvas, "layer", (Font::Small, GRAY, Right), (START - 8, bottom + 14))?;
        let bits = axes.bits.low()..axes.bits.high();
        let axis = plot(canvas, (0.0..1.0, bits), (LEFT..START, top..bottom));
        for tick in axes.bits.ticks() {
            let (_, y) = axis.map_coordinate(&(0.0, tick));
            let text = axes.bits.tick_label(tick);
            write(canvas, &text, (Font::Small, GRAY, Right), (START - 8, y))?;
        }
        Ok(())
    }

    /// Draws a panel with its name and means; its upper left corner is at `left`, `top`.
    fn panel(
        &self,
        canvas: &Canvas<'_>,
        axes: &Axes,
        panel: &Panel,
        (left, top): (i32, i32),
    ) -> Drawn {
        let name = label(&panel.name, (self.width / CHAR_WIDTH).unsigned_abs() as usize);
        write(canvas, &name, (Font::Body, INK, Left), (left, top + 10))?;
        let means =
            [("stored", STORED, panel.mean.stored), ("entropy", ENTROPY, panel.mean.entropy)];
        for ((word, color, bits), left) in means.into_iter().zip([left, left + 92]) {
            let text = format!("{word} {bits:.3}");
            write(canvas, &text, (Font::Small, color, Left), (left, top + 27))?;
        }

        let (top, bottom) = (top + ABOVE, top + ABOVE + self.height);
        let (low, high) = (f64::from(*axes.layers.start()), f64::from(*axes.layers.end()));
        let ranges = (low - 0.5..high + 0.5, axes.bits.low()..axes.bits.high());
        let area = plot(canvas, ranges, (left..left + self.width, top..bottom));
        for tick in axes.bits.ticks() {
            line(&area, (low - 0.5, tick), (high + 0.5, tick), PALE.stroke_width(1))?;
        }
        for tick in layer_ticks(axes.layers.clone(), LAYER_TICKS) {
            let at = f64::from(tick);
            line(&area, (at, axes.bits.low()), (at, axes.bits.high()), PALE.stroke_width(1))?;
            let (x, _) = area.map_coordinate(&(at, axes.bits.low()));
            write(canvas, &tick.to_string(), (Font::Small, GRAY, Center), (x, bottom + 14))?;
        }
        let marked = f64::from(self.width) >= f64::from(MARK_SPACING) * (high - low + 1.0);
        curves(&area, &panel.points, marked)
    }
}

impl Axes {
    /// Computes axes that contain all points of `section`.
    fn new(section: &Section) -> Self {
        let points = || section.panels.iter().flatten().flat_map(|panel| &panel.points);
        let layers = || points().map(|(layer, _)| *layer);
        let bits = points().flat_map(|(_, bits)| [bits.stored, bits.entropy]);
        Self {
            bits: BitAxis::over(bits, BIT_STEPS),
            layers: layers().min().unwrap_or(0)..=layers().max().unwrap_or(0),
        }
    }
}

/// Converts a count of panels or lines, of which a chart has few.
fn signed(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
