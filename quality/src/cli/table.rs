//! The commands on tables of weight formats.

use fused_rans_quality::Tokens;
use fused_rans_quality::measure::Row;
use fused_rans_quality::measure::formats::{Format, REFERENCE};
use fused_rans_quality::measure::table::{self, Phase};
use fused_rans_quality::report::results::{self, Writer};
use fused_rans_quality::report::{self, chart};

use super::commands::say;
use super::progress::Bar;
use super::{Chart, Failure, Markdown, Table};

/// `fused-rans-quality table`
pub(super) fn table(args: &Table) -> Result<(), Failure> {
    let windows =
        Tokens::read(&args.model, &args.text)?.windows(Some(args.windows), args.length)?;
    let outputs = args.output_moments.as_ref().unwrap_or(&args.moments);
    let mut writer = Writer::create(&args.output)?;
    say(HEADING)?;
    let mut bars = Bars::new(REFERENCE);
    let progress = &mut |phase, done, total| bars.set(phase, done, total);
    let table = table::Table::new(&args.model, windows, &args.moments, outputs, progress)?;
    let mut finish = |row: &Row| -> Result<(), Failure> {
        writer.add(row)?;
        say(&line(row))
    };
    drop(bars);
    finish(&table.reference())?;
    for format in Format::all()? {
        let chosen = args.only.as_ref().is_none_or(|only| only.is_match(&format.name));
        if !chosen || format.name == REFERENCE {
            continue;
        }
        let mut bars = Bars::new(&format.name);
        let row = table.measure(&format, &mut |phase, done, total| bars.set(phase, done, total))?;
        drop(bars);
        finish(&row)?;
    }
    Ok(())
}

/// `fused-rans-quality chart`
pub(super) fn chart(args: &Chart) -> Result<(), Failure> {
    let rows = results::read(&args.results)?;
    chart::write(&args.output, &rows)?;
    say(&format!("{}: {} formats", args.output.display(), rows.len()))
}

/// `fused-rans-quality markdown`
pub(super) fn markdown(args: &Markdown) -> Result<(), Failure> {
    say(report::markdown(&results::read(&args.results)?).trim_end())
}

/// Heading of the lines that `table` prints.
const HEADING: &str =
    "format                       bits  weights  outputs  perplexity   increase           seconds";

/// Returns a row as a line of text.
fn line(row: &Row) -> String {
    let Row { format, stored_bits, perplexity, seconds, .. } = row;
    let [weights, outputs] =
        [row.relative_weight_error, row.relative_output_error].map(|error| 100.0 * error);
    let error = row.increase_error().map(|error| format!("± {error:.3}")).unwrap_or_default();
    format!(
        "{format:<26} {stored_bits:6.3} {weights:6.2} % {outputs:6.2} % {perplexity:11.4} {:+9.3} {error:<9} % {seconds:7.1}",
        row.increase()
    )
}

/// Shows a progress bar for the current phase of a row.
struct Bars {
    format: String,
    now: Option<(Phase, Bar)>,
}

impl Bars {
    fn new(format: &str) -> Self {
        Self { format: format.to_owned(), now: None }
    }

    fn set(&mut self, phase: Phase, done: u64, total: u64) {
        if self.now.as_ref().is_none_or(|(now, _)| *now != phase) {
            let what = match phase {
                Phase::Compressing => "compressing",
                Phase::Measuring => "measuring",
            };
            // Clear the old bar first.
            self.now = None;
            self.now = Some((phase, Bar::new(format!("{}: {what}", self.format), total)));
        }
        if let Some((_, bar)) = &self.now {
            bar.set(done);
        }
    }
}
