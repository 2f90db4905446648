//! What every choice of the stored stream costs, in bits per weight over the entropy.
//!
//! `cargo run --release -p fused-rans-host --example layout_study [FILE.safetensors]`
//!
//! Every lane stream is encoded for real, backwards, state by state; only the bits themselves are
//! thrown away after their number and the zeros at their end are known. The figure compared is
//! everything that a blob stores, less the order-0 entropy of the exponents and the raw bits.
//! `docs/decisions/0002-stream-layout.md` and `0005-layout-for-fused-kernels.md` draw the conclusions.
mod coder;
mod matrix;
mod options;

use coder::{Coded, Encoder, quantize, slab_bits, spread};
use fused_rans_layout::{Dtype, LANES, TileEntry, TileGrid};
use matrix::{Matrix, Model, Streams, code_length, matrices};
use options::{CHANGES, DECIDED, End, Options, Quant};
use std::error::Error;

/// What a matrix takes, in bits a weight unless said otherwise.
struct Size {
    total: f64,
    over: f64,
    /// Exceptions a weight.
    exceptions: f64,
    /// Where `over` goes: (what, bits a weight).
    parts: Vec<(&'static str, f64)>,
    /// Rows of words a slab, whole and of the tail.
    rows: [f64; 2],
}

fn measure(matrix: &Matrix, streams: &Streams, o: &Options) -> Size {
    let model = Model::new(matrix, streams, o);
    let freq = quantize(&model.counts, 1 << o.prob_bits, o.quant);
    let encoder = Encoder::new(&spread(&freq, &model.counts, o.spread));
    let grid = TileGrid { rows: matrix.rows, cols: matrix.cols };
    let raw_bits = if matrix.dtype == Dtype::Bf16 { 8 } else { 11 };
    let (mut total, mut aligned, mut exceptions, mut planes) = (128 + 512, 0, 0, 0);
    let (mut at, mut coded_bits, mut stored, mut slabs) = (0, 0, [0; 3], 0);
    for (t, tile) in streams.tiles.iter().enumerate() {
        let (mut bits, mut out) = (0, 0);
        for &symbols in tile {
            let pairs = streams.pairs[at..at + LANES * symbols].iter();
            let (slab, outside): (Vec<u8>, Vec<u8>) =
                pairs.map(|&p| model.symbol[usize::from(u16::from_le_bytes(p))]).unzip();
            let lanes = slab.chunks_exact(symbols).map(|s| encoder.stream(s, o.end, o.word));
            let lanes: Vec<Coded> = lanes.collect();
            let slab = slab_bits(&lanes, o);
            stored.iter_mut().zip(slab).for_each(|(sum, x)| *sum += x);
            coded_bits += lanes.iter().map(|c| u64::from(c.bits)).sum::<u64>();
            out += outside.iter().map(|&x| u64::from(x)).sum::<u64>();
            (bits, slabs, at) = (bits + slab[0], slabs + 1, at + LANES * symbols);
        }
        let shape = grid.shape(t);
        let raw = shape.raw_bytes(raw_bits) as u64;
        let coded = (raw + bits.div_ceil(32) * 4 + 4 * out).min(2 * shape.weights() as u64);
        let payload = coded.next_multiple_of(o.align as u64);
        (aligned, exceptions, planes) = (aligned + payload - coded, exceptions + out, planes + raw);
        total += size_of::<TileEntry>() as u64 + payload;
    }
    let per = |bits: u64| bits as f64 / matrix.weights.len() as f64;
    let symbols = streams.pairs.len() as f64 / matrix.weights.len() as f64;
    let ideal = symbols * code_length(&model.counts, &model.counts);
    let model_bits = symbols * code_length(&model.counts, &freq);
    let entropy = matrix.entropy();
    Size {
        total: per(8 * total),
        over: per(8 * total) - entropy,
        exceptions: per(exceptions),
        parts: vec![
            ("pairs, padding of edges", ideal + per(8 * planes) - entropy),
            ("frequencies", model_bits - ideal),
            ("spread, initial index less free symbol", per(coded_bits) - model_bits),
            ("whole words, tail lengths, less zeros", per(stored[0]) - per(coded_bits)),
            ("exceptions", per(32 * exceptions)),
            ("alignment", per(8 * aligned)),
            ("index", per(8 * size_of::<TileEntry>() as u64 * streams.tiles.len() as u64)),
            ("table and header", per(8 * (128 + 512))),
        ],
        rows: [stored[1], stored[2]].map(|r| r as f64 / f64::from(slabs)),
    }
}

/// What 12-bit frequencies cost pairs and single nibbles, in bits a weight.
fn print_tables(matrix: &Matrix, streams: &Streams) {
    let pairs = Model::new(matrix, streams, &DECIDED).counts;
    let mut singles = vec![0; 16];
    pairs.iter().enumerate().for_each(|(s, c)| {
        singles[s & 15] += c;
        singles[s >> 4] += c;
    });
    let loss = |counts: &[u64], bits: u32| {
        let freq = quantize(counts, 1 << bits, Quant::Exact);
        code_length(counts, &freq) - code_length(counts, counts)
    };
    let row = [11, 12, 13].map(|b| {
        format!("{b} bits: pairs {:.4}, singles {:.4}", loss(&pairs, b) / 2.0, loss(&singles, b))
    });
    println!("loss by quantized frequencies, b/w: {}", row.join("; "));
    let rare = pairs.iter().filter(|&&c| c > 0 && c * 4096 < pairs.iter().sum()).count();
    let used = pairs.iter().filter(|&&c| c > 0).count();
    println!("{used} pairs occur, {rare} of them more rarely than 1 in 4096");
}

fn study(matrix: &Matrix) {
    let streams = [1, 2, 4].map(|strips| Streams::new(matrix, strips));
    let run = |o: &Options| measure(matrix, &streams[o.strips.ilog2() as usize], o);
    println!("\n# {}: entropy {:.4}", matrix.name, matrix.entropy());
    print_tables(matrix, &streams[1]);
    let decided = run(&DECIDED);
    println!("rows a slab: {:.2} whole, {:.2} of the tail", decided.rows[0], decided.rows[1]);
    decided.parts.iter().for_each(|(what, bits)| println!("  {bits:.4} {what}"));
    for (name, change) in CHANGES {
        let mut o = DECIDED;
        change(&mut o);
        if o.end != End::FewestWords || matrix.weights.len() < 1 << 21 {
            let Size { over, total, exceptions, .. } = run(&o);
            println!("{name:32} +{over:.4} {total:8.4} b/w, exceptions {exceptions:.1e}");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    matrices(std::env::args().nth(1))?.iter().for_each(study);
    Ok(())
}
