//! Draws rows as a chart: increase of perplexity over stored bits per weight.
//!
//! The axis of increases is logarithmic, because those at 3 and at 7 bits differ by a factor of a thousand.

mod marks;

use std::error::Error as StdError;
use std::ops::Range;
use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Error;
use crate::measure::Row;
use crate::output::Output;
use marks::{Shape, bar, marker};

/// Width and height of the chart in pixels.
const SIZE: (u32, u32) = (1000, 640);
/// Height of title and legend in pixels.
const HEAD: u32 = 96;
/// Limits of the axis of increases, in percent.
const INCREASES: Range<f64> = 0.0099..1e6;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

/// The lines: text after the rate in a format's name, text in the legend, color and marker. The colors, which color-blind
/// people can tell apart, are from Masataka Okabe and Kei Ito, "Color Universal Design", 2002.
const LINES: [(&str, &str, RGBColor, Shape); 4] = [
    ("", "rate=R", RGBColor(0x00, 0x72, 0xb2), Shape::Circle),
    ("spread", "rate=R, spread", RGBColor(0xe6, 0x9f, 0x00), Shape::Square),
    ("calibrated", "rate=R, calibrated", RGBColor(0x00, 0x9e, 0x73), Shape::Triangle),
    (
        "calibrated spread",
        "rate=R, calibrated and spread",
        RGBColor(0xcc, 0x79, 0xa7),
        Shape::Diamond,
    ),
];

/// An error of plotters.
type Failure = Box<dyn StdError + Send + Sync>;
/// A part of the chart.
type Area<'a, Coordinates> = DrawingArea<SVGBackend<'a>, Coordinates>;
type Plot<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, LogCoord<f64>>>;

/// The point of a format.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point<'a> {
    format: &'a str,
    bits: f64,
    /// Increase of perplexity in percent.
    increase: f64,
    /// Standard error of the increase.
    error: f64,
}

/// Writes the chart of `rows` as an SVG file.
///
/// # Errors
/// [`Error::Chart`], [`Error::Io`].
pub fn write(path: &Path, rows: &[Row]) -> Result<(), Error> {
    Output::write(path, svg(rows)?)
}

/// Draws the chart of `rows` as SVG. Omits rows without a finite perplexity.
///
/// # Errors
/// [`Error::Chart`].
pub fn svg(rows: &[Row]) -> Result<String, Error> {
    let mut text = String::new();
    draw(&mut text, rows).map_err(Error::Chart)?;
    Ok(text)
}

fn draw(text: &mut String, rows: &[Row]) -> Result<(), Failure> {
    let points: Vec<Point<'_>> = rows.iter().filter_map(Point::of).collect();
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(HEAD);
    let (bits, increases) = ranges(&points);
    draw_head(&head, rows, &points, increases.start)?;
    let mut chart = ChartBuilder::on(&body)
        .margin_left(16)
        .margin_right(24)
        .margin_bottom(8)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(bits, increases.clone().log_scale())?;
    draw_axes(&mut chart)?;
    for (kind, _, color, shape) in LINES {
        draw_line(&mut chart, &line(&points, kind), color, shape, &increases)?;
    }
    draw_singles(&mut chart, &points, &increases)?;
    root.present()?;
    Ok(())
}

impl<'a> Point<'a> {
    fn of(row: &'a Row) -> Option<Self> {
        let (bits, increase) = (row.stored_bits, row.increase());
        let error = row.increase_error().unwrap_or(0.0);
        let known = [bits, increase, error].iter().all(|value| value.is_finite());
        let drawn = known && !row.is_reference() && (0.0..=64.0).contains(&bits);
        drawn.then_some(Self { format: &row.format, bits, increase, error })
    }

    /// Returns the text after the rate in the format's name; `None` if it has no rate.
    fn kind(&self) -> Option<&'a str> {
        let rate = self.format.strip_prefix("rate=")?;
        Some(rate.split_once(' ').map_or("", |(_, kind)| kind))
    }

    /// Returns where to draw the point: at the edge of the chart if it lies outside.
    fn place(&self, increases: &Range<f64>) -> (f64, f64) {
        (self.bits, self.increase.clamp(increases.start, increases.end))
    }
}

/// Returns the points of a line, sorted by bits.
fn line<'a>(points: &[Point<'a>], kind: &str) -> Vec<Point<'a>> {
    let mut line: Vec<Point<'_>> =
        points.iter().filter(|point| point.kind() == Some(kind)).copied().collect();
    line.sort_by(|a, b| a.bits.total_cmp(&b.bits));
    line
}

/// Returns the ranges of the axes: bits and increases.
fn ranges(points: &[Point<'_>]) -> (Range<f64>, Range<f64>) {
    let bits = points.iter().map(|point| point.bits);
    let (low, high) = bits.fold((4.0_f64, 4.0_f64), |(a, b), x| (a.min(x), b.max(x)));
    let bits = (2.0 * low - 0.5).floor() / 2.0..(2.0 * high + 0.5).ceil() / 2.0;
    let increases = points.iter().map(|point| point.increase).filter(|&x| x > 0.0);
    let (low, high) = increases.fold((1.0_f64, 1.0_f64), |(a, b), x| (a.min(x), b.max(x)));
    // plotters draws no ticks below the first power of ten: include one that is near.
    let power = 10_f64.powf(low.log10().floor());
    let low = if low < 5.0 * power { 0.99 * power } else { low / 1.5 }.max(INCREASES.start);
    let high = points.iter().map(|point| point.increase + point.error).fold(high, f64::max);
    (bits, low..(high * 1.5).min(INCREASES.end))
}

/// Draws the title, the description of the measurement, and the legend.
fn draw_head(
    head: &Area<'_, plotters::coord::Shift>,
    rows: &[Row],
    points: &[Point<'_>],
    lowest: f64,
) -> Result<(), Failure> {
    let style = |size: u32| (FONT, size).into_font().color(&INK);
    head.draw_text("What each weight format costs the model", &style(22), (20, 12))?;
    let mut measured = String::new();
    if let Some(row) = rows.iter().find(|row| row.is_reference()) {
        let Row { perplexity, windows, tokens, .. } = row;
        measured = format!(
            "BF16, 16 bits per weight: perplexity {perplexity:.3} ({tokens} tokens in {windows} windows). "
        );
    }
    measured.push_str("Bars: one standard error of the paired difference.");
    if points.iter().any(|point| point.increase < lowest) {
        measured.push_str(" Markers at the lower edge: below the chart.");
    }
    head.draw_text(&measured, &style(14), (20, 42))?;
    let mut x = 24;
    for (kind, label, color, shape) in LINES {
        if line(points, kind).is_empty() {
            continue;
        }
        head.draw(&PathElement::new([(x, 78), (x + 32, 78)], color.stroke_width(2)))?;
        head.draw(&marker(shape, (x + 16, 78), color))?;
        let middle = style(14).pos(Pos::new(HPos::Left, VPos::Center));
        head.draw_text(label, &middle, (x + 40, 78))?;
        // The SVG backend cannot measure the text: 7 pixels per letter.
        x += 40 + 7 * i32::try_from(label.len())? + 28;
    }
    Ok(())
}

fn draw_axes(chart: &mut Plot<'_>) -> Result<(), Failure> {
    let style = |size: u32| (FONT, size).into_font().color(&INK);
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .x_desc("stored bits per weight of the quantized matrices")
        .y_desc("increase of perplexity over BF16 (%)")
        .axis_desc_style(style(16))
        .label_style(style(14))
        .x_labels(16)
        .y_labels(40)
        .y_label_formatter(&|increase| percent(*increase))
        .draw()?;
    Ok(())
}

/// Returns the label of a tick, without rounding errors, for 1, 2 and 5 times a power of ten. Other ticks have no room for
/// one.
fn percent(increase: f64) -> String {
    let power = increase.log10().floor();
    let first = (increase / 10_f64.powf(power)).round();
    if ![1.0, 2.0, 5.0, 10.0].contains(&first) {
        return String::new();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 6")]
    let digits = (-(increase * 1.001).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{increase:.digits$}")
}

fn draw_line(
    chart: &mut Plot<'_>,
    points: &[Point<'_>],
    color: RGBColor,
    shape: Shape,
    increases: &Range<f64>,
) -> Result<(), Failure> {
    let places = points.iter().map(|point| point.place(increases));
    chart.draw_series(LineSeries::new(places, color.stroke_width(2)))?;
    for point in points {
        draw_point(chart, point, color, shape, increases)?;
    }
    Ok(())
}

/// Draws the formats without a rate, with their names.
fn draw_singles(
    chart: &mut Plot<'_>,
    points: &[Point<'_>],
    increases: &Range<f64>,
) -> Result<(), Failure> {
    let singles: Vec<&Point<'_>> = points.iter().filter(|point| point.kind().is_none()).collect();
    let places: Vec<(i32, i32)> =
        singles.iter().map(|point| chart.backend_coord(&point.place(increases))).collect();
    let style = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    for (point, offset) in singles.iter().zip(marks::offsets(&places)) {
        draw_point(chart, point, INK, Shape::Cross, increases)?;
        let text = Text::new(point.format.to_owned(), (10, offset), style.clone());
        chart.plotting_area().draw(&(EmptyElement::at(point.place(increases)) + text))?;
    }
    Ok(())
}

fn draw_point(
    chart: &mut Plot<'_>,
    point: &Point<'_>,
    color: RGBColor,
    shape: Shape,
    increases: &Range<f64>,
) -> Result<(), Failure> {
    let ends = [point.increase - point.error, point.increase + point.error];
    if point.error > 0.0 && ends[1] > increases.start {
        let [low, high] = ends.map(|end| end.clamp(increases.start, increases.end));
        for part in bar((point.bits, low), (point.bits, high), color) {
            chart.plotting_area().draw(&part)?;
        }
    }
    chart.plotting_area().draw(&marker(shape, point.place(increases), color))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(format: &str, stored_bits: f64, nll_difference: f64) -> Row {
        Row {
            format: format.to_owned(),
            stored_bits,
            relative_weight_error: 0.1,
            relative_output_error: 0.1,
            windows: 4,
            tokens: 2044,
            mean_nll: 3.6 + nll_difference,
            perplexity: (3.6 + nll_difference).exp(),
            nll_difference,
            standard_error: Some(0.01),
            perplexity_ratio: nll_difference.exp(),
            seconds: 1.0,
        }
    }

    #[test]
    fn every_format_has_its_mark() {
        let rows = [
            row("bf16", 16.0, 0.0),
            row("int8", 7.4, -0.001),
            row("nf4", 4.25, 0.2),
            row("rate=4", 4.0, 0.2),
            row("rate=3", 3.0, 0.8),
            row("rate=4 calibrated spread", 4.0, 0.1),
        ];
        let text = svg(&rows).unwrap();
        for label in ["int8", "nf4", "rate=R", "rate=R, calibrated and spread"] {
            assert!(text.contains(&format!("\n{label}\n")), "{label}");
        }
        assert!(!text.contains("\nrate=R, spread\n"), "there is no such line");
        assert!(text.contains("perplexity 36.598 (2044 tokens in 4 windows)"));
        assert!(text.contains("at the lower edge"), "int8 is below the chart");
    }

    #[test]
    fn every_table_gives_a_chart() {
        let odd = [f64::NAN, f64::INFINITY, -1e300, 1e300, 0.0, 1e-300, 800.0];
        for value in odd {
            for other in odd {
                let broken = Row { standard_error: Some(other), ..row("int4", 4.0, value) };
                svg(&[broken, row("rate=4", value, other)]).unwrap();
            }
        }
        assert!(svg(&[]).unwrap().contains("</svg>"));
    }

    #[test]
    fn ticks_are_short() {
        let ticks = [0.01, 0.1 + 0.2 - 0.1, 0.1 - 1e-12, 3.0, 20.0, 500.0];
        assert_eq!(ticks.map(percent), ["0.01", "0.2", "0.1", "", "20", "500"]);
    }
}
