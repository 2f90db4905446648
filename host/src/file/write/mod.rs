//! Outputs that appear only when they are complete.

pub mod output;
pub mod temporary;
