//! A compressed layer in device memory.

mod chunk;
mod decode;
mod numbers;
mod ready;
mod region;
mod resident;
mod upload;
mod verify;

pub use upload::{Check, UploadOptions};

use super::matmul::Launches;
use super::{DeviceRange, Gpu, GpuError, LayerPart};
use crate::Dtype;
use crate::launch_plan::LayerShape;
use fused_rans_layout::{DecodeArgs, KernelId, LayerArgs, Split, WeightCoding};
use ready::Ready;
pub use resident::ResidentForm;
use verify::Checksums;

/// A compressed layer in device memory. All of it lies in one range, which the layer owns or borrows from an
/// [`Arena`](super::Arena). Dropping the layer frees memory that it owns, after queued work.
#[derive(Debug)]
pub struct Layer {
    memory: DeviceRange,
    form: Form,
    decode_kernel: KernelId,
    launches: Launches,
    coding: WeightCoding,
    split: Split,
    shape: LayerShape,
    checksums: Checksums,
    weights_crc: u32,
    /// When the upload is done.
    ready: Ready,
    gpu: Gpu,
}

/// How a layer lies in device memory: as the kernels of the device read it.
#[derive(Debug)]
pub enum Form {
    /// As the blob that was uploaded.
    Blob(BlobForm),
    /// In the resident layout, for the lean kernels.
    Resident(ResidentForm),
}

/// A blob's arguments of kernels, as far as they are the same for every launch, and its parts.
#[derive(Debug)]
pub struct BlobForm {
    pub args: LayerArgs,
    decode_args: DecodeArgs,
    tiles: u32,
    /// Bytes of the blob before its first tile.
    front_bytes: usize,
    /// Bytes of the blob.
    blob_bytes: usize,
}

impl Layer {
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
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
        let parts = self.checksums.parts.iter();
        let parts = parts.map(|&(part, region)| (part, region.address, 4 * region.words as usize));
        let Form::Blob(BlobForm { front_bytes: front, blob_bytes, .. }) = self.form else {
            return parts.collect();
        };
        let blob = self.memory.address();
        let tiles = (LayerPart::Tile(0), blob + front as u64, blob_bytes - front);
        [(LayerPart::Front, blob, front), tiles].into_iter().chain(parts).collect()
    }

    /// Returns what launch plans depend on. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn plan_shape(&self) -> LayerShape {
        self.shape
    }

    /// Returns whether it is in the resident layout. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn is_resident(&self) -> bool {
        matches!(self.form, Form::Resident(_))
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
