//! Measures y = x W^T on the GPU from compressed weights, in turns with cuBLAS in the same run.
//!
//! ```sh
//! cargo bench --features cuda --bench matmul
//! cargo bench --features cuda --bench matmul -- --shapes 4096x4096 --formats bf16,int4 --batch 1,8 --quick
//! cargo bench --features cuda --bench matmul -- --tokens llama-3.1-8b,qwen3-32b --formats bf16 --batch 1,8
//! cargo bench --features cuda --bench matmul -- --group 4096x4096,1024x4096,1024x4096 --formats bf16 --batch 8
//! ```
//!
//! Prints one line per layer, format and number of rows of x, and writes all lines as CSV to `benches/results/`.
//!
//! With `--tokens` it measures all linear layers of a token instead, one after the other in a CUDA graph: ours in one, cuBLAS's
//! in another. Layers that multiply the same activations are merged, on both sides.
//!
//! With `--group` it measures layers that multiply the same activations, as a group and one after the other, and writes no CSV.
//!
//! Checks every copy's outputs against products in F64 before it times anything. Alternates between so many copies of a
//! layer, and of cuBLAS's dense weights, that the L2 cache is cold. Queues calls in batches behind a copy, so that the
//! GPU does not wait for launches. Batches of ours and of cuBLAS alternate. Our time is the median of all batches;
//! cuBLAS's is the best of the rounds' medians.
//!
//! Loads cuBLAS from the path in `FUSED_RANS_CUBLAS`, else from the system. Without cuBLAS, compares with a dense
//! kernel of this project.

#[cfg(not(feature = "cuda"))]
fn main() {
    println!("skipped: built without the feature `cuda`");
}

#[cfg(feature = "cuda")]
#[path = "matmul/models.rs"]
mod models;

#[cfg(feature = "cuda")]
#[path = "matmul/weights.rs"]
mod weights;

#[cfg(feature = "cuda")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use clap::Parser;

    let args = bench::Args::parse();
    match fused_rans::gpu::open_as_tested(0) {
        Ok(gpu) => bench::run(gpu, args),
        Err(error) => {
            println!("skipped: {error}");
            Ok(())
        }
    }
}

#[cfg(feature = "cuda")]
mod bench {
    use super::models::Model;
    use super::weights::{self, Format};
    use clap::Parser;
    use fused_rans::Blob;
    use fused_rans::gpu::Gpu;
    use fused_rans_bench::{
        Effort, Group, GroupMeasurement, Measurement, Report, Session, Subject, Token,
        TokenMeasurement, commit, slug,
    };
    use std::error::Error;
    use std::fmt::Write as _;
    use std::fs;
    use std::path::{Path, PathBuf};

    const SHAPES: &str =
        "5632x2048,2048x5632,4096x4096,14336x4096,4096x14336,28672x8192,8192x28672";

    /// Measures y = x W^T on the first GPU.
    #[derive(Debug, Parser)]
    pub struct Args {
        /// Shapes of the layers to measure, NxK
        #[arg(long, value_delimiter = ',', default_value = SHAPES, value_parser = shape)]
        shapes: Vec<(usize, usize)>,
        /// Measure all linear layers of a token of these models, not single layers
        #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "shapes")]
        tokens: Vec<Model>,
        /// Measure a group of layers of these shapes, which multiply the same activations
        #[arg(long, value_delimiter = ',', value_parser = shape, conflicts_with_all = ["shapes", "tokens"])]
        group: Vec<(usize, usize)>,
        /// Formats of the weights
        #[arg(long, value_enum, value_delimiter = ',', default_values_t = Format::ALL)]
        formats: Vec<Format>,
        /// Numbers of rows of x, 1 to 1024
        #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64", value_parser = batch)]
        batch: Vec<usize>,
        /// Time fewer batches: for a first look, not for publication
        #[arg(long)]
        quick: bool,
        /// Write the CSV to this file, or to this directory under a name from GPU, driver and commit
        #[arg(long, default_value = "benches/results")]
        out: PathBuf,
        /// Only test that the bench runs: measure the first shape and format, and write no file
        #[arg(long)]
        test: bool,
        /// Passed by cargo to every benchmark
        #[arg(long, hide = true)]
        bench: bool,
    }

    /// Measures all layers, prints each measurement, and writes the CSV.
    pub fn run(gpu: Gpu, mut args: Args) -> Result<(), Box<dyn Error>> {
        if args.test {
            args.shapes.truncate(1);
            args.tokens.truncate(1);
            args.formats.truncate(1);
            args.batch.truncate(1);
        }
        let quick = args.quick || args.test;
        let effort = if quick { Effort::QUICK } else { Effort::FULL };
        let mut session = Session::new(gpu)?;
        println!("{}", session.report(Vec::new())?.head());
        if !args.tokens.is_empty() {
            return tokens(&mut session, &args, quick);
        }
        if !args.group.is_empty() {
            return group(&mut session, &args, effort);
        }
        println!("{}", line(&Measurement::COLUMNS));
        let mut rows = Vec::new();
        for &(n, k) in &args.shapes {
            for &format in &args.formats {
                rows.extend(layer(&mut session, format, n, k, &args.batch, effort)?);
            }
        }
        if !args.test {
            let report = session.report(rows)?;
            let commit = commit();
            let path = write(&report, "matmul", &commit, &report.csv(&commit), &args.out)?;
            println!("{}", path.display());
        }
        Ok(())
    }

    /// Measures a group with every format and number of rows of x, and prints each measurement.
    fn group(session: &mut Session, args: &Args, effort: Effort) -> Result<(), Box<dyn Error>> {
        let most = args.batch.iter().copied().max().unwrap_or(1);
        for &format in &args.formats {
            let subject = |&(n, k): &(usize, usize)| -> Result<Subject, Box<dyn Error>> {
                let blob = weights::blob(format, n, k)?;
                Ok(Subject::new(session, "Gaussian", &Blob::parse(&blob)?, most)?)
            };
            let subjects = args.group.iter().map(subject).collect::<Result<_, _>>()?;
            let mut group = Group::new(subjects);
            for &m in &args.batch {
                let GroupMeasurement { format, us, one_by_one_us, .. } =
                    group.measure(session, m, effort)?;
                let one_by_one = one_by_one_us.map_or("-".to_owned(), |us| format!("{us:.2} us"));
                println!("{format:<8}M = {m:<5}group {us:>8.2} us, one by one {one_by_one:>11}");
            }
        }
        Ok(())
    }

    /// Measures tokens of all models, prints each measurement, and writes the CSV.
    fn tokens(session: &mut Session, args: &Args, quick: bool) -> Result<(), Box<dyn Error>> {
        let effort = if quick { Effort::QUICK } else { Effort::LONG_CALLS };
        let (report, commit) = (session.report(Vec::new())?, commit());
        let mut csv =
            "gpu,driver,commit,reference,model,format,m,us,reference_us,speedup\n".to_owned();
        for &model in &args.tokens {
            for &format in &args.formats {
                let most = args.batch.iter().copied().max().unwrap_or(1);
                let product = |(n, k)| -> Result<Subject, Box<dyn Error>> {
                    let blob = weights::blob(format, n, k)?;
                    Ok(Subject::new(session, model.name(), &Blob::parse(&blob)?, most)?)
                };
                let products = model.shapes().into_iter().map(product).collect::<Result<_, _>>()?;
                let mut token = Token::new(products, model.decoder_layers());
                for &m in &args.batch {
                    let measured = token.measure(session, m, effort)?;
                    println!("{}", token_line(model, &measured));
                    let Report { gpu, driver, reference, .. } = &report;
                    let TokenMeasurement { format, m, us, reference_us } = measured;
                    let or_none =
                        |number: Option<f64>| number.map_or(String::new(), |n| format!("{n:.4}"));
                    writeln!(
                        csv,
                        "\"{gpu}\",{driver},{commit},\"{reference}\",\"{}\",{format},{m},{us:.2},{},{}",
                        model.name(),
                        or_none(reference_us),
                        or_none(measured.speedup())
                    )?;
                }
            }
        }
        if !args.test {
            let path = write(&report, "token", &commit, &csv, &args.out)?;
            println!("{}", path.display());
        }
        Ok(())
    }

    /// Formats a measurement of a token as a line.
    fn token_line(model: Model, measured: &TokenMeasurement) -> String {
        let TokenMeasurement { format, m, us, reference_us } = measured;
        let reference = reference_us.map_or("-".to_owned(), |us| format!("{:.3} ms", us / 1e3));
        let speedup = measured.speedup().map_or("-".to_owned(), |speedup| format!("{speedup:.2}x"));
        let name = model.name();
        format!(
            "{name:<16}{format:<8}M = {m:<5}{:>9.3} ms, reference {reference:>11} {speedup:>8}",
            us / 1e3
        )
    }

    /// Measures a layer with every number of rows of x. Prints each measurement when it is done.
    fn layer(
        session: &mut Session,
        format: Format,
        n: usize,
        k: usize,
        batch: &[usize],
        effort: Effort,
    ) -> Result<Vec<Measurement>, Box<dyn Error>> {
        let blob = weights::blob(format, n, k)?;
        let most = batch.iter().copied().max().unwrap_or(1);
        let mut subject = Subject::new(session, "Gaussian", &Blob::parse(&blob)?, most)?;
        let mut rows = Vec::with_capacity(batch.len());
        for &m in batch {
            let row = subject.measure(session, m, effort)?;
            println!("{}", line(&row.cells()));
            rows.push(row);
        }
        Ok(rows)
    }

    /// Formats cells as a line. Aligns the first three, which are words, to the left, and numbers to the right.
    fn line(cells: &[impl AsRef<str>]) -> String {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let cell = cell.as_ref();
            line += &if column < 3 { format!("{cell:<12}") } else { format!("{cell:>12}") };
        }
        line
    }

    /// Writes a CSV of what was measured (`what`) at `commit`. Returns the path of the file.
    fn write(
        report: &Report,
        what: &str,
        commit: &str,
        csv: &str,
        out: &Path,
    ) -> Result<PathBuf, Box<dyn Error>> {
        let Report { gpu, driver, .. } = report;
        let path = match out.is_dir() {
            true => out.join(format!("{}-{what}-{}-{}.csv", slug(gpu), slug(driver), slug(commit))),
            false => out.to_owned(),
        };
        fs::write(&path, csv).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// Parses a shape `NxK`.
    fn shape(text: &str) -> Result<(usize, usize), String> {
        let sides = text.split_once('x').map(|(n, k)| (n.parse(), k.parse()));
        match sides {
            Some((Ok(n @ 1..), Ok(k @ 1..))) => Ok((n, k)),
            _ => Err("not a shape of the form NxK, such as 4096x14336".to_owned()),
        }
    }

    /// Parses a number of rows from 1 to 1024.
    fn batch(text: &str) -> Result<usize, String> {
        let m = text.parse().ok().filter(|m| (1..=1024).contains(m));
        m.ok_or_else(|| "not a number from 1 to 1024".to_owned())
    }
}
