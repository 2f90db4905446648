//! The jobs: one public function each for files, indexes and folders.

mod compare;
pub mod compress;
pub mod decompress;
pub mod inspect;
pub mod verify;
