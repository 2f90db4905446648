//! What does not depend on the instructions that multiply: sums, scales, exceptions and the epilogue.

pub mod epilogue;
pub mod exceptions;
pub mod groups;
pub mod sums;
