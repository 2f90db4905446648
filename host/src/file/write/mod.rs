//! Output files and folders, which appear only when complete.

pub mod behind;
pub mod file;
pub mod folder;
pub mod temporary;
