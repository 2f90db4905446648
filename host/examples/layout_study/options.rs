//! The alternatives.

/// The order of a symbol's slots in the decode table.
#[derive(Clone, Copy, PartialEq)]
pub enum Spread {
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
pub enum Quant {
    /// Nearest, at least 1; the largest takes what is left over.
    Round,
    /// Integer rule: move slots while `c / (2f + 1)` gains.
    Greedy,
    /// Move slots while the exact code length falls.
    Exact,
}

/// Where the encoder starts.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
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
pub enum Tail {
    /// All lanes as long as the longest.
    Padded,
    /// A nibble a lane, whole rows, then the words of at most 15 rows that are present.
    Lengths,
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
pub struct Options {
    pub spread: Spread,
    pub quant: Quant,
    pub end: End,
    pub tail: Tail,
    /// Pairs whose ideal frequency lies below this become exceptions.
    pub drop: f64,
    pub prob_bits: u32,
    pub word: u32,
    pub strips: usize,
    pub align: usize,
    /// Shift of the window from the one that covers most.
    pub window: i32,
    pub zero: bool,
}

/// What the decision record decides; every other option is measured as a change to it.
pub const DECIDED: Options = Options {
    spread: Spread::RareLast,
    quant: Quant::Greedy,
    end: End::Zeros(8, 2),
    tail: Tail::Lengths,
    drop: 0.0,
    prob_bits: 12,
    word: 32,
    strips: 2,
    align: 128,
    window: 0,
    zero: false,
};

/// A name, and what it changes of [`DECIDED`].
pub type Change = (&'static str, fn(&mut Options));

/// The alternatives.
pub const CHANGES: &[Change] = &[
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
    ("end: zeros, 1 slot", |o| o.end = End::Zeros(1, 0)),
    ("end: zeros, 16 slots", |o| o.end = End::Zeros(16, 2)),
    ("end: zeros, all slots", |o| o.end = End::Zeros(usize::MAX, 3)),
    ("end: zeros, fewest words", |o| o.end = End::FewestWords),
    ("words: 32, padded", |o| o.tail = Tail::Padded),
    ("words: 32, masks", |o| o.tail = Tail::Masked),
    ("words: 32, masks, 1 slot", |o| (o.tail, o.end) = (Tail::Masked, End::Zeros(1, 0))),
    ("words: 32, lengths free", |o| o.tail = Tail::Free),
    ("words: 32, in tails 16", |o| o.tail = Tail::MaskedHalves),
    ("words: 16, padded", |o| (o.word, o.tail) = (16, Tail::Padded)),
    ("words: 16", |o| o.word = 16),
    ("words: 16, lengths free", |o| (o.word, o.tail) = (16, Tail::Free)),
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
