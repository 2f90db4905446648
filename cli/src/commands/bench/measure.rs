//! The measurement of a file's layers.

use fused_rans::gpu::{self, GpuError};
use fused_rans_bench::{Effort, Row, Session, Subject};

use super::layers::{Layers, NoLayers};
use crate::args::Bench;
use crate::progress::Bar;
use crate::report::table::{Align, Table};
use crate::report::text::printable;
use crate::terminal::{Failure, say};

/// There is no such device, or it does not take the kernels.
#[derive(Debug, thiserror::Error)]
#[error("measuring needs an NVIDIA GPU and its driver; --device chooses among several: {0}")]
struct NoGpu(GpuError);

/// `fused-rans bench`
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

/// A row for every layer and batch.
fn rows(session: &mut Session, layers: &Layers, batch: &[usize]) -> Result<Vec<Row>, Failure> {
    let bar = Bar::of_items("measuring");
    let most = batch.iter().copied().max().unwrap_or(0);
    let (mut rows, total) = (Vec::new(), layers.names().len() as u64);
    for (done, name) in (0..).zip(layers.names()) {
        bar.set(done, total);
        let of_layer = layers.with(name, |blob| {
            let mut subject = Subject::new(session, name, blob, most)?;
            let rows = batch.iter().map(|&m| subject.row(session, m, Effort::FULL));
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })?;
        rows.extend(of_layer.into_iter().flatten());
    }
    if rows.is_empty() {
        let (path, why) = (layers.path().to_owned(), "no matrix gets smaller by compression");
        return Err(NoLayers { path, why }.into());
    }
    Ok(rows)
}

/// The rows for people.
fn table(rows: &[Row]) -> Table {
    // Name, shape and format are words, the rest are numbers.
    let align = |column| if column < 3 { Align::Left } else { Align::Right };
    let columns = Row::COLUMNS.into_iter().zip((0..).map(align)).collect::<Vec<_>>();
    let mut table = Table::new(&columns);
    for row in rows {
        table.row(row.cells().iter().map(|cell| printable(cell)).collect());
    }
    table
}
