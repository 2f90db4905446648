//! Shared code of the fuzz targets. Some modules are files of the tests' crate, `tests/support`.

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

pub use files::{Folder, framed, sealed};

/// A fast CRC-32C, in place of the tests' bit by bit one.
pub mod crc {
    /// Returns the CRC-32C of the concatenated `parts`.
    #[must_use]
    pub fn crc32c(parts: &[&[u8]]) -> u32 {
        parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
    }
}

/// Makes this thread rayon's only one, so that inputs always run in the same way and [`allocation`] sees every allocation.
///
/// # Panics
/// If rayon's pool exists already.
pub fn one_thread() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().expect("nothing has started a pool before");
}
