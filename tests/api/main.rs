//! What is published: the public API, and the dependencies' licenses.

mod dependencies;
#[cfg(unix)]
mod public;
