//! The container: safetensors headers, mapped files, compressed files.

pub mod compressed;
pub mod container;
pub mod dtype;
pub mod header;
pub mod mapped;
