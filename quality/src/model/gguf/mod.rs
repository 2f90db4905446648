//! Converts GGUF files to folders in the form of Hugging Face.

mod convert;
mod file;
mod tokenizer;

pub use convert::convert;
