//! The codec and multiplication on the CPU.

mod lossless;
mod matmul;
mod size;
