//! Which tensors are compressed, and how: options, rules, calibration, the plan of a job, warnings.

pub mod encoded;
pub mod kept;
pub mod options;
pub mod warning;

#[cfg(not(feature = "quantize"))]
mod lossless_only;
#[cfg(feature = "quantize")]
pub mod quantizing;

#[cfg(not(feature = "quantize"))]
pub(in crate::file) use lossless_only::{CompressPlan, QuantizeSettings};
#[cfg(feature = "quantize")]
pub(in crate::file) use quantizing::{CompressPlan, QuantizeSettings};
