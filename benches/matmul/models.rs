//! Linear layers of language models, merged where they multiply the same activations.

use clap::ValueEnum;

/// A model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// Llama 3.1 8B
    #[value(name = "llama-3.1-8b")]
    Llama8B,
    /// Llama 3.1 70B
    #[value(name = "llama-3.1-70b")]
    Llama70B,
    /// Qwen3 32B
    #[value(name = "qwen3-32b")]
    Qwen32B,
}

impl Model {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama8B => "Llama 3.1 8B",
            Self::Llama70B => "Llama 3.1 70B",
            Self::Qwen32B => "Qwen3 32B",
        }
    }

    /// Returns its decoder layers.
    pub fn decoder_layers(self) -> usize {
        match self {
            Self::Llama8B => 32,
            Self::Llama70B => 80,
            Self::Qwen32B => 64,
        }
    }

    /// Returns the shapes N x K of a decoder layer's products: q, k and v in one; the attention's output; gate and up in one;
    /// down.
    pub fn shapes(self) -> [(usize, usize); 4] {
        match self {
            Self::Llama8B => [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)],
            Self::Llama70B => [(10240, 8192), (8192, 8192), (57344, 8192), (8192, 28672)],
            Self::Qwen32B => [(10240, 5120), (5120, 8192), (51200, 5120), (5120, 25600)],
        }
    }
}
