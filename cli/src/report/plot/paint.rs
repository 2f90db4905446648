//! Colors, fonts, lines and marks.

use std::io;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::Bits;

/// Result of drawing. Drawing into a string does not fail.
pub(super) type Picture<T> = Result<T, DrawingAreaErrorKind<io::Error>>;
/// Result of drawing something.
pub(super) type Drawn = Picture<()>;

/// The whole picture, with coordinates in pixels.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A part of the picture, with coordinates in the units of its axes.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Blue for stored bits and orange for entropy, which all kinds of color vision tell apart (Okabe and Ito). The orange is
/// darker than theirs, so that text in it can be read.
pub(super) const STORED: RGBColor = RGBColor(0, 114, 178);
pub(super) const ENTROPY: RGBColor = RGBColor(200, 82, 0);
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const GRAY: RGBColor = RGBColor(102, 102, 102);
pub(super) const PALE: RGBColor = RGBColor(225, 225, 225);

/// Font by its purpose.
#[derive(Clone, Copy)]
pub(super) enum Font {
    Title,
    Heading,
    Body,
    Small,
}

impl Font {
    /// Returns the description that the backend takes.
    fn desc(self) -> FontDesc<'static> {
        let (size, style) = match self {
            Self::Title => (18.0, FontStyle::Bold),
            Self::Heading => (14.0, FontStyle::Bold),
            Self::Body => (12.0, FontStyle::Normal),
            Self::Small => (11.0, FontStyle::Normal),
        };
        // The SVG backend divides font sizes by 1.24, because it takes them for the height of the em box.
        FontDesc::new(FontFamily::SansSerif, size * 1.24, style)
    }
}

/// Writes `text` at the pixel `at`: its vertical middle, and its left end, center or right end.
pub(super) fn write(
    canvas: &Canvas<'_>,
    text: &str,
    (font, color, align): (Font, RGBColor, HPos),
    at: (i32, i32),
) -> Drawn {
    let style = TextStyle::from(font.desc()).color(&color).pos(Pos::new(align, VPos::Center));
    canvas.draw_text(text, &style, at)
}

/// Writes `text` upwards; its center is at the pixel `at`.
pub(super) fn write_upwards(canvas: &Canvas<'_>, text: &str, at: (i32, i32)) -> Drawn {
    let font = Font::Small.desc().transform(FontTransform::Rotate270);
    let style = TextStyle::from(font).color(&GRAY).pos(Pos::new(HPos::Center, VPos::Center));
    canvas.draw_text(text, &style, at)
}

/// Returns the area of the pixels `columns` and `lines` with axes of the ranges `x` and `y`.
pub(super) fn plot<'a>(
    canvas: &Canvas<'a>,
    (x, y): (Range<f64>, Range<f64>),
    (columns, lines): (Range<i32>, Range<i32>),
) -> Area<'a> {
    canvas.apply_coord_spec(Cartesian2d::new(x, y, (columns, lines.end..lines.start)))
}

/// Draws a straight line.
pub(super) fn line(plot: &Area<'_>, from: (f64, f64), to: (f64, f64), style: ShapeStyle) -> Drawn {
    plot.draw(&PathElement::new(vec![from, to], style))
}

/// Draws the mark of stored bits, a dot.
pub(super) fn stored_mark(plot: &Area<'_>, at: (f64, f64)) -> Drawn {
    plot.draw(&Circle::new(at, 3, STORED.filled()))
}

/// Draws the mark of an entropy: a ring, smaller than a dot, so that a dot below it stays visible.
pub(super) fn entropy_mark(plot: &Area<'_>, at: (f64, f64)) -> Drawn {
    plot.draw(&Circle::new(at, 2, WHITE.filled()))?;
    plot.draw(&Circle::new(at, 2, ENTROPY.stroke_width(1)))
}

/// Draws the two curves of a panel, with or without marks.
pub(super) fn curves(plot: &Area<'_>, points: &[(u32, Bits)], marked: bool) -> Drawn {
    let curve = |bits: fn(&Bits) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|(layer, point)| (f64::from(*layer), bits(point))).collect()
    };
    let (stored, entropy) = (curve(|bits| bits.stored), curve(|bits| bits.entropy));
    plot.draw(&PathElement::new(stored.clone(), STORED.stroke_width(2)))?;
    plot.draw(&PathElement::new(entropy.clone(), ENTROPY.stroke_width(1)))?;
    if marked {
        stored.into_iter().try_for_each(|at| stored_mark(plot, at))?;
        entropy.into_iter().try_for_each(|at| entropy_mark(plot, at))?;
    }
    Ok(())
}
