//! Decoding a layer.

use super::super::kernels::{LaunchSize, decode_shared_memory};
use super::super::{CudaStream, DeviceSliceMut, GpuError};
use super::{Form, Layer};
use crate::BlobError;
use crate::blob::header::check_size;
use crate::codec::parallel_crc;
use fused_rans_layout::{DecodeArgs, SLAB_ROWS, TILE_THREADS};

/// Alignment of the decoded matrix, for stores of several weights at once.
const ALIGNMENT: u64 = 16;

impl Layer {
    /// Decodes the layer to row-major weights in `out` and waits until that is done. Use it to multiply with a dense
    /// kernel, which is faster above 64 rows of activations. The weights have no scales applied, and only the low bytes
    /// of [large integers](crate::Blob::large_integers).
    ///
    /// # Errors
    /// [`GpuError::OtherDevice`] and [`GpuError::Misaligned`] for memory that is not the device's or does not start at
    /// a multiple of 16 bytes, [`BlobError::BufferSize`] (in [`GpuError::Blob`]) if it is not
    /// [`Layer::decoded_byte_len`] long; [`GpuError::OutOfMemory`] and [`GpuError::Driver`].
    pub fn decode(
        &self,
        out: DeviceSliceMut<'_>,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        // SAFETY: the layer and `out` are borrowed until the work has been waited for.
        unsafe { self.queue_decode(out, cuda_stream)? };
        cuda_stream.synchronize()
    }

    /// Decodes the layer on the device, copies the weights to host memory and verifies their checksum. Use it in tests
    /// of the whole path.
    ///
    /// # Errors
    /// See [`Layer::decode`]; [`BlobError::WeightsChecksum`] (in [`GpuError::Blob`]) if the weights differ.
    pub fn decode_to_bytes(&self) -> Result<Vec<u8>, GpuError> {
        let mut buffer = self.gpu.alloc(self.decoded_byte_len())?;
        self.decode(buffer.as_mut_slice(), &self.gpu.internal_stream())?;
        let weights = buffer.to_vec()?;
        if parallel_crc(&weights) != self.weights_crc {
            return Err(BlobError::WeightsChecksum.into());
        }
        Ok(weights)
    }

    /// Queues the work of [`Layer::decode`] on a CUDA stream and returns. Use it to overlap decoding with work of the
    /// host.
    ///
    /// # Errors
    /// See [`Layer::decode`]. What fails on the device is reported by a later call.
    ///
    /// # Safety
    /// Until the work is done, `out` is used by nothing that is not ordered after it, and neither it nor the layer is
    /// freed in another way than by dropping its buffer or the layer.
    pub unsafe fn queue_decode(
        &self,
        out: DeviceSliceMut<'_>,
        cuda_stream: &CudaStream,
    ) -> Result<(), GpuError> {
        self.check_stream(cuda_stream)?;
        self.gpu.enter()?;
        out.check(&self.gpu, "the buffer to decode to", ALIGNMENT)?;
        check_size(self.dtype().byte_len(), self.rows(), self.cols(), out.len())?;
        let kernel = self.gpu.decode_kernel(self.decode_kernel)?;
        self.ready.order(cuda_stream)?;
        match &self.form {
            Form::Blob(blob) => {
                let args = DecodeArgs { out: out.address(), ..blob.decode_args };
                let size = LaunchSize {
                    blocks: blob.tiles,
                    threads: TILE_THREADS as u32,
                    shared_memory: decode_shared_memory(args.buffer_rows),
                };
                // SAFETY: the decode kernels take these arguments; the blob's structure was checked when it was
                // uploaded, `out` is as large as the matrix, and the rest is the caller's promise.
                unsafe { kernel.launch(size, &args, cuda_stream) }
            }
            Form::Resident(form) => {
                let slabs = self.rows().div_ceil(SLAB_ROWS) * self.shape.grid.across();
                let size = form.decode_size(&self.gpu, slabs as u32)?;
                // SAFETY: as above; the resident layout is the host's own.
                unsafe { kernel.launch(size, &form.decode_args(out.address()), cuda_stream) }
            }
        }
    }
}
