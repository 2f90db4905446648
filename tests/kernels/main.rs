//! Tests the kernels without a GPU: their portable parts on the CPU, and the text of their PTX.

mod device;
mod ptx;
mod warp;
