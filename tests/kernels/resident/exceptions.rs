//! Products of exceptions. Does the same as `kernels-gpu/src/device/matmul/lean/exceptions.rs`.

use super::activations::Stage;
use super::matmul::{Matmul, Sums};
use crate::lanes::number;
use fused_rans::Dtype;
use fused_rans::layout::{LANES, ROW_CLASSES, SlabException, x_stage_columns};
use fused_rans_kernels::MmaType;

impl Matmul<'_> {
    /// Adds the products of those exceptions of a slab whose activations are in `stage`, which starts with place `first` of
    /// the tile. Each lane adds the exceptions of its class of rows.
    pub fn add_exceptions(
        &self,
        exceptions: &[SlabException],
        stage: &Stage,
        first: usize,
        sums: &mut Sums,
    ) {
        let places = first..first + x_stage_columns(self.octets);
        let here = exceptions.iter().filter(|one| places.contains(&one.place.into()));
        for (&exception, lane) in here.flat_map(|one| (0..LANES).map(move |lane| (one, lane))) {
            let (class, i) = (
                usize::from(exception.row) % ROW_CLASSES,
                usize::from(exception.row) / ROW_CLASSES,
            );
            if class != lane / 4 {
                continue;
            }
            let (place, sums) = (usize::from(exception.place) - first, &mut sums[i / 2]);
            for (octet, low) in (0..sums.len()).flat_map(|octet| [(octet, 0), (octet, 1)]) {
                let x = stage.get(8 * octet + 2 * (lane % 4) + low, place);
                sums[octet][lane][2 * (i % 2) + low] += self.product(exception, x);
            }
        }
    }

    /// Returns what an exception adds to the product of the weight that was decoded in its place. With an activation that is
    /// infinite, that product is, too: what counts then is the sign of the weight, and whether it is 0.
    fn product(&self, exception: SlabException, x: u16) -> f32 {
        let (magnitude, mma_type) = (x & 0x7FFF, self.layer.mma_type);
        let infinity = match mma_type {
            MmaType::Bf16 => 0x7F80,
            MmaType::F16 => 0x7C00,
        };
        let x = number(mma_type, x.into()) as f32;
        let (factor, weight) = (f32::from_bits(exception.difference), exception.weight);
        if magnitude < infinity || factor.is_nan() {
            return factor * x;
        }
        let (is_negative, is_zero) = match self.layer.format.dtype() {
            Dtype::Bf16 | Dtype::F16 => (weight >> 15 == 1, weight & 0x7FFF == 0),
            Dtype::F8E4M3 => (weight >> 7 & 1 == 1, weight & 0x7F == 0),
            Dtype::I8 if weight >> 8 != 0 => (weight >> 15 == 1, false),
            Dtype::I8 => (weight >> 7 == 1, weight == 0),
        };
        let sign = if is_negative { -1.0 } else { 1.0 };
        (if is_zero { 0.0 } else { sign }) * x
    }
}
