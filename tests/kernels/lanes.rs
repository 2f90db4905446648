//! Registers of a warp's 32 lanes, for the tests that run kernels on the CPU: MMA fragments, and the scales and zero
//! points of groups.

use fused_rans::layout::{FRAGMENT, GroupPlane, LANES, SLAB_STRIPS, TABLE, TableKind};
use fused_rans::{Blob, Dtype};
use fused_rans_kernels::{IntegerOffset, MmaType, WeightFormat};
use half::{bf16, f16};

/// A value per lane: a register, or several.
pub type OfLanes<T> = [T; LANES];

/// An A fragment of all lanes.
pub type Operands = OfLanes<[u32; 4]>;

/// Number of words of all lanes, four per lane.
pub const QUADS: usize = 4 * LANES;

/// Returns the types of operands that there are kernels for.
pub fn mma_types(dtype: Dtype) -> &'static [MmaType] {
    match dtype {
        Dtype::Bf16 => &[MmaType::Bf16],
        Dtype::F16 => &[MmaType::F16],
        Dtype::F8E4M3 | Dtype::I8 => &[MmaType::Bf16, MmaType::F16],
    }
}

/// Returns every table that kernels decode `blob` with, and the format of the weights with that table.
pub fn tables(blob: &Blob<'_>) -> Vec<(WeightFormat, Box<[u32; TABLE]>)> {
    let (frequencies, split) = (blob.frequencies(), blob.split());
    let boxed = |table: Vec<u32>| table.try_into().expect("an entry for each slot");
    let plain = (WeightFormat::from(split), boxed(frequencies.kernel_table(split)));
    let exponents = frequencies.exponent_table(split);
    let exponents =
        exponents.map(|table| (WeightFormat::from_split(split, TableKind::Exponent), boxed(table)));
    [plain].into_iter().chain(exponents).collect()
}

/// Converts the low half of an operand.
pub fn number(mma_type: MmaType, bits: u32) -> f64 {
    match mma_type {
        MmaType::Bf16 => bf16::from_bits(bits as u16).to_f64(),
        MmaType::F16 => f16::from_bits(bits as u16).to_f64(),
    }
}

/// The rows of an A fragment.
pub struct Rows([[f64; FRAGMENT]; FRAGMENT]);

impl Rows {
    /// Collects the rows from the lanes' registers, where the PTX ISA says that `mma.sync.aligned.m16n8k16` takes them from.
    pub fn new(mma_type: MmaType, a: &Operands) -> Self {
        let mut rows = [[0.0; FRAGMENT]; FRAGMENT];
        for (lane, half) in (0..LANES).flat_map(|lane| [(lane, 0), (lane, 1)]) {
            let (g, t) = (lane / 4, lane % 4);
            let (low, high) = (2 * t + half, 2 * t + 8 + half);
            let [a0, a1, a2, a3] =
                a[lane].map(|register| number(mma_type, register >> (16 * half)));
            (rows[g][low], rows[g + 8][low]) = (a0, a1);
            (rows[g][high], rows[g + 8][high]) = (a2, a3);
        }
        Self(rows)
    }

    /// Returns what `mma.sync.aligned.m16n8k16` adds to the lanes' D registers for B fragment `b`: exact products, added
    /// in F64.
    pub fn multiply(&self, mma_type: MmaType, b: &OfLanes<[u32; 2]>) -> OfLanes<[f64; 4]> {
        let mut cols = [[0.0; FRAGMENT]; 8];
        for (lane, half) in (0..LANES).flat_map(|lane| [(lane, 0), (lane, 1)]) {
            let (g, t) = (lane / 4, lane % 4);
            [cols[g][2 * t + half], cols[g][2 * t + 8 + half]] =
                b[lane].map(|register| number(mma_type, register >> (16 * half)));
        }
        core::array::from_fn(|lane| {
            let (g, t) = (lane / 4, lane % 4);
            core::array::from_fn(|i| {
                let (row, col) = (&self.0[g + i / 2 * 8], &cols[2 * t + i % 2]);
                row.iter().zip(col).map(|(a, b)| a * b).sum()
            })
        })
    }
}

/// A lane's scales and zero points of a group: those of rows g and g + 8 of both strips.
#[derive(Clone, Copy)]
pub struct Group {
    /// Scales.
    pub scales: [[f64; 2]; SLAB_STRIPS],
    /// Offsets of integers, by zero point.
    pub offsets: [[IntegerOffset; 2]; SLAB_STRIPS],
}

impl Group {
    /// Returns group `number` of a slab for every lane. `stored` holds the slab's scales and zero points, if there are any:
    /// in a `plane`. Reads the bytes that the device reads.
    pub fn of_lanes(
        mma_type: MmaType,
        format: &WeightFormat,
        plane: Option<GroupPlane>,
        stored: &[u8],
        number: usize,
    ) -> OfLanes<Self> {
        let offset = |half, zero| match format.dtype() {
            Dtype::I8 => IntegerOffset::new(mma_type, format, half == 1, zero),
            _ => IntegerOffset::default(),
        };
        let offsets = [[offset(0, 0), offset(1, 0)]; SLAB_STRIPS];
        let mut group = Self { scales: [[1.0; 2]; SLAB_STRIPS], offsets };
        core::array::from_fn(|lane| {
            let Some(plane) = plane else { return group };
            let (scales, zeros) = stored.split_at(GroupPlane::SCALE_BYTES);
            let (at, g) = (16 * (lane / 4) + 8 * number, lane / 4);
            for (strip, half) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let scale = scales[at + 4 * strip + 2 * half..].first_chunk().expect("16 bits");
                group.scales[strip][half] = f16::from_le_bytes(*scale).to_f64();
                // Two of every four bytes belong to this group.
                let zeros = if plane.zeros { zeros[4 * g + 2 * number + strip] } else { 0x88 };
                group.offsets[strip][half] = offset(half, i32::from(zeros >> (4 * half) & 15) - 8);
            }
            group
        })
    }
}
