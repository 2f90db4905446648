//! fused-rans keeps the weights of language models entropy-coded and decodes them where they are used.
//!
//! This version compresses BF16, FP16, FP8 (e4m3) and INT8 matrices without loss, to within about a
//! tenth of a bit of their entropy, in tiles that a GPU warp can decode straight into tensor-core
//! fragments; it reads and writes `.safetensors` files, and decodes on the CPU and, with the feature
//! `cuda`, on NVIDIA GPUs by kernels written in Rust.
//!
//! ```
//! use fused_rans::{Blob, Dtype, Matrix, encode};
//! use half::bf16;
//!
//! // A 512 x 256 layer; any bit pattern comes back, these are just small numbers.
//! let weights: Vec<u8> = (0..512 * 256u32)
//!     .map(|i| bf16::from_f32((i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0 - 0.5))
//!     .flat_map(bf16::to_le_bytes)
//!     .collect();
//!
//! let matrix = Matrix::new(Dtype::Bf16, 512, 256, &weights)?;
//! let compressed = encode(matrix).expect("these weights shrink");
//! assert!(compressed.len() < weights.len() * 7 / 10);
//!
//! let blob = Blob::parse(&compressed)?;
//! let mut decoded = vec![0; blob.weight_bytes()];
//! blob.decode(&mut decoded)?;
//! assert_eq!(decoded, weights);
//! # Ok::<(), fused_rans::BlobError>(())
//! ```
//!
//! Whole files: [`file::compress`], [`file::decompress`], [`file::CompressedFile`]. The format is
//! specified in `docs/format.md`; its version is 0 and may still change.

pub use fused_rans_host::*;

/// The GPU kernels, written in Rust, as PTX for compute capability 8.0 and newer.
pub const PTX: &str = include_str!(env!("FUSED_RANS_PTX"));

/// Compressed layers in GPU memory (feature `cuda`).
///
/// ```no_run
/// # fn example(blob: &fused_rans::Blob<'_>) -> Result<(), fused_rans::gpu::GpuError> {
/// let gpu = fused_rans::gpu::open(0)?;
/// let layer = gpu.upload(blob)?;
/// let mut weights = gpu.buffer(layer.weight_bytes())?;
/// layer.decode(&mut weights, &gpu.cuda_stream()?)?;
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
