//! The coder: frequencies, spread, streams, and what is stored of them.

use crate::options::{End, Options, Quant, Spread, Tail};
use fused_rans_layout::{MAX_TAIL_ROWS, TAIL_LENGTH_BYTES};

/// Frequencies that sum to `total`, at least 1 for every symbol that occurs.
pub fn quantize(counts: &[u64], total: u64, quant: Quant) -> Vec<u64> {
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
pub fn spread(freq: &[u64], counts: &[u64], how: Spread) -> Vec<u8> {
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
pub struct Coded {
    pub state: u32,
    pub bits: u32,
    pub zeros: u32,
}

impl Coded {
    pub fn start(state: u32) -> Self {
        Self { state, bits: 0, zeros: 0 }
    }

    pub fn words(self, word: u32, drop_zeros: bool) -> u32 {
        (self.bits - if drop_zeros { self.zeros } else { 0 }).div_ceil(word)
    }
}

pub struct Encoder {
    pub size: u32,
    /// Of each symbol: frequency, and the state of each of its slots.
    pub states: Vec<(u32, Vec<u32>)>,
    /// Of each symbol, the states of its slots, those that end in most zeros first.
    pub roundest: Vec<Vec<u32>>,
}

impl Encoder {
    pub fn new(table: &[u8]) -> Self {
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

    pub fn push(&self, c: Coded, symbol: u8) -> Coded {
        let (f, states) = &self.states[usize::from(symbol)];
        let n = c.state.ilog2() - f.ilog2();
        let n = n - u32::from(c.state >> n < *f);
        let low = c.state & ((1 << n) - 1);
        let zeros = if c.zeros == c.bits { c.bits + low.trailing_zeros().min(n) } else { c.zeros };
        Coded { state: states[((c.state >> n) - f) as usize], bits: c.bits + n, zeros }
    }

    pub fn push_all(&self, from: Coded, symbols: &[u8]) -> Coded {
        symbols.iter().rev().fold(from, |c, &s| self.push(c, s))
    }

    /// The stream of `symbols`, with the initial index in front.
    pub fn stream(&self, symbols: &[u8], end: End, word: u32) -> Coded {
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

/// Bits of a slab's words, rows stored whole, and rows of the tail.
pub fn slab_bits(lanes: &[Coded], o: &Options) -> [u64; 3] {
    let drop = matches!(o.end, End::Zeros(..) | End::FewestWords);
    let sorted = |word: u32| {
        let mut words: Vec<u32> = lanes.iter().map(|c| c.words(word, drop)).collect();
        words.sort_unstable();
        words
    };
    // With masks: rows that all lanes but one have, or two of half words. Whole they are no larger.
    let full = |word: u32| sorted(word)[32 / word as usize];
    // A row that only zeros need is still there, or the decoder would read past the end.
    let rows = |word: u32| lanes.iter().map(|c| c.words(word, false)).max().unwrap_or(0);
    let masked = |word: u32, full: u32| {
        let (words, rows) = (sorted(word), rows(word));
        let row = |r: u32| 32 + word * words.iter().filter(|&&w| w > r).count() as u32;
        let tail: u32 = (full..rows).map(row).sum();
        [full * 32 * word + tail, full, rows - full].map(u64::from)
    };
    let words = lanes.iter().map(|c| u64::from(c.words(o.word, drop) * o.word));
    match o.tail {
        Tail::Padded => [32 * rows(o.word) * o.word, rows(o.word), 0].map(u64::from),
        Tail::Lengths => {
            let rows = rows(o.word);
            let full = sorted(o.word)[0].max(rows.saturating_sub(MAX_TAIL_ROWS as u32));
            let tail: u32 = sorted(o.word).iter().map(|words| words.saturating_sub(full)).sum();
            let lengths = 8 * TAIL_LENGTH_BYTES as u32;
            [lengths + (32 * full + tail) * o.word, full, rows - full].map(u64::from)
        }
        Tail::Masked => masked(o.word, full(o.word)),
        Tail::MaskedHalves => masked(16, 2 * full(32)),
        Tail::Bits => [lanes.iter().map(|c| u64::from(c.bits)).sum::<u64>() + 32 * 8, 0, 0],
        Tail::Free => [words.sum(), 0, 0],
    }
}
