//! The kernels that do not multiply compressed layers.

mod checksum;
mod decode;
mod dense;
mod output;
