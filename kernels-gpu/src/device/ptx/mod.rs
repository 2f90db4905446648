//! The instructions that only a device has, one function each.

mod copy;
mod global;
mod mma;
mod shared;
mod special;
mod sync;

pub use copy::*;
pub use global::*;
pub use mma::*;
pub use shared::*;
pub use special::*;
pub use sync::*;
