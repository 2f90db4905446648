//! Kernels: their instances, and the bodies of those that do not multiply compressed layers.

#[cfg(feature = "bf16")]
mod checksum;
#[cfg(feature = "bf16")]
mod decode;
#[cfg(feature = "bf16")]
mod dense;
mod instances;
#[cfg(feature = "bf16")]
mod output;
