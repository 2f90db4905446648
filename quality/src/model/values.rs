//! Slices of the values of F32 tensors.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};

/// Calls `read` with the values of a contiguous F32 tensor.
pub(crate) fn read<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            Ok(read(&values[start..end]))
        }
        _ => bail!("a contiguous F32 tensor on the CPU was expected"),
    }
}

/// Calls `edit` with the values of a contiguous F32 tensor, to change them in place. Tensors that share the values change,
/// too.
pub(crate) fn edit(tensor: &Tensor, edit: impl Fn(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&Edit(edit))
}

/// An operation that changes values in place.
struct Edit<F>(F);

impl<F: Fn(&mut [f32])> InplaceOp1 for Edit<F> {
    fn name(&self) -> &'static str {
        "edit"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((start, end))) => {
                (self.0)(&mut values[start..end]);
                Ok(())
            }
            _ => bail!("a contiguous F32 tensor on the CPU was expected"),
        }
    }
}
