//! The jobs: compress, decompress, compare, inspect.

pub mod compare;
pub mod compress;
pub mod decompress;
pub mod inspect;
