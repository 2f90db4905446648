//! Facade; documentation follows.
pub use fused_rans_host::*;
