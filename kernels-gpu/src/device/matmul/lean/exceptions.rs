//! Products of exceptions, which the sums of a row of slabs start with.

use super::Arguments;
use super::finish::Part;
use crate::device::matmul::Kind;
use crate::device::matmul::shared::sums::{Sums, zero};
use crate::device::ptx::{
    ballot, broadcast, broadcast_first_lane, load_global, load_global_u16, opaque, reread_lane,
    to_f32,
};
use crate::{MmaType, unrolled};
use fused_rans_layout::{Dtype, LeanPartition, SLAB_ROWS, SPAN, TILE};

/// Exceptions that a warp takes at a time: each eighth of its lanes has one, and each lane of it a row of an octet.
const AT_ONCE: u32 = 4;

/// The exceptions of a row of slabs in a span: they follow each other, the first row's first.
struct List {
    /// Number of the first exception of the row of this lane.
    start: u32,
    /// Number after the last exception of all rows.
    end: u32,
    /// First column of the span.
    col: u32,
}

/// Returns the products of the exceptions of a part.
///
/// A warp takes many exceptions at a time, since it waits for each load of a list, of exceptions and of activations about
/// as long as it takes to decode a panel.
#[inline(always)]
pub fn exceptions<const B: usize>(
    kind: Kind,
    arguments: &Arguments,
    partition: LeanPartition,
    part: Part,
) -> Sums<B> {
    let mut sums = zero();
    if arguments.layer.exception_starts.is_null() {
        return sums;
    }
    let columns = (part.from * TILE as u32, part.to * TILE as u32);
    let row = part.slab_row(partition) * SLAB_ROWS as u32;
    let mut span = columns.0 / SPAN as u32;
    while span * (SPAN as u32) < columns.1 {
        let list = List::new(arguments, span, row);
        let mut at = broadcast_first_lane(list.start);
        while at < list.end {
            // As many loads at once as there are registers for.
            at = match B {
                1 => take::<B, 8>(kind, arguments, &list, columns, at, &mut sums),
                2 => take::<B, 4>(kind, arguments, &list, columns, at, &mut sums),
                _ => take::<B, 2>(kind, arguments, &list, columns, at, &mut sums),
            };
        }
        span += 1;
    }
    sums
}

impl List {
    /// Returns the list of the row of slabs whose first row is `row`.
    #[inline(always)]
    fn new(arguments: &Arguments, span: u32, row: u32) -> Self {
        let rows = arguments.layer.rows;
        let height = (rows - row).min(SLAB_ROWS as u32);
        let first = span as usize * rows as usize + row as usize;
        let starts = arguments.layer.exception_starts.wrapping_add(first);
        let at = |row: u32| {
            // SAFETY: there is a number for each row of each span, and one more.
            let [number] = unsafe { load_global(starts.wrapping_add(row as usize)) };
            number
        };
        let lane = reread_lane() as u32;
        Self { start: at(lane.min(height)), end: at(height), col: span * SPAN as u32 }
    }

    /// Returns the row of exception `number`, which is in the list; all lanes of the warp must call this together.
    #[inline(always)]
    fn row(&self, number: u32) -> u32 {
        ballot(self.start <= number).count_ones() - 1
    }
}

/// Adds the products of `N` times [`AT_ONCE`] exceptions from number `at` on, as far as they lie in `columns`. Returns the
/// number after them.
#[inline(always)]
fn take<const B: usize, const N: usize>(
    kind: Kind,
    arguments: &Arguments,
    list: &List,
    columns: (u32, u32),
    at: u32,
    sums: &mut Sums<B>,
) -> u32 {
    let (own, m) = (reread_lane() as u32 / 8, reread_lane() as u32 % 8);
    let mut entries = [[0; 2]; N];
    unrolled::<N>(
        #[inline(always)]
        |i| {
            let number = at + AT_ONCE * i as u32 + own;
            if number < list.end {
                let entry = arguments.layer.exceptions.wrapping_add(number as usize);
                // SAFETY: below the number of exceptions.
                entries[i] = unsafe { load_global(entry.cast()) };
            }
        },
    );
    unrolled::<B>(
        #[inline(always)]
        |octet| {
            let mut products = [0.0; N];
            unrolled::<N>(
                #[inline(always)]
                |i| {
                    let [difference, place] = entries[i];
                    let (col, m) = (list.col + (place & 0xFFFF), 8 * octet as u32 + m);
                    let is_here = at + AT_ONCE * i as u32 + own < list.end;
                    if is_here && col >= columns.0 && col < columns.1 && m < arguments.x_rows {
                        let at = m as usize * arguments.x_row_stride as usize + col as usize;
                        // SAFETY: row and column of x exist.
                        let x = unsafe { load_global_u16(arguments.x.wrapping_add(at)) };
                        products[i] = product(kind, difference, place >> 16, x as u16);
                    }
                },
            );
            unrolled::<N>(
                #[inline(always)]
                |i| {
                    let at = at + AT_ONCE * i as u32;
                    let mut e = 0;
                    // A loop, because the code would be large.
                    while e < AT_ONCE && at + e < list.end {
                        add(products[i], e, list.row(at + e), octet, sums);
                        e = opaque(e + 1);
                    }
                },
            );
        },
    );
    at + AT_ONCE * N as u32
}

/// Adds the products of an octet with the exception that eighth `e` of the lanes has, in row `row` of the slab, to the sums of
/// the lanes that have that row.
#[inline(always)]
fn add<const B: usize>(product: f32, e: u32, row: u32, octet: usize, sums: &mut Sums<B>) {
    let (g, t) = (reread_lane() as u32 / 4, reread_lane() as u32 % 4);
    let of_row = |low: u32| f32::from_bits(broadcast(product.to_bits(), 8 * e + 2 * t + low));
    let products = [of_row(0), of_row(1)];
    unrolled::<4>(
        #[inline(always)]
        |i| {
            if row == 8 * i as u32 + g {
                let (strip, half) = (i / 2, i % 2);
                sums[strip][octet][2 * half] += products[0];
                sums[strip][octet][2 * half + 1] += products[1];
            }
        },
    );
}

/// Returns what an exception adds to the product of the weight that was decoded in its place. With an activation that is
/// infinite, that product is, too: what counts then is the sign of the weight, and whether it is 0.
#[inline(always)]
fn product(kind: Kind, difference: u32, weight: u32, x: u16) -> f32 {
    let magnitude = u32::from(x) & 0x7FFF;
    let (infinity, x) = match kind.mma_type {
        MmaType::Bf16 => (0x7F80, to_f32(MmaType::Bf16, x)),
        MmaType::F16 => (0x7C00, to_f32(MmaType::F16, x)),
    };
    let factor = f32::from_bits(difference);
    if magnitude < infinity || factor.is_nan() {
        return factor * x;
    }
    let (sign, is_zero) = match kind.dtype {
        Dtype::Bf16 | Dtype::F16 => (weight >> 15, weight & 0x7FFF == 0),
        Dtype::F8E4M3 => (weight >> 7 & 1, weight & 0x7F == 0),
        // The high byte has the sign of a large integer, and is 0 for others.
        Dtype::I8 if weight >> 8 != 0 => (weight >> 15, false),
        Dtype::I8 => (weight >> 7, weight == 0),
    };
    let factor = if is_zero { 0.0 } else { f32::from_bits(1.0f32.to_bits() | sign << 31) };
    factor * x
}
