//! Tests of what the crates publish: the public API, and the dependencies and their licenses.

mod dependencies;
#[cfg(unix)]
mod public;
