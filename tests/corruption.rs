//! Damaged and crafted blobs: a typed error or the very weights, never a panic, a hang or an
//! allocation that the blob's length does not bear out.

#[path = "corruption/allocation.rs"]
mod allocation;
#[path = "common/crc.rs"]
mod crc;
#[path = "golden/matrices.rs"]
mod matrices;
#[path = "corruption/victim.rs"]
mod victim;

use std::collections::BTreeSet;

use fused_rans::{Blob, BlobError, TileFault};
use proptest::prelude::*;
use victim::{INDEX, RECORD, Victim, two_tiles, victims};

/// (offset, bytes) of the header's fields behind magic and version.
const HEADER_FIELDS: [(usize, usize); 15] = [
    (6, 1),
    (7, 1),
    (8, 1),
    (9, 1),
    (10, 1),
    (11, 1),
    (12, 4),
    (16, 8),
    (24, 8),
    (32, 8),
    (40, 8),
    (48, 8),
    (56, 8),
    (116, 8),
    (124, 4),
];
/// (offset, bytes) of an index record's fields.
const RECORD_FIELDS: [(usize, usize); 12] = [
    (0, 4),
    (4, 4),
    (8, 2),
    (10, 2),
    (12, 1),
    (13, 1),
    (15, 1),
    (16, 1),
    (17, 1),
    (23, 1),
    (24, 1),
    (31, 1),
];

/// Numbers at which a field of `bytes` bytes with the value `now` may turn.
fn interesting(now: u64, bytes: usize) -> BTreeSet<u64> {
    let powers = (0..64).map(|bit| 1 << bit);
    let sizes = [0, 3, 12, 15, 17, 48, 49, 50, 240, 241, 255, 257, 4095, 4097, 1025, 65535, 65537];
    let floats = [16.0f64, 16.1, -0.0, -1.0, f64::NAN, f64::INFINITY].map(f64::to_bits);
    let near = [now.wrapping_sub(1), now.wrapping_add(1), now * 2, now / 2, !now];
    let large = (0..64).map(|shift| u64::MAX >> shift);
    let all = powers.chain(sizes).chain(floats).chain(near).chain(large);
    all.filter(|&value| bytes == 8 || value >> (8 * bytes) == 0).collect()
}

#[test]
fn every_truncation_and_every_extension_is_an_error() {
    for victim in victims() {
        for length in 0..victim.bytes.len() {
            let error = Blob::parse(&victim.bytes[..length]).expect_err("there are bytes missing");
            match error {
                BlobError::Magic => assert!(length < 4),
                BlobError::Truncated { needed, found } => {
                    assert!(found == length as u64 && needed > found);
                    assert!(needed <= victim.bytes.len() as u64);
                }
                other => panic!("{} of {length} bytes: {other}", victim.name),
            }
        }
        let longer = [&victim.bytes[..], &[0; 128]].concat();
        for length in victim.bytes.len() + 1..=longer.len() {
            Blob::parse(&longer[..length]).expect_err("there are bytes too many");
        }
    }
}

/// Every byte is under a checksum, padding included, so that no bit goes unnoticed.
#[test]
fn every_flipped_bit_is_an_error() {
    // Without optimization all of them would take minutes.
    let step = if cfg!(debug_assertions) { 31 } else { 1 };
    for mut victim in victims().iter().cloned() {
        assert!(victim.read().as_ref() == Ok(&victim.weights), "{} is damaged", victim.name);
        for bit in (0..8 * victim.bytes.len()).step_by(step) {
            victim.bytes[bit / 8] ^= 1 << (bit % 8);
            let verified = Blob::parse(&victim.bytes).and_then(|blob| blob.verify());
            assert!(verified.is_err(), "{}: bit {bit} does not matter", victim.name);
            // To decode takes a decode table each time: all bits of the small blobs, some of the others.
            if victim.bytes.len() < 3000 || bit % 13 == 0 {
                assert!(victim.read().is_err(), "{}: bit {bit} does not matter", victim.name);
            }
            victim.bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Another magic is no blob, another version no damage, whatever else is in it.
#[test]
fn what_is_not_ours_is_said_to_be() {
    let victim = two_tiles();
    for bit in 0..32 {
        let mut other = victim.clone();
        other.bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(other.read(), Err(BlobError::Magic));
    }
    for found in 1..=u16::MAX {
        let mut other = victim.clone();
        other.bytes[6..].fill(0xA5);
        other.set((4, 2), found.into());
        assert_eq!(other.read(), Err(BlobError::Version { found, supported: 0 }));
    }
}

#[test]
fn header_fields_of_any_value_with_right_checksums() {
    for victim in victims() {
        for (offset, bytes) in HEADER_FIELDS {
            for value in interesting(victim.get(offset, bytes), bytes) {
                let mut crafted = victim.clone();
                crafted.set((offset, bytes), value);
                if offset != 124 {
                    crafted.reseal();
                }
                let outcome = crafted.decode();
                // The base shifts the weights, the entropy and the weights' checksum mean nothing to
                // the decoders, other sides may well have room in the same tiles, and F8_E4M3 is
                // stored like I8 with 4 raw bits.
                let free = [6, 8, 9, 12, 16, 24, 48].contains(&offset);
                let same = value == victim.get(offset, bytes);
                assert!(outcome.is_err() || free || same, "{}: {offset}: {value}", victim.name);
            }
        }
    }
}

#[test]
fn index_records_of_any_value_with_right_checksums() {
    for victim in victims() {
        let tiles = Blob::parse(&victim.bytes).expect("it is intact").index().len();
        let places = BTreeSet::from([0, tiles - 1]).into_iter();
        let places = places.flat_map(|tile| RECORD_FIELDS.map(|field| (tile, field)));
        for (tile, (offset, bytes)) in places {
            let offset = INDEX + RECORD * tile + offset;
            for value in interesting(victim.get(offset, bytes), bytes) {
                let mut crafted = victim.clone();
                crafted.set((offset, bytes), value);
                crafted.reseal_header();
                if crafted.decode().is_ok() {
                    let rows = (16..32).contains(&((offset - INDEX) % RECORD));
                    let same = value == victim.get(offset, bytes);
                    assert!(rows || same, "{}: {offset}: {value}", victim.name);
                }
                crafted.reseal();
                let _ = crafted.decode();
            }
        }
    }
}

/// Crafts the blob of two tiles, makes its checksums right, and gives what it decodes to.
fn craft(change: impl FnOnce(&mut Victim)) -> Result<Vec<u8>, BlobError> {
    let mut victim = two_tiles();
    change(&mut victim);
    victim.reseal();
    victim.decode()
}

#[test]
fn faults_are_named() {
    let header = |what| Err(BlobError::Header(what));
    let index = |tile, what| Err(BlobError::Tile { tile, fault: TileFault::Index(what) });
    let set = |field, value| craft(|v| v.set(field, value));
    assert_eq!(craft(|_| ()), Ok(two_tiles().weights));
    assert_eq!(set((6, 1), 4), header("unknown element type"));
    assert_eq!(set((6, 1), 2), header("impossible split of the weights"));
    assert_eq!(set((9, 1), 2), header("unknown flags"));
    assert_eq!(set((100, 1), 1), header("unknown flags"));
    assert_eq!(set((11, 1), 13), header("unknown symbol layout"));
    assert_eq!(set((16, 8), 0), header("impossible shape"));
    assert_eq!(set((16, 8), u64::MAX), header("impossible shape"));
    assert_eq!(set((48, 8), f64::NAN.to_bits()), header("impossible entropy"));
    assert_eq!(set((40, 8), 16), header("the tiles' exceptions do not add up"));
    assert_eq!(set((128, 2), 1), header("the frequencies do not sum to the table's size"),);
    assert_eq!(set((INDEX + 13, 1), 1), index(0, "unknown flags"));
    assert_eq!(set((INDEX + 12, 1), 2), index(0, "unknown kind of tile"));
    assert_eq!(set((INDEX + 12, 1), 0), index(0, "impossible size of a raw tile"));
    assert_eq!(set((INDEX + 16, 1), 49), index(0, "too many rows of words"));
    assert_eq!(set((INDEX + 32 + 16, 1), 1), index(1, "too many rows of words"));
    let moved = index(1, "the payload is not where the last one ends");
    assert_eq!(set((INDEX + 32, 4), 21), moved);
    assert_eq!(set((INDEX, 4), 0), index(0, "the payload is not where the last one ends"));
    let fault = |fault| Err(BlobError::Tile { tile: 0, fault });
    assert_eq!(set((INDEX + 16, 1), 48), fault(TileFault::Payload));
    let mut flipped = two_tiles();
    flipped.bytes[128 * 6] ^= 1;
    assert_eq!(flipped.read(), fault(TileFault::Checksum));
    let mut other_weights = two_tiles();
    other_weights.bytes[128 * 20] ^= 1;
    other_weights.reseal();
    assert_eq!(other_weights.read(), Err(BlobError::WeightsChecksum));
}

/// Where the exceptions of the first tile of [`two_tiles`] start.
fn exceptions(victim: &Victim) -> usize {
    let payload = victim.payload(0).expect("it is intact");
    let sum = |at: usize| victim.bytes[INDEX + at..][..8].iter().map(|&n| usize::from(n)).sum();
    let (full, tail): (usize, usize) = (sum(16), sum(24));
    let masks = &victim.bytes[payload.start + 128 * full..][..4 * tail];
    let words: u32 = masks.iter().map(|byte| byte.count_ones()).sum();
    payload.start + 128 * full + 4 * tail + 4 * words as usize
}

#[test]
fn exceptions_must_ascend_inside_the_tile() {
    let outside = Err(BlobError::Tile { tile: 0, fault: TileFault::Exception });
    let at = exceptions(&two_tiles());
    let first = two_tiles().get(at, 4);
    assert!(first < two_tiles().get(at + 4, 4) && first >> 16 & 0xFF < 40);
    let column = |column: u64| craft(|v| v.set((at, 4), first & 0xFF00_FFFF | column << 16));
    assert!(column(0).is_ok());
    assert_eq!(column(40), outside);
    assert_eq!(column(255), outside);
    assert_eq!(craft(|v| v.set((at + 4, 4), first)), outside, "twice the same place");
    assert_eq!(craft(|v| v.bytes[at..at + 8].rotate_left(4)), outside, "out of order");
    assert_eq!(craft(|v| v.set((at, 4), u64::from(u32::MAX))), outside);
    // Another weight at the same place is another matrix.
    let weights = two_tiles().weights;
    let other = craft(|v| v.set((at, 4), first ^ 1)).expect("a valid blob");
    assert_eq!(weights.iter().zip(&other).filter(|(a, b)| a != b).count(), 1);
}

#[derive(Clone, Debug)]
enum Change {
    /// A bit anywhere.
    Flip(prop::sample::Index),
    /// A byte in header or index.
    Front(prop::sample::Index, u8),
    /// A byte of a payload.
    Payload(prop::sample::Index, u8),
    /// Frequencies moved from one symbol to another, so that the sum stays.
    Frequency(u8, u8, u16),
    /// Rows moved from the full to the tail ones of a slab, or back.
    Rows(u8, i8),
}

impl Change {
    fn apply(&self, victim: &mut Victim) {
        let front = two_tiles().front().expect("it is intact").min(victim.bytes.len());
        match *self {
            Self::Flip(at) => {
                let bit = at.index(8 * victim.bytes.len());
                victim.bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Self::Front(at, value) => {
                let at = at.index(front - 512);
                victim.bytes[if at < 128 { at } else { at + 512 }] = value;
            }
            Self::Payload(at, value) => {
                let length = victim.bytes.len();
                victim.bytes[front + at.index(length - front)] = value;
            }
            Self::Frequency(from, to, count) => {
                let places = [from, to].map(|symbol| (128 + 2 * usize::from(symbol), 2));
                let count = u64::from(count).min(victim.get(places[0].0, 2));
                victim.set(places[0], victim.get(places[0].0, 2) - count);
                victim.set(places[1], victim.get(places[1].0, 2) + count);
            }
            Self::Rows(slab, count) => {
                let full = INDEX + 16 + usize::from(slab % 3);
                let places = if count < 0 { (full, full + 8) } else { (full + 8, full) };
                let count = count.unsigned_abs().min(victim.bytes[places.0]);
                victim.bytes[places.0] -= count;
                victim.bytes[places.1] = victim.bytes[places.1].wrapping_add(count);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Change::Flip),
        any::<(prop::sample::Index, u8)>().prop_map(|(at, value)| Change::Front(at, value)),
        any::<(prop::sample::Index, u8)>().prop_map(|(at, value)| Change::Payload(at, value)),
        (any::<u8>(), any::<u8>(), 0..4097u16).prop_map(|(a, b, n)| Change::Frequency(a, b, n)),
        (any::<u8>(), -3..4i8).prop_map(|(slab, count)| Change::Rows(slab, count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn changes_with_right_checksums_decode_alike_or_not_at_all(
        victim in 0..victims().len(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let mut crafted = victims()[victim].clone();
        changes.iter().for_each(|change| change.apply(&mut crafted));
        crafted.reseal();
        let _ = crafted.decode();
    }
}
