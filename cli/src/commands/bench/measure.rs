//! Measures the layers of a file.

use std::path::{Path, PathBuf};

use fused_rans::file::TensorFile;
use fused_rans::gpu::{self, GpuError};
use fused_rans_bench::{Effort, Measurement, Session, Subject};

use crate::args::Bench;
use crate::progress::Bar;
use crate::report::table::{Align, Table};
use crate::report::text::printable;
use crate::terminal::{Failure, say};

/// Error of a device that does not exist or cannot run the kernels.
#[derive(Debug, thiserror::Error)]
#[error("measuring needs an NVIDIA GPU and its driver; --device chooses among several")]
struct NoGpu(#[source] GpuError);

/// Error of a file without layers.
#[derive(Debug, thiserror::Error)]
#[error("{}: no layer to measure: {why}", path.display())]
struct NoLayers {
    path: PathBuf,
    why: &'static str,
}

impl NoLayers {
    fn new(path: &Path, why: &'static str) -> Self {
        Self { path: path.to_owned(), why }
    }
}

/// Measures the layers of a file and prints the results as a table or JSON.
pub(crate) fn run(args: &Bench) -> Result<(), Failure> {
    let file = TensorFile::open(&args.file)?;
    if file.layers().next().is_none() {
        let why = match file {
            TensorFile::Plain(_) => "no matrix of BF16, F16, F8_E4M3 or I8",
            TensorFile::Compressed(_) => "nothing in it is compressed",
        };
        return Err(NoLayers::new(&args.file, why).into());
    }
    let mut session = Session::new(gpu::open(args.device).map_err(NoGpu)?)?;
    let rows = rows(&mut session, &file, &args.batch)?;
    if rows.is_empty() {
        return Err(NoLayers::new(&args.file, "compression makes no matrix smaller").into());
    }
    let report = session.report(rows)?;
    if args.json {
        return say(&serde_json::to_string(&report)?);
    }
    say(&report.head())?;
    say(table(&report.rows).to_string().trim_end())
}

/// Measures every layer with every number of rows of x; one result each. Skips layers that compression does not make smaller.
fn rows(
    session: &mut Session,
    file: &TensorFile,
    batch: &[usize],
) -> Result<Vec<Measurement>, Failure> {
    let bar = Bar::of_items("measuring");
    let max_rows = batch.iter().copied().max().unwrap_or(0);
    let (mut measurements, total) = (Vec::new(), file.layers().count() as u64);
    for (done, layer) in (0..).zip(file.layers()) {
        bar.set(done, total);
        let Some(blob) = layer.blob()? else { continue };
        let mut subject = Subject::new(session, layer.name(), &blob, max_rows)?;
        for &rows in batch {
            measurements.push(subject.measure(session, rows, Effort::FULL)?);
        }
    }
    Ok(measurements)
}

/// Returns the results as a table.
fn table(rows: &[Measurement]) -> Table {
    // Name, shape and format are text, the rest are numbers.
    let align = |column| if column < 3 { Align::Left } else { Align::Right };
    let columns = Measurement::COLUMNS.into_iter().zip((0..).map(align)).collect::<Vec<_>>();
    let mut table = Table::new(&columns);
    for row in rows {
        table.row(row.cells().iter().map(|cell| printable(cell)).collect());
    }
    table
}
