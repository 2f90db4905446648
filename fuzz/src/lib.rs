//! What the fuzz targets share, some of it with the tests.

#[path = "../../tests/support/src/allocation.rs"]
pub mod allocation;
#[path = "../../tests/support/src/codec.rs"]
pub mod codec;
mod files;
#[path = "../../tests/support/src/readers.rs"]
pub mod readers;
#[path = "../../tests/support/src/seal.rs"]
pub mod seal;
#[path = "../../tests/support/src/step.rs"]
pub mod step;

#[global_allocator]
static ALLOCATOR: allocation::RecordingAllocator = allocation::RecordingAllocator;

pub use files::{Folder, framed, sealed, silent};

/// The tests compute it bit by bit, independently; here it has to be fast.
pub mod crc {
    /// CRC-32C of `parts`, one behind the other.
    #[must_use]
    pub fn crc32c(parts: &[&[u8]]) -> u32 {
        parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
    }
}

/// Makes this thread all of rayon's pool: inputs run the same way each time, and [`allocation`] sees everything.
///
/// # Panics
/// If there is a pool already.
pub fn one_thread() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().expect("nothing has started a pool before");
}
