//! Kernels: their instances, and the bodies of those that do not multiply compressed layers.

#[cfg(feature = "bf16")]
mod checksum;
#[cfg(all(feature = "bf16", not(feature = "lean")))]
mod decode;
#[cfg(all(feature = "bf16", feature = "lean"))]
mod decode_resident;
#[cfg(feature = "bf16")]
mod dense;
mod instances;
#[cfg(feature = "bf16")]
mod output;
