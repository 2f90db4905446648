//! Damaged and crafted blobs. Readers return a typed error or exact weights; they never panic, hang or allocate more memory
//! than the blob's length justifies.

use std::collections::BTreeSet;
use support::seal;

use fused_rans::{Blob, BlobError, TileFault};
use support::seal::{HEADER_FIELDS, INDEX, RECORD, interesting};
use support::victim::{Victim, two_tiles, victims};

/// Offset and size of fields of an index record.
const RECORD_FIELDS: [(usize, usize); 18] = [
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
    (32, 2),
    (34, 2),
    (46, 2),
    (48, 2),
    (50, 2),
    (62, 2),
];

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

/// Checksums cover every byte, padding included, so that every flipped bit is found.
#[test]
fn every_flipped_bit_is_an_error() {
    // Without optimization, all bits would take minutes.
    let step = if cfg!(debug_assertions) { 31 } else { 1 };
    for mut victim in victims().iter().cloned() {
        assert!(victim.read().as_ref() == Ok(&victim.weights), "{} is damaged", victim.name);
        for bit in (0..8 * victim.bytes.len()).step_by(step) {
            victim.bytes[bit / 8] ^= 1 << (bit % 8);
            let verified = Blob::parse(&victim.bytes).and_then(|blob| blob.verify());
            assert!(verified.is_err(), "{}: bit {bit} does not matter", victim.name);
            // Decoding builds a decode table each time: test all bits of small blobs, and some of large ones.
            if victim.bytes.len() < 3000 || bit % 13 == 0 {
                assert!(victim.read().is_err(), "{}: bit {bit} does not matter", victim.name);
            }
            victim.bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Bytes of another magic are no blob. A blob of another version is not called damaged, whatever its other bytes are.
#[test]
fn what_is_not_ours_is_said_to_be() {
    let victim = two_tiles();
    for bit in 0..32 {
        let mut other = victim.clone();
        other.bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(other.read(), Err(BlobError::Magic));
    }
    for found in (0..=u16::MAX).filter(|&version| version != 1) {
        let mut other = victim.clone();
        other.bytes[6..].fill(0xA5);
        other.set((4, 2), found.into());
        assert_eq!(other.read(), Err(BlobError::Version { found, supported: 1 }));
    }
}

/// The message for another version says what to do, which depends on whether it is older or newer.
#[test]
fn other_versions_say_what_to_do() {
    let message = |version| craft(|v| v.set((4, 2), version)).unwrap_err().to_string();
    assert_eq!(
        message(0),
        "blob format version 0 is from before the format was frozen (this build reads version 1): compress the \
         original again, or decompress with the fused-rans release that wrote it"
    );
    for version in [2, 10, 65535] {
        let newer = "is newer than version 1, which this build reads: update fused-rans";
        assert_eq!(message(version), format!("blob format version {version} {newer}"));
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
                // Valid changes: the base shifts the weights; decoders ignore the entropy and this test corrects the
                // weights' checksum; other sides can give the same tiles; F8_E4M3 is stored like I8 with 4 raw bits; some
                // I8 blobs can have two or four weights per symbol.
                let free = [6, 8, 9, 10, 12, 16, 24, 48].contains(&offset);
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
                    // Valid changes: full rows become tail rows, and exceptions move to another slab.
                    let field = (offset - INDEX) % RECORD;
                    let free = (16..32).contains(&field) || field >= 48;
                    let same = value == victim.get(offset, bytes);
                    assert!(free || same, "{}: {offset}: {value}", victim.name);
                }
                crafted.reseal();
                let _ = crafted.decode();
            }
        }
    }
}

/// Changes the blob of two tiles, corrects its checksums and decodes it.
fn craft(change: impl FnOnce(&mut Victim)) -> Result<Vec<u8>, BlobError> {
    craft_of(two_tiles(), change)
}

/// Changes `victim`, corrects its checksums and decodes it.
fn craft_of(mut victim: Victim, change: impl FnOnce(&mut Victim)) -> Result<Vec<u8>, BlobError> {
    change(&mut victim);
    victim.reseal();
    victim.decode()
}

/// Returns the blob called `name`.
fn victim(name: &str) -> Victim {
    victims().iter().find(|victim| victim.name == name).expect("it is there").clone()
}

/// Changes a field of the blob of two tiles, corrects its checksums and decodes it.
fn set(field: (usize, usize), value: u64) -> Result<Vec<u8>, BlobError> {
    craft(|v| v.set(field, value))
}

#[test]
fn faults_of_headers_are_named() {
    let header = |what| Err(BlobError::Header(what));
    assert_eq!(craft(|_| ()), Ok(two_tiles().weights));
    assert_eq!(set((6, 1), 4), header("unknown element type"));
    assert_eq!(set((9, 1), 32), header("unknown flags"));
    assert_eq!(set((100, 1), 1), header("unknown flags"));
    let scaled = craft_of(victim("bf16_odd"), |v| v.set((9, 1), 8));
    assert_eq!(scaled, header("impossible row scales"));
    assert_eq!(set((9, 1), 4), header("impossible groups"));
    assert_eq!(set((16, 8), 0), header("impossible shape"));
    assert_eq!(set((16, 8), u64::MAX), header("impossible shape"));
    assert_eq!(set((48, 8), f64::NAN.to_bits()), header("impossible entropy"));
    let elsewhere = header("the exceptions of the tiles do not add up to the header's");
    assert_eq!(set((40, 8), 16), elsewhere);
    assert_eq!(set((128, 2), 1), header("the frequencies do not sum to the table's size"));
}

#[test]
fn faults_of_codings_are_named() {
    let header = |what| Err(BlobError::Header(what));
    assert_eq!(set((6, 1), 2), header("impossible split of the weights"));
    assert_eq!(set((9, 1), 2), header("groups with weights of more than four bits"));
    assert_eq!(set((11, 1), 13), header("unknown symbol layout"));
    for weights_per_symbol in [0, 1, 3, 8] {
        assert_eq!(set((10, 1), weights_per_symbol), header("unknown symbol layout"));
    }
    assert_eq!(set((10, 1), 4), header("impossible split of the weights"));
    let too_frequent = craft_of(victim("i8_r3"), |v| v.set((10, 1), 4));
    assert_eq!(too_frequent, header("a symbol of four weights has too high a frequency"));
    for raw_bits in [0, 1, 6, 8] {
        let crafted = craft_of(victim("i8_quads_r3"), |v| v.set((7, 1), raw_bits));
        assert_eq!(crafted, header("impossible split of the weights"));
    }
    let grouped = craft_of(victim("i8_quads_grouped"), |v| v.set((10, 1), 2));
    assert_eq!(grouped, header("groups with weights of more than four bits"));
}

#[test]
fn faults_of_the_index_are_named() {
    let index = |tile, what| Err(BlobError::Tile { tile, fault: TileFault::Index(what) });
    assert_eq!(set((INDEX + 13, 1), 1), index(0, "unknown flags"));
    assert_eq!(set((INDEX + 12, 1), 2), index(0, "unknown kind of tile"));
    assert_eq!(set((INDEX + 12, 1), 0), index(0, "impossible size of a raw tile"));
    assert_eq!(set((INDEX + 16, 1), 49), index(0, "the payload is too short for its parts"));
    assert_eq!(set((INDEX + 24, 1), 48), index(0, "too many rows of words"));
    assert_eq!(set((INDEX + 24, 1), 16), index(0, "too many rows of words"));
    for (field, bytes) in [(16, 1), (31, 1), (32, 2), (62, 2)] {
        let lacking = index(1, "a slab outside the tile has entries");
        assert_eq!(set((INDEX + RECORD + field, bytes), 1), lacking);
    }
    let elsewhere = |tile| index(tile, "the exceptions of the slabs do not add up to the tile's");
    for (field, bytes) in [(10, 2), (48, 2), (50, 2), (62, 2)] {
        let value = if field == 10 { 1 } else { 999 };
        assert_eq!(set((INDEX + field, bytes), value), elsewhere(0), "{field}");
    }
    assert_eq!(set((INDEX + RECORD + 10, 2), 1), elsewhere(1));
    let moved = |tile| index(tile, "the payload does not start at the end of the previous one");
    assert_eq!(set((INDEX + RECORD, 4), two_tiles().get(INDEX + RECORD, 4) + 1), moved(1));
    assert_eq!(set((INDEX, 4), 0), moved(0));
}

#[test]
fn faults_of_payloads_are_named() {
    let mut flipped = two_tiles();
    flipped.bytes[128 * 6] ^= 1;
    let fault = BlobError::Tile { tile: 0, fault: TileFault::Checksum };
    assert_eq!(flipped.read(), Err(fault));
    let mut other_weights = two_tiles();
    let raw_tile = other_weights.payload(1).expect("it is intact");
    other_weights.bytes[raw_tile.start] ^= 1;
    other_weights.reseal();
    assert_eq!(other_weights.read(), Err(BlobError::WeightsChecksum));
}

/// Weights with groups have four bits. Readers do not check this in raw tiles, where other weights do no harm.
#[test]
fn weights_with_groups_have_four_bits() {
    let grouped = victims().iter().find(|victim| victim.name == "i8_grouped").expect("it is there");
    let craft = |change: &dyn Fn(&mut Victim)| craft_of(grouped.clone(), change);
    assert_eq!(craft(&|_| ()), Ok(grouped.weights.clone()));
    let too_many = Err(BlobError::Header("groups with weights of more than four bits"));
    for raw_bits in 1..=4 {
        assert_eq!(craft(&|v| v.set((7, 1), raw_bits)), too_many);
    }
    for exceptions in [1, u64::MAX] {
        assert_eq!(craft(&|v| v.set((40, 8), exceptions)), too_many);
    }
    let in_a_tile = craft(&|v| v.set((INDEX + 10, 2), 1));
    assert_eq!(
        in_a_tile,
        Err(BlobError::Header("the exceptions of the tiles do not add up to the header's"))
    );
    let raw_tile = grouped.payload(1).expect("it is intact").start;
    let weights = craft(&|v| v.bytes[raw_tile] = 0x80).expect("readers take it as it is");
    assert_eq!(weights[256], 0x80);
}

#[test]
fn tails_must_be_where_the_index_says() {
    let fault = |fault| Err(BlobError::Tile { tile: 0, fault });
    let victim = two_tiles();
    let lengths = victim.tail_lengths().expect("it is intact");
    let tail_rows = victim.bytes[INDEX + 24];
    assert!((1..15).contains(&tail_rows));
    // A lane longer than the slab's tail, with the same number of words in total.
    let long = |v: &mut Victim| {
        let sum: u8 = v.bytes[lengths.clone()][..2].iter().map(|&pair| pair % 16 + pair / 16).sum();
        assert!((tail_rows + 1..16).contains(&sum), "{sum}");
        v.bytes[lengths.start..lengths.start + 2].copy_from_slice(&[sum, 0]);
    };
    assert_eq!(craft(long), fault(TileFault::Tail));
    // A word of the first slab, counted in the second.
    let between = |v: &mut Victim| {
        let first = lengths.clone().find(|&at| !v.bytes[at].is_multiple_of(16)).expect("a tail");
        let second = (lengths.start + 16..lengths.end).find(|&at| v.bytes[at].is_multiple_of(16));
        v.bytes[first] -= 1;
        v.bytes[second.expect("a lane without")] += 1;
    };
    assert_eq!(craft(between), fault(TileFault::Tail));
    let short = TileFault::Index("the payload is too short for its parts");
    for slab in 0..8 {
        let at = INDEX + 32 + 2 * slab;
        let start = victim.get(at, 2);
        assert_eq!(craft(|v| v.set((at, 2), start + 1)), fault(TileFault::Tail));
        assert_eq!(craft(|v| v.set((at, 2), u64::MAX)), fault(short));
        if start > 0 {
            assert_eq!(craft(|v| v.set((at, 2), start - 1)), fault(TileFault::Tail));
        }
    }
    let fill = |value| craft(|v| v.bytes[lengths.clone()].fill(value));
    assert_eq!(fill(0xFF), fault(TileFault::Payload), "more than there is");
    assert_eq!(fill(0), fault(TileFault::Payload), "lines are left");
}

/// The last rows of some slabs are counted but not stored, because all lanes have zeros there. A smaller count is an error.
#[test]
fn streams_must_end_within_their_rows() {
    let mut slabs = 0;
    for victim in victims() {
        let Some(lengths) = victim.tail_lengths() else { continue };
        for (slab, lengths) in victim.bytes[lengths].chunks_exact(16).enumerate() {
            let longest = lengths.iter().map(|pair| (pair % 16).max(pair / 16)).max();
            let (field, mut short) = ((INDEX + 24 + slab, 1), victim.clone());
            let rows = victim.get(field.0, 1);
            if longest.map(u64::from) < Some(rows) {
                short.set(field, rows - 1);
                seal::reseal(&mut short.bytes);
                let fault = Err(BlobError::Tile { tile: 0, fault: TileFault::Stream });
                assert_eq!(short.read(), fault, "{}, slab {slab}", victim.name);
                slabs += 1;
            }
        }
    }
    assert!(slabs > 0, "there is such a slab");
}

#[test]
fn exceptions_must_ascend_inside_the_tile() {
    let outside = Err(BlobError::Tile { tile: 0, fault: TileFault::Exception });
    // A slab with two exceptions.
    let victim = two_tiles();
    let starts: Vec<u64> = (0..8).map(|slab| victim.get(INDEX + 48 + 2 * slab, 2)).collect();
    let slab = starts.windows(2).position(|pair| pair[0] + 2 == pair[1]).expect("two exceptions");
    let at = victim.exceptions().expect("it is intact") + 4 * starts[slab] as usize;
    let first = victim.get(at, 4);
    let place = |fragment: u64, lane: u64| {
        craft(|v| {
            v.set((at, 4), fragment << 27 | lane << 22 | first & 0x0038_FFFF);
        })
    };
    assert!(first < victim.get(at + 4, 4));
    assert!(place(0, 0).is_ok());
    // 3 steps and 40 columns: lanes 4g + 2 and 4g + 3 hold the padding of the last step.
    assert_eq!(place(6, 0), outside, "beyond the fragments");
    assert_eq!(place(31, 31), outside);
    for lane in 0..4 {
        let padding = craft(|v| {
            v.set((at, 4), first & 0xFFFF);
            v.set((at + 4, 4), 5 << 27 | lane << 22 | first & 0xFFFF);
        });
        assert_eq!(padding == outside, lane >= 2, "lane {lane}");
    }
    for unused in 16..19 {
        assert_eq!(craft(|v| v.set((at, 4), first | 1 << unused)), outside);
    }
    assert_eq!(craft(|v| v.set((at + 4, 4), first)), outside, "twice the same place");
    assert_eq!(craft(|v| v.set((at + 4, 4), first ^ 1)), outside, "with another weight");
    assert_eq!(craft(|v| v.bytes[at..at + 8].rotate_left(4)), outside, "out of order");
    // An exception with another weight gives another matrix.
    let other = craft(|v| v.set((at, 4), first ^ 1)).expect("a valid blob");
    assert_eq!(victim.weights.iter().zip(&other).filter(|(a, b)| a != b).count(), 1);
}

/// Large integers need row scales, and must be exact in BF16.
#[test]
fn large_integers_need_row_scales_and_exact_values() {
    let impossible = Err(BlobError::Header("impossible large integers"));
    let outside = Err(BlobError::Tile { tile: 0, fault: TileFault::Exception });
    let find = |name| victims().iter().find(|victim| victim.name == name).expect("it is there");
    let flags = |name, flags| craft_of(find(name).clone(), |v| v.set((9, 1), flags));
    for name in ["i8_r3", "i8_grouped", "bf16_odd", "f8_e4m3_odd", "f8_e4m3_row_scales"] {
        let now = find(name).get(9, 1);
        assert_eq!(flags(name, now | 16), impossible, "{name}");
    }
    assert!(flags("i8_row_scales", 8 | 16).is_ok(), "there need not be any");
    assert_eq!(flags("i8_wide", 8), outside, "there are some");
    let victim = find("i8_wide");
    let at = victim.exceptions().expect("it is intact");
    let weight = |weight: u64| craft_of(victim.clone(), |v| v.set((at, 2), weight));
    // Valid: low and high byte of 128, -129, 256, 32512, -32768. Invalid: those of 257, 767, 32639, -32769.
    for (low, high) in [(0x80, 1), (0x7F, 0xFF), (0, 1), (0, 127), (0, 0x80)] {
        assert!(weight(low | high << 8).is_ok(), "{low:x} {high:x}");
    }
    for (low, high) in [(0x01, 1), (0xFF, 3), (0x7F, 127), (0xFF, 0x80)] {
        assert_eq!(weight(low | high << 8), outside, "{low:x} {high:x}");
    }
}
