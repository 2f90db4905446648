#![doc = include_str!("../README.md")]

pub use fused_rans_host::*;

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
        Gpu::open_with(ordinal, crate::ptx())
    }

    /// Opens the device of a rust-cuda context with this crate's kernels. Both share the context.
    ///
    /// # Errors
    /// [`GpuError::OtherDevice`] for a context that is not a primary one; otherwise those of [`open`].
    #[cfg(feature = "cust")]
    pub fn from_cust(context: &cust_interop::cust::context::Context) -> Result<Gpu, GpuError> {
        Gpu::from_cust_with(context, crate::ptx())
    }
}
