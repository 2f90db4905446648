//! Matrices, and the symbols that they are coded as.

use crate::options::Options;
use fused_rans_layout::{Dtype, LANES, Packing, TileGrid, matrix_column};
use half::bf16;
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Normal, StudentT};
use safetensors::SafeTensors;
use std::error::Error;

pub struct Matrix {
    pub name: String,
    pub dtype: Dtype,
    pub rows: usize,
    pub cols: usize,
    pub weights: Vec<u16>,
}

impl Matrix {
    pub fn sample(name: &str, rows: usize, cols: usize, d: impl Distribution<f64>) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let weight = |_| bf16::from_f64(d.sample(&mut rng)).to_bits();
        let weights = (0..rows * cols).map(weight).collect();
        Self { name: name.into(), dtype: Dtype::Bf16, rows, cols, weights }
    }

    pub fn exponent_counts(&self) -> [u64; 256] {
        let mut counts = [0; 256];
        self.weights.iter().for_each(|&w| counts[usize::from(self.dtype.exponent(w))] += 1);
        counts
    }

    /// Order-0 entropy of the exponents, and the bits beside them.
    pub fn entropy(&self) -> f64 {
        let raw = 8 * self.dtype.bytes() as u32 - self.dtype.exponent_bits();
        code_length(&self.exponent_counts(), &self.exponent_counts()) + f64::from(raw)
    }
}

/// Bits a symbol when `counts` are coded with probabilities proportional to `model`.
pub fn code_length(counts: &[u64], model: &[u64]) -> f64 {
    let (n, m) = (counts.iter().sum::<u64>() as f64, model.iter().sum::<u64>() as f64);
    let pairs = counts.iter().zip(model).filter(|&(&c, _)| c > 0);
    pairs.map(|(&c, &f)| c as f64 / n * (m / f as f64).log2()).sum()
}

/// The pairs of exponents of a matrix in stream order.
pub struct Streams {
    pub pairs: Vec<[u8; 2]>,
    /// Of each tile, the symbols a lane of its slabs.
    pub tiles: Vec<Vec<usize>>,
    pub counts: Vec<u64>,
}

impl Streams {
    pub fn new(matrix: &Matrix, strips: usize) -> Self {
        let grid = TileGrid { rows: matrix.rows, cols: matrix.cols };
        let mut streams = Self { pairs: vec![], tiles: vec![], counts: vec![0; 1 << 16] };
        let singles = matrix.exponent_counts();
        let padding = (0..=255).max_by_key(|&e| singles[usize::from(e)]).unwrap_or(0);
        let exponent = |row: usize, col: usize| match row < matrix.rows && col < matrix.cols {
            true => matrix.dtype.exponent(matrix.weights[row * matrix.cols + col]),
            false => padding,
        };
        for tile in 0..grid.tiles().unwrap_or(0) {
            let ((top, left), shape) = (grid.origin(tile), grid.shape(tile));
            let mut slabs = vec![];
            for first in (0..shape.strips()).step_by(strips) {
                let height = strips.min(shape.strips() - first);
                let symbols = 4 * height * shape.steps();
                slabs.push(symbols);
                for i in 0..LANES * symbols {
                    let (lane, fragment) = (i / symbols, i % symbols / 4);
                    let (row, col) = Packing::Two.position(lane, i % 4);
                    let row = top + 16 * (first + fragment % height) + row;
                    let col = left + matrix_column(shape.steps(), fragment / height, col);
                    streams.pairs.push([exponent(row, col), exponent(row + 8, col)]);
                }
            }
            streams.tiles.push(slabs);
        }
        streams.pairs.iter().for_each(|&p| streams.counts[usize::from(u16::from_le_bytes(p))] += 1);
        streams
    }
}

/// Which symbol codes a pair of exponents, and how many of the two are exceptions.
pub struct Model {
    pub symbol: Vec<(u8, u8)>,
    pub counts: Vec<u64>,
}

impl Model {
    pub fn new(matrix: &Matrix, streams: &Streams, o: &Options) -> Self {
        let singles = matrix.exponent_counts();
        let nibble = window(&singles, o);
        let top = (0..256).max_by_key(|&e| singles[e]).map_or(0, |e| nibble[e]);
        let split = |pair: usize| {
            let n = [nibble[pair & 255], nibble[pair >> 8]];
            let out = n.iter().filter(|&&n| n > 15).count() as u8;
            (n.map(|n| if n > 15 { top } else { n }), out)
        };
        let count = |symbol: &[(u8, u8)]| {
            let mut counts = vec![0; 256];
            let used = symbol.iter().zip(&streams.counts);
            used.for_each(|(s, c)| counts[usize::from(s.0)] += c);
            counts
        };
        let mut symbol: Vec<_> =
            (0..1 << 16).map(split).map(|([a, b], out)| (a | b << 4, out)).collect();
        let counts = count(&symbol);
        let least = o.drop * streams.pairs.len() as f64 / f64::from(1 << o.prob_bits);
        let replace: Vec<_> = (0..=255).map(|s| replacement(s, top, &counts, least)).collect();
        for s in &mut symbol {
            let (kept, more) = replace[usize::from(s.0)];
            *s = (kept, s.1 + more);
        }
        let counts = count(&symbol);
        Self { symbol, counts }
    }
}

/// The nibble of every exponent field, above 15 for exceptions.
pub fn window(singles: &[u64; 256], o: &Options) -> [u8; 256] {
    let covered = |b: usize| singles[b + usize::from(o.zero)..b + 16].iter().sum::<u64>();
    let best = (0..=240).max_by_key(|&b| covered(b)).unwrap_or(0) as i32;
    let base = (best + o.window).clamp(0, 240) as u8;
    std::array::from_fn(|e| match (e as u8).wrapping_sub(base) {
        _ if o.zero && e == 0 => 0,
        0 if o.zero => u8::MAX,
        n => n,
    })
}

/// The symbol that stands for `s`, and the exceptions that this takes.
pub fn replacement(s: u8, top: u8, counts: &[u64], least: f64) -> (u8, u8) {
    let kept = |s: u8| counts[usize::from(s)] as f64 >= least;
    let one = [s & 0xF0 | top, s & 0x0F | top << 4].into_iter().filter(|&s| kept(s));
    match one.max_by_key(|&s| counts[usize::from(s)]) {
        _ if kept(s) || counts[usize::from(s)] == 0 => (s, 0),
        Some(other) => (other, 1),
        None => (top | top << 4, 2),
    }
}

pub fn matrices(path: Option<String>) -> Result<Vec<Matrix>, Box<dyn Error>> {
    let normal = Normal::new(0.0, 0.02)?;
    let gaussian = |rows: usize, cols: usize| {
        Matrix::sample(&format!("Gaussian {rows}x{cols}"), rows, cols, normal)
    };
    let student = StudentT::new(5.0)?.map(|x: f64| 0.02 * x);
    let mut zeros = Matrix { name: "2% zeros 2048x512".into(), ..gaussian(2048, 512) };
    zeros.weights.iter_mut().step_by(50).for_each(|w| *w = 0);
    let mut all = vec![
        zeros,
        gaussian(4096, 14336),
        gaussian(2048, 512),
        gaussian(1152, 384),
        gaussian(1536, 576),
        gaussian(4096, 4096),
        Matrix::sample("Student-t(5) 4096x4096", 4096, 4096, student),
    ];
    let Some(path) = path else { return Ok(all) };
    let bytes = std::fs::read(path)?;
    for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
        let dtype = match view.dtype() {
            safetensors::Dtype::BF16 => Dtype::Bf16,
            safetensors::Dtype::F16 => Dtype::F16,
            _ => continue,
        };
        let &[rows, cols] = view.shape() else { continue };
        let weights = view.data().chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        all.push(Matrix { name, dtype, rows, cols, weights: weights.collect() });
    }
    Ok(all)
}
