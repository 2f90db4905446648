//! Numbers in, fewer bits out: quantizers for matrices of BF16, FP16 and F32 numbers.
//!
//! What comes out is a [`Quantized`] matrix of one-byte weights with scales, as [`encode`](crate::encode) takes them;
//! every number stands for `scale * weight`, and zero is always among these.
//!
//! | quantizer | weights | scales | |
//! |---|---|---|---|
//! | [`Quantizer::Int8`] | I8, -127 to 127 | one a row | the largest number of the row is 127 |
//! | [`Quantizer::Int4`] | I8, -8 to 7 | one for every 128 columns of a row, with or without zero points | the largest is 7 |
//! | [`Quantizer::Fp8`] | F8_E4M3 | one a row | the largest is 448 |
//! | [`Quantizer::Rate`] | I8 | one a row | steps as fine as the bits that they may take |
//!
//! The last is what entropy coding is for. A uniform step, whose integers are coded by how often they occur, needs no
//! range to be clipped to: a rare large weight costs the bits of its own code and no one else's. Integers beyond a
//! byte are listed as exceptions.
//!
//! ```
//! use fused_rans_host::quantize::{Options, Quantizer, NumberMatrix};
//! use fused_rans_host::{Blob, Float, encode};
//! use rand::SeedableRng;
//! use rand_distr::{Distribution, StandardNormal};
//!
//! let mut random = rand::rngs::StdRng::seed_from_u64(1);
//! let numbers: Vec<u8> = (0..256 * 512)
//!     .flat_map(|_| f32::to_le_bytes(StandardNormal.sample(&mut random)))
//!     .collect();
//! let source = NumberMatrix::new(Float::F32, 256, 512, &numbers)?;
//! let quantized = Quantizer::rate(5.0)?.quantize(source, Options::default())?;
//! let blob = encode(quantized.matrix()).expect("five bits are fewer than eight");
//! assert!((8.0 * blob.len() as f64 / (256.0 * 512.0) - 5.0).abs() < 0.05);
//!
//! let mut back = vec![0; 4 * 256 * 512];
//! Blob::parse(&blob).and_then(|blob| blob.dequantize(Float::F32, &mut back)).expect("it is intact");
//! # Ok::<(), fused_rans_host::quantize::QuantizeError>(())
//! ```

mod absmax;
mod calibration;
mod error;
mod feedback;
mod groups;
mod quantized;
mod rate;
mod round;
mod rows;
mod search;
mod source;
mod spread;

pub use calibration::Moments;
pub use error::QuantizeError;
pub use quantized::Quantized;
pub use rate::Rate;
pub use source::NumberMatrix;
pub use spread::{Curve, spread};

use fused_rans_layout::WeightsPerSymbol;
use std::fmt;
use std::str::FromStr;

/// How numbers become weights of fewer bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantizer {
    /// Integers of 8 bits, -127 to 127, a scale a row: the largest magnitude over 127.
    Int8,
    /// Integers of 4 bits, a scale for every 128 columns of a row.
    Int4 {
        /// Whether these have zero points, too, so that their smallest and largest numbers are the ends of the range;
        /// otherwise the largest magnitude is 7.
        zero_points: bool,
    },
    /// FP8 e4m3, a scale a row: the largest magnitude over 448.
    Fp8,
    /// Integers whose step is chosen by the bits that they take.
    Rate(Rate),
}

/// How the weights are going to be coded, which their bits depend on, and what is known of the inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// How many integers share a symbol; see [`Matrix::packed`](crate::Matrix::packed).
    pub weights_per_symbol: WeightsPerSymbol,
    /// Their raw bits, if they are not the encoder's to choose; see [`Matrix::split_at`](crate::Matrix::split_at).
    pub raw_bits: Option<u8>,
    /// Second moments of the inputs, by which [`Quantizer::Rate`] lets each weight make up for the errors of those
    /// before it. The others do not look at them.
    pub moments: Option<&'a Moments>,
}

impl Quantizer {
    /// The quantizer for `bits` bits a weight, everything that is stored counted.
    ///
    /// # Errors
    /// [`QuantizeError::Rate`] for a number outside 2 to 7.
    pub fn rate(bits: f64) -> Result<Self, QuantizeError> {
        Rate::new(bits).map(Self::Rate)
    }

    /// Quantizes `source`. Runs on rayon's current thread pool.
    ///
    /// # Errors
    /// [`QuantizeError::NotFinite`] for a number that no step can reach; [`QuantizeError::Moments`] and
    /// [`QuantizeError::Indefinite`] for moments that are not those of the matrix's inputs; of a rate
    /// [`QuantizeError::Narrow`] and [`QuantizeError::Unreachable`].
    pub fn quantize(
        self,
        source: NumberMatrix<'_>,
        options: Options<'_>,
    ) -> Result<Quantized, QuantizeError> {
        let quantized = match self {
            Self::Int8 => absmax::int8(source),
            Self::Fp8 => absmax::fp8(source),
            Self::Int4 { zero_points } => groups::int4(source, zero_points),
            Self::Rate(rate) => return rate.quantize(source, options),
        }?;
        let Options { weights_per_symbol, raw_bits, .. } = options;
        Ok(Quantized { weights_per_symbol, raw_bits, ..quantized })
    }
}

impl fmt::Display for Quantizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int8 => f.write_str("int8"),
            Self::Int4 { zero_points: false } => f.write_str("int4"),
            Self::Int4 { zero_points: true } => f.write_str("int4-zero-points"),
            Self::Fp8 => f.write_str("fp8"),
            Self::Rate(rate) => write!(f, "rate={}", rate.bits()),
        }
    }
}

impl FromStr for Quantizer {
    type Err = QuantizeError;

    /// As it is written in command lines: `int8`, `int4`, `int4-zero-points`, `fp8`, `rate=5.5`.
    fn from_str(text: &str) -> Result<Self, QuantizeError> {
        let unknown = || QuantizeError::Unknown(text.to_owned());
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
