//! Tests the kernels without a GPU: their portable parts on the CPU, and the text of their PTX.

mod device;
mod lanes;
mod ptx;
mod resident;
mod warp;
