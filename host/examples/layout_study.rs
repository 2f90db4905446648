//! What every choice of the stored stream costs, in bits per weight over the entropy.
//!
//! `cargo run --release -p fused-rans-host --example layout_study [FILE.safetensors]`
//!
//! Every lane stream is encoded for real, backwards, state by state; only the bits themselves are
//! thrown away after their number and the zeros at their end are known. The figure compared is
//! everything that a blob stores, less the order-0 entropy of the exponents and the raw bits.
//! `docs/decisions/0002-stream-layout.md` draws the conclusions.

use fused_rans_layout::{Dtype, LANES, TileGrid, symbol_position};
use half::bf16;
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Normal, StudentT};
use safetensors::SafeTensors;
use std::error::Error;

/// The order of a symbol's slots in the decode table.
#[derive(Clone, Copy, PartialEq)]
enum Spread {
    /// Plain rANS.
    Contiguous,
    /// FSE: steps of 5/8 of the table and 3.
    Step,
    /// Occurrence k by `((2k + 1) << 31) / f`, then by symbol.
    Sorted,
    /// Like `Sorted`, but symbols of frequency 1 at the end, where a slot is least probable.
    RareLast,
    /// By `(k + 1/2) / p`: needs the true probability.
    SortedTrue,
    /// Duda: by `1 / (p ln(1 + 1/i))` for i in `[f, 2f)`: needs the true probability.
    Tuned,
}

/// How counts become frequencies.
#[derive(Clone, Copy, PartialEq)]
enum Quant {
    /// Nearest, at least 1; the largest takes what is left over.
    Round,
    /// Integer rule: move slots while `c / (2f + 1)` gains.
    Greedy,
    /// Move slots while the exact code length falls.
    Exact,
}

/// Where the encoder starts.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The last symbol is encoded from the lowest state.
    Coded,
    /// In the lowest slot of the last symbol. No other takes fewer bits: a step of the encoder keeps
    /// the order of (bits, state).
    Lowest,
    /// In one of the `.0` slots whose indices end in most zeros: the one that leaves fewest bits
    /// before the zeros at the end, as far as `.1` more symbols tell. Zero words are not stored.
    Zeros(usize, usize),
    /// In the slot that leaves fewest words, zeros at the end not stored.
    FewestWords,
}

/// How the words of a slab's lanes are stored.
#[derive(Clone, Copy, PartialEq)]
enum Tail {
    /// All lanes as long as the longest.
    Padded,
    /// Whole rows, then a mask of lanes and the words present.
    Masked,
    /// Whole rows of 32-bit words, then masks and halves of words.
    MaskedHalves,
    /// Lane lengths in a byte each, then whole rows and the rest of every lane packed to the bit.
    Bits,
    /// Nothing but the words.
    Free,
}

#[derive(Clone, Copy)]
struct Options {
    spread: Spread,
    quant: Quant,
    end: End,
    tail: Tail,
    /// Pairs whose ideal frequency lies below this become exceptions.
    drop: f64,
    prob_bits: u32,
    word: u32,
    strips: usize,
    align: usize,
    /// Shift of the window from the one that covers most.
    window: i32,
    zero: bool,
}

/// What the decision record decides; every other option is measured as a change to it.
const DECIDED: Options = Options {
    spread: Spread::RareLast,
    quant: Quant::Greedy,
    end: End::Zeros(1, 0),
    tail: Tail::Masked,
    drop: 0.0,
    prob_bits: 12,
    word: 32,
    strips: 2,
    align: 128,
    window: 0,
    zero: false,
};

struct Matrix {
    name: String,
    dtype: Dtype,
    rows: usize,
    cols: usize,
    weights: Vec<u16>,
}

impl Matrix {
    fn sample(name: &str, rows: usize, cols: usize, d: impl Distribution<f64>) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let weight = |_| bf16::from_f64(d.sample(&mut rng)).to_bits();
        let weights = (0..rows * cols).map(weight).collect();
        Self { name: name.into(), dtype: Dtype::Bf16, rows, cols, weights }
    }

    fn exponent_counts(&self) -> [u64; 256] {
        let mut counts = [0; 256];
        self.weights.iter().for_each(|&w| counts[usize::from(self.dtype.exponent(w))] += 1);
        counts
    }

    /// Order-0 entropy of the exponents, and the bits beside them.
    fn entropy(&self) -> f64 {
        let raw = 8 * self.dtype.bytes() as u32 - self.dtype.exponent_bits();
        code_length(&self.exponent_counts(), &self.exponent_counts()) + f64::from(raw)
    }
}

/// Bits a symbol when `counts` are coded with probabilities proportional to `model`.
fn code_length(counts: &[u64], model: &[u64]) -> f64 {
    let (n, m) = (counts.iter().sum::<u64>() as f64, model.iter().sum::<u64>() as f64);
    let pairs = counts.iter().zip(model).filter(|&(&c, _)| c > 0);
    pairs.map(|(&c, &f)| c as f64 / n * (m / f as f64).log2()).sum()
}

/// The pairs of exponents of a matrix in stream order.
struct Streams {
    pairs: Vec<[u8; 2]>,
    /// Of each tile, the symbols a lane of its slabs.
    tiles: Vec<Vec<usize>>,
    counts: Vec<u64>,
}

impl Streams {
    fn new(matrix: &Matrix, strips: usize) -> Self {
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
                    let (row, col) = symbol_position(lane, i % 4);
                    let row = top + 16 * (first + fragment % height) + row;
                    let col = left + 16 * (fragment / height) + col;
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
struct Model {
    symbol: Vec<(u8, u8)>,
    counts: Vec<u64>,
}

impl Model {
    fn new(matrix: &Matrix, streams: &Streams, o: &Options) -> Self {
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
fn window(singles: &[u64; 256], o: &Options) -> [u8; 256] {
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
fn replacement(s: u8, top: u8, counts: &[u64], least: f64) -> (u8, u8) {
    let kept = |s: u8| counts[usize::from(s)] as f64 >= least;
    let one = [s & 0xF0 | top, s & 0x0F | top << 4].into_iter().filter(|&s| kept(s));
    match one.max_by_key(|&s| counts[usize::from(s)]) {
        _ if kept(s) || counts[usize::from(s)] == 0 => (s, 0),
        Some(other) => (other, 1),
        None => (top | top << 4, 2),
    }
}

/// Frequencies that sum to `total`, at least 1 for every symbol that occurs.
fn quantize(counts: &[u64], total: u64, quant: Quant) -> Vec<u64> {
    let n: u64 = counts.iter().sum();
    let nearest = |&c: &u64| if c == 0 { 0 } else { ((c * total + n / 2) / n).max(1) };
    let mut freq: Vec<u64> = counts.iter().map(nearest).collect();
    if quant == Quant::Round {
        let largest = (0..counts.len()).max_by_key(|&s| counts[s]).unwrap_or(0);
        freq[largest] = freq[largest] + total - freq.iter().sum::<u64>();
        return freq;
    }
    let step = |s: usize, f: u64| match quant {
        Quant::Exact => counts[s] as f64 * ((f + 1) as f64 / f as f64).log2(),
        _ => counts[s] as f64 / (2 * f + 1) as f64,
    };
    loop {
        let used: Vec<usize> = (0..counts.len()).filter(|&s| counts[s] > 0).collect();
        let gain = |&s: &usize| step(s, freq[s]);
        let loss = |&s: &usize| if freq[s] > 1 { step(s, freq[s] - 1) } else { f64::INFINITY };
        let to = used.iter().copied().max_by(|a, b| gain(a).total_cmp(&gain(b))).unwrap_or(0);
        let from = used.iter().copied().min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap_or(0);
        let sum: u64 = freq.iter().sum();
        let (give, take) = (sum < total, sum > total);
        if !give && !take && gain(&to) <= loss(&from) {
            return freq;
        }
        freq[to] += u64::from(!take);
        freq[from] -= u64::from(!give);
    }
}

/// The symbol of every slot.
fn spread(freq: &[u64], counts: &[u64], how: Spread) -> Vec<u8> {
    let (size, n) = (freq.iter().sum::<u64>(), counts.iter().sum::<u64>() as f64);
    let all = (0..=255u8).flat_map(|s| (0..freq[usize::from(s)]).map(move |k| (s, k)));
    let key = |(s, k): (u8, u64)| {
        let (f, p) = (freq[usize::from(s)], counts[usize::from(s)] as f64 / n);
        match how {
            Spread::RareLast if f == 1 => f64::INFINITY,
            Spread::RareLast | Spread::Sorted => (((2 * k + 1) << 31) / f) as f64,
            Spread::SortedTrue => (k as f64 + 0.5) / p,
            Spread::Tuned => 1.0 / (p * (1.0 / (f + k) as f64).ln_1p()),
            _ => 0.0,
        }
    };
    let mut slots: Vec<(f64, u8)> = all.map(|sk| (key(sk), sk.0)).collect();
    slots.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut table = vec![0; size as usize];
    let step = size / 2 + size / 8 + 3;
    for (i, &(_, s)) in slots.iter().enumerate() {
        let i = i as u64;
        table[if how == Spread::Step { i * step % size } else { i } as usize] = s;
    }
    table
}

/// What of an encoded stream is counted: its bits, and the zeros among them at its end.
#[derive(Clone, Copy)]
struct Coded {
    state: u32,
    bits: u32,
    zeros: u32,
}

impl Coded {
    fn start(state: u32) -> Self {
        Self { state, bits: 0, zeros: 0 }
    }

    fn words(self, word: u32, drop_zeros: bool) -> u32 {
        (self.bits - if drop_zeros { self.zeros } else { 0 }).div_ceil(word)
    }
}

struct Encoder {
    size: u32,
    /// Of each symbol: frequency, and the state of each of its slots.
    states: Vec<(u32, Vec<u32>)>,
    /// Of each symbol, the states of its slots, those that end in most zeros first.
    roundest: Vec<Vec<u32>>,
}

impl Encoder {
    fn new(table: &[u8]) -> Self {
        let size = table.len() as u32;
        let mut states = vec![(0, vec![]); 256];
        for (i, &s) in table.iter().enumerate() {
            states[usize::from(s)].0 += 1;
            states[usize::from(s)].1.push(size + i as u32);
        }
        let mut roundest: Vec<Vec<u32>> = states.iter().map(|s| s.1.clone()).collect();
        roundest.iter_mut().for_each(|s| s.sort_by_key(|x| u32::MAX - x.trailing_zeros()));
        Self { size, states, roundest }
    }

    fn push(&self, c: Coded, symbol: u8) -> Coded {
        let (f, states) = &self.states[usize::from(symbol)];
        let n = c.state.ilog2() - f.ilog2();
        let n = n - u32::from(c.state >> n < *f);
        let low = c.state & ((1 << n) - 1);
        let zeros = if c.zeros == c.bits { c.bits + low.trailing_zeros().min(n) } else { c.zeros };
        Coded { state: states[((c.state >> n) - f) as usize], bits: c.bits + n, zeros }
    }

    fn push_all(&self, from: Coded, symbols: &[u8]) -> Coded {
        symbols.iter().rev().fold(from, |c, &s| self.push(c, s))
    }

    /// The stream of `symbols`, with the initial index in front.
    fn stream(&self, symbols: &[u8], end: End, word: u32) -> Coded {
        let Some((&last, rest)) = symbols.split_last() else { return Coded::start(self.size) };
        let starts = &self.states[usize::from(last)].1;
        let tried = |x: &u32, depth: usize| {
            self.push_all(Coded::start(*x), &rest[rest.len().saturating_sub(depth)..])
        };
        let coded = match end {
            End::Coded => self.push_all(Coded::start(self.size), symbols),
            End::Lowest => self.push_all(Coded::start(starts[0]), rest),
            End::Zeros(slots, depth) => {
                let key = |x: &u32| {
                    let c = tried(x, depth);
                    c.bits - c.zeros
                };
                let starts = self.roundest[usize::from(last)].iter().copied().take(slots);
                self.push_all(Coded::start(starts.min_by_key(key).unwrap_or(self.size)), rest)
            }
            End::FewestWords => {
                let ends = starts.iter().map(|x| tried(x, rest.len()));
                let words = |c: &Coded| (c.bits + self.size.ilog2() - c.zeros).div_ceil(word);
                ends.min_by_key(words).unwrap_or(Coded::start(self.size))
            }
        };
        Coded { bits: coded.bits + self.size.ilog2(), ..coded }
    }
}

/// Bits of a slab's words, rows stored whole, and rows stored by mask.
fn slab_bits(lanes: &[Coded], o: &Options) -> [u64; 3] {
    let drop = matches!(o.end, End::Zeros(..) | End::FewestWords);
    let sorted = |word: u32| {
        let mut words: Vec<u32> = lanes.iter().map(|c| c.words(word, drop)).collect();
        words.sort_unstable();
        words
    };
    // Rows that take no more bits whole than with a mask.
    let full = |word: u32| sorted(word)[32 / word as usize];
    let masked = |word: u32, full: u32| {
        let words = sorted(word);
        // A row that only zeros need is still there, or the decoder would read past the end.
        let rows = lanes.iter().map(|c| c.words(word, false)).max().unwrap_or(0);
        let row = |r: u32| 32 + word * words.iter().filter(|&&w| w > r).count() as u32;
        let tail: u32 = (full..rows).map(row).sum();
        [full * 32 * word + tail, full, rows - full].map(u64::from)
    };
    let words = lanes.iter().map(|c| u64::from(c.words(o.word, drop) * o.word));
    match o.tail {
        Tail::Padded => {
            let rows = lanes.iter().map(|c| c.words(o.word, false)).max().unwrap_or(0);
            [32 * rows * o.word, rows, 0].map(u64::from)
        }
        Tail::Masked => masked(o.word, full(o.word)),
        Tail::MaskedHalves => masked(16, 2 * full(32)),
        Tail::Bits => [lanes.iter().map(|c| u64::from(c.bits)).sum::<u64>() + 32 * 8, 0, 0],
        Tail::Free => [words.sum(), 0, 0],
    }
}

/// What a matrix takes, in bits a weight unless said otherwise.
struct Size {
    total: f64,
    over: f64,
    /// Exceptions a weight.
    exceptions: f64,
    /// Where `over` goes: (what, bits a weight).
    parts: Vec<(&'static str, f64)>,
    /// Rows of words a slab, whole and by mask.
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
        total += 32 + payload;
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
            ("whole words, masks, less zeros", per(stored[0]) - per(coded_bits)),
            ("exceptions", per(32 * exceptions)),
            ("alignment", per(8 * aligned)),
            ("index", per(256 * streams.tiles.len() as u64)),
            ("table and header", per(8 * (128 + 512))),
        ],
        rows: [stored[1], stored[2]].map(|r| r as f64 / f64::from(slabs)),
    }
}

/// A name, and what it changes of [`DECIDED`].
type Change = (&'static str, fn(&mut Options));

/// The alternatives.
const CHANGES: &[Change] = &[
    ("decided", |_| {}),
    ("sorted spread, lowest slot", |o| (o.spread, o.end) = (Spread::Sorted, End::Lowest)),
    ("spread: contiguous", |o| o.spread = Spread::Contiguous),
    ("spread: FSE step", |o| o.spread = Spread::Step),
    ("spread: sorted", |o| o.spread = Spread::Sorted),
    ("spread: sorted by true p", |o| o.spread = Spread::SortedTrue),
    ("spread: tuned by true p", |o| o.spread = Spread::Tuned),
    ("frequencies: rounded", |o| o.quant = Quant::Round),
    ("frequencies: exact", |o| o.quant = Quant::Exact),
    ("frequencies: 11 bits", |o| o.prob_bits = 11),
    ("frequencies: 13 bits", |o| o.prob_bits = 13),
    ("drop below 0.01", |o| o.drop = 0.01),
    ("drop below 0.02", |o| o.drop = 0.02),
    ("drop below 0.06", |o| o.drop = 0.06),
    ("end: last symbol coded", |o| o.end = End::Coded),
    ("end: lowest slot", |o| o.end = End::Lowest),
    ("end: zeros, 8 slots", |o| o.end = End::Zeros(8, 2)),
    ("end: zeros, 16 slots", |o| o.end = End::Zeros(16, 2)),
    ("end: zeros, all slots", |o| o.end = End::Zeros(usize::MAX, 3)),
    ("end: zeros, fewest words", |o| o.end = End::FewestWords),
    ("words: 32, padded", |o| o.tail = Tail::Padded),
    ("words: 32, masks free", |o| o.tail = Tail::Free),
    ("words: 32, in tails 16", |o| o.tail = Tail::MaskedHalves),
    ("words: 16, padded", |o| (o.word, o.tail) = (16, Tail::Padded)),
    ("words: 16", |o| o.word = 16),
    ("words: 16, masks free", |o| (o.word, o.tail) = (16, Tail::Free)),
    ("words: none, packed bits", |o| o.tail = Tail::Bits),
    ("streams of 64", |o| o.strips = 1),
    ("streams of 64, padded", |o| (o.strips, o.tail) = (1, Tail::Padded)),
    ("streams of 256", |o| o.strips = 4),
    ("streams of 256, padded", |o| (o.strips, o.tail) = (4, Tail::Padded)),
    ("aligned to 16 bytes", |o| o.align = 16),
    ("aligned to 32 bytes", |o| o.align = 32),
    ("aligned to 64 bytes", |o| o.align = 64),
    ("window shifted by -1", |o| o.window = -1),
    ("window shifted by 1", |o| o.window = 1),
    ("nibble 0 is field 0", |o| o.zero = true),
    ("drop, tails 16", |o| (o.drop, o.tail) = (0.02, Tail::MaskedHalves)),
    ("drop, tails 16, streams of 256", |o| {
        (o.drop, o.tail, o.strips) = (0.02, Tail::MaskedHalves, 4);
    }),
];

fn matrices(path: Option<String>) -> Result<Vec<Matrix>, Box<dyn Error>> {
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
    println!("rows a slab: {:.2} whole, {:.2} by mask", decided.rows[0], decided.rows[1]);
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
