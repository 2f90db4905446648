//! Packing and unpacking of raw planes.
//!
//! The functions process rows g and g + 8 of a strip together, since a lane's registers hold both, and whole rows of
//! 256 columns at a time, which vectorizes. [`Halves`] are the contributions of two rows to the half words of a plane.

use fused_rans_layout::{
    FRAGMENT, LANES, Plane, SLAB_ROWS, SlabShape, TILE, exchange_signs, matrix_column, planes,
};

/// Raw bits of the weights of a slab.
type Raw = [[u16; TILE]; SLAB_ROWS];
/// For each column, the bits that rows g and g + 8 contribute to one half of a word. Two adjacent columns make a word.
type Halves = [u16; TILE];

/// Packs the raw bits of a slab into the words of its planes.
#[inline(always)]
pub fn pack(shape: SlabShape, raw_bits: u8, raw: &Raw, words: &mut Vec<u32>) {
    words.clear();
    for plane in planes(raw_bits) {
        let start = words.len();
        words.resize(start + plane.words(shape) * LANES, 0);
        let words = &mut words[start..];
        for (strip, g) in shape.row_pairs() {
            let row = strip * FRAGMENT + g;
            let mut halves = gather(plane, &raw[row], &raw[row + 8]);
            if plane.width == 8 {
                halves = halves.map(|half| exchange_signs(half.into()) as u16);
            } else {
                fold(plane, &mut halves);
            }
            for_each_word(plane, shape, (strip, g), |word, shift, col| {
                let half = u32::from(halves[col]) | u32::from(halves[col + 1]) << 16;
                words[word] |= half << shift;
            });
        }
    }
}

/// Unpacks the planes of a slab into rows of raw bits.
#[inline(always)]
pub fn unpack(shape: SlabShape, raw_bits: u8, stored: &[u8], raw: &mut Raw) {
    raw.iter_mut().for_each(|row| row.fill(0));
    let mut stored = stored.as_chunks().0;
    for plane in planes(raw_bits) {
        let (words, rest) = stored.split_at(plane.words(shape) * LANES);
        stored = rest;
        for (strip, g) in shape.row_pairs() {
            let mut halves: Halves = [0; TILE];
            for_each_word(plane, shape, (strip, g), |word, shift, col| {
                let word = u32::from_le_bytes(words[word]) >> shift;
                halves[col] = word as u16;
                halves[col + 1] = (word >> 16) as u16;
            });
            if plane.width == 8 {
                halves = halves.map(|half| exchange_signs(half.into()) as u16);
            } else {
                unfold(plane, &mut halves);
            }
            let (upper, lower) = raw[strip * FRAGMENT + g..].split_at_mut(8);
            scatter(plane, &halves, &mut upper[0], &mut lower[0]);
        }
    }
}

/// Extracts the bits of `plane` from two rows.
#[inline(always)]
fn gather(plane: Plane, upper: &[u16; TILE], lower: &[u16; TILE]) -> Halves {
    let mask = (1 << plane.width) - 1;
    core::array::from_fn(|col| {
        upper[col] >> plane.shift & mask | (lower[col] >> plane.shift & mask) << plane.width
    })
}

/// Adds the bits of `plane` to two rows. Undoes [`gather`].
#[inline(always)]
fn scatter(plane: Plane, halves: &Halves, upper: &mut [u16; TILE], lower: &mut [u16; TILE]) {
    let mask = (1 << plane.width) - 1;
    for col in 0..TILE {
        upper[col] |= (halves[col] & mask) << plane.shift;
        lower[col] |= (halves[col] >> plane.width & mask) << plane.shift;
    }
}

/// Moves the bits of registers 2 and 3, the upper two of a lane's four columns of a step, into the words of registers 0
/// and 1.
#[inline(always)]
fn fold(plane: Plane, halves: &mut Halves) {
    for [a, b, c, d] in halves.as_chunks_mut().0 {
        *a |= *c << (2 * plane.width);
        *b |= *d << (2 * plane.width);
    }
}

/// Undoes [`fold`].
#[inline(always)]
fn unfold(plane: Plane, halves: &mut Halves) {
    for [a, b, c, d] in halves.as_chunks_mut().0 {
        *c = *a >> (2 * plane.width);
        *d = *b >> (2 * plane.width);
    }
}

/// Calls `f` for every word to which rows g and g + 8 of a strip contribute: with the number of the word, the shift of
/// the contribution, and the column of its low half.
#[inline(always)]
fn for_each_word(
    plane: Plane,
    shape: SlabShape,
    (strip, g): (usize, usize),
    mut f: impl FnMut(usize, u32, usize),
) {
    let words = plane.words(shape);
    // A plane of 8 bits has two words per fragment. In narrower planes, `shared` fragments share a word.
    let (per_fragment, shared) = if plane.width == 8 { (2, 1) } else { (1, 4 / plane.width) };
    for step in 0..shape.steps {
        let fragment = step * shape.strips + strip;
        let shift = 4 * plane.width * (fragment as u32 % shared);
        // The first column of lane 0 in this step, and its distance from the first column of lane 1.
        let first_col = matrix_column(shape.steps, step, 0);
        let lane_cols = matrix_column(shape.steps, step, 2) - first_col;
        for part in 0..per_fragment {
            let word = (fragment * per_fragment + part) / shared as usize;
            let first = Plane::word_offset(words, 4 * g, word);
            let stride = (words - word / 4 * 4).min(4);
            for t in 0..4 {
                f(first + t * stride, shift % 32, first_col + lane_cols * t + 2 * part);
            }
        }
    }
}
