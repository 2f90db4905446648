//! A compressed layer in device memory.

mod decode;
mod ready;
mod region;
mod upload;
mod verify;

pub use upload::{Check, UploadOptions};

use super::matmul::Launches;
use super::{DeviceRange, Gpu, GpuError, LayerPart};
use crate::Dtype;
use crate::launch_plan::LayerShape;
use fused_rans_layout::{DecodeArgs, KernelId, LayerArgs, Split, WeightCoding};
use ready::Ready;
use verify::Checksums;

/// A compressed layer in device memory. All of it lies in one range, which the layer owns or borrows from an
/// [`Arena`](super::Arena). Dropping the layer frees memory that it owns, after queued work.
#[derive(Debug)]
pub struct Layer {
    memory: DeviceRange,
    /// The arguments of kernels that are the same for every launch.
    args: LayerArgs,
    decode_args: DecodeArgs,
    decode_kernel: KernelId,
    launches: Launches,
    coding: WeightCoding,
    split: Split,
    shape: LayerShape,
    tiles: u32,
    /// Bytes of the blob before its first tile.
    front_bytes: usize,
    /// Bytes of the blob.
    blob_bytes: usize,
    checksums: Checksums,
    weights_crc: u32,
    /// When the upload is done.
    ready: Ready,
    gpu: Gpu,
}

impl Layer {
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(super) fn args(&self) -> LayerArgs {
        self.args
    }

    pub(super) fn coding(&self) -> WeightCoding {
        self.coding
    }

    pub(super) fn launches(&self) -> &Launches {
        &self.launches
    }

    pub(super) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Returns what launch plans depend on.
    pub(super) fn shape(&self) -> LayerShape {
        self.shape
    }

    /// Returns kind, address and length of each part of the layer in device memory. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn parts(&self) -> Vec<(LayerPart, u64, usize)> {
        let (blob, front) = (self.memory.address(), self.front_bytes);
        let tiles = (LayerPart::Tile(0), blob + front as u64, self.blob_bytes - front);
        let rest = self.checksums.parts.iter();
        let rest = rest.map(|&(part, region)| (part, region.address, 4 * region.words as usize));
        [(LayerPart::Front, blob, front), tiles].into_iter().chain(rest).collect()
    }

    /// Returns the element type of the weights.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.split.dtype()
    }

    /// Returns the number of rows of the matrix: output features.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.grid.rows
    }

    /// Returns the number of columns of the matrix: input features.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.shape.grid.cols
    }

    /// Returns the size of the decoded matrix in bytes. [`Layer::decode`] needs a buffer of this size.
    #[must_use]
    pub fn decoded_byte_len(&self) -> usize {
        self.rows() * self.cols() * self.dtype().byte_len()
    }

    /// Returns the number of bytes of device memory that the layer takes. [`UploadOptions::device_byte_len`] returns it
    /// before an upload.
    #[must_use]
    pub fn device_byte_len(&self) -> usize {
        self.memory.len()
    }

    /// Returns whether the layer borrows its memory from an [`Arena`](super::Arena) or another library.
    #[must_use]
    pub fn is_memory_borrowed(&self) -> bool {
        self.memory.is_borrowed()
    }

    /// Consumes the layer and returns its memory. Use it to upload another layer to the same memory: by
    /// [`Gpu::upload_async`](super::Gpu::upload_async) on a CUDA stream that is ordered after the layer's last use, or
    /// by any upload once the last use is done.
    ///
    /// # Safety
    /// Work queued with the layer is done, or all later work with the memory is ordered after it. Kernels trust a
    /// layer's index, and access memory out of bounds if it changes while they run.
    #[must_use]
    pub unsafe fn into_memory(self) -> DeviceRange {
        self.memory
    }

    /// Checks that `gpu`, of a CUDA stream, is the layer's device.
    pub(super) fn check_stream(&self, cuda_stream: &super::CudaStream) -> Result<(), GpuError> {
        let expected = self.gpu.ordinal();
        match cuda_stream.gpu().ordinal() == expected {
            true => Ok(()),
            false => Err(GpuError::OtherDevice { what: "the CUDA stream", expected }),
        }
    }
}
