//! Encodes a matrix, or decodes a changed blob of it: reference codec, fast codec and the GPU's decode step agree.
#![no_main]

use std::collections::BTreeMap;

use fused_rans::{Blob, BlobError, Dtype, Encoder, Groups, LargeInteger, Matrix, WeightsPerSymbol};
use fused_rans_fuzz::codec::{Codec, Encoded, FAST, REFERENCE};
use fused_rans_fuzz::{one_thread, readers, seal, step};
use half::slice::HalfBitsSliceExt;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::{Corpus, fuzz_target};

/// A matrix, and changes of its blob.
#[derive(Arbitrary, Debug)]
struct Case<'a> {
    dtype: u8,
    quads: bool,
    raw_bits: Option<u8>,
    sides: [u8; 2],
    /// Bytes of the weights, repeated to the matrix's size.
    weights: &'a [u8],
    extra: Extra,
    /// Offset of a byte of the blob, and the value to XOR it with.
    changes: Vec<(u16, u8)>,
}

/// Side data of a matrix.
#[derive(Arbitrary, Debug)]
enum Extra {
    Nothing,
    RowScales,
    Groups,
    GroupsWithZeros,
    /// Row, column and bits of large integers.
    Wide(Vec<(u8, u8, u16)>),
}

// Tests either both encoders or the changes: each is slow.
fuzz_target!(init: one_thread(), |case: Case<'_>| -> Corpus {
    let parts = Parts::new(&case);
    let fast = parts.encode(&case, &FAST);
    if case.changes.is_empty() {
        assert!(fast == parts.encode(&case, &REFERENCE), "the encoders differ");
    }
    let Ok(blob) = fast else { return Corpus::Reject };
    let mut blob = blob.into_bytes();
    if case.changes.is_empty() {
        assert!(agree(&mut blob) == Ok(parts.weights), "the decoded weights differ");
        return Corpus::Keep;
    }
    for (place, change) in &case.changes {
        let place = usize::from(*place) % blob.len();
        blob[place] ^= change;
    }
    seal::reseal(&mut blob);
    let _ = agree(&mut blob);
    Corpus::Keep
});

/// Decodes `blob` with all decoders, which must agree.
fn agree(blob: &mut [u8]) -> Result<Vec<u8>, BlobError> {
    let weights = readers::decode(blob)?;
    step::check(&Blob::parse(blob)?, &weights);
    Ok(weights)
}

/// A matrix's data, with scales and zero points that it may or may not use.
struct Parts {
    dtype: Dtype,
    sides: [usize; 2],
    weights: Vec<u8>,
    wide: Vec<LargeInteger>,
    scales: Vec<u16>,
    zeros: Vec<i8>,
}

impl Parts {
    fn new(case: &Case<'_>) -> Self {
        let dtype = Dtype::ALL[usize::from(case.dtype) % Dtype::ALL.len()];
        let sides @ [rows, cols] = case.sides.map(side);
        let bytes = || case.weights.iter().copied().chain([0]).cycle();
        let mut weights: Vec<u8> = bytes().take(rows * cols * dtype.byte_len()).collect();
        let mut wide = Vec::new();
        match &case.extra {
            Extra::Nothing | Extra::RowScales => {}
            Extra::Groups | Extra::GroupsWithZeros => {
                weights.iter_mut().for_each(|weight| *weight = nibble(*weight).cast_unsigned());
            }
            Extra::Wide(integers) => wide = widen(integers, sides, &mut weights),
        }
        let groups = rows * cols.div_ceil(128);
        let scales = bytes().map(|byte| u16::from(byte) * 0x0101).take(groups).collect();
        let zeros = bytes().map(nibble).take(groups).collect();
        Self { dtype, sides, weights, wide, scales, zeros }
    }

    fn encode(&self, case: &Case<'_>, codec: &Codec) -> Encoded {
        let Self { dtype, sides: [rows, cols], ref weights, .. } = *self;
        let weights_per_symbol =
            if case.quads { WeightsPerSymbol::Four } else { WeightsPerSymbol::Two };
        let matrix = Matrix::from_bytes(dtype, weights, rows, cols)?;
        let encoder = Encoder::new().weights_per_symbol(weights_per_symbol).max_bytes(usize::MAX);
        let encoder = case.raw_bits.map_or(encoder, |raw_bits| encoder.raw_bits(raw_bits % 8));
        let zeros = match case.extra {
            Extra::Nothing => return codec(&encoder, matrix),
            Extra::RowScales | Extra::Wide(_) => {
                let matrix = matrix.with_row_scales(self.scales[..rows].reinterpret_cast())?;
                return codec(&encoder, matrix.with_large_integers(&self.wide)?);
            }
            Extra::Groups => None,
            Extra::GroupsWithZeros => Some(&self.zeros[..]),
        };
        let scales = self.scales.reinterpret_cast();
        codec(&encoder, matrix.with_groups(Groups { scales, zeros })?)
    }
}

/// Makes large integers, sorted, and writes their low bytes to the weights.
fn widen(
    wide: &[(u8, u8, u16)],
    [rows, cols]: [usize; 2],
    weights: &mut [u8],
) -> Vec<LargeInteger> {
    let place = |&(row, col, bits)| ((usize::from(row) % rows, usize::from(col) % cols), bits);
    let wide: BTreeMap<(usize, usize), u16> = wide.iter().map(place).collect();
    let integers = wide.into_iter().map(|((row, col), bits)| {
        let magnitude = (129 + i32::from(bits % 128)) << (bits >> 7 & 7);
        let integer = magnitude.min(32512) as i16 * [1, -1][usize::from(bits >> 15)];
        weights[row * cols + col] = integer as u8;
        LargeInteger { row, col, integer }
    });
    integers.collect()
}

/// Returns a side from 1 to 300. Small ones, which are fast and contain every case of a fragment, are more frequent.
fn side(byte: u8) -> usize {
    1 + usize::from(byte).pow(2) / 217
}

fn nibble(byte: u8) -> i8 {
    byte.cast_signed() << 4 >> 4
}
