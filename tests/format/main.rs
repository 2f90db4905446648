//! The stored format: frozen bytes, a second decoder, damage and mutants.

mod corruption;
mod golden;
mod golden_file;
mod mutants;
mod second_decoder;

use support::allocation::RecordingAllocator;

#[global_allocator]
static ALLOCATOR: RecordingAllocator = RecordingAllocator;
