//! The decode step and everything around it that also compiles for the CPU, where it is tested. No item here touches
//! device memory by itself.

pub mod crc;
pub mod format;
pub mod lane;
pub mod operand;
pub mod slab;
pub mod twins;
