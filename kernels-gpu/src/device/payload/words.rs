//! A slab's words in shared memory, and the decode table.

use crate::device::ptx::{
    advance, async_copy_16, lane, load_global, load_shared, load_shared_words, multiply_add,
    reread_lane, shared_memory,
};
use crate::{SlabMemory, Words};
use fused_rans_layout::{LINE, LOOK_AHEAD, PROB_BITS, TABLE};

/// Requests the decode table, to the start of shared memory. `threads` threads call this; this one is number `thread`.
///
/// # Safety
/// `table` has [`TABLE`] entries and is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn copy_table(table: *const u32, thread: usize, threads: usize) {
    let mut i = thread;
    while i < TABLE / 4 {
        // SAFETY: `i` is below a quarter of the table, and shared memory starts with room for it.
        unsafe { async_copy_16(shared_memory() + 16 * i as u32, table.add(4 * i).cast()) };
        i += threads;
    }
}

/// Most rows of words that a stage reads and looks ahead at, rounded up to a multiple of 4.
pub const FIRST_ROWS: u32 = 12;
const _: () = assert!((1 + 16) * PROB_BITS / 32 + LOOK_AHEAD as u32 + 1 <= FIRST_ROWS);

/// Returns the lane's tail length, from the byte that has those of two lanes.
#[inline(always)]
pub(super) fn tail_length(lengths: u32) -> u32 {
    lengths >> (4 * (reread_lane() % 2)) & 15
}

/// Rows of words in shared memory.
#[derive(Clone, Copy)]
pub struct Rows {
    /// Address of the first row.
    pub first: u32,
    /// Bytes from a row to the next, modulo 2^32: rows may descend.
    pub stride: u32,
}

impl Rows {
    #[inline(always)]
    pub(super) fn row(self, number: u32) -> u32 {
        multiply_add(number, self.stride, self.first)
    }

    /// Checks whether the lane has read the words of `rows` rows.
    #[inline(always)]
    pub fn has_taken(self, words: &Words, rows: u32) -> bool {
        let up = words.next.wrapping_sub(self.first + 4 * reread_lane() as u32);
        let far = if self.stride >> 31 == 0 { up } else { up.wrapping_neg() };
        far >= rows * LINE as u32
    }

    /// Returns the addresses of the lane's words.
    #[inline(always)]
    pub(super) fn for_lane(self) -> Self {
        Self { first: self.first + 4 * lane() as u32, ..self }
    }
}

/// What a lane decodes from: table and words in shared memory, raw planes in global memory.
#[derive(Clone, Copy)]
pub struct DeviceMemory {
    /// Addresses of the lane's words.
    pub(super) rows: Rows,
    pub raw: *const u32,
    /// See [`opaque_four`](crate::device::ptx::opaque_four).
    pub(super) four: u32,
}

impl SlabMemory for DeviceMemory {
    #[inline(always)]
    fn entry(&self, index: u32) -> u32 {
        // SAFETY: an index is below `TABLE` by construction of the entries, and shared memory starts with the table.
        unsafe { load_shared(multiply_add(index, self.four, shared_memory())) }
    }

    #[inline(always)]
    fn first_words(&self) -> Words {
        let Rows { first, stride } = self.rows;
        let second = first.wrapping_add(stride);
        let next = second.wrapping_add(stride);
        // SAFETY: the host gives every slab at least two rows.
        let [[first], [second]] = unsafe { [load_shared_words(first), load_shared_words(second)] };
        let window = [first, second];
        Words { window, next }
    }

    #[inline(always)]
    fn advance(&self, step: u32, words: &mut Words) {
        // SAFETY: whatever its bits are, a stream reads at most `MAX_WORD_ROWS` words and looks ahead at `LOOK_AHEAD`
        // more; in front of and behind the slabs' rows there is room for so many.
        unsafe { advance(step, self.rows.stride, words) };
    }

    #[inline(always)]
    fn raw<const N: usize>(&self, at: usize) -> [u32; N] {
        // SAFETY: callers ask for words of the slab's planes only, at multiples of `N` words from their start, which is
        // aligned to 16 bytes.
        unsafe { load_global(self.raw.wrapping_add(at)) }
    }
}
