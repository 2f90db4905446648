//! Quantizers: BF16, FP16 or F32 numbers to weights of fewer bits.
//!
//! A quantizer returns a [`Quantized`] matrix of one-byte weights with scales, ready to be encoded. Each weight dequantizes
//! to `scale * weight`, and 0 always stays 0.
//!
//! | quantizer | weights | scales | the scale is set so that |
//! |---|---|---|---|
//! | [`Quantizer::Int8`] | I8, -127 to 127 | one per row | the row's largest magnitude becomes 127 |
//! | [`Quantizer::Int4`] | I8, -8 to 7 | one per 128 columns of a row, with or without zero points | the group's largest magnitude becomes 7 |
//! | [`Quantizer::Fp8`] | F8_E4M3 | one per row | the row's largest magnitude becomes 448 |
//! | [`Quantizer::Rate`] | I8, and large integers | one per row | the blob takes a given number of bits per weight |
//!
//! A rate makes the best use of entropy coding: it has a uniform step, and integers are coded by how often they occur. So
//! no range has to be clipped. A rare large weight costs the bits of its own code, and does not make the step of its
//! neighbors coarser. Integers beyond a byte are stored as exceptions.
//!
//! ```
//! use fused_rans_host::quantize::{NumberMatrix, QuantizeOptions, Quantizer};
//! use rand::SeedableRng;
//! use rand_distr::{Distribution, StandardNormal};
//!
//! let random = rand::rngs::StdRng::seed_from_u64(1);
//! let numbers: Vec<f32> = StandardNormal.sample_iter(random).take(256 * 512).collect();
//! let source = NumberMatrix::from_slice(&numbers, 256, 512)?;
//! let quantized = Quantizer::rate(5.0)?.quantize(source, QuantizeOptions::new())?;
//! let blob = quantized.encode().expect("five bits are fewer than 32");
//! assert!((8.0 * blob.as_bytes().len() as f64 / (256.0 * 512.0) - 5.0).abs() < 0.05);
//!
//! let back = blob.dequantize_to_f32().expect("it is intact");
//! assert_eq!(back.len(), 256 * 512);
//! # Ok::<(), fused_rans_host::quantize::QuantizeError>(())
//! ```

mod absmax;
mod error;
mod groups;
mod moments;
mod number_matrix;
mod options;
mod quantized;
mod rate;
mod rounding;

pub use error::QuantizeError;
pub use moments::Moments;
pub use number_matrix::NumberMatrix;
pub use options::QuantizeOptions;
pub use quantized::Quantized;
pub use rate::{Rate, RateCurve, share_rate};

use std::fmt;
use std::str::FromStr;

/// A way to turn numbers into weights of fewer bits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Quantizer {
    /// 8-bit integers from -127 to 127 with one scale per row: the largest magnitude over 127.
    Int8,
    /// 4-bit integers with one scale per group: 128 columns of a row.
    Int4 {
        /// Whether groups have zero points. With them, a group's smallest and largest numbers are the ends of the range;
        /// without, the largest magnitude becomes 7.
        zero_points: bool,
    },
    /// FP8 e4m3 with one scale per row: the largest magnitude over 448.
    Fp8,
    /// Integers whose step is chosen by the bits per weight that the blob takes.
    Rate(Rate),
}

impl Quantizer {
    /// Returns the quantizer for `bits` bits per weight, counting everything that a blob stores.
    ///
    /// # Errors
    /// [`QuantizeError::RateOutOfRange`] for a number outside 2 to 7.
    pub fn rate(bits: f64) -> Result<Self, QuantizeError> {
        Rate::new(bits).map(Self::Rate)
    }

    /// Quantizes `source`. Runs on rayon's current thread pool.
    ///
    /// # Errors
    /// [`QuantizeError::NotFinite`] for a number that is NaN or infinite. [`Quantizer::Rate`] may also return
    /// [`QuantizeError::TooSmall`] and [`QuantizeError::Unreachable`], and with moments
    /// [`QuantizeError::MomentsInputs`] and [`QuantizeError::InvalidMoments`].
    pub fn quantize(
        self,
        source: NumberMatrix<'_>,
        options: QuantizeOptions<'_>,
    ) -> Result<Quantized, QuantizeError> {
        let quantized = match self {
            Self::Int8 => absmax::int8(source),
            Self::Fp8 => absmax::fp8(source),
            Self::Int4 { zero_points } => groups::int4(source, zero_points),
            Self::Rate(rate) => return rate.quantize(source, options),
        }?;
        let QuantizeOptions { weights_per_symbol, raw_bits, .. } = options;
        Ok(Quantized { weights_per_symbol, raw_bits, ..quantized })
    }
}

impl From<Rate> for Quantizer {
    fn from(rate: Rate) -> Self {
        Self::Rate(rate)
    }
}

impl fmt::Display for Quantizer {
    /// Writes the name that [`Quantizer::from_str`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int8 => f.write_str("int8"),
            Self::Int4 { zero_points: false } => f.write_str("int4"),
            Self::Int4 { zero_points: true } => f.write_str("int4-zero-points"),
            Self::Fp8 => f.write_str("fp8"),
            Self::Rate(rate) => write!(f, "rate={rate}"),
        }
    }
}

impl FromStr for Quantizer {
    type Err = QuantizeError;

    /// Reads a name as the command line has it: `int8`, `int4`, `int4-zero-points`, `fp8`, or `rate=5.5`.
    fn from_str(text: &str) -> Result<Self, QuantizeError> {
        let unknown = || QuantizeError::UnknownQuantizer(text.to_owned());
        match text {
            "int8" => Ok(Self::Int8),
            "int4" => Ok(Self::Int4 { zero_points: false }),
            "int4-zero-points" => Ok(Self::Int4 { zero_points: true }),
            "fp8" => Ok(Self::Fp8),
            _ => {
                let bits = text.strip_prefix("rate=").ok_or_else(unknown)?;
                Self::rate(bits.parse().map_err(|_| unknown())?)
            }
        }
    }
}
