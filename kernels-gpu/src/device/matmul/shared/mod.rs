//! What all families of matmul kernels share.

pub mod epilogue;
pub mod exceptions;
pub mod groups;
pub mod sums;
