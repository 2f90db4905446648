#![doc = include_str!("../README.md")]

pub use fused_rans_host::*;

#[cfg(feature = "cuda")]
#[doc(hidden)] // for the program and the benchmarks
pub mod bench;

use flate2::read::GzDecoder;
use std::io::Read;
use std::sync::LazyLock;

/// The GPU kernels, written in Rust, as PTX for compute capability 8.0 and newer.
///
/// There are many, in much text: it is embedded compressed, and decompressed at the first call.
#[must_use]
pub fn ptx() -> &'static str {
    static PTX: LazyLock<String> = LazyLock::new(|| {
        let compressed: &[u8] = include_bytes!(env!("FUSED_RANS_PTX"));
        let mut text = String::new();
        let read = GzDecoder::new(compressed).read_to_string(&mut text);
        read.expect("the build script names a compressed text");
        text
    });
    &PTX
}

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
        Gpu::open(ordinal, crate::ptx())
    }
}
