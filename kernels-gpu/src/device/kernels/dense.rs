//! Multiplication with weights that are not compressed: what benchmarks compare with where there is
//! no cuBLAS.
//!
//! y = x W^T in F32, for W of `rows` x `cols` and x of `m` x `cols`, row-major without gaps. A warp takes a
//! row of W; blocks have [`THREADS`] threads, so 8 rows. It is bound by memory up to 8 rows of x, which
//! are multiplied with a row of W as it comes in; more rows of x take another pass over it each 8.

use crate::MmaType;
use crate::device::ptx::{block, f16_to_f32, lane, load_global, warp};
use crate::unrolled;
use core::arch::global_asm;
use fused_rans_layout::LANES;

/// Threads of a block.
const THREADS: usize = 256;
/// Numbers of a 16-byte load.
const VECTOR: usize = 8;

/// What a kernel is launched with.
struct Arguments {
    w: *const u16,
    x: *const u16,
    y: *mut f32,
    rows: usize,
    cols: usize,
    m: usize,
}

macro_rules! kernel {
    ($name:ident, $operand:expr) => {
        global_asm!(
            concat!("// entry-directives ", stringify!($name), ": .maxntid {} .minnctapersm 2"),
            const THREADS
        );

        /// See [`run`].
        ///
        /// # Safety
        /// The matrices are as large as `rows`, `cols` and `m` say, and y is nobody else's.
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $name(
            w: *const u16,
            x: *const u16,
            y: *mut f32,
            rows: u32,
            cols: u32,
            m: u32,
        ) {
            let (rows, cols, m) = (rows as usize, cols as usize, m as usize);
            // SAFETY: the caller's promise.
            unsafe { run($operand, &Arguments { w, x, y, rows, cols, m }) };
        }
    };
}

kernel!(dense_bf16, MmaType::Bf16);
kernel!(dense_f16, MmaType::F16);

/// The warp's row of W, with all rows of x.
///
/// # Safety
/// As the kernels.
#[inline(always)]
unsafe fn run(operand: MmaType, arguments: &Arguments) {
    let row = block() * (THREADS / LANES) + warp();
    if row >= arguments.rows {
        return;
    }
    let mut done = 0;
    while done < arguments.m {
        // SAFETY: the row is one of W, and that many rows of x are left.
        done += unsafe {
            match arguments.m - done {
                8.. => pass::<8, 1>(operand, arguments, row, done),
                4.. => pass::<4, 1>(operand, arguments, row, done),
                2.. => pass::<2, 2>(operand, arguments, row, done),
                _ => pass::<1, 4>(operand, arguments, row, done),
            }
        };
    }
}

/// Outputs of row `row` of W and the `N` rows of x from `first` on; returns `N`. Each lane has `AHEAD`
/// loads of weights under way.
///
/// # Safety
/// As the kernels; these rows are there.
#[inline(always)]
unsafe fn pass<const N: usize, const AHEAD: usize>(
    operand: MmaType,
    arguments: &Arguments,
    row: usize,
    first: usize,
) -> usize {
    let &Arguments { y, rows, cols, .. } = arguments;
    let w = arguments.w.wrapping_add(row * cols);
    let x = arguments.x.wrapping_add(first * cols);
    let mut sums = [0.0; N];
    let aligned = cols.is_multiple_of(VECTOR) && (w as usize | x as usize).is_multiple_of(16);
    let vectors = if aligned { cols / VECTOR } else { 0 };
    let mut at = lane();
    // SAFETY: all vectors lie in the rows, whose starts and lengths are multiples of 16 bytes.
    unsafe {
        while at + (AHEAD - 1) * LANES < vectors {
            let mut weights = [[0; 4]; AHEAD];
            unrolled::<AHEAD>(|i| weights[i] = load_vector(w, at + i * LANES));
            unrolled::<AHEAD>(|i| {
                add_products(operand, &mut sums, weights[i], x, cols, at + i * LANES);
            });
            at += AHEAD * LANES;
        }
        while at < vectors {
            add_products(operand, &mut sums, load_vector(w, at), x, cols, at);
            at += LANES;
        }
    }
    let mut at = VECTOR * vectors + lane();
    while at < cols {
        // SAFETY: inside the rows.
        unsafe {
            let weight = number(operand, *w.add(at));
            unrolled::<N>(|n| {
                sums[n] = fma(weight, number(operand, *x.add(n * cols + at)), sums[n]);
            });
        }
        at += LANES;
    }
    unrolled::<N>(|n| {
        let sum = sum_of_lanes(sums[n]);
        if lane() == 0 {
            // SAFETY: inside y.
            unsafe { *y.add((first + n) * rows + row) = sum };
        }
    });
    N
}

/// Vector number `at` of a row.
///
/// # Safety
/// It is there, and aligned to 16 bytes.
#[inline(always)]
unsafe fn load_vector(row: *const u16, at: usize) -> [u32; 4] {
    // SAFETY: the caller's promise.
    unsafe { load_global(row.wrapping_add(VECTOR * at).cast()) }
}

/// Adds the products of vector number `at` of a row of W with those of `N` rows of x.
///
/// # Safety
/// As [`load_vector`], for the rows of x.
#[inline(always)]
unsafe fn add_products<const N: usize>(
    operand: MmaType,
    sums: &mut [f32; N],
    weights: [u32; 4],
    x: *const u16,
    cols: usize,
    at: usize,
) {
    unrolled::<N>(|n| {
        // SAFETY: the caller's promise.
        let x = unsafe { load_vector(x.wrapping_add(n * cols), at) };
        unrolled::<4>(|i| {
            let [low, high] = numbers(operand, weights[i]);
            let [x_low, x_high] = numbers(operand, x[i]);
            // SAFETY: register arithmetic.
            sums[n] = unsafe { fma(high, x_high, fma(low, x_low, sums[n])) };
        });
    });
}

/// The numbers in the halves of a register.
#[inline(always)]
fn numbers(operand: MmaType, pair: u32) -> [f32; 2] {
    [number(operand, pair as u16), number(operand, (pair >> 16) as u16)]
}

/// The number with these bits.
#[inline(always)]
fn number(operand: MmaType, bits: u16) -> f32 {
    match operand {
        MmaType::Bf16 => f32::from_bits(u32::from(bits) << 16),
        MmaType::F16 => f16_to_f32(bits),
    }
}

unsafe extern "C" {
    #[link_name = "llvm.fma.f32"]
    fn fma(a: f32, b: f32, c: f32) -> f32;
    // An intrinsic, so that LLVM knows that it waits for other threads; see `instructions`.
    #[link_name = "llvm.nvvm.shfl.sync.bfly.f32"]
    fn shfl_sync_bfly(lanes: u32, value: f32, mask: u32, clamp: u32) -> f32;
}

/// The sum of all lanes' values. All lanes of the warp must come here together.
///
/// # PTX
/// `shfl.sync.bfly.b32`, five times
#[inline(always)]
fn sum_of_lanes(mut value: f32) -> f32 {
    unrolled::<5>(|i| {
        // SAFETY: reads registers of the warp.
        value += unsafe { shfl_sync_bfly(u32::MAX, value, 16 >> i, LANES as u32 - 1) };
    });
    value
}
