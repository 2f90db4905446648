#![doc = include_str!("../README.md")]

pub use fused_rans_host::*;

/// The GPU kernels, written in Rust, as PTX for compute capability 8.0 and newer.
pub const PTX: &str = include_str!(env!("FUSED_RANS_PTX"));

/// Compressed layers in GPU memory (feature `cuda`).
///
/// ```no_run
/// # fn example(blob: &fused_rans::Blob<'_>) -> Result<(), fused_rans::gpu::GpuError> {
/// let gpu = fused_rans::gpu::open(0)?;
/// let layer = gpu.upload(blob)?;
/// let (mut weights, cuda_stream) = (gpu.buffer(layer.weight_bytes())?, gpu.cuda_stream()?);
/// layer.decode(&mut weights, &cuda_stream)?;
/// # Ok(()) }
/// ```
#[cfg(feature = "cuda")]
pub mod gpu {
    pub use fused_rans_host::gpu::*;

    /// Opens device number `ordinal` with this crate's kernels.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open(ordinal: u32) -> Result<Gpu, GpuError> {
        Gpu::open(ordinal, crate::PTX)
    }
}
