//! The table of kernels: every kernel that is built, once, for the host and for the device.
//!
//! [`kernel_table!`] has the rows, [`kernel_name!`] spells the names. The device crate expands the table to
//! kernels, this module expands it to the rows that a [`KernelId`] points to. A new kernel is a new row.

use crate::{Dtype, TableKind, WeightsPerSymbol};

/// Calls `$expand!` with the table of kernels.
///
/// - `decode`: name of the weights, their type, entries of their decode table.
/// - `decode_resident`: the same, of kernels for resident layers only.
/// - `dense`: types of the operands.
/// - `matmul`: name of the weights, their type, their raw bits (of floats 0: the type has them), entries of their
///   decode table, whether groups have scales, types of activations that there are kernels for.
/// - `rows`: most rows of x that a kernel takes; every row of `matmul` has a kernel for each, and one that writes
///   out A fragments.
/// - `widest`: most rows of x of one more kernel of each row of `matmul` without groups, for resident layers.
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_table {
    ($expand:ident) => {
        $expand! {
            decode: [
                "bf16" Bf16 Plain,
                "f16" F16 Plain,
                "f8_e4m3" F8E4M3 Plain,
                "i8" I8 Plain,
                "i8_x4" I8 FourWeight,
            ]
            decode_resident: [
                "bf16_exponents" Bf16 Exponent,
                "f16_exponents" F16 Exponent,
            ]
            dense: [Bf16 F16]
            matmul: [
                "bf16" Bf16 0 Exponent false [Bf16],
                "bf16_plain" Bf16 0 Plain false [Bf16],
                "f16" F16 0 Exponent false [F16],
                "f16_plain" F16 0 Plain false [F16],
                "f8" F8E4M3 0 Plain false [Bf16 F16],
                "i4" I8 0 Plain true [Bf16 F16],
                "i4_x4" I8 2 FourWeight true [Bf16 F16],
                "i8_r0" I8 0 Plain false [Bf16 F16],
                "i8_r1" I8 1 Plain false [Bf16 F16],
                "i8_r2" I8 2 Plain false [Bf16 F16],
                "i8_r3" I8 3 Plain false [Bf16 F16],
                "i8_r4" I8 4 Plain false [Bf16 F16],
                "i8_x4_r2" I8 2 FourWeight false [Bf16 F16],
                "i8_x4_r3" I8 3 FourWeight false [Bf16 F16],
                "i8_x4_r4" I8 4 FourWeight false [Bf16 F16],
                "i8_x4_r5" I8 5 FourWeight false [Bf16 F16],
            ]
            rows: [8 16 32 64]
            widest: 128
        }
    };
}

/// Spells the name of a kernel of [`kernel_table!`], as a literal.
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_name {
    (checksum) => {
        "checksum"
    };
    (pack) => {
        "pack"
    };
    (decode $weights:literal) => {
        concat!("decode_", $weights)
    };
    (dense $activations:ident) => {
        concat!("dense_", $crate::kernel_name!(@ $activations))
    };
    (matmul $weights:literal $activations:ident $rows:literal) => {
        concat!("matmul_", $weights, "_", $crate::kernel_name!(@ $activations), "_m", $rows)
    };
    (fragments $weights:literal $activations:ident) => {
        concat!("fragments_", $weights, "_", $crate::kernel_name!(@ $activations))
    };
    (@ Bf16) => {
        "bf16"
    };
    (@ F16) => {
        "f16"
    };
}

/// Type of the activations that a kernel multiplies with, and so of its MMA operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationType {
    /// bfloat16.
    Bf16,
    /// IEEE binary16.
    F16,
}

/// Coding of the weights that a matmul kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightCoding {
    /// Type of the weights.
    pub dtype: Dtype,
    /// Raw bits of I8 weights; 0 for other types, which have a fixed number.
    pub raw_bits: u8,
    /// Entries of the decode table.
    pub table: TableKind,
    /// Whether groups of weights have scales.
    pub grouped: bool,
}

impl WeightCoding {
    /// Returns the coding of a layer with these properties. `exponent_table` says whether the decode table of BF16 or
    /// F16 weights has [`ExponentEntry`](crate::ExponentEntry)s.
    #[must_use]
    pub const fn new(
        dtype: Dtype,
        raw_bits: u8,
        weights_per_symbol: WeightsPerSymbol,
        exponent_table: bool,
        grouped: bool,
    ) -> Self {
        let (raw_bits, table) = match (dtype, weights_per_symbol) {
            (Dtype::I8, WeightsPerSymbol::Two) => (raw_bits, TableKind::Plain),
            (Dtype::I8, WeightsPerSymbol::Four) => (raw_bits, TableKind::FourWeight),
            (Dtype::Bf16 | Dtype::F16, _) if exponent_table => (0, TableKind::Exponent),
            _ => (0, TableKind::Plain),
        };
        Self { dtype, raw_bits, table, grouped }
    }

    const fn equals(self, other: Self) -> bool {
        self.dtype as u8 == other.dtype as u8
            && self.raw_bits == other.raw_bits
            && self.table as u8 == other.table as u8
            && self.grouped == other.grouped
    }
}

/// What a kernel does, and for which types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelFamily {
    /// Verifies checksums; takes [`ChecksumArgs`](crate::ChecksumArgs).
    Checksum,
    /// Packs activations for the wide kernels; takes [`PackArgs`](crate::PackArgs).
    Pack,
    /// Decodes a layer to row-major weights; takes [`DecodeArgs`](crate::DecodeArgs).
    Decode {
        /// Type of the weights.
        dtype: Dtype,
        /// Entries of the decode table.
        table: TableKind,
    },
    /// Multiplies with weights that are not compressed; takes [`DenseArgs`](crate::DenseArgs).
    Dense {
        /// Type of both operands.
        activations: ActivationType,
    },
    /// Multiplies with a compressed layer; takes [`MatmulArgs`](crate::MatmulArgs).
    Matmul {
        /// Coding of the layer's weights.
        weights: WeightCoding,
        /// Type of the activations.
        activations: ActivationType,
        /// Most rows of x that the kernel takes, in octets.
        octets: u32,
    },
    /// Writes a layer's A fragments, for tests; takes [`MatmulArgs`](crate::MatmulArgs).
    Fragments {
        /// Coding of the layer's weights.
        weights: WeightCoding,
        /// Type of the activations.
        activations: ActivationType,
    },
}

impl KernelFamily {
    const fn equals(self, other: Self) -> bool {
        match (self, other) {
            (Self::Checksum, Self::Checksum) | (Self::Pack, Self::Pack) => true,
            (Self::Decode { dtype, table }, Self::Decode { dtype: d, table: t }) => {
                dtype as u8 == d as u8 && table as u8 == t as u8
            }
            (Self::Dense { activations }, Self::Dense { activations: a }) => {
                activations as u8 == a as u8
            }
            (
                Self::Matmul { weights, activations, octets },
                Self::Matmul { weights: w, activations: a, octets: o },
            ) => weights.equals(w) && activations as u8 == a as u8 && octets == o,
            (
                Self::Fragments { weights, activations },
                Self::Fragments { weights: w, activations: a },
            ) => weights.equals(w) && activations as u8 == a as u8,
            _ => false,
        }
    }
}

/// A kernel of the table. Use [`KernelId::index`] to keep what the driver made of each in an array of
/// [`KernelId::COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelId(u8);

/// A row of the expanded table.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    family: KernelFamily,
}

/// Kernels of a coding and a type of activations: one for each number of rows, and one for fragments.
macro_rules! rows_of_coding {
    ($name:literal $dtype:ident $raw_bits:literal $table:ident $grouped:tt $activations:ident [$($rows:literal)*]) => {{
        let weights = WeightCoding {
            dtype: Dtype::$dtype,
            raw_bits: $raw_bits,
            table: TableKind::$table,
            grouped: $grouped,
        };
        let activations = ActivationType::$activations;
        [
            $(Row {
                name: kernel_name!(matmul $name $activations $rows),
                family: KernelFamily::Matmul { weights, activations, octets: $rows / 8 },
            },)*
            Row {
                name: kernel_name!(fragments $name $activations),
                family: KernelFamily::Fragments { weights, activations },
            },
        ]
    }};
}

/// The kernel of a coding without groups, and a type of activations, that takes most rows of x.
macro_rules! widest_row {
    ($name:literal $dtype:ident $raw_bits:literal $table:ident true $activations:ident $rows:literal) => {
        None
    };
    ($name:literal $dtype:ident $raw_bits:literal $table:ident false $activations:ident $rows:literal) => {
        Some(Row {
            name: kernel_name!(matmul $name $activations $rows),
            family: KernelFamily::Matmul {
                weights: WeightCoding {
                    dtype: Dtype::$dtype,
                    raw_bits: $raw_bits,
                    table: TableKind::$table,
                    grouped: false,
                },
                activations: ActivationType::$activations,
                octets: $rows / 8,
            },
        })
    };
}

/// Expands the table to rows.
macro_rules! rows {
    (
        decode: [$($weights:literal $type:ident $entries:ident,)*]
        decode_resident: [$($resident_weights:literal $resident_type:ident $resident_entries:ident,)*]
        dense: [$($operands:ident)*]
        matmul: [$(
            $name:literal $dtype:ident $raw_bits:literal $table:ident $grouped:tt [$($activations:ident)*],
        )*]
        rows: $rows:tt
        widest: $widest:literal
    ) => {
        const OTHERS: &[Row] = &[
            Row { name: kernel_name!(checksum), family: KernelFamily::Checksum },
            Row { name: kernel_name!(pack), family: KernelFamily::Pack },
            $(Row {
                name: kernel_name!(decode $weights),
                family: KernelFamily::Decode { dtype: Dtype::$type, table: TableKind::$entries },
            },)*
            $(Row {
                name: kernel_name!(decode $resident_weights),
                family: KernelFamily::Decode {
                    dtype: Dtype::$resident_type,
                    table: TableKind::$resident_entries,
                },
            },)*
            $(Row {
                name: kernel_name!(dense $operands),
                family: KernelFamily::Dense { activations: ActivationType::$operands },
            },)*
        ];
        const CODINGS: &[[Row; 5]] = &[$($(
            rows_of_coding!($name $dtype $raw_bits $table $grouped $activations $rows),
        )*)*];
        const MATMUL: &[Row] = CODINGS.as_flattened();
        const WIDEST: &[Option<Row>] = &[$($(
            widest_row!($name $dtype $raw_bits $table $grouped $activations $widest),
        )*)*];
    };
}

kernel_table!(rows);

static ROWS: [Row; KernelId::COUNT] = {
    let mut rows = [OTHERS[0]; KernelId::COUNT];
    let (others, rest) = rows.split_at_mut(OTHERS.len());
    others.copy_from_slice(OTHERS);
    let (matmul, widest) = rest.split_at_mut(MATMUL.len());
    matmul.copy_from_slice(MATMUL);
    let (mut coding, mut number) = (0, 0);
    while coding < WIDEST.len() {
        if let Some(row) = WIDEST[coding] {
            widest[number] = row;
            number += 1;
        }
        coding += 1;
    }
    assert!(number == widest.len());
    rows
};

/// Number of kernels for most rows of x.
const WIDEST_COUNT: usize = {
    let (mut coding, mut count) = (0, 0);
    while coding < WIDEST.len() {
        count += WIDEST[coding].is_some() as usize;
        coding += 1;
    }
    count
};

impl KernelId {
    /// Number of kernels.
    pub const COUNT: usize = OTHERS.len() + MATMUL.len() + WIDEST_COUNT;

    /// Returns the kernel that verifies checksums.
    #[must_use]
    pub const fn checksum() -> Self {
        const { Self::find(KernelFamily::Checksum).unwrap() }
    }

    /// Returns the kernel that packs activations for the wide kernels.
    #[must_use]
    pub const fn pack() -> Self {
        const { Self::find(KernelFamily::Pack).unwrap() }
    }

    /// Returns the kernel that decodes weights of type `dtype`; `None` if there is none.
    #[must_use]
    pub const fn decode(dtype: Dtype, weights_per_symbol: WeightsPerSymbol) -> Option<Self> {
        let table = match weights_per_symbol {
            WeightsPerSymbol::Two => TableKind::Plain,
            WeightsPerSymbol::Four => TableKind::FourWeight,
        };
        Self::find(KernelFamily::Decode { dtype, table })
    }

    /// Returns the kernel that decodes resident layers of this coding; `None` if there is none.
    #[must_use]
    pub const fn decode_resident(weights: WeightCoding) -> Option<Self> {
        Self::find(KernelFamily::Decode { dtype: weights.dtype, table: weights.table })
    }

    /// Returns the kernel that multiplies uncompressed weights and activations of this type.
    #[must_use]
    pub const fn dense(activations: ActivationType) -> Self {
        const BF16: KernelId =
            KernelId::find(KernelFamily::Dense { activations: ActivationType::Bf16 }).unwrap();
        const F16: KernelId =
            KernelId::find(KernelFamily::Dense { activations: ActivationType::F16 }).unwrap();
        match activations {
            ActivationType::Bf16 => BF16,
            ActivationType::F16 => F16,
        }
    }

    /// Returns the kernel that multiplies a layer with at most `octets` (1, 2, 4, 8 or 16) times 8 rows of x; `None`
    /// if there is none.
    #[must_use]
    pub const fn matmul(
        weights: WeightCoding,
        activations: ActivationType,
        octets: u32,
    ) -> Option<Self> {
        Self::find(KernelFamily::Matmul { weights, activations, octets })
    }

    /// Returns the kernel that writes a layer's A fragments; `None` if there is none.
    #[must_use]
    pub const fn fragments(weights: WeightCoding, activations: ActivationType) -> Option<Self> {
        Self::find(KernelFamily::Fragments { weights, activations })
    }

    const fn find(family: KernelFamily) -> Option<Self> {
        let mut index = 0;
        while index < Self::COUNT {
            if ROWS[index].family.equals(family) {
                return Some(Self(index as u8));
            }
            index += 1;
        }
        None
    }

    /// Returns all kernels.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        const { assert!(Self::COUNT <= u8::MAX as usize) };
        (0..Self::COUNT as u8).map(Self)
    }

    /// Returns the name of the kernel in the PTX.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        ROWS[self.index()].name
    }

    /// Returns what the kernel does, and for which types.
    #[must_use]
    pub const fn family(&self) -> KernelFamily {
        ROWS[self.index()].family
    }

    /// Returns the kernel's number, below [`KernelId::COUNT`].
    #[must_use]
    pub const fn index(&self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::Split;
    use std::{collections::BTreeSet, vec::Vec};

    #[test]
    fn every_kernel_has_a_name_of_its_own_and_is_found_by_what_it_does() {
        let names: BTreeSet<_> = KernelId::all().map(|kernel| kernel.name()).collect();
        assert_eq!(names.len(), KernelId::COUNT);
        for (index, kernel) in KernelId::all().enumerate() {
            assert_eq!(kernel.index(), index);
            assert_eq!(KernelId::find(kernel.family()), Some(kernel), "{}", kernel.name());
        }
    }

    #[test]
    fn names_say_what_kernels_do() {
        let name = |kernel: Option<KernelId>| kernel.unwrap().name();
        assert_eq!(KernelId::checksum().name(), "checksum");
        assert_eq!(KernelId::dense(ActivationType::F16).name(), "dense_f16");
        assert_eq!(name(KernelId::decode(Dtype::I8, WeightsPerSymbol::Four)), "decode_i8_x4");
        let two = WeightsPerSymbol::Two;
        let floats = WeightCoding::new(Dtype::Bf16, 8, two, false, false);
        let fragments = KernelId::fragments(floats, ActivationType::Bf16);
        assert_eq!(name(fragments), "fragments_bf16_plain_bf16");
        let integers = WeightCoding::new(Dtype::I8, 3, WeightsPerSymbol::Four, false, false);
        let matmul = KernelId::matmul(integers, ActivationType::F16, 4);
        assert_eq!(name(matmul), "matmul_i8_x4_r3_f16_m32");
    }

    /// Codings of all layers that a blob can hold.
    fn layers() -> Vec<WeightCoding> {
        let (two, mut all) = (WeightsPerSymbol::Two, Vec::new());
        for exponent_table in [false, true] {
            for (dtype, raw_bits) in [(Dtype::Bf16, 8), (Dtype::F16, 11)] {
                all.push(WeightCoding::new(dtype, raw_bits, two, exponent_table, false));
            }
        }
        all.push(WeightCoding::new(Dtype::F8E4M3, 4, two, false, false));
        for weights_per_symbol in WeightsPerSymbol::ALL {
            for split in Split::all_i8(weights_per_symbol) {
                let coding = |grouped| {
                    WeightCoding::new(
                        Dtype::I8,
                        split.raw_bits(),
                        weights_per_symbol,
                        false,
                        grouped,
                    )
                };
                all.push(coding(false));
                // Groups have integers of four bits.
                all.extend((split.half_range() == 8).then(|| coding(true)));
            }
        }
        all
    }

    #[test]
    fn every_layer_has_its_kernels() {
        let mut found = BTreeSet::from([KernelId::checksum(), KernelId::pack()]);
        for activations in [ActivationType::Bf16, ActivationType::F16] {
            found.insert(KernelId::dense(activations));
            for weights in layers() {
                found.insert(KernelId::decode_resident(weights).expect("every layer is decoded"));
                let other_float = matches!(
                    (weights.dtype, activations),
                    (Dtype::Bf16, ActivationType::F16) | (Dtype::F16, ActivationType::Bf16)
                );
                let kernels = [1, 2, 4, 8].map(|n| KernelId::matmul(weights, activations, n));
                let fragments = KernelId::fragments(weights, activations);
                for kernel in kernels.into_iter().chain([fragments]) {
                    assert_eq!(kernel.is_none(), other_float, "{weights:?} {activations:?}");
                    found.extend(kernel);
                }
                let widest = KernelId::matmul(weights, activations, 16);
                assert_eq!(widest.is_none(), other_float || weights.grouped);
                found.extend(widest);
            }
        }
        for dtype in Dtype::ALL {
            let kernels = WeightsPerSymbol::ALL.map(|n| KernelId::decode(dtype, n));
            assert!(kernels[0].is_some() && kernels[1].is_some() == (dtype == Dtype::I8));
            found.extend(kernels.into_iter().flatten());
        }
        assert!(found.into_iter().eq(KernelId::all()), "a kernel that no layer needs");
    }
}
