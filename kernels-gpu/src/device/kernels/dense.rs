//! Multiplies with weights that are not compressed: the baseline of benchmarks where there is no cuBLAS.
//!
//! y = x W^T in F32, for W of `rows` x `cols` and x of `x_rows` x `cols`, row-major without gaps. A warp takes a row of W;
//! blocks have [`DENSE_THREADS`] threads, so 8 rows. Up to 8 rows of x the kernels are bound by memory: a row of W is
//! multiplied with all of them as it is loaded. Every 8 more rows of x take another pass over the row of W.

use crate::MmaType;
use crate::device::ptx::{
    block, f16_to_f32, lane, load_global, load_global_u16, store_global, warp,
};
use crate::unrolled;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
pub use fused_rans_layout::DENSE_THREADS;
use fused_rans_layout::{DenseArgs, LANES};

/// Numbers of a 16-byte load.
const VECTOR: usize = 8;

/// [`DenseArgs`], with pointers in place of addresses.
struct Arguments {
    w: *const u16,
    x: *const u16,
    y: *mut f32,
    rows: usize,
    cols: usize,
    x_rows: usize,
}

/// Multiplies the warp's row of W with all rows of x.
///
/// # Safety
/// The matrices are as large as the arguments say, and nothing else uses y.
#[inline(always)]
pub unsafe fn multiply(mma_type: MmaType, arguments: &DenseArgs) {
    let arguments = &Arguments {
        w: with_exposed_provenance(arguments.w as usize),
        x: with_exposed_provenance(arguments.x as usize),
        y: with_exposed_provenance_mut(arguments.y as usize),
        rows: arguments.rows as usize,
        cols: arguments.cols as usize,
        x_rows: arguments.x_rows as usize,
    };
    let row = block() * (DENSE_THREADS / LANES) + warp();
    if row >= arguments.rows {
        return;
    }
    let mut done = 0;
    while done < arguments.x_rows {
        // SAFETY: the row is one of W, and x has as many rows after `done`.
        done += unsafe {
            match arguments.x_rows - done {
                8.. => pass::<8, 1>(mma_type, arguments, row, done),
                4.. => pass::<4, 1>(mma_type, arguments, row, done),
                2.. => pass::<2, 2>(mma_type, arguments, row, done),
                _ => pass::<1, 4>(mma_type, arguments, row, done),
            }
        };
    }
}

/// Stores the outputs of row `row` of W and the `N` rows of x from `first` on, and returns `N`. Each lane has `AHEAD` loads
/// of weights on their way.
///
/// # Safety
/// As for [`multiply`]; these rows exist.
#[inline(always)]
unsafe fn pass<const N: usize, const AHEAD: usize>(
    mma_type: MmaType,
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
                add_products(mma_type, &mut sums, weights[i], x, cols, at + i * LANES);
            });
            at += AHEAD * LANES;
        }
        while at < vectors {
            add_products(mma_type, &mut sums, load_vector(w, at), x, cols, at);
            at += LANES;
        }
    }
    let mut at = VECTOR * vectors + lane();
    while at < cols {
        // SAFETY: inside the rows.
        unsafe {
            let weight = number(mma_type, load_global_u16(w.wrapping_add(at)) as u16);
            unrolled::<N>(|n| {
                let x = load_global_u16(x.wrapping_add(n * cols + at)) as u16;
                sums[n] = fma(weight, number(mma_type, x), sums[n]);
            });
        }
        at += LANES;
    }
    unrolled::<N>(|n| {
        let sum = sum_of_lanes(sums[n]);
        if lane() == 0 {
            // SAFETY: inside y.
            unsafe { store_global(y.wrapping_add((first + n) * rows + row).cast(), sum.to_bits()) };
        }
    });
    N
}

/// Loads vector number `at` of a row.
///
/// # Safety
/// The vector exists, and is aligned to 16 bytes.
#[inline(always)]
unsafe fn load_vector(row: *const u16, at: usize) -> [u32; 4] {
    // SAFETY: the caller's promise.
    unsafe { load_global(row.wrapping_add(VECTOR * at).cast()) }
}

/// Adds the products of vector number `at` of a row of W and of `N` rows of x.
///
/// # Safety
/// As for [`load_vector`], for the rows of x.
#[inline(always)]
unsafe fn add_products<const N: usize>(
    mma_type: MmaType,
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
            let [low, high] = numbers(mma_type, weights[i]);
            let [x_low, x_high] = numbers(mma_type, x[i]);
            // SAFETY: register arithmetic.
            sums[n] = unsafe { fma(high, x_high, fma(low, x_low, sums[n])) };
        });
    });
}

/// Converts the numbers in the halves of a register to F32.
#[inline(always)]
fn numbers(mma_type: MmaType, pair: u32) -> [f32; 2] {
    [number(mma_type, pair as u16), number(mma_type, (pair >> 16) as u16)]
}

/// Converts the number with these bits to F32.
#[inline(always)]
fn number(mma_type: MmaType, bits: u16) -> f32 {
    match mma_type {
        MmaType::Bf16 => f32::from_bits(u32::from(bits) << 16),
        MmaType::F16 => f16_to_f32(bits),
    }
}

unsafe extern "C" {
    #[link_name = "llvm.fma.f32"]
    fn fma(a: f32, b: f32, c: f32) -> f32;
    // An intrinsic, so that LLVM knows that it waits for other threads; see `ptx/sync.rs`.
    #[link_name = "llvm.nvvm.shfl.sync.bfly.f32"]
    fn shfl_sync_bfly(lanes: u32, value: f32, mask: u32, clamp: u32) -> f32;
}

/// Returns the sum of all lanes' values. All lanes of the warp must call this together.
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
