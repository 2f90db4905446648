//! A tile's payload: its record, its slabs and their words.

mod record;
mod slab;
mod words;

pub use record::Record;
pub use slab::SlabPayload;
pub use words::{DeviceMemory, FIRST_ROWS, Rows, copy_table};
