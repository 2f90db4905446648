//! Reads 512 bytes as a table of frequencies: unchanged, as counts, and cut to the right sum.
#![no_main]

use fused_rans::layout::{Entry, ExponentEntry, FourWeightEntry, PROB_BITS, SYMBOLS, Split, TABLE};
use fused_rans::{Dtype, Frequencies, WeightsPerSymbol};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut stored = [0; SYMBOLS];
    for (frequency, bytes) in stored.iter_mut().zip(bytes.as_chunks().0) {
        *frequency = u16::from_le_bytes(*bytes);
    }
    let sum: u64 = stored.iter().map(|&frequency| u64::from(frequency)).sum();
    let unchanged = Frequencies::from_stored(stored);
    assert_eq!(unchanged.is_some(), sum == TABLE as u64);
    check_counts(stored.map(u64::from));
    check(&unchanged.unwrap_or_else(|| cut(stored)));
});

/// Checks that counts give a table in which exactly the symbols with a count have a frequency.
fn check_counts(counts: [u64; SYMBOLS]) {
    let frequencies = Frequencies::from_counts(&counts);
    let stored = frequencies.as_ref().map(|frequencies| *frequencies.as_array());
    assert_eq!(stored.is_some(), counts != [0; SYMBOLS]);
    let stored = stored.into_iter().flatten();
    assert!(stored.zip(counts).all(|(frequency, count)| (frequency > 0) == (count > 0)));
    assert!(frequencies.is_none_or(|table| Frequencies::from_stored(*table.as_array()).is_some()));
}

/// Cuts frequencies off where their sum reaches the table's size; adds the rest, if any, to the last symbol.
fn cut(stored: [u16; SYMBOLS]) -> Frequencies {
    let mut rest = TABLE as u16;
    let mut cut = stored.map(|frequency| {
        let frequency = frequency.min(rest);
        rest -= frequency;
        frequency
    });
    cut[SYMBOLS - 1] += rest;
    Frequencies::from_stored(cut).expect("the sum is right")
}

/// Checks the decode tables against docs/format.md.
fn check(frequencies: &Frequencies) {
    let table = frequencies.decode_table();
    check_slots(frequencies, &table);
    for entry in table.iter() {
        assert_eq!(entry.0 >> 5 & 3, 0);
        check_step(entry.sub(), entry.bits());
    }
    let [wide, narrow] =
        [Split::window(Dtype::Bf16, 0, false), Split::i8(WeightsPerSymbol::Four, 2)];
    let [wide, narrow] = [wide, narrow].map(|split| split.expect("there is such a split"));
    assert!(frequencies.kernel_table(wide).iter().eq(table.iter().map(|entry| &entry.0)));
    check_wide(frequencies.exponent_table(wide), frequencies.max(), &table);
    if frequencies.max() <= FourWeightEntry::MAX_FREQUENCY {
        check_quads(&frequencies.kernel_table(narrow), &table);
    }
}

/// Checks that each symbol has its slots, that their sub-states ascend by one, and that slots are sorted by key.
fn check_slots(frequencies: &Frequencies, table: &[Entry; TABLE]) {
    let mut next = frequencies.as_array().map(u32::from);
    let mut last = (0, 0);
    for entry in table {
        let symbol = entry.symbol();
        let f = u64::from(frequencies.as_array()[usize::from(symbol)]);
        let sub_state = entry.sub() + (TABLE as u32 >> entry.bits());
        assert_eq!(sub_state, next[usize::from(symbol)]);
        next[usize::from(symbol)] += 1;
        let k = u64::from(sub_state) - f;
        let key = if f == 1 { u64::MAX } else { ((2 * k + 1) << 31) / f };
        assert!(last <= (key, symbol));
        last = (key, symbol);
    }
    assert_eq!(next, frequencies.as_array().map(|f| 2 * u32::from(f)));
}

/// Checks that the next index is in the table, whatever the stream's bits are.
fn check_step(sub: u32, bits: u32) {
    assert!(bits <= PROB_BITS);
    assert!((sub << bits | ((1 << bits) - 1)) < TABLE as u32);
}

fn check_wide(wide: Option<Vec<u32>>, largest: u16, table: &[Entry; TABLE]) {
    assert_eq!(wide.is_some(), largest <= ExponentEntry::MAX_FREQUENCY);
    for (wide, entry) in wide.iter().flatten().zip(table) {
        assert_eq!((wide >> ExponentEntry::SUB_SHIFT, wide & 15), (entry.sub(), entry.bits()));
        assert_eq!(wide >> 4 & 7, 0);
    }
}

fn check_quads(quads: &[u32], table: &[Entry; TABLE]) {
    for (quad, entry) in quads.iter().zip(table) {
        assert_eq!((quad >> FourWeightEntry::SUB_SHIFT, quad & 31), (entry.sub(), entry.bits()));
        assert_eq!((quad >> 18 & 15) << 4 | quad >> 10 & 15, u32::from(entry.symbol()));
        assert_eq!((quad >> 14 & 15, quad >> 5 & 31), (0, 0));
    }
}
