//! The stored layout: what the bytes of a compressed matrix mean. `docs/format.md` is its specification.

mod dtype;
mod e4m3;
mod fragment;
mod geometry;
mod group;
mod raw_plane;
mod record;
mod split;
mod weights_per_symbol;

pub use dtype::{Dtype, UnknownDtype};
pub use e4m3::e4m3_to_f32;
pub use fragment::{Place, fragment_column, matrix_column, register_position};
pub use geometry::{SlabShape, TileGrid, TileShape};
pub use group::{GROUP, GROUPS, GroupPlane};
pub use raw_plane::{Plane, exchange_signs, planes};
pub use record::{MAX_TAIL_ROWS, TAIL_LENGTH_BYTES, TileEntry, TileKind};
pub use split::Split;
pub use weights_per_symbol::WeightsPerSymbol;
