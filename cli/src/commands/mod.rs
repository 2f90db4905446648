//! The commands, one module each. Their functions `run` are called by `main`.

pub(crate) mod bench;
pub(crate) mod compress;
pub(crate) mod decompress;
pub(crate) mod demo;
pub(crate) mod inspect;
mod outcome;
pub(crate) mod verify;
