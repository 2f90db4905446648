//! The container: safetensors headers, mapped files, plain and compressed files.

pub mod compressed;
pub mod container;
pub mod dtype;
pub mod header;
pub mod kind;
pub mod lossless;
pub mod mapped;
pub mod plain;
pub mod tensor_file;
