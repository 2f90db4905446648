//! Texts, their tokens, and the windows that are scored.

pub mod brown;
mod windows;

pub use windows::{Tokens, Windows};
