//! Measures the layers of a file.

use fused_rans::gpu::{self, GpuError};
use fused_rans_bench::{Effort, Measurement, Session, Subject};

use super::layers::{Layers, NoLayers};
use crate::args::Bench;
use crate::progress::Bar;
use crate::report::table::{Align, Table};
use crate::report::text::printable;
use crate::terminal::{Failure, say};

/// Error of a device that does not exist or cannot run the kernels.
#[derive(Debug, thiserror::Error)]
#[error("measuring needs an NVIDIA GPU and its driver; --device chooses among several")]
struct NoGpu(#[source] GpuError);

/// Measures the layers of a file and prints the results as a table or JSON.
pub(crate) fn run(args: &Bench) -> Result<(), Failure> {
    let layers = Layers::open(&args.file)?;
    let mut session = Session::new(gpu::open(args.device).map_err(NoGpu)?)?;
    let rows = rows(&mut session, &layers, &args.batch)?;
    let report = session.report(rows)?;
    if args.json {
        return say(&serde_json::to_string(&report)?);
    }
    say(&report.head())?;
    say(table(&report.rows).to_string().trim_end())
}

/// Measures every layer with every number of rows of x; one result each.
fn rows(
    session: &mut Session,
    layers: &Layers,
    batch: &[usize],
) -> Result<Vec<Measurement>, Failure> {
    let bar = Bar::of_items("measuring");
    let max_rows = batch.iter().copied().max().unwrap_or(0);
    let (mut rows, total) = (Vec::new(), layers.names().len() as u64);
    for (done, name) in (0..).zip(layers.names()) {
        bar.set(done, total);
        let layer_rows = layers.with(name, |blob| {
            let mut subject = Subject::new(session, name, blob, max_rows)?;
            let measurements =
                batch.iter().map(|&rows| subject.measure(session, rows, Effort::FULL));
            Ok(measurements.collect::<Result<Vec<_>, _>>()?)
        })?;
        rows.extend(layer_rows.into_iter().flatten());
    }
    if rows.is_empty() {
        let (path, why) = (layers.path().to_owned(), "compression makes no matrix smaller");
        return Err(NoLayers { path, why }.into());
    }
    Ok(rows)
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
