//! `config.json` of a Llama model.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

/// The part of a Hugging Face `config.json` that decides what a Llama model computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// `llama`
    pub model_type: String,
    /// Tokens.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; as many query heads share each. All have their own if it is missing.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head, if it is not `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Positions that the model was trained for.
    pub max_position_embeddings: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding's wavelengths.
    pub rope_theta: f64,
    /// Whether the output head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Activation inside the MLP.
    pub hidden_act: String,
    /// Whether the attention's linear layers add a bias.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the MLP's linear layers add a bias.
    #[serde(default)]
    pub mlp_bias: bool,
    /// How the rotary embedding is stretched, if it is.
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

    /// What the model would need that is not implemented.
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

    /// Whether the dimensions fit together.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check(&self) -> Result<(), Error> {
        /// No dimension of a model is larger; products of two do not overflow.
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

    /// Width of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Key and value heads.
    #[must_use]
    pub fn key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Name of the matrix that turns the last hidden states into logits.
    #[must_use]
    pub fn head(&self) -> &'static str {
        if self.tie_word_embeddings { EMBEDDING } else { "lm_head.weight" }
    }

    /// Names of all matrices that activations are multiplied with, but for a head that is the
    /// embedding.
    pub fn linears(&self) -> impl Iterator<Item = String> {
        let layers = 0..self.num_hidden_layers;
        let linears = layers.flat_map(|layer| LayerLinear::ALL.map(|linear| linear.weight(layer)));
        linears.chain((!self.tie_word_embeddings).then(|| self.head().to_owned()))
    }

    /// Shapes of the linear layers of a decoder layer, `[N, K]` = [output features, input features].
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

/// Name of the last norm's weights.
pub const NORM: &str = "model.norm.weight";

/// The linear layers of a decoder layer.
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
    /// In the order in which they are used.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Name of the weights in this layer.
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

    /// The first one that has the same input.
    #[must_use]
    pub fn shares_input_with(self) -> Self {
        match self {
            Self::Query | Self::Key | Self::Value => Self::Query,
            Self::Gate | Self::Up => Self::Gate,
            Self::Output | Self::Down => self,
        }
    }
}

/// Names of the weights of a decoder layer's norms, before attention and before the MLP.
#[must_use]
pub fn norm_weights(layer: usize) -> [String; 2] {
    ["input_layernorm", "post_attention_layernorm"]
        .map(|name| format!("model.layers.{layer}.{name}.weight"))
}
