//! One module for each command; `run` carries it out.

pub(crate) mod bench;
pub(crate) mod compress;
pub(crate) mod decompress;
pub(crate) mod demo;
pub(crate) mod inspect;
pub(crate) mod verify;
