//! Resident layers of all kinds of blobs, read back by the slow twin.

use super::exceptions::number;
use super::{ResidentLayer, ResidentPlan};
use crate::blob::header::{HEADER_BYTES, Header, TABLE_BYTES, front_crc};
use crate::blob::tile::Tile;
use crate::codec::reference;
use crate::{Blob, BlobError, Dtype, Encoder, Groups, LargeInteger, Matrix, TileFault};
use fused_rans_layout::{
    LINE, ROW_CLASSES, SLAB_ROWS, SlabEntry, SlabException, TILE, TileEntry, UNIT,
    WeightsPerSymbol, exception_units, panel_raw_bytes, panels, raw_comes_with_words,
};
use half::{bf16, f16};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Normal};
use std::collections::BTreeSet;
use std::time::Instant;

/// Additions to the weights of a test matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Extra {
    None,
    /// Some tiles have any bits and become raw.
    RawTiles,
    /// I8: four bits, groups, maybe with zero points.
    Groups(bool),
    /// I8: one in so many is a large integer.
    LargeIntegers(u32),
}

/// A random matrix.
#[derive(Clone, Debug)]
struct Case {
    dtype: Dtype,
    weights_per_symbol: WeightsPerSymbol,
    raw_bits: Option<u8>,
    rows: usize,
    cols: usize,
    /// One in so many weights has any bits: most of these are exceptions.
    one_of: Option<u32>,
    extra: Extra,
    seed: u64,
}

impl Case {
    /// Returns a case of Gaussian weights.
    fn gaussian(dtype: Dtype, rows: usize, cols: usize) -> Self {
        let (weights_per_symbol, extra) = (WeightsPerSymbol::Two, Extra::None);
        Self { dtype, weights_per_symbol, raw_bits: None, rows, cols, one_of: None, extra, seed: 1 }
    }

    /// Returns a weight at random.
    fn weight(&self, rng: &mut impl Rng, any: bool) -> u16 {
        if any || self.one_of.is_some_and(|one_of| rng.random_range(0..one_of) == 0) {
            return rng.random();
        }
        let sample: f32 = Normal::new(0.0, 1.0).expect("valid").sample(rng);
        match self.dtype {
            Dtype::Bf16 => bf16::from_f32(0.02 * sample).to_bits(),
            Dtype::F16 => f16::from_f32(0.02 * sample).to_bits(),
            // Exponents around 7.
            Dtype::F8E4M3 => (f16::from_f32(sample * 2f32.powi(-7)).to_bits() >> 7) & 0xFF,
            Dtype::I8 => (12.6 * sample).round().clamp(-128.0, 127.0) as i16 as u16,
        }
    }

    /// Returns the weights, row by row, and the large integers.
    fn weights(&self) -> (Vec<u8>, Vec<LargeInteger>) {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let (mut bytes, mut large) = (Vec::new(), Vec::new());
        for (row, col) in (0..self.rows).flat_map(|row| (0..self.cols).map(move |col| (row, col))) {
            let raw = self.extra == Extra::RawTiles && (row / TILE + col / TILE) % 3 == 1;
            let mut weight = self.weight(&mut rng, raw);
            match self.extra {
                Extra::Groups(_) => weight = ((weight as i8) << 4 >> 4) as u16,
                Extra::LargeIntegers(one_of) if rng.random_range(0..one_of) == 0 => {
                    let magnitude = rng.random_range(129..256) << rng.random_range(0..8);
                    let integer = [1, -1][rng.random_range(0..2)] * magnitude.min(32512i32) as i16;
                    large.push(LargeInteger { row, col, integer });
                    weight = integer as u16;
                }
                _ => {}
            }
            bytes.extend_from_slice(&weight.to_le_bytes()[..self.dtype.byte_len()]);
        }
        (bytes, large)
    }

    /// Encodes the matrix, whatever its size.
    fn blob(&self) -> Blob<'static> {
        let (bytes, large) = self.weights();
        let encoder = Encoder::new().weights_per_symbol(self.weights_per_symbol);
        let encoder = self.raw_bits.map_or(encoder, |raw_bits| encoder.raw_bits(raw_bits));
        let encoder = encoder.max_bytes(16 * bytes.len() + 10_000);
        let matrix = Matrix::from_bytes(self.dtype, &bytes, self.rows, self.cols).expect("valid");
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let count = self.rows * self.cols.div_ceil(128);
        let scales: Vec<f16> = (0..count).map(|_| f16::from_bits(rng.random())).collect();
        let zeros: Vec<i8> = (0..count).map(|_| rng.random_range(-8..8)).collect();
        let row_scales = vec![bf16::ONE; self.rows];
        let matrix = match self.extra {
            Extra::Groups(with_zeros) => {
                let zeros = with_zeros.then_some(&zeros[..]);
                matrix.with_groups(Groups { scales: &scales, zeros }).expect("valid")
            }
            Extra::LargeIntegers(_) => {
                let matrix = matrix.with_row_scales(&row_scales).expect("valid");
                matrix.with_large_integers(&large).expect("valid")
            }
            _ => matrix,
        };
        encoder.encode(matrix).expect("any size will do")
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let shapes =
        vec![(1, 1), (13, 103), (33, 300), (256, 576), (48, 1000), (300, 777), (64, 66_000)];
    let shape = prop_oneof![prop::sample::select(shapes), (1..400usize, 1..700usize)];
    let dtype = prop::sample::select(&Dtype::ALL[..]);
    let weights_per_symbol = prop::sample::select(&WeightsPerSymbol::ALL[..]);
    let one_of = prop::sample::select(vec![None, Some(20_000), Some(1000), Some(100)]);
    let raw_bits = prop::option::of(0..6u8);
    let large = Extra::LargeIntegers;
    let extra = vec![Extra::None, Extra::RawTiles, Extra::Groups(false), Extra::Groups(true)];
    let extra = prop::sample::select([extra, vec![large(3), large(5000)]].concat());
    let all = (shape, dtype, weights_per_symbol, raw_bits, one_of, extra, any::<u64>());
    all.prop_map(|((rows, cols), dtype, weights_per_symbol, raw_bits, one_of, extra, seed)| {
        let integers = matches!(extra, Extra::Groups(_) | Extra::LargeIntegers(_));
        let dtype = if integers { Dtype::I8 } else { dtype };
        Case { dtype, weights_per_symbol, raw_bits, rows, cols, one_of, extra, seed }
    })
}

/// Makes the layer of `blob` in one piece.
fn build(blob: &Blob<'_>) -> Result<ResidentLayer, BlobError> {
    ResidentPlan::new(blob)?.build()
}

/// Checks that the layer of `blob` represents the same matrix. Returns the layer.
fn check(blob: &Blob<'_>) -> ResidentLayer {
    let layer = build(blob).expect("an intact blob");
    let weights = layer.weights(blob.grid(), blob.split(), blob.frequencies());
    assert!(weights.as_deref() == Some(&blob.decode_to_bytes().expect("intact")), "weights");
    check_exceptions(blob, &layer);
    check_index(blob, &layer);
    assert_eq!(layer.groups, groups(blob), "groups");
    assert_eq!(in_dirty_buffers(blob), layer, "row of tiles by row of tiles");
    layer
}

/// Checks differences, order and large integers.
fn check_exceptions(blob: &Blob<'_>, layer: &ResidentLayer) {
    let (grid, dtype) = (blob.grid(), blob.dtype());
    let decoded = layer.decoded_weights(grid, blob.split(), blob.frequencies()).expect("valid");
    let mut large = Vec::new();
    let mut seen = BTreeSet::new();
    for (row, col, exception) in layer.placed_exceptions(grid) {
        let at = (row * grid.cols + col) * dtype.byte_len();
        let bytes = &decoded[at..][..dtype.byte_len()];
        let decoded = bytes.iter().rev().fold(0, |weight, &byte| weight << 8 | u16::from(byte));
        let (decoded, weight) = (number(dtype, decoded), number(dtype, exception.weight));
        let difference = f32::from_bits(exception.difference);
        assert!(decoded.is_finite(), "a decoded weight is not finite");
        assert_eq!(difference.is_finite(), weight.is_finite());
        let added = f64::from(difference);
        if decoded + added == weight && weight - added == decoded {
            assert_eq!(decoded as f32 + difference, weight as f32);
        } else if weight.is_finite() {
            let error = (f64::from(difference) - (weight - decoded)).abs();
            assert!(error <= (weight - decoded).abs() * 2f64.powi(-24));
        }
        assert!(seen.insert((row, col)), "two exceptions in a place");
        if dtype == Dtype::I8 {
            large.extend(LargeInteger::from_weight(row, col, exception.weight));
        }
    }
    large.sort_unstable();
    assert_eq!(large, blob.large_integers().expect("intact"));
    check_order(layer);
}

/// Checks the order of each slab's exceptions, and that their classes end where the slab says.
fn check_order(layer: &ResidentLayer) {
    for &entry in &layer.index {
        let all = layer.exceptions_of(entry);
        let class = |one: &SlabException| usize::from(one.row) % ROW_CLASSES;
        assert!(all.is_sorted_by_key(|one| (class(one), one.place, one.row)));
        assert!(exception_units(all.len()) <= entry.exceptions.into());
        let at = (entry.start + entry.word_units()) as usize * UNIT;
        for last in 0..ROW_CLASSES * usize::from(!all.is_empty()) {
            let end =
                u16::from_le_bytes([layer.slabs[at + 2 * last], layer.slabs[at + 2 * last + 1]]);
            assert_eq!(usize::from(end), all.iter().filter(|one| class(one) <= last).count());
        }
    }
}

/// Checks which slabs are plain, and the bounds that the plan promises.
fn check_index(blob: &Blob<'_>, layer: &ResidentLayer) {
    let plan = ResidentPlan::new(blob).expect("small");
    let grid = blob.grid();
    assert_eq!(layer.index.len(), grid.rows.div_ceil(SLAB_ROWS) * grid.across());
    let raw_bits = blob.split().raw_bits().into();
    let with_words = raw_comes_with_words(blob.groups().is_some(), raw_bits);
    let lines = |(number, entry): (usize, &SlabEntry)| {
        let steps = grid.shape(number % grid.across()).steps();
        let raw = if with_words && entry.rows > 0 {
            panels(steps) * panel_raw_bytes(raw_bits)
        } else {
            0
        };
        (entry.copied_units() as usize * UNIT + raw).div_ceil(LINE) as u32
    };
    let longest = layer.index.iter().enumerate().map(lines).max().unwrap();
    assert_eq!(layer.buffer_rows, longest.max(2));
    assert!(layer.index.iter().all(|entry| entry.rows != 1));
    let count = layer.placed_exceptions(grid).count() as u64;
    assert!(count <= blob.exception_count());
    let is_coded = layer.index.iter().all(|entry| entry.rows > 0);
    assert!(!is_coded || count == blob.exception_count());
    let ranges = (0..plan.tile_rows()).map(|row| plan.slab_range(row));
    let end = ranges.fold(0, |end, range| {
        assert_eq!(range.start, end);
        range.end
    });
    assert_eq!(end, layer.slabs.len());
}

/// Returns the scales and zero points in the order of the slabs.
fn groups(blob: &Blob<'_>) -> Vec<u8> {
    let Some(plane) = blob.groups() else { return Vec::new() };
    let (grid, mut all) = (blob.grid(), Vec::new());
    for row in 0..grid.rows.div_ceil(SLAB_ROWS) {
        for col in 0..grid.across() {
            let tile = blob.tile(row / 8 * grid.across() + col).expect("intact");
            all.extend_from_slice(&tile.groups()[row % 8 * plane.bytes()..][..plane.bytes()]);
        }
    }
    all
}

/// Makes the layer row of tiles by row of tiles, last one first, in buffers that are not zeros.
fn in_dirty_buffers(blob: &Blob<'_>) -> ResidentLayer {
    let plan = ResidentPlan::new(blob).expect("small");
    let mut slabs = vec![0xA5; plan.slab_bytes()];
    let mut groups = vec![0xA5; plan.group_bytes()];
    for row in (0..plan.tile_rows()).rev() {
        let slabs = &mut slabs[plan.slab_range(row)];
        let groups = &mut groups[plan.group_range(row)];
        plan.write_tile_row(row, slabs, groups).expect("intact");
    }
    let (index, buffer_rows) = (plan.index().to_vec(), plan.buffer_rows());
    ResidentLayer { slabs, index, groups, buffer_rows }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn layers_hold_the_weights_of_their_blobs(case in cases()) {
        check(&case.blob());
    }

    #[test]
    fn damage_is_an_error_and_no_panic(
        case in cases().prop_filter("small", |case| case.rows * case.cols < 200_000),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
        in_index in any::<bool>(),
    ) {
        let blob = case.blob();
        let (tiles, start) = (blob.index().len(), blob.index()[0].offset as usize * LINE);
        let mut bytes = blob.as_bytes().to_vec();
        for (place, change) in &changes {
            bytes[start + place.index(blob.as_bytes().len() - start)] ^= change;
        }
        // Changes of the same byte may cancel each other.
        if bytes != blob.as_bytes() {
            let result = build(&Blob::parse(&bytes).expect("the front is intact"));
            let fault = TileFault::Checksum;
            let found = matches!(result, Err(BlobError::Tile { fault: found, .. }) if found == fault);
            prop_assert!(found, "{:?}", result.err());
        }
        // With the right checksums, the fault shows in a check of the structure, or is another valid blob.
        let front = HEADER_BYTES + TABLE_BYTES;
        for (place, change) in changes.iter().filter(|_| in_index) {
            bytes[front + place.index(size_of::<TileEntry>() * tiles)] ^= change;
        }
        seal(&mut bytes, start, tiles);
        let Ok(sealed) = Blob::parse(&bytes) else { return Ok(()) };
        match build(&sealed) {
            Ok(layer) => if let Ok(weights) = reference::decode(&sealed) {
                let found = layer.weights(sealed.grid(), sealed.split(), sealed.frequencies());
                prop_assert!(found == Some(weights));
                check_exceptions(&sealed, &layer);
            }
            Err(fault) => prop_assert!(matches!(fault, BlobError::Tile { .. }), "{}", fault),
        }
    }
}

/// Corrects the checksums of the tiles, whose payloads lie in the blob, and of the header.
fn seal(bytes: &mut [u8], start: usize, tiles: usize) {
    for tile in 0..tiles {
        let at = HEADER_BYTES + TABLE_BYTES + tile * size_of::<TileEntry>();
        let record = &bytes[at..][..size_of::<TileEntry>()];
        let mut entry: TileEntry = bytemuck::pod_read_unaligned(record);
        let payload = bytes.get(entry.offset as usize * LINE..);
        if let Some(payload) = payload.and_then(|rest| rest.get(..usize::from(entry.lines) * LINE))
        {
            entry.crc = crc32c::crc32c(payload);
        }
        bytes[at..][..size_of::<TileEntry>()].copy_from_slice(bytemuck::bytes_of(&entry));
    }
    let mut header: Header = bytemuck::pod_read_unaligned(&bytes[..HEADER_BYTES]);
    header.crc = front_crc(&bytes[..start]);
    bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
}

#[test]
fn golden_blobs_have_resident_layers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
    let files = std::fs::read_dir(folder).expect("golden files").map(|file| file.unwrap().path());
    let blobs = files.filter(|path| path.extension().is_some_and(|end| end == "blob"));
    let count = blobs.map(|path| check(&Blob::from_vec(std::fs::read(path).unwrap()).unwrap()));
    assert!(count.count() >= 10);
}

/// Encodes weights whose exponent fields are the 16 up to `largest`; those that `exception` chooses have exponent field 5.
fn window(
    dtype: Dtype,
    rows: usize,
    cols: usize,
    largest: u16,
    exception: impl Fn(usize, usize) -> bool,
) -> Blob<'static> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mantissa = if dtype == Dtype::Bf16 { 7 } else { 10 };
    let mut weight = |row, col| match exception(row, col) {
        true => 5 << mantissa,
        false => {
            let exponent = largest - (rng.random::<u16>().leading_zeros() as u16).min(15);
            exponent << mantissa | rng.random_range(0..2) << 15 | rng.random_range(0..1 << mantissa)
        }
    };
    let places = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
    let bytes: Vec<u8> = places.flat_map(|(row, col)| weight(row, col).to_le_bytes()).collect();
    let matrix = Matrix::from_bytes(dtype, &bytes, rows, cols).expect("valid");
    Encoder::new().max_bytes(16 * bytes.len()).encode(matrix).expect("any size will do")
}

#[test]
fn numbers_that_could_become_infinite_are_plain() {
    for (dtype, infinity, huge) in [(Dtype::Bf16, 255, 246), (Dtype::F16, 31, 31)] {
        let plain = |blob: &Blob<'_>| -> Vec<bool> {
            let tiles = 0..blob.index().len();
            let coded = tiles.filter(|&tile| matches!(blob.tile(tile), Ok(Tile::Coded(_))));
            assert_eq!(coded.count(), blob.index().len(), "coded tiles only");
            check(blob).index.iter().map(|entry| entry.rows == 0).collect()
        };
        let none = |_: usize, _: usize| false;
        // Whole panels have nothing beyond the matrix; in others, padding or garbage may be infinite.
        assert_eq!(plain(&window(dtype, 96, 256 + 64, infinity, none)), [false; 6]);
        for cols in [80, 63] {
            let edge = plain(&window(dtype, 64, 256 + cols, infinity, none));
            assert_eq!(edge, [false, true, false, true]);
        }
        assert_eq!(plain(&window(dtype, 64, 80, infinity - 1, none)), [false; 2]);
        // The difference between an exception in row 40 and what is decoded there may be infinite.
        let one = |row: usize, col: usize| (row, col) == (40, 50);
        assert_eq!(plain(&window(dtype, 96, 256, huge, one)), [false, true, false]);
        assert_eq!(plain(&window(dtype, 96, 256, huge - 1, one)), [false; 3]);
    }
}

#[test]
fn single_strips_are_plain() {
    for dtype in Dtype::ALL {
        let layer = check(&Case::gaussian(dtype, 256 + 48, 512).blob());
        let plain: Vec<usize> = (0..20).filter(|&slab| layer.index[slab].rows == 0).collect();
        assert_eq!(plain, [18, 19]);
    }
}

/// Checks that a layer takes at most 0.2 bits per weight more than its blob.
fn check_size(name: &str, case: &Case) {
    let blob = case.blob();
    let layer = check(&blob);
    let bytes = layer.slabs.len() + size_of_val(&layer.index[..]) + layer.groups.len();
    let weights = (case.rows * case.cols) as f64;
    let bits = |bytes: usize| 8.0 * bytes as f64 / weights;
    let (resident, stored) = (bits(bytes), bits(blob.as_bytes().len()));
    println!("{name}: {stored:.3} bits per weight stored, {resident:.3} resident");
    assert!(resident <= stored + 0.2);
}

#[test]
fn layers_are_little_larger_than_their_blobs() {
    check_size("BF16", &Case::gaussian(Dtype::Bf16, 1024, 1024));
    let int4 = Case::gaussian(Dtype::I8, 1024, 1024);
    check_size("INT4", &Case { extra: Extra::Groups(false), ..int4 });
}

/// Prints the speed on one core. Run it with
/// `cargo test --release -p fused-rans-host --lib resident -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let gaussian = |dtype| Case::gaussian(dtype, 4096, 4096);
    let some = Case { one_of: Some(10_000), ..gaussian(Dtype::Bf16) };
    let many = Case { one_of: Some(500), ..gaussian(Dtype::Bf16) };
    let int4 = Case { extra: Extra::Groups(true), ..gaussian(Dtype::I8) };
    let cases = [
        ("BF16", gaussian(Dtype::Bf16)),
        ("BF16, 1 exception in 10,000", some),
        ("BF16, 1 exception in 500", many),
        ("F16", gaussian(Dtype::F16)),
        ("F8", gaussian(Dtype::F8E4M3)),
        ("INT4", int4),
    ];
    for (name, case) in cases {
        let blob = case.blob();
        pool.install(|| {
            let plan = ResidentPlan::new(&blob).expect("small");
            let mut slabs = vec![1; plan.slab_bytes()];
            let mut groups = vec![1; plan.group_bytes()];
            let mut best = f64::INFINITY;
            for _ in 0..5 {
                let start = Instant::now();
                for row in 0..plan.tile_rows() {
                    let slabs = &mut slabs[plan.slab_range(row)];
                    let groups = &mut groups[plan.group_range(row)];
                    plan.write_tile_row(row, slabs, groups).expect("intact");
                }
                best = best.min(start.elapsed().as_secs_f64());
            }
            let start = Instant::now();
            let layer = build(&blob).expect("intact");
            let whole = layer.slabs.len() as f64 / start.elapsed().as_secs_f64();
            let written = slabs.len() as f64 / best;
            let decoded = blob.decoded_byte_len() as f64 / best;
            let (written, decoded, whole) = (written / 1e9, decoded / 1e9, whole / 1e9);
            println!(
                "{name}: {written:.2} GB/s written ({decoded:.2} GB/s of weights), {whole:.2} GB/s with allocation"
            );
        });
    }
}
