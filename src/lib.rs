//! Keeps the weights of language models entropy-coded, and decodes them where they are used.
//!
//! BF16, FP16, FP8 and INT8 matrices shrink without loss, by a third and more; quantizers go below that. A compressed
//! matrix is a [`Blob`]. The CPU decodes it and multiplies with it; a GPU does both from its own memory.
//!
//! | task | start with |
//! |---|---|
//! | compress a matrix | [`Matrix::from_slice`], [`encode`]; with options [`Encoder`] |
//! | get the weights back | [`Blob::parse`], [`Blob::decode_to_vec`], [`Blob::dequantize_to_f32`] |
//! | multiply on the CPU | [`Blob::matmul`] |
//! | compress files and models | `file` (feature `file`, on by default) |
//! | quantize | `quantize` (feature `quantize`) |
//! | decode and multiply on a GPU | `gpu` (feature `cuda`) |
//!
//! # On the CPU
//!
//! ```
//! use fused_rans::{Activations, Blob, Epilogue, Matrix, Outputs, encode};
//! use half::bf16;
//!
//! // A layer of 512 output features and 256 input features.
//! let weights: Vec<bf16> =
//!     (0..512 * 256).map(|i| bf16::from_f32((i % 61) as f32 / 1024.0)).collect();
//! let blob = encode(Matrix::from_slice(&weights, 512, 256)?)?;
//!
//! // Store the bytes; parse them when they are needed. Decoding verifies every checksum.
//! let stored = blob.into_bytes();
//! let blob = Blob::parse(&stored)?;
//! assert_eq!(blob.decode_to_vec::<bf16>()?, weights);
//!
//! // y = x W^T for two rows of activations.
//! let x = vec![bf16::ONE; 2 * 256];
//! let mut y = vec![0f32; 2 * 512];
//! blob.matmul(Activations::from_slice(&x, 2, 256), Outputs::from_slice(&mut y, 512), Epilogue::default())?;
//! # Ok::<(), fused_rans::Error>(())
//! ```
//!
//! A matrix that would not become smaller is an error of its own, [`BlobError::NotSmaller`]: store it as it is.
//!
//! # On a GPU
//!
//! The feature `cuda` needs neither toolkit nor driver to build. The program loads the driver when it opens a device,
//! and can fall back to the CPU where there is none.
//!
#![cfg_attr(feature = "cuda", doc = "```no_run")]
#![cfg_attr(not(feature = "cuda"), doc = "```ignore")]
//! use fused_rans::{Activations, Blob, Float, Outputs, gpu};
//!
//! # fn example(blob: &Blob<'_>) -> Result<(), gpu::GpuError> {
//! let gpu = gpu::open(0)?;
//! let layer = gpu.upload(blob)?;
//! let cuda_stream = gpu.create_stream()?;
//!
//! // y = x W^T for 8 rows of BF16 activations.
//! let (n, k) = (layer.rows(), layer.cols());
//! let (x, mut y) = (gpu.alloc(8 * k * 2)?, gpu.alloc(8 * n * 4)?);
//! let mut workspace = gpu.alloc_workspace(layer.workspace_size(8)?)?;
//! layer.matmul(
//!     Activations { data: x.as_slice(), dtype: Float::Bf16, rows: 8, row_stride: k },
//!     Outputs { data: y.as_mut_slice(), dtype: Float::F32, row_stride: n },
//!     &mut workspace,
//!     &cuda_stream,
//! )?;
//! # Ok(()) }
//! ```
//!
//! # Errors
//!
//! Each task has its own error type with a `kind()`. [`Error`] holds any of them, [`ErrorKind`] says what to do.

#[cfg(feature = "file")]
pub use fused_rans_host::file;
#[cfg(feature = "quantize")]
pub use fused_rans_host::quantize;
pub use fused_rans_host::{
    Activations, Argument, Blob, BlobError, Dtype, Element, Encoder, Epilogue, Error, ErrorKind,
    F8E4M3, Float, FloatElement, Groups, LargeInteger, MatmulError, Matrix, Outputs, Result,
    TileFault, UnknownDtype, UnknownFloat, WeightsPerSymbol, encode, entropy,
};
// For the other crates of this workspace.
#[doc(hidden)]
pub use fused_rans_host::{Frequencies, launch_plan, layout, matmul, reference, resident, tile};

/// Compiles the Rust code of the documents. With the feature `cuda` only, because a part of it needs that.
#[cfg(all(doctest, feature = "cuda"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/gpu.md")]
    struct Gpu;

    #[doc = include_str!("../docs/library.md")]
    struct Library;
}

/// Returns a set of the GPU kernels as PTX. Each set is embedded compressed, and decompressed at its first call.
#[cfg(feature = "cuda")]
#[doc(hidden)]
#[must_use]
pub fn ptx(set: gpu::KernelSet) -> &'static str {
    use std::io::Read;
    use std::sync::LazyLock;

    fn decompress(compressed: &[u8]) -> String {
        let mut text = String::new();
        let reader = lzma_rust2::LzmaReader::new_mem_limit(compressed, u32::MAX, None);
        let read = reader.and_then(|mut reader| reader.read_to_string(&mut text));
        read.expect("the build script names a compressed text");
        text
    }
    static SM80: LazyLock<String> =
        LazyLock::new(|| decompress(include_bytes!(env!("FUSED_RANS_PTX_SM80"))));
    static SM90: LazyLock<String> =
        LazyLock::new(|| decompress(include_bytes!(env!("FUSED_RANS_PTX_SM90"))));
    match set {
        gpu::KernelSet::Sm80 => &SM80,
        gpu::KernelSet::Sm90 => &SM90,
    }
}

/// Compressed layers in GPU memory (feature `cuda`).
///
/// ```no_run
/// use fused_rans::{Activations, Blob, Float, Outputs, gpu};
///
/// # fn example(blob: &Blob<'_>) -> Result<(), gpu::GpuError> {
/// let gpu = gpu::open(0)?;
/// let layer = gpu.upload(blob)?;
/// let cuda_stream = gpu.create_stream()?;
///
/// // y = x W^T for 8 rows of BF16 activations.
/// let (n, k) = (layer.rows(), layer.cols());
/// let (x, mut y) = (gpu.alloc(8 * k * 2)?, gpu.alloc(8 * n * 4)?);
/// let mut workspace = gpu.alloc_workspace(layer.workspace_size(8)?)?;
/// layer.matmul(
///     Activations { data: x.as_slice(), dtype: Float::Bf16, rows: 8, row_stride: k },
///     Outputs { data: y.as_mut_slice(), dtype: Float::F32, row_stride: n },
///     &mut workspace,
///     &cuda_stream,
/// )?;
///
/// // The weights themselves.
/// let mut weights = gpu.alloc(layer.decoded_byte_len())?;
/// layer.decode(weights.as_mut_slice(), &cuda_stream)?;
/// # Ok(()) }
/// ```
#[cfg(feature = "cuda")]
pub mod gpu {
    pub use fused_rans_host::gpu::*;

    /// Opens device number `ordinal` with this crate's kernels.
    ///
    /// # Errors
    /// [`GpuError::NoDriver`], [`GpuError::MissingFunction`] and [`GpuError::NoDevice`] where there is no usable driver or no
    /// such device, [`GpuError::TooOld`] for a device before compute capability 8.0, [`GpuError::Kernels`] if the driver
    /// refuses the kernels, [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    pub fn open(ordinal: u32) -> Result<Gpu, GpuError> {
        Gpu::open_with(ordinal, crate::ptx)
    }

    /// Opens device number `ordinal` with the kernels that the environment variable `FUSED_RANS_KERNEL_SET` names, `sm80`
    /// or `sm90`. For tests and benchmarks.
    ///
    /// # Errors
    /// Those of [`open`].
    #[doc(hidden)]
    pub fn open_as_tested(ordinal: u32) -> Result<Gpu, GpuError> {
        let named =
            |set: &str| std::env::var("FUSED_RANS_KERNEL_SET").is_ok_and(|name| name == set);
        let preferred = |capability| match (named("sm80"), named("sm90")) {
            (true, _) => KernelSet::Sm80,
            (_, true) => KernelSet::Sm90,
            _ => KernelSet::preferred(capability),
        };
        Gpu::open_preferring(ordinal, preferred, crate::ptx)
    }

    /// Opens the device of a rust-cuda context with this crate's kernels. Both share the context.
    ///
    /// # Errors
    /// [`GpuError::OtherDevice`] for a context that is not a primary one; otherwise those of [`open`].
    #[cfg(feature = "cust")]
    pub fn from_cust(context: &cust_interop::cust::context::Context) -> Result<Gpu, GpuError> {
        Gpu::from_cust_with(context, crate::ptx)
    }
}
