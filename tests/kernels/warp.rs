//! Runs the fused kernel's main loop on the CPU. The 32 lanes of a warp take the steps of
//! `kernels-gpu/src/device/matmul/sm80/mainloop.rs` in the same order and with the same functions. This file replaces
//! only what takes device instructions: the ring's copies, shared memory and `mma.sync`.
//!
//! The numbers are chosen so that all sums are exact in F64, in any order, and no activation is 0. So one wrong bit of one
//! operand changes outputs, and the outputs must be equal.

use crate::lanes::{Group, OfLanes, Operands, QUADS, Rows, mma_types, tables};
use fused_rans::layout::{
    FRAGMENT, GROUP, GroupPlane, LANES, LINE, SLAB_ROWS, SLAB_STRIPS, SLABS, TABLE,
    TAIL_LENGTH_BYTES, TILE, TileEntry,
};
use fused_rans::tile::{Tile, WordRows};
use fused_rans::{Blob, Dtype, Encoder, Matrix, WeightsPerSymbol};
use fused_rans_kernels::{Lane, MmaType, RawWords, SliceMemory, WeightFormat};
use half::{bf16, f16};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::product::weight_numbers;
use support::{AnyGroups, Job, Recipe, Weights, any_matrix, integer_splits};

/// Slabs that a warp decodes at a time.
const S: usize = 2;
/// Columns of a stage.
const STAGE_COLUMNS: usize = 2 * FRAGMENT;
/// The D fragments of a segment: both strips of the first slab, then of the other.
type Sums = [OfLanes<[f64; 4]>; S * SLAB_STRIPS];

/// Sums of 0.
const ZERO: Sums = [[[0.0; 4]; LANES]; S * SLAB_STRIPS];

/// The parts of a slab that a warp reads.
struct Slab {
    rows: WordRows,
    raw: Vec<u32>,
    groups: Vec<u8>,
    exceptions: Vec<u32>,
}

/// Returns the slabs of tile number `number`. Returns `None` for a raw tile.
fn slabs(blob: &Blob<'_>, number: usize) -> Option<Vec<Slab>> {
    let Tile::Coded(tile) = blob.tile(number).unwrap() else { return None };
    let (entry, shape) = (&blob.index()[number], tile.shape);
    let group_bytes = blob.groups().map_or(0, GroupPlane::bytes);
    let before = TAIL_LENGTH_BYTES * shape.slabs() + shape.raw_bytes(blob.split().raw_bits());
    let groups = &blob.as_bytes()[entry.offset as usize * LINE + before..];
    let slabs = tile.slabs().enumerate().map(|(number, slab)| {
        let mut rows: WordRows = [[0; LANES]; 64];
        slab.expand(&mut rows);
        // On a device, there may be anything after the slab's rows of words.
        let stored = entry.full_rows[number] + entry.tail_rows[number];
        rows[usize::from(stored)..].fill([u32::MAX; LANES]);
        let record = |(row, col, weight)| TileEntry::exception(slab.shape.place(row, col), weight);
        Slab {
            rows,
            raw: slab.raw.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect(),
            groups: groups[group_bytes * number..][..group_bytes].to_vec(),
            exceptions: slab.exceptions().map(record).collect(),
        }
    });
    Some(slabs.collect())
}

/// Returns a lane's raw words for both fragments of step `step` of stage `number`. Words of the other step are 0. `raw`
/// contains the raw planes of a slab of `panels` panels. Does the same as `Ring::fill_raw` and `Ring::raw`.
fn raw_words(bits: u32, raw: &[u32], panels: usize, [number, step, lane]: [usize; 3]) -> RawWords {
    let (mut words, mut plane, lane_quad) = (RawWords::default(), 0, 4 * lane);
    if bits & 8 != 0 {
        let at = plane + (2 * number + step) * QUADS + lane_quad;
        words.eight[step].copy_from_slice(&raw[at..at + 4]);
        plane += 4 * panels * QUADS;
    }
    if bits & 4 != 0 {
        let at = plane + number * QUADS + lane_quad + 2 * step;
        words.four[2 * step..2 * step + 2].copy_from_slice(&raw[at..at + 2]);
        plane += 2 * panels * QUADS;
    }
    if bits & 2 != 0 {
        words.two[step] = raw[plane + number / 2 * QUADS + lane_quad + number % 2 * 2 + step];
        plane += panels * QUADS;
    }
    if bits & 1 != 0 {
        // There are two words per panel, so the last quad may have only two.
        let stride = (2 * panels - number / 4 * 4).min(4);
        words.one = raw[plane + number / 4 * QUADS + stride * lane + number % 4];
    }
    words
}

/// A layer, and the activations to multiply it with.
#[derive(Clone, Copy)]
struct Kernel<'a> {
    blob: &'a Blob<'a>,
    tiles: &'a [Vec<Slab>],
    table: &'a [u32; TABLE],
    format: WeightFormat,
    operand: MmaType,
    /// Activations, 8 x K.
    x: &'a [u16],
}

impl<'a> Kernel<'a> {
    /// Returns the 8 outputs of every row of the layer.
    fn multiply(&self) -> Vec<[f64; 8]> {
        let (band_rows, across) = (S * SLAB_ROWS, self.blob.grid().across());
        let mut y = vec![[0.0; 8]; self.blob.rows().next_multiple_of(band_rows)];
        for (band, y) in y.chunks_exact_mut(band_rows).enumerate() {
            let mut sums = ZERO;
            for col in 0..across {
                let tile = &self.tiles[S * band / SLABS * across + col];
                let slabs = tile[S * band % SLABS..].first_chunk().expect("two slabs");
                self.segment(slabs, TILE * col, &mut sums);
            }
            for (at, sum) in sums.as_flattened().as_flattened().iter().enumerate() {
                let (fragment, lane, i) = (at / (4 * LANES), at / 4 % LANES, at % 4);
                y[FRAGMENT * fragment + lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2] = *sum;
            }
        }
        y
    }

    /// Multiplies a segment whose first column is `col`. Does the same as `Mainloop::by_panels`.
    fn segment(&self, slabs: &'a [Slab; S], col: usize, sums: &mut Sums) {
        let (operand, format) = (self.operand, self.format);
        let stages = (self.blob.cols() - col).min(TILE) / STAGE_COLUMNS;
        let memory: OfLanes<[_; S]> = core::array::from_fn(|lane| {
            let table = self.table;
            let of_slab = |s: &'a Slab| SliceMemory { table, rows: &s.rows, lane, raw: &s.raw };
            slabs.each_ref().map(of_slab)
        });
        let mut streams = memory.each_ref().map(|slabs| slabs.each_ref().map(Lane::new));
        let mut exceptions = slabs.each_ref().map(|slab| &slab.exceptions[..]);
        let mut groups = slabs.each_ref().map(|slab| self.group(slab, 0));
        let mut chunks = ZERO;
        for number in 0..stages {
            let x = self.activations(col + STAGE_COLUMNS * number);
            for step in 0..2 {
                let mut operands = [[[0; 4]; LANES]; S * SLAB_STRIPS];
                for (lane, streams) in streams.iter_mut().enumerate() {
                    let (bits, place) = (format.raw_bits(), [number, step, lane]);
                    let raw =
                        slabs.each_ref().map(|slab| raw_words(bits, &slab.raw, stages / 2, place));
                    for i in 0..SLAB_STRIPS {
                        let entries = Lane::fragments(streams, &memory[lane], format.table());
                        for s in 0..S {
                            let offsets = groups[s][lane].offsets[i];
                            let number = SLAB_STRIPS * step + i;
                            operands[SLAB_STRIPS * s + i][lane] =
                                format.operands(operand, entries[s], &raw[s], number, offsets);
                        }
                    }
                }
                let first = 4 * number + SLAB_STRIPS * step;
                for (s, operands) in operands.chunks_exact_mut(SLAB_STRIPS).enumerate() {
                    self.patch(&mut exceptions[s], first, operands, &groups[s]);
                }
                let x = x.map(|x| [x[2 * step], x[2 * step + 1]]);
                for (operands, chunk) in operands.iter().zip(&mut chunks) {
                    let products = Rows::new(operand, operands).multiply(operand, &x);
                    let chunk = chunk.as_flattened_mut().iter_mut();
                    chunk.zip(products.as_flattened()).for_each(|(sum, product)| *sum += product);
                }
            }
            let ends = self.blob.groups().is_some() && (number + 1) % (GROUP / STAGE_COLUMNS) == 0;
            if ends && number + 1 < stages {
                add(sums, &mut chunks, &groups);
                groups = slabs.each_ref().map(|slab| self.group(slab, 1));
            }
        }
        add(sums, &mut chunks, &groups);
    }

    /// Writes exceptions to the operands of both strips, whose fragments have the numbers from `first` on. Removes them
    /// from `list`. Does the same as `exceptions::patch`.
    fn patch(&self, list: &mut &[u32], first: usize, to: &mut [Operands], group: &OfLanes<Group>) {
        while let Some((&record, rest)) = list.split_first() {
            let (place, weight) = TileEntry::exception_fields(record);
            let Some(operands) = to.get_mut(place.fragment - first) else { return };
            *list = rest;
            let weights = u32::from(weight) * 0x0001_0001;
            let offset = group[place.lane].offsets[0][0];
            let weights = self.format.operand(self.operand, weights, false, offset);
            let mask = 0xFFFF << (16 * place.half);
            let operand = &mut operands[place.lane][place.register];
            *operand = weights & mask | *operand & !mask;
        }
    }

    /// Returns the registers b0 and b1 of the even step, then of the odd one, of the stage at column `col`.
    fn activations(&self, col: usize) -> OfLanes<[u32; 4]> {
        core::array::from_fn(|lane| {
            let x = &self.x[lane / 4 * self.blob.cols() + col + lane % 4 * 8..];
            core::array::from_fn(|i| u32::from(x[2 * i]) | u32::from(x[2 * i + 1]) << 16)
        })
    }

    /// Returns group `number` of a slab for every lane.
    fn group(&self, slab: &Slab, number: usize) -> OfLanes<Group> {
        Group::of_lanes(self.operand, &self.format, self.blob.groups(), &slab.groups, number)
    }
}

/// Adds the chunks times the groups' scales to `sums`, and zeroes the chunks.
fn add(sums: &mut Sums, chunks: &mut Sums, groups: &[OfLanes<Group>; S]) {
    let sums = sums.as_flattened_mut().as_flattened_mut().iter_mut();
    let chunks = chunks.as_flattened_mut().as_flattened_mut().iter_mut();
    for (at, (sum, chunk)) in sums.zip(chunks).enumerate() {
        let (fragment, lane, i) = (at / (4 * LANES), at / 4 % LANES, at % 4);
        let group = &groups[fragment / SLAB_STRIPS][lane];
        *sum += group.scales[fragment % SLAB_STRIPS][i / 2] * core::mem::take(chunk);
    }
}

/// Multiplies as every kernel for the layer does, and checks the outputs. Returns the blob, or `None` if the layer has a
/// raw tile or does not shrink.
fn check(job: Job<'_>, groups: Option<&AnyGroups>) -> Option<Vec<u8>> {
    let matrix = job.matrix;
    let (dtype, cols) = (matrix.dtype(), matrix.grid().cols);
    assert!(cols <= 2 * TILE, "sums of more might not be exact");
    let bytes = match groups {
        Some(groups) => job.with_groups(groups.groups()).encode()?,
        None => job.encode()?,
    };
    let blob = Blob::parse(&bytes).unwrap();
    let tiles: Option<Vec<_>> = (0..blob.index().len()).map(|tile| slabs(&blob, tile)).collect();
    let mut weights = weight_numbers(dtype, matrix.as_bytes());
    if let Some(AnyGroups { scales, zeros }) = groups {
        for (at, weight) in weights.iter_mut().enumerate() {
            let group = at / cols * cols.div_ceil(GROUP) + at % cols / GROUP;
            *weight -= zeros.as_ref().map_or(0.0, |zeros| f64::from(zeros[group]));
            *weight *= f16::from_bits(scales[group]).to_f64();
        }
    }
    // The numbers are odd, so never 0, and small.
    let mut rng = SmallRng::seed_from_u64(8);
    let activations: Vec<f32> =
        (0..8 * cols).map(|_| (2 * rng.random_range(-8i8..8) + 1).into()).collect();
    let tables = tables(&blob);
    for &operand in mma_types(dtype) {
        let bits = |&x: &f32| match operand {
            MmaType::Bf16 => bf16::from_f32(x).to_bits(),
            MmaType::F16 => f16::from_f32(x).to_bits(),
        };
        let inputs: Vec<u16> = activations.iter().map(bits).collect();
        let (blob, tiles, x) = (&blob, tiles.as_ref()?, &inputs);
        let products = tables.iter().map(|(format, table)| {
            Kernel { blob, tiles, table, format: *format, operand, x }.multiply()
        });
        let products: Vec<_> = products.collect();
        for (row, weights) in weights.chunks_exact(cols).enumerate() {
            for (i, x) in activations.chunks_exact(cols).enumerate() {
                let exact: f64 = weights.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum();
                for (y, wide) in products.iter().zip([false, true]) {
                    assert_eq!(y[row][i], exact, "{dtype:?} {operand:?} wide: {wide} [{i}][{row}]");
                }
            }
        }
    }
    Some(bytes)
}

/// Limits the magnitude of BF16 weights to 0 or 2^-24 to 2^9, and makes FP16 weights finite, so that sums of products
/// are exact.
fn tame(dtype: Dtype, weights: Vec<u8>) -> Vec<u8> {
    let tame = |bits| match (dtype, dtype.exponent(bits)) {
        (Dtype::Bf16, 0) => bits & 0x8000,
        (Dtype::Bf16, exponent) => bits & 0x807F | u16::from(exponent.clamp(103, 135)) << 7,
        (_, 31) => bits ^ 0x0400,
        _ => bits,
    };
    let tame = |&bytes: &[u8; 2]| tame(u16::from_le_bytes(bytes)).to_le_bytes();
    if dtype.byte_len() == 1 {
        weights
    } else {
        weights.as_chunks().0.iter().flat_map(tame).collect()
    }
}

#[test]
fn a_warp_multiplies_exactly_with_every_kind_of_layer() {
    // The layer has whole segments and narrow ones.
    let (rows, cols) = (128, TILE + 192);
    let check = |dtype, weights_per_symbol, weights: &[u8], groups: Option<&AnyGroups>| {
        let matrix = Matrix::from_bytes(dtype, weights, rows, cols).unwrap();
        let encoder = Encoder::new().weights_per_symbol(weights_per_symbol);
        check(Job { matrix, encoder }, groups).expect("it shrinks")
    };
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F8E4M3] {
        for weights in [Weights::Gaussian, Weights::Dirty, Weights::MostlyZero] {
            let bytes = check(
                dtype,
                WeightsPerSymbol::Two,
                &tame(dtype, weights.bytes(dtype, rows * cols, 3)),
                None,
            );
            let (blob, two_bytes) = (Blob::parse(&bytes).unwrap(), dtype.byte_len() == 2);
            let wide = blob.frequencies().exponent_table(blob.split()).is_some();
            match weights {
                Weights::Dirty => assert_eq!(blob.exception_count() > 100, two_bytes),
                Weights::MostlyZero => assert!(!wide),
                _ => assert_eq!(wide, two_bytes),
            }
        }
    }
    for (split, weights) in integer_splits() {
        let weights = weights.bytes(Dtype::I8, rows * cols, 5);
        let bytes = check(Dtype::I8, split.weights_per_symbol(), &weights, None);
        let blob = Blob::parse(&bytes).unwrap();
        assert_eq!(blob.split(), split);
        assert_eq!(blob.exception_count() > 4, split.half_range() < 128);
    }
    for (weights_per_symbol, zeros) in
        WeightsPerSymbol::ALL.into_iter().flat_map(|p| [(p, false), (p, true)])
    {
        let recipe = Recipe { weights_per_symbol, rows, cols, ..Recipe::gaussian(Dtype::I8) };
        let groups = AnyGroups::with_normal_scales(rows, cols, zeros, 6);
        let bytes = check(Dtype::I8, weights_per_symbol, &recipe.nibbles(), Some(&groups));
        assert_eq!(Blob::parse(&bytes).unwrap().split().weights_per_symbol(), weights_per_symbol);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_warp_multiplies_exactly_with_any_layer(
        matrix in any_matrix(),
        zeros in prop::option::of(any::<bool>()),
        // The last band has four strips, even if some of their rows are missing.
        rows in prop::sample::select(vec![50usize, 64, 128, 250, 256, 320]),
        cols in (1..=8usize).prop_map(|panels| 64 * panels),
    ) {
        let (recipe, dtype) = (Recipe { rows, cols, ..matrix }, matrix.dtype);
        let zeros = zeros.filter(|_| dtype == Dtype::I8);
        let groups = zeros.map(|zeros| AnyGroups::with_normal_scales(rows, cols, zeros, recipe.seed));
        let weights =
            if groups.is_some() { recipe.nibbles() } else { tame(dtype, recipe.bytes()) };
        let job = recipe.job(&weights);
        prop_assume!(check(job, groups.as_ref()).is_some());
    }
}
