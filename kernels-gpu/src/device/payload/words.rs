//! A slab's words in shared memory, and the decode table.

use crate::device::ptx::{
    advance, async_copy_16, lane, lane_anew, load_global, load_shared, load_shared_words,
    multiply_add, shared_memory,
};
use crate::{SlabMemory, Words};
use fused_rans_layout::{LINE, LOOK_AHEAD, PROB_BITS, TABLE};

/// Starts copying the decode table to the front of shared memory; `threads` threads take part.
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

/// Rows of words that a half turn takes and looks ahead at, at most, rounded up to a multiple of 4.
pub const FIRST_ROWS: u32 = 12;
const _: () = assert!((1 + 16) * PROB_BITS / 32 + LOOK_AHEAD as u32 + 1 <= FIRST_ROWS);

/// The lane's of a byte of two lanes' tail lengths.
#[inline(always)]
pub(super) fn tail_length(lengths: u32) -> u32 {
    lengths >> (4 * (lane_anew() % 2)) & 15
}

/// Rows of words in shared memory.
#[derive(Clone, Copy)]
pub struct Rows {
    /// Address of the first one.
    pub first: u32,
    /// Bytes from a row to the next; modulo 2^32, since it may be the one below.
    pub stride: u32,
}

impl Rows {
    #[inline(always)]
    pub(super) fn row(self, number: u32) -> u32 {
        multiply_add(number, self.stride, self.first)
    }

    /// Whether the lane has taken the words of `rows` rows from memory.
    #[inline(always)]
    pub fn has_taken(self, words: &Words, rows: u32) -> bool {
        let up = words.next.wrapping_sub(self.first + 4 * lane_anew() as u32);
        let far = if self.stride >> 31 == 0 { up } else { up.wrapping_neg() };
        far >= rows * LINE as u32
    }

    #[inline(always)]
    pub(super) fn of_lane(self) -> Self {
        Self { first: self.first + 4 * lane() as u32, ..self }
    }
}

/// What a lane decodes from: table and words in shared, raw planes in global memory.
#[derive(Clone, Copy)]
pub struct DeviceMemory {
    /// The lane's words.
    pub(super) rows: Rows,
    pub raw: *const u32,
    /// See [`four`].
    pub(super) four: u32,
}

impl SlabMemory for DeviceMemory {
    #[inline(always)]
    fn entry(&self, index: u32) -> u32 {
        // SAFETY: an index is below `TABLE` by construction of the entries, and shared memory starts
        // with the table.
        unsafe { load_shared(multiply_add(index, self.four, shared_memory())) }
    }

    #[inline(always)]
    fn first_words(&self) -> Words {
        let Rows { first, stride } = self.rows;
        let second = first.wrapping_add(stride);
        let next = second.wrapping_add(stride);
        // SAFETY: the host gives every slab two rows and more.
        let [[first], [second]] = unsafe { [load_shared_words(first), load_shared_words(second)] };
        let window = [first, second];
        Words { window, next }
    }

    #[inline(always)]
    fn advance(&self, step: u32, words: &mut Words) {
        // SAFETY: whatever its bits are, a stream takes no more than `MAX_WORD_ROWS` words and looks at
        // `LOOK_AHEAD` more; above and below the slabs' rows there is room for so many.
        unsafe { advance(step, self.rows.stride, words) };
    }

    #[inline(always)]
    fn raw<const N: usize>(&self, at: usize) -> [u32; N] {
        // SAFETY: callers ask for words of the slab's planes only, at multiples of `N` from their start,
        // which is aligned to 16 bytes.
        unsafe { load_global(self.raw.wrapping_add(at)) }
    }
}
