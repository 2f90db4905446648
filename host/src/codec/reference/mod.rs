//! The reference codec: plain and obvious, bit by bit, the oracle of every test.
//!
//! It works one tile and one weight at a time, straight from the definitions in `docs/format.md`. With the fast codec
//! it shares the maps of the layout, the choice of split and frequencies from counts, the decode table, and everything
//! around the tiles. It has its own code for counting, coding, packing, writing and reading.

mod decoder;
mod encoder;
mod payload;
mod planes;
pub(crate) mod stream;

pub use decoder::decode;
pub use encoder::encode;

use fused_rans_layout::{LANES, Place, SlabShape};

/// Lists all places of a slab in ascending order, with their (row, column) in the slab.
pub(crate) fn places(shape: SlabShape) -> impl Iterator<Item = (Place, usize, usize)> {
    let lanes = (0..shape.fragments()).flat_map(|f| (0..LANES).map(move |lane| (f, lane)));
    let elements = lanes.flat_map(|(f, lane)| (0..8).map(move |i| (f, lane, i / 2, i % 2)));
    elements.map(move |(fragment, lane, register, half)| {
        let place = Place { fragment, lane, register, half };
        let (row, col) = shape.position(place);
        (place, row, col)
    })
}
