//! Where the parts of a layer lie in its memory.

use crate::resident::ResidentPlan;
use crate::{Blob, Epilogue};
use fused_rans_layout::{LINE, MAX_TAIL_ROWS, TABLE};

/// Alignment of each part.
pub const ALIGNMENT: usize = 256;

/// Bytes behind a blob that are zero: kernels believe a tile's tail lengths, as far as there may be tails.
pub const SPARE: usize = MAX_TAIL_ROWS * LINE;

/// Offsets of a layer's parts from the start of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionLayout {
    /// Bytes of the blob, which comes first; [`SPARE`] zeros follow it.
    pub blob_bytes: usize,
    /// The expanded decode table.
    pub table: usize,
    /// The table of the fused kernels, where they have one of their own.
    pub exponent_table: Option<usize>,
    /// A factor for each row.
    pub scale: Option<usize>,
    /// A summand for each row.
    pub bias: Option<usize>,
    /// Bytes in all.
    pub byte_len: usize,
}

impl RegionLayout {
    /// Returns the layout for a blob, with the scale and the bias of `epilogue`.
    pub fn new(blob: &Blob<'_>, epilogue: Epilogue<'_>) -> Self {
        let exponents = blob.frequencies().exponent_table(blob.split()).is_some();
        let scale = blob.row_scales().is_some() || epilogue.scale.is_some();
        Self::from_parts(
            blob.as_bytes().len(),
            blob.rows(),
            exponents,
            scale,
            epilogue.bias.is_some(),
        )
    }

    fn from_parts(
        blob_bytes: usize,
        rows: usize,
        exponents: bool,
        scale: bool,
        bias: bool,
    ) -> Self {
        let mut end = blob_bytes.saturating_add(SPARE);
        let mut part = |bytes: usize| {
            let start = end.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
            end = start.saturating_add(bytes);
            start
        };
        let table = part(4 * TABLE);
        let exponent_table = exponents.then(|| part(4 * TABLE));
        let scale = scale.then(|| part(rows.saturating_mul(4)));
        let bias = bias.then(|| part(rows.saturating_mul(4)));
        Self { blob_bytes, table, exponent_table, scale, bias, byte_len: end }
    }
}

/// Offsets of a resident layer's parts from the start of its memory. The slabs come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidentLayout {
    /// The entries of the slabs.
    pub index: usize,
    /// Scales and zero points of each slab.
    pub groups: Option<usize>,
    /// The expanded decode table.
    pub table: Option<usize>,
    /// The table with exponents in place, which all kernels read instead of the other where there is one.
    pub exponent_table: Option<usize>,
    /// A factor for each row.
    pub scale: Option<usize>,
    /// A summand for each row.
    pub bias: Option<usize>,
    /// Bytes in all.
    pub byte_len: usize,
}

impl ResidentLayout {
    /// Returns the layout for a blob that is to be resident, with the scale and the bias of `epilogue`.
    pub fn new(plan: &ResidentPlan<'_>, epilogue: Epilogue<'_>) -> Self {
        let blob = plan.blob();
        let exponents = blob.frequencies().exponent_table(blob.split()).is_some();
        let has_scale = blob.row_scales().is_some() || epilogue.scale.is_some();
        let mut end = plan.slab_bytes();
        let mut part = |bytes: usize| {
            let start = end.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
            end = start.saturating_add(bytes);
            start
        };
        let index = part(size_of_val(plan.index()));
        let groups = blob.groups().map(|_| part(plan.group_bytes()));
        let table = (!exponents).then(|| part(4 * TABLE));
        let exponent_table = exponents.then(|| part(4 * TABLE));
        let scale = has_scale.then(|| part(blob.rows().saturating_mul(4)));
        let bias = epilogue.bias.map(|_| part(blob.rows().saturating_mul(4)));
        Self { index, groups, table, exponent_table, scale, bias, byte_len: end }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::tests::layer;
    use super::*;

    #[test]
    fn parts_are_aligned_and_do_not_overlap() {
        for (blob_bytes, rows) in [(1280, 1), (1 << 20, 4097), (128, 64)] {
            for bits in 0..8 {
                let [exponents, scale, bias] = [1, 2, 4].map(|bit| bits & bit != 0);
                let layout = RegionLayout::from_parts(blob_bytes, rows, exponents, scale, bias);
                let parts = [
                    (Some(layout.table), 4 * TABLE),
                    (layout.exponent_table, 4 * TABLE),
                    (layout.scale, 4 * rows),
                    (layout.bias, 4 * rows),
                ];
                let mut end = blob_bytes + SPARE;
                for (start, bytes) in parts {
                    let Some(start) = start else { continue };
                    assert!(start >= end && start < end + ALIGNMENT && start % ALIGNMENT == 0);
                    end = start + bytes;
                }
                assert_eq!(end, layout.byte_len);
                assert_eq!(layout.exponent_table.is_some(), exponents);
                assert_eq!([layout.scale.is_some(), layout.bias.is_some()], [scale, bias]);
            }
        }
    }

    #[test]
    fn sizes_that_overflow_are_larger_than_any_memory() {
        let layout = RegionLayout::from_parts(usize::MAX - 10, usize::MAX, true, true, true);
        assert_eq!(layout.byte_len, usize::MAX);
    }

    #[test]
    fn parts_of_resident_layers_are_aligned_and_do_not_overlap() {
        let numbers = [1.0; 300];
        for (rows, cols, groups) in
            [(1, 1, false), (1, 1, true), (300, 257, false), (257, 300, true)]
        {
            let blob = layer(rows, cols, groups);
            let plan = ResidentPlan::new(&blob).unwrap();
            for [scale, bias] in [[false, false], [false, true], [true, false], [true, true]] {
                let [scale, bias] = [scale, bias].map(|given| given.then_some(&numbers[..rows]));
                let layout = ResidentLayout::new(&plan, Epilogue { scale, bias });
                let parts = [
                    (Some(layout.index), 8 * plan.index().len()),
                    (layout.groups, plan.group_bytes()),
                    (layout.table, 4 * TABLE),
                    (layout.exponent_table, 4 * TABLE),
                    (layout.scale, 4 * rows),
                    (layout.bias, 4 * rows),
                ];
                let mut end = plan.slab_bytes();
                for (start, bytes) in parts {
                    let Some(start) = start else { continue };
                    assert!(start >= end && start < end + ALIGNMENT && start % ALIGNMENT == 0);
                    end = start + bytes;
                }
                assert_eq!(end, layout.byte_len);
                assert_eq!(
                    [layout.scale.is_some(), layout.bias.is_some()],
                    [scale, bias].map(|x| x.is_some())
                );
                assert_eq!(layout.groups.is_some(), groups);
            }
        }
    }
}
