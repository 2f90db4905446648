//! The `config.json` of a Llama model, and the names of its tensors.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

/// The part of a Hugging Face `config.json` that determines what a Llama model computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Always `llama`.
    pub model_type: String,
    /// Number of tokens of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads, each shared by the same number of query heads; `None` if it is that of query heads.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; `None` if it is `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Number of positions that the model was trained for.
    pub max_position_embeddings: usize,
    /// Number that RMSNorm adds to the mean square.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding's wavelengths.
    pub rope_theta: f64,
    /// Whether the output head's weights are the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Activation function inside the MLP.
    pub hidden_act: String,
    /// Whether the linear layers of the attention have a bias.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the linear layers of the MLP have a bias.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Scaling of the rotary embedding; not supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<Value>,
}

impl Config {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Invalid`], [`Error::Unsupported`], [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read(path).map_err(Error::io(path, "read"))?;
        let config: Self =
            serde_json::from_slice(&text).map_err(Error::invalid(path, "config.json"))?;
        if let Some(what) = config.unsupported() {
            return Err(Error::unsupported(path, what));
        }
        config.check()?;
        Ok(config)
    }

    /// Returns a feature that the model needs and this crate lacks.
    fn unsupported(&self) -> Option<String> {
        let Self { model_type, hidden_act, .. } = self;
        if model_type != "llama" {
            return Some(format!("model_type {model_type}"));
        }
        if hidden_act != "silu" {
            return Some(format!("hidden_act {hidden_act}"));
        }
        if self.attention_bias || self.mlp_bias {
            return Some("a bias in linear layers".to_owned());
        }
        self.rope_scaling.as_ref().map(|_| "rope_scaling".to_owned())
    }

    /// Checks that dimensions are in range and do not contradict each other.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&self) -> Result<(), Error> {
        /// Largest dimension: products of two do not overflow.
        const LIMIT: usize = 1 << 24;
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.key_value_heads()),
            ("max_position_embeddings", self.max_position_embeddings),
            ("head_dim", self.head_dim.unwrap_or(1)),
        ];
        let config = |problem: String| Err(Error::Config { problem });
        for (name, size) in sizes {
            if size == 0 || size > LIMIT {
                return config(format!("{name} is {size}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.key_value_heads()) {
            return config("num_key_value_heads does not divide num_attention_heads".to_owned());
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return config("num_attention_heads does not divide hidden_size".to_owned());
        }
        if !self.head_dim().is_multiple_of(2) {
            return config("the rotary embedding needs an even head_dim".to_owned());
        }
        if !(self.rms_norm_eps >= 0.0 && self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            return config("rms_norm_eps or rope_theta is out of range".to_owned());
        }
        Ok(())
    }

    /// Returns the width of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Returns the number of key and value heads.
    #[must_use]
    pub fn key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Returns the name of the output head's weights.
    #[must_use]
    pub fn head(&self) -> &'static str {
        if self.tie_word_embeddings { EMBEDDING } else { "lm_head.weight" }
    }

    /// Returns the names of the weights of all linear layers: those that are quantized. An output head that is the embedding
    /// is not among them.
    pub fn linears(&self) -> impl Iterator<Item = String> {
        let layers = 0..self.num_hidden_layers;
        let linears = layers.flat_map(|layer| LayerLinear::ALL.map(|linear| linear.weight(layer)));
        linears.chain((!self.tie_word_embeddings).then(|| self.head().to_owned()))
    }

    /// Returns the shape of a linear layer's weights, `[N, K]`: output features, input features.
    #[must_use]
    pub fn linear_shape(&self, linear: LayerLinear) -> [usize; 2] {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (query, key_value) =
            (self.num_attention_heads * self.head_dim(), self.key_value_heads() * self.head_dim());
        match linear {
            LayerLinear::Query => [query, hidden],
            LayerLinear::Key | LayerLinear::Value => [key_value, hidden],
            LayerLinear::Output => [hidden, query],
            LayerLinear::Gate | LayerLinear::Up => [inner, hidden],
            LayerLinear::Down => [hidden, inner],
        }
    }
}

/// Name of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// Name of the weights of the last norm.
pub const NORM: &str = "model.norm.weight";

/// A linear layer of a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerLinear {
    /// `q_proj`
    Query,
    /// `k_proj`
    Key,
    /// `v_proj`
    Value,
    /// `o_proj`
    Output,
    /// `gate_proj`
    Gate,
    /// `up_proj`
    Up,
    /// `down_proj`
    Down,
}

impl LayerLinear {
    /// All of them, in the order in which they are used.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Returns the name of the weights in decoder layer `layer`.
    #[must_use]
    pub fn weight(self, layer: usize) -> String {
        let name = match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        };
        format!("model.layers.{layer}.{name}.weight")
    }

    /// Returns the first linear layer that has the same input.
    #[must_use]
    pub fn shares_input_with(self) -> Self {
        match self {
            Self::Query | Self::Key | Self::Value => Self::Query,
            Self::Gate | Self::Up => Self::Gate,
            Self::Output | Self::Down => self,
        }
    }
}

/// Returns the names of the weights of a decoder layer's norms: before attention, before the MLP.
#[must_use]
pub fn norm_weights(layer: usize) -> [String; 2] {
    ["input_layernorm", "post_attention_layernorm"]
        .map(|name| format!("model.layers.{layer}.{name}.weight"))
}
