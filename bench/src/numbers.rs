//! Weights and activations as F64 numbers and as dense 16-bit matrices.

use fused_rans::layout::{GROUP, TileGrid, e4m3_to_f32};
use fused_rans::{Blob, BlobError, Dtype, Float, LargeInteger, WeightsPerSymbol};
use half::{bf16, f16};

/// A layer's weights, decoded.
pub struct Weights {
    dtype: Dtype,
    weights_per_symbol: WeightsPerSymbol,
    shape: TileGrid,
    bytes: Vec<u8>,
    /// Scales and zero points of groups, by row, then by group.
    groups: Option<(Vec<f16>, Option<Vec<i8>>)>,
    /// Scales of rows.
    row_scales: Option<Vec<bf16>>,
    /// Integers of more than a byte, by row, then by column.
    large_integers: Vec<LargeInteger>,
}

impl Weights {
    /// Decodes `blob` and verifies its checksums.
    ///
    /// # Errors
    /// [`BlobError`] if the blob is damaged.
    pub fn decode(blob: &Blob<'_>) -> Result<Self, BlobError> {
        let mut bytes = vec![0; blob.decoded_byte_len()];
        blob.decode(&mut bytes)?;
        let groups = match blob.group_scales()? {
            Some(scales) => Some((scales, blob.group_zeros()?)),
            None => None,
        };
        let (dtype, weights_per_symbol) = (blob.dtype(), blob.split().weights_per_symbol());
        let row_scales = blob.row_scales().map(<[bf16]>::to_vec);
        let large_integers = blob.large_integers()?;
        Ok(Self {
            dtype,
            weights_per_symbol,
            shape: blob.grid(),
            bytes,
            groups,
            row_scales,
            large_integers,
        })
    }

    /// Returns the format's name in tables; `x4` means four weights per symbol.
    pub fn format(&self) -> &'static str {
        match (self.dtype, &self.groups, self.weights_per_symbol) {
            (Dtype::Bf16, ..) => "BF16",
            (Dtype::F16, ..) => "FP16",
            (Dtype::F8E4M3, ..) => "FP8",
            (Dtype::I8, None, WeightsPerSymbol::Two) => "INT8",
            (Dtype::I8, None, WeightsPerSymbol::Four) => "INT8x4",
            (Dtype::I8, Some(_), WeightsPerSymbol::Two) => "INT4",
            (Dtype::I8, Some(_), WeightsPerSymbol::Four) => "INT4x4",
        }
    }

    /// Returns the type of the activations that the layer is measured with.
    pub fn activations(&self) -> Float {
        match (self.dtype, &self.groups) {
            (Dtype::F16, _) | (Dtype::I8, Some(_)) => Float::F16,
            _ => Float::Bf16,
        }
    }

    /// Returns the dequantized weights of row `row`.
    pub fn row(&self, row: usize) -> Vec<f64> {
        let cols = self.shape.cols;
        let bytes =
            &self.bytes[row * cols * self.dtype.byte_len()..][..cols * self.dtype.byte_len()];
        let mut numbers: Vec<f64> = match self.dtype {
            Dtype::Bf16 => u16s(bytes).map(|bits| bf16::from_bits(bits).to_f64()).collect(),
            Dtype::F16 => u16s(bytes).map(|bits| f16::from_bits(bits).to_f64()).collect(),
            Dtype::F8E4M3 => bytes.iter().map(|&bits| e4m3(bits)).collect(),
            Dtype::I8 => bytes.iter().map(|&bits| f64::from(bits.cast_signed())).collect(),
        };
        let start = self.large_integers.partition_point(|large| large.row < row);
        for large in self.large_integers[start..].iter().take_while(|large| large.row == row) {
            numbers[large.col] = large.integer.into();
        }
        if let Some((scales, zeros)) = &self.groups {
            let first = row * cols.div_ceil(GROUP);
            for (group, numbers) in (first..).zip(numbers.chunks_mut(GROUP)) {
                let scale = scales[group].to_f64();
                let zero = zeros.as_ref().map_or(0.0, |zeros| zeros[group].into());
                numbers.iter_mut().for_each(|number| *number = scale * (*number - zero));
            }
        }
        if let Some(scales) = &self.row_scales {
            let scale = scales[row].to_f64();
            numbers.iter_mut().for_each(|number| *number *= scale);
        }
        numbers
    }

    /// Converts the weights to a dense matrix in the activations' type, little endian. Exact, except that weights with scales
    /// are rounded.
    pub fn into_dense(self) -> Vec<u8> {
        let scaled = self.groups.is_some() || self.row_scales.is_some();
        match self.dtype {
            Dtype::Bf16 | Dtype::F16 => self.bytes,
            Dtype::F8E4M3 if !scaled => self.by_table(e4m3),
            Dtype::I8 if !scaled => self.by_table(|bits| bits.cast_signed().into()),
            Dtype::F8E4M3 | Dtype::I8 => {
                let dtype = self.activations();
                let rows = (0..self.shape.rows).flat_map(|row| self.row(row));
                rows.flat_map(|number| bits(dtype, number).to_le_bytes()).collect()
            }
        }
    }

    /// Converts weights of one byte each to a dense matrix. `number` dequantizes a byte.
    fn by_table(&self, number: impl Fn(u8) -> f64) -> Vec<u8> {
        let dtype = self.activations();
        let table: [[u8; 2]; 256] =
            std::array::from_fn(|byte| bits(dtype, number(byte as u8)).to_le_bytes());
        self.bytes.iter().flat_map(|&byte| table[usize::from(byte)]).collect()
    }
}

/// Returns `count` activations, uniform in [-1, 1), always the same: as little-endian bytes of `dtype`, and as the numbers that
/// these are exactly.
pub fn activations(dtype: Float, count: usize) -> (Vec<u8>, Vec<f64>) {
    let mut state = 0u64;
    let bits = (0..count).map(|_| bits(dtype, uniform(&mut state))).collect::<Vec<u16>>();
    let numbers = bits.iter().map(|&bits| match dtype {
        Float::F16 => f16::from_bits(bits).to_f64(),
        _ => bf16::from_bits(bits).to_f64(),
    });
    (bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(), numbers.collect())
}

/// Returns the next number of a sequence that is uniform in [-1, 1): SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014).
pub fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *state;
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    // Divides the upper 53 bits by 2^52, which gives [0, 2).
    ((bits ^ bits >> 31) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Rounds `number` to BF16 or FP16; returns its bits.
fn bits(dtype: Float, number: f64) -> u16 {
    match dtype {
        Float::F16 => f16::from_f64(number).to_bits(),
        _ => bf16::from_f64(number).to_bits(),
    }
}

/// Decodes e4m3 bits, NaN patterns as +-480, as the kernels do.
fn e4m3(bits: u8) -> f64 {
    e4m3_to_f32(bits).into()
}

/// Returns the little-endian `u16`s of `bytes`.
fn u16s(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks().0.iter().map(|&bits| u16::from_le_bytes(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fused_rans::{Encoder, Groups, Matrix, encode};

    fn weights(blob: &Blob<'_>) -> Weights {
        Weights::decode(blob).unwrap()
    }

    #[test]
    fn dense_weights_are_the_numbers() {
        for dtype in [Dtype::F8E4M3, Dtype::I8] {
            let bytes: Vec<u8> = (0..512 * 256u32).map(|i| (i % 17) as u8 * 8).collect();
            let blob = encode(Matrix::from_bytes(dtype, &bytes, 512, 256).unwrap()).unwrap();
            let weights = weights(&blob);
            let (row, dense) = (weights.row(3), weights.into_dense());
            let dense: Vec<f64> = u16s(&dense).map(|bits| bf16::from_bits(bits).into()).collect();
            assert_eq!(dense[3 * 256..4 * 256], row, "{dtype:?}");
            assert!(row.iter().any(|&number| number != 0.0));
        }
        assert_eq!([0x38, 0xC0, 0x01, 0x7F].map(e4m3), [1.0, -2.0, 0.001_953_125, 480.0]);
    }

    #[test]
    fn groups_have_their_scales_and_zero_points() {
        let bytes: Vec<u8> =
            (0..64 * 300u32).map(|i| ((i % 13) as i8 - 6).cast_unsigned()).collect();
        let scales: Vec<f16> = (0..64 * 3u8).map(|i| f16::from_f32(f32::from(i % 4))).collect();
        let zeros = vec![2; 64 * 3];
        let matrix = Matrix::from_bytes(Dtype::I8, &bytes, 64, 300).unwrap();
        let encoder = Encoder::new().weights_per_symbol(WeightsPerSymbol::Four);
        let groups = Groups { scales: &scales, zeros: Some(&zeros) };
        let weights = weights(&encoder.encode(matrix.with_groups(groups).unwrap()).unwrap());
        assert_eq!((weights.format(), weights.activations()), ("INT4x4", Float::F16));
        let row = weights.row(7);
        // Group 7 * 3 + 2 has scale 3; weight 7 * 300 + 299 is 1.
        assert_eq!(row[299], 3.0 * (1.0 - 2.0));
        let dense = weights.into_dense();
        let bits = u16::from_le_bytes([dense[2 * (7 * 300 + 299)], dense[2 * (7 * 300 + 299) + 1]]);
        assert_eq!(f16::from_bits(bits).to_f64(), -3.0);
    }

    #[test]
    fn rows_have_their_scales() {
        for (dtype, one) in [(Dtype::I8, 1), (Dtype::F8E4M3, 0x38)] {
            let scales: Vec<bf16> = (0..64u8).map(|row| bf16::from_f32(row.into())).collect();
            let bytes = vec![one; 64 * 300];
            let matrix = Matrix::from_bytes(dtype, &bytes, 64, 300)
                .unwrap()
                .with_row_scales(&scales)
                .unwrap();
            let weights = weights(&encode(matrix).unwrap());
            assert_eq!(weights.row(63), [63.0; 300]);
            let dense = weights.into_dense();
            let dense: Vec<f64> = u16s(&dense).map(|bits| bf16::from_bits(bits).into()).collect();
            assert_eq!(dense[5 * 300 - 1..5 * 300 + 1], [4.0, 5.0]);
        }
    }

    #[test]
    fn large_integers_are_decoded_in_full() {
        let at = |row, col, integer| LargeInteger { row, col, integer };
        let integers = [at(3, 5, 300), at(4, 0, -2048), at(4, 299, 255), at(63, 1, 32512)];
        let mut bytes = vec![1; 64 * 300];
        integers.iter().for_each(|large| bytes[large.row * 300 + large.col] = large.integer as u8);
        let scales = vec![bf16::from_f32(0.5); 64];
        let matrix = Matrix::from_bytes(Dtype::I8, &bytes, 64, 300)
            .unwrap()
            .with_row_scales(&scales)
            .unwrap();
        let weights = weights(&encode(matrix.with_large_integers(&integers).unwrap()).unwrap());
        assert_eq!(weights.row(4)[..2], [-1024.0, 0.5]);
        assert_eq!(weights.row(4)[299], 127.5);
        assert_eq!(weights.row(62), [0.5; 300]);
        let dense = weights.into_dense();
        let dense: Vec<f64> = u16s(&dense).map(|bits| bf16::from_bits(bits).into()).collect();
        assert_eq!(dense[3 * 300 + 4..3 * 300 + 6], [0.5, 150.0]);
        assert_eq!(dense[63 * 300 + 1], 16256.0);
    }

    #[test]
    fn activations_are_spread_over_their_range() {
        for dtype in [Float::Bf16, Float::F16] {
            let (bytes, numbers) = activations(dtype, 10_000);
            assert_eq!(bytes.len(), 20_000);
            let mean = numbers.iter().sum::<f64>() / 10_000.0;
            let square = numbers.iter().map(|x| x * x).sum::<f64>() / 10_000.0;
            assert!(mean.abs() < 0.03 && (square - 1.0 / 3.0).abs() < 0.02, "{mean} {square}");
            assert!(numbers.iter().all(|x| (-1.0..=1.0).contains(x)));
        }
    }
}
