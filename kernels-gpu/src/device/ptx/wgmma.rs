//! `wgmma`: the four warps of a warpgroup multiply together, with both operands in shared memory.

use crate::MmaType;
use core::arch::asm;
use fused_rans_layout::{WEIGHT_PIECE_BYTES, activation_piece_bytes, piece_offset};

/// Accumulators of both halves of a panel of weights, 64 rows each, and `B` octets.
type Accumulators<const B: usize> = [[[f32; 4]; B]; 2];

/// The names of the accumulators of the upper or the lower half, for so many octets.
macro_rules! accumulators {
    (upper 8) => {
        "{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, {10}, {11}, {12}, {13}, {14}, {15}, {16}, \
        {17}, {18}, {19}, {20}, {21}, {22}, {23}, {24}, {25}, {26}, {27}, {28}, {29}, {30}, {31}"
    };
    (lower 8) => {
        "{32}, {33}, {34}, {35}, {36}, {37}, {38}, {39}, {40}, {41}, {42}, {43}, {44}, {45}, {46}, {47}, \
        {48}, {49}, {50}, {51}, {52}, {53}, {54}, {55}, {56}, {57}, {58}, {59}, {60}, {61}, {62}, {63}"
    };
    (upper 16) => {
        "{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, {10}, {11}, {12}, {13}, {14}, {15}, {16}, \
        {17}, {18}, {19}, {20}, {21}, {22}, {23}, {24}, {25}, {26}, {27}, {28}, {29}, {30}, {31}, {32}, \
        {33}, {34}, {35}, {36}, {37}, {38}, {39}, {40}, {41}, {42}, {43}, {44}, {45}, {46}, {47}, {48}, \
        {49}, {50}, {51}, {52}, {53}, {54}, {55}, {56}, {57}, {58}, {59}, {60}, {61}, {62}, {63}"
    };
    (lower 16) => {
        "{64}, {65}, {66}, {67}, {68}, {69}, {70}, {71}, {72}, {73}, {74}, {75}, {76}, {77}, {78}, {79}, \
        {80}, {81}, {82}, {83}, {84}, {85}, {86}, {87}, {88}, {89}, {90}, {91}, {92}, {93}, {94}, {95}, \
        {96}, {97}, {98}, {99}, {100}, {101}, {102}, {103}, {104}, {105}, {106}, {107}, {108}, {109}, \
        {110}, {111}, {112}, {113}, {114}, {115}, {116}, {117}, {118}, {119}, {120}, {121}, {122}, \
        {123}, {124}, {125}, {126}, {127}"
    };
}

/// Starts to multiply both halves of a panel of weights with a panel of activations, in four steps of 16 columns. Descriptors
/// count 16 bytes: the lower half starts 64 rows further, the second step of a piece 32 bytes further, the second pieces at
/// operands of their own.
macro_rules! multiply {
    (
        $shape:literal, $type:literal,
        [$weights:literal $second_weights:literal $x:literal $second_x:literal $accumulate:literal],
        $sums:ident, $operands:ident, $octets:tt [$($octet:literal)*]
    ) => {
        asm!(
            "{{ .reg .pred add; .reg .b64 below, a, x;",
            concat!("setp.ne.u32 add, ", $accumulate, ", 0;"),
            "wgmma.fence.sync.aligned;",
            concat!("add.s64 below, ", $weights, ", 256;"),
            concat!(multiply!(@ $shape $type upper $octets), $weights, ", ", $x, ", add, 1, 1, 0, 0;"),
            concat!(multiply!(@ $shape $type lower $octets), "below, ", $x, ", add, 1, 1, 0, 0;"),
            concat!("add.s64 a, ", $weights, ", 2; add.s64 below, ", $weights, ", 258; add.s64 x, ", $x, ", 2;"),
            concat!(multiply!(@ $shape $type upper $octets), "a, x, 1, 1, 1, 0, 0;"),
            concat!(multiply!(@ $shape $type lower $octets), "below, x, 1, 1, 1, 0, 0;"),
            concat!("add.s64 below, ", $second_weights, ", 256;"),
            concat!(multiply!(@ $shape $type upper $octets), $second_weights, ", ", $second_x, ", 1, 1, 1, 0, 0;"),
            concat!(multiply!(@ $shape $type lower $octets), "below, ", $second_x, ", 1, 1, 1, 0, 0;"),
            concat!("add.s64 a, ", $second_weights, ", 2; add.s64 below, ", $second_weights, ", 258;"),
            concat!("add.s64 x, ", $second_x, ", 2;"),
            concat!(multiply!(@ $shape $type upper $octets), "a, x, 1, 1, 1, 0, 0;"),
            concat!(multiply!(@ $shape $type lower $octets), "below, x, 1, 1, 1, 0, 0;"),
            "wgmma.commit_group.sync.aligned; }}",
            $(inout(reg32) $sums[0][$octet][0], inout(reg32) $sums[0][$octet][1],
                inout(reg32) $sums[0][$octet][2], inout(reg32) $sums[0][$octet][3],)*
            $(inout(reg32) $sums[1][$octet][0], inout(reg32) $sums[1][$octet][1],
                inout(reg32) $sums[1][$octet][2], inout(reg32) $sums[1][$octet][3],)*
            in(reg64) $operands.0[0], in(reg64) $operands.0[1], in(reg64) $operands.1[0],
            in(reg64) $operands.1[1], in(reg32) $operands.2, options(nostack)
        )
    };
    (@ $shape:literal $type:literal $half:ident $octets:tt) => {
        concat!("wgmma.mma_async.sync.aligned.", $shape, ".f32.", $type, ".", $type, " {{",
            accumulators!($half $octets), "}}, ")
    };
}

/// Waits, with accumulators as operands, which compilers do not move then.
macro_rules! wait {
    ($sums:ident, $octets:tt [$($octet:literal)*]) => {
        asm!(
            "wgmma.wait_group.sync.aligned 0;",
            concat!("// ", accumulators!(upper $octets), ", ", accumulators!(lower $octets)),
            $(inout(reg32) $sums[0][$octet][0], inout(reg32) $sums[0][$octet][1],
                inout(reg32) $sums[0][$octet][2], inout(reg32) $sums[0][$octet][3],)*
            $(inout(reg32) $sums[1][$octet][0], inout(reg32) $sums[1][$octet][1],
                inout(reg32) $sums[1][$octet][2], inout(reg32) $sums[1][$octet][3],)*
            options(nostack)
        )
    };
}

const _: () = assert!(WEIGHT_PIECE_BYTES / 2 / 16 == 256, "the lower half");

/// Waits for what [`start_products`] has started; `sums` are its accumulators.
///
/// # PTX
/// `wgmma.wait_group.sync.aligned`
#[inline(always)]
pub fn wait_products<const B: usize>(sums: &mut Accumulators<B>) {
    // SAFETY: register arithmetic of the whole warp.
    unsafe {
        match B {
            8 => wait!(sums, 8 [0 1 2 3 4 5 6 7]),
            _ => wait!(sums, 16 [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15]),
        }
    }
}

/// Starts to add the products of a panel of weights and a panel of activations to `sums`, or to replace these if not
/// `accumulate`. All warps of the warpgroup must call this together; `B` is 8 or 16.
///
/// # PTX
/// `wgmma.mma_async.sync.aligned.m64n{64, 128}k16.f32.{bf16.bf16, f16.f16}`, eight times, with `wgmma.fence` and
/// `wgmma.commit_group`
///
/// # Safety
/// Both are addresses of whole panels, aligned to eight rows of a piece. What wrote them is visible to the asynchronous proxy. Until
/// [`wait_products`], neither they nor `sums` are touched.
#[inline(always)]
pub unsafe fn start_products<const B: usize>(
    mma_type: MmaType,
    weights: u32,
    activations: u32,
    accumulate: bool,
    sums: &mut Accumulators<B>,
) {
    let pieces = |at: u32, bytes: u32| [descriptor(at), descriptor(at + bytes)];
    let weights = pieces(weights, WEIGHT_PIECE_BYTES);
    let operands = (weights, pieces(activations, activation_piece_bytes(B)), u32::from(accumulate));
    // SAFETY: the caller's promise.
    unsafe {
        match (B, mma_type) {
            (8, MmaType::Bf16) => {
                multiply!("m64n64k16", "bf16", ["{64}" "{65}" "{66}" "{67}" "{68}"], sums, operands,
                8 [0 1 2 3 4 5 6 7])
            }
            (8, MmaType::F16) => {
                multiply!("m64n64k16", "f16", ["{64}" "{65}" "{66}" "{67}" "{68}"], sums, operands,
                8 [0 1 2 3 4 5 6 7])
            }
            (_, MmaType::Bf16) => {
                multiply!("m64n128k16", "bf16", ["{128}" "{129}" "{130}" "{131}" "{132}"], sums, operands,
                16 [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15])
            }
            (_, MmaType::F16) => {
                multiply!("m64n128k16", "f16", ["{128}" "{129}" "{130}" "{131}" "{132}"], sums, operands,
                16 [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15])
            }
        }
    }
}

/// Returns the matrix descriptor of the piece at address `at`: its place, the distance of eight rows, 64-byte swizzle.
#[inline(always)]
fn descriptor(at: u32) -> u64 {
    u64::from(at >> 4 & 0x3FFF) | 1 << 16 | u64::from(piece_offset(8, 0) >> 4) << 32 | 2 << 62
}

/// Makes what this thread has stored in shared memory visible to `wgmma`.
///
/// # PTX
/// `fence.proxy.async.shared::cta`
#[inline(always)]
pub fn before_products() {
    // SAFETY: has no operands.
    unsafe { asm!("fence.proxy.async.shared::cta;", options(nostack)) };
}

/// Gives up the warpgroup's registers beyond `N` a thread. All its warps must call this together.
///
/// # PTX
/// `setmaxnreg.dec.sync.aligned.u32`
#[inline(always)]
pub fn give_registers<const N: u32>() {
    // SAFETY: the compiler of the machine code knows the number.
    unsafe { asm!("setmaxnreg.dec.sync.aligned.u32 {};", const N, options(nostack)) };
}

/// Takes registers that others give up, to have `N` a thread. All warps of the warpgroup must call this together.
///
/// # PTX
/// `setmaxnreg.inc.sync.aligned.u32`
#[inline(always)]
pub fn take_registers<const N: u32>() {
    // SAFETY: the compiler of the machine code knows the number.
    unsafe { asm!("setmaxnreg.inc.sync.aligned.u32 {};", const N, options(nostack)) };
}
