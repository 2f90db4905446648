//! Instructions that only a device has, a function each. Pure ones that a CPU can compute are in
//! [`twins`](crate::ptx).

#[cfg(feature = "lean")]
mod bulk;
mod copy;
mod global;
mod mma;
mod shared;
mod special;
mod sync;
#[cfg(feature = "lean")]
mod wgmma;

#[cfg(feature = "lean")]
pub use bulk::*;
pub use copy::*;
pub use global::*;
pub use mma::*;
pub use shared::*;
pub use special::*;
pub use sync::*;
#[cfg(feature = "lean")]
pub use wgmma::*;
