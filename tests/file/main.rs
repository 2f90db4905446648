//! Files and models: compressed, verified, inspected, restored.

mod damage;
mod headers;
mod model;
mod quantized;
mod single;
