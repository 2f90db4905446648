//! The slabs of resident layers: on their way to shared memory, and decoded panel by panel.

mod exceptions;
mod layer;
mod plain;
mod raw;
mod slab;

pub use exceptions::{Exception, Exceptions};
pub use layer::ResidentLayer;
pub use plain::plain_fragment;
pub use raw::{load_raw, load_raw_after};
pub use slab::{LaneStream, Planes, Slab, Slabs};
