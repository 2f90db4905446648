//! A small random model for tests.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::model::config::{Config, EMBEDDING, LayerLinear, NORM, norm_weights};
use crate::{Error, Llama};

/// Returns the configuration: two layers, four query heads, two key and value heads.
pub(crate) fn config(tied: bool) -> Config {
    Config {
        model_type: "llama".to_owned(),
        vocab_size: 50,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: Some(2),
        head_dim: Some(8),
        max_position_embeddings: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 100.0,
        tie_word_embeddings: tied,
        hidden_act: "silu".to_owned(),
        attention_bias: false,
        mlp_bias: false,
        rope_scaling: None,
    }
}

/// Returns all tensors, in BF16.
pub(crate) fn tensors(config: &Config) -> BTreeMap<String, Tensor> {
    let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
    let mut shapes = vec![(EMBEDDING.to_owned(), vec![vocabulary, hidden])];
    shapes.push((NORM.to_owned(), vec![hidden]));
    shapes.push(("lm_head.weight".to_owned(), vec![vocabulary, hidden]));
    for layer in 0..config.num_hidden_layers {
        shapes.extend(norm_weights(layer).map(|name| (name, vec![hidden])));
        let linears = LayerLinear::ALL
            .map(|linear| (linear.weight(layer), config.linear_shape(linear).to_vec()));
        shapes.extend(linears);
    }
    let tensors = shapes.into_iter().enumerate().map(|(seed, (name, shape))| {
        let values = noise(seed as u64, shape.iter().product());
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        (name, tensor.to_dtype(DType::BF16).unwrap())
    });
    tensors.collect()
}

/// Returns the model.
pub(crate) fn model(tied: bool) -> Llama {
    let tensors = tensors(&config(tied));
    Llama::new(config(tied), |name| {
        tensors.get(name).cloned().ok_or_else(|| Error::MissingTensor { name: name.to_owned() })
    })
    .unwrap()
}

/// Returns values between -0.5 and 0.5, from a linear congruential generator.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}
