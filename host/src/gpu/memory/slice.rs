//! Device memory that is borrowed: operands of multiplications and copies.

use super::super::{Gpu, GpuError};
use std::marker::PhantomData;
use std::ops::Range;

/// Address and length of device memory, and the device it belongs to, if that is known.
#[derive(Clone, Copy, Debug)]
struct Place {
    address: u64,
    len: usize,
    /// Ordinal of the device; `None` for memory of other libraries, for which the driver is asked.
    device: Option<i32>,
}

impl Place {
    fn known(address: u64, len: usize, gpu: &Gpu) -> Self {
        Self { address, len, device: Some(gpu.ordinal()) }
    }

    fn slice(self, range: Range<usize>) -> Self {
        let Range { start, end } = range;
        assert!(start <= end && end <= self.len, "{start}..{end} of {} bytes", self.len);
        Self { address: self.address + start as u64, len: end - start, ..self }
    }

    /// Checks that the memory is `gpu`'s and starts at a multiple of `alignment` bytes; the context must be current.
    fn check(&self, gpu: &Gpu, what: &'static str, alignment: u64) -> Result<(), GpuError> {
        if self.len == 0 {
            return Ok(());
        }
        match self.device {
            Some(device) if device == gpu.ordinal() => {}
            Some(_) => return Err(GpuError::OtherDevice { what, expected: gpu.ordinal() }),
            None => gpu.check_address(what, self.address)?,
        }
        if !self.address.is_multiple_of(alignment) {
            return Err(GpuError::Misaligned { what, alignment });
        }
        Ok(())
    }
}

/// Defines what both kinds of slices have.
macro_rules! slice {
    ($name:ident, $what:literal) => {
        impl<'a> $name<'a> {
            pub(super) fn known(address: u64, len: usize, gpu: &'a Gpu) -> Self {
                Self { place: Place::known(address, len, gpu), borrowed: PhantomData }
            }

            /// Wraps device memory of another library. Functions that use the slice ask the driver whether its first
            /// byte belongs to the device.
            ///
            /// # Safety
            #[doc = $what]
            #[must_use]
            pub unsafe fn from_raw(address: u64, len: usize) -> Self {
                Self { place: Place { address, len, device: None }, borrowed: PhantomData }
            }

            /// Returns the address of the first byte.
            #[must_use]
            pub fn address(&self) -> u64 {
                self.place.address
            }

            /// Returns the number of bytes.
            #[must_use]
            pub fn len(&self) -> usize {
                self.place.len
            }

            /// Returns whether there are no bytes.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.place.len == 0
            }

            /// Returns the part at the byte offsets `range`.
            ///
            /// # Panics
            /// If `range` is not inside the slice.
            #[must_use]
            pub fn slice(self, range: Range<usize>) -> Self {
                Self { place: self.place.slice(range), borrowed: PhantomData }
            }

            /// Checks that the memory is `gpu`'s and starts at a multiple of `alignment` bytes; the context must be
            /// current.
            pub(in super::super) fn check(
                &self,
                gpu: &Gpu,
                what: &'static str,
                alignment: u64,
            ) -> Result<(), GpuError> {
                self.place.check(gpu, what, alignment)
            }
        }
    };
}

/// Borrowed device memory that is read.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSlice<'a> {
    place: Place,
    borrowed: PhantomData<&'a [u8]>,
}

/// Borrowed device memory that is written. Slices of the same buffer cannot overlap: split them with
/// [`DeviceSliceMut::split_at`].
#[derive(Debug)]
pub struct DeviceSliceMut<'a> {
    place: Place,
    borrowed: PhantomData<&'a mut [u8]>,
}

slice!(
    DeviceSlice,
    "There are `len` bytes of device memory at `address`, which are freed only after what is queued on them (as \
     `cuMemFree` does), and not before `'a` ends."
);
slice!(
    DeviceSliceMut,
    "There are `len` bytes of device memory at `address`, which are freed only after what is queued on them (as \
     `cuMemFree` does), and not before `'a` ends, until when nothing else uses them."
);

impl<'a> DeviceSliceMut<'a> {
    /// Borrows the memory for a shorter time. Use it to pass the slice on and use it again.
    #[must_use]
    pub fn reborrow(&mut self) -> DeviceSliceMut<'_> {
        DeviceSliceMut { place: self.place, borrowed: PhantomData }
    }

    /// Returns the first `at` bytes and the rest.
    ///
    /// # Panics
    /// If there are fewer bytes.
    #[must_use]
    pub fn split_at(self, at: usize) -> (Self, DeviceSliceMut<'a>) {
        let part = |range| Self { place: self.place.slice(range), borrowed: PhantomData };
        (part(0..at), part(at..self.place.len))
    }
}

impl<'a> From<DeviceSliceMut<'a>> for DeviceSlice<'a> {
    fn from(slice: DeviceSliceMut<'a>) -> Self {
        Self { place: slice.place, borrowed: PhantomData }
    }
}
