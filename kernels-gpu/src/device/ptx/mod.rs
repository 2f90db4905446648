//! Instructions that only a device has, a function each. Pure ones that a CPU can compute are in
//! [`twins`](crate::ptx).

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
