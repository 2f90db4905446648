//! The Llama model: RMSNorm, rotary embedding, grouped-query attention, SwiGLU.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::model::config::{Config, EMBEDDING, LayerLinear, NORM, norm_weights};
use crate::model::ops::{self, Rotary};
use crate::model::values::{edit, read};
use crate::{Error, Weights};

/// Number of rows of logits that are computed at a time: enough for a fast matrix product, without the memory for all rows,
/// each as long as the vocabulary.
const LOGIT_ROWS: usize = 256;

/// A function that is called with each input of linear layers: the name of the first weights that it is multiplied by, and
/// the input, `[tokens, K]`.
pub type Observer<'a> = dyn FnMut(&str, &Tensor) -> Result<(), Error> + 'a;

/// A Llama model on the CPU, in F32.
pub struct Llama {
    config: Config,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Tensor,
}

/// A decoder layer.
struct Layer {
    index: usize,
    norms: [Tensor; 2],
    linears: [Tensor; LayerLinear::ALL.len()],
}

impl Llama {
    /// Loads the model of a folder with `config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// The errors of [`Config::read`], [`Weights::open`] and [`Llama::new`].
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let config = Config::read(&folder.join("config.json"))?;
        let weights = Weights::open(folder)?;
        Self::new(config, |name| weights.tensor(name))
    }

    /// Makes a model of the tensors that `load` returns, in any floating-point type. Calls `load` once per tensor. Does not copy
    /// F32 tensors, so that models can share them. Use it to replace tensors in memory.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Shape`], errors of `load`.
    pub fn new(
        config: Config,
        mut load: impl FnMut(&str) -> Result<Tensor, Error>,
    ) -> Result<Self, Error> {
        config.check()?;
        let mut load = |name: &str, shape: &[usize]| -> Result<Tensor, Error> {
            let tensor = load(name)?;
            if tensor.dims() != shape {
                let (expected, found) = (shape.to_vec(), tensor.dims().to_vec());
                return Err(Error::Shape { name: name.to_owned(), expected, found });
            }
            Ok(tensor.to_dtype(DType::F32)?.contiguous()?)
        };
        let vocabulary = [config.vocab_size, config.hidden_size];
        let embedding = load(EMBEDDING, &vocabulary)?;
        let head = if config.tie_word_embeddings {
            embedding.clone()
        } else {
            load(config.head(), &vocabulary)?
        };
        let norm = load(NORM, &vocabulary[1..])?;
        let mut layers = Vec::new();
        for layer in 0..config.num_hidden_layers {
            layers.push(Layer::new(layer, &config, &mut load)?);
        }
        Ok(Self { config, embedding, layers, norm, head })
    }

    /// Returns the model's configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Computes the hidden states after the last norm, `[tokens, hidden_size]`. Calls `observe` with the inputs of all linear
    /// layers, the output head included.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::WindowLength`], errors of `observe`.
    pub fn hidden(&self, tokens: &[u32], observe: &mut Observer<'_>) -> Result<Tensor, Error> {
        let Config { vocab_size, max_position_embeddings: positions, .. } = self.config;
        if tokens.is_empty() || tokens.len() > positions {
            return Err(Error::WindowLength { length: tokens.len(), positions });
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(Error::Token { token, vocabulary: vocab_size });
        }
        let rotary = Rotary::new(tokens.len(), self.config.head_dim(), self.config.rope_theta);
        let x = self.embedding.index_select(&Tensor::new(tokens, &Device::Cpu)?, 0)?;
        for layer in &self.layers {
            add(&x, &layer.attention(&x, &self.config, &rotary, observe)?)?;
            add(&x, &layer.mlp(&x, &self.config, observe)?)?;
        }
        let x = rms_norm(&x, &self.norm, &self.config)?;
        observe(self.config.head(), &x)?;
        Ok(x)
    }

    /// Computes the logits of the token after each token, `[tokens, vocab_size]`.
    ///
    /// # Errors
    /// The errors of [`Llama::hidden`].
    pub fn logits(&self, tokens: &[u32]) -> Result<Tensor, Error> {
        linear(&self.hidden(tokens, &mut |_, _| Ok(()))?, &self.head)
    }

    /// Computes the negative log-likelihood in nats of each token after the first `context`, given all tokens before it. The
    /// first token has no likelihood: a `context` of 0 counts as 1.
    ///
    /// # Errors
    /// The errors of [`Llama::hidden`].
    pub fn nll(&self, tokens: &[u32], context: usize) -> Result<Vec<f64>, Error> {
        let hidden = self.hidden(tokens, &mut |_, _| Ok(()))?;
        let first = context.max(1);
        let targets = tokens.get(first..).unwrap_or_default();
        let mut nll = Vec::with_capacity(targets.len());
        for (part, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
            let hidden = hidden.narrow(0, first - 1 + part * LOGIT_ROWS, targets.len())?;
            let logits = linear(&hidden, &self.head)?;
            read(&logits, |logits| {
                let rows = logits.chunks_exact(self.config.vocab_size);
                nll.extend(
                    rows.zip(targets).map(|(row, &target)| {
                        ops::log_sum_exp(row) - f64::from(row[target as usize])
                    }),
                );
            })?;
        }
        Ok(nll)
    }
}

impl Layer {
    fn new(
        index: usize,
        config: &Config,
        load: &mut impl FnMut(&str, &[usize]) -> Result<Tensor, Error>,
    ) -> Result<Self, Error> {
        let [before_attention, before_mlp] = norm_weights(index);
        let mut norm = |name: &str| load(name, &[config.hidden_size]);
        let norms = [norm(&before_attention)?, norm(&before_mlp)?];
        let mut linear =
            |linear: LayerLinear| load(&linear.weight(index), &config.linear_shape(linear));
        let [q, k, v, o, gate, up, down] = LayerLinear::ALL;
        let linears = [
            linear(q)?,
            linear(k)?,
            linear(v)?,
            linear(o)?,
            linear(gate)?,
            linear(up)?,
            linear(down)?,
        ];
        Ok(Self { index, norms, linears })
    }

    /// Computes the attention's contribution to `x`, `[tokens, hidden_size]`.
    fn attention(
        &self,
        x: &Tensor,
        config: &Config,
        rotary: &Rotary,
        observe: &mut Observer<'_>,
    ) -> Result<Tensor, Error> {
        let [query, key, value, output, ..] = &self.linears;
        let x = rms_norm(x, &self.norms[0], config)?;
        observe(&LayerLinear::Query.weight(self.index), &x)?;
        let (q, k, v) = (linear(&x, query)?, linear(&x, key)?, linear(&x, value)?);
        edit(&q, |q| rotary.rotate(q, config.num_attention_heads))?;
        edit(&k, |k| rotary.rotate(k, config.key_value_heads()))?;
        let mixed = attend(&q, &k, &v, config)?;
        observe(&LayerLinear::Output.weight(self.index), &mixed)?;
        linear(&mixed, output)
    }

    /// Computes the MLP's contribution to `x`, `[tokens, hidden_size]`.
    fn mlp(
        &self,
        x: &Tensor,
        config: &Config,
        observe: &mut Observer<'_>,
    ) -> Result<Tensor, Error> {
        let [.., gate, up, down] = &self.linears;
        let x = rms_norm(x, &self.norms[1], config)?;
        observe(&LayerLinear::Gate.weight(self.index), &x)?;
        let (inner, up) = (linear(&x, gate)?, linear(&x, up)?);
        read(&up, |up| edit(&inner, |gate| ops::swiglu(gate, up)))??;
        observe(&LayerLinear::Down.weight(self.index), &inner)?;
        linear(&inner, down)
    }
}

/// Causal attention of `[tokens, heads * head_dim]`. Adjacent query heads share a key and value head. Their queries are
/// stacked, which avoids repeating the keys.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, config: &Config) -> Result<Tensor, Error> {
    let (tokens, width) = q.dims2()?;
    let (shared, dim) = (config.key_value_heads(), config.head_dim());
    let heads = |x: &Tensor, heads: usize| x.reshape((tokens, heads, dim))?.transpose(0, 1);
    let q = heads(q, config.num_attention_heads)?.contiguous()?;
    let q = q.reshape((shared, config.num_attention_heads / shared * tokens, dim))?;
    let scores = q.matmul(&heads(k, shared)?.transpose(1, 2)?)?;
    #[expect(clippy::cast_precision_loss, reason = "heads are not that wide")]
    let scale = 1.0 / (dim as f32).sqrt();
    edit(&scores, |scores| ops::causal_softmax(scores, tokens, scale))?;
    let mixed = scores.matmul(&heads(v, shared)?)?;
    let mixed = mixed.reshape((config.num_attention_heads, tokens, dim))?;
    Ok(mixed.transpose(0, 1)?.reshape((tokens, width))?)
}

/// Computes x Wᵀ. The transposed weights are a view, which the matrix product packs.
fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor, Error> {
    Ok(x.matmul(&weight.t()?)?)
}

/// Adds `change` to `x` in place, on this thread: candle's sum would use a second pool of threads.
fn add(x: &Tensor, change: &Tensor) -> Result<(), Error> {
    read(change, |change| edit(x, |x| ops::add(x, change)))??;
    Ok(())
}

/// Returns the RMSNorm of each row as a new tensor.
fn rms_norm(x: &Tensor, weight: &Tensor, config: &Config) -> Result<Tensor, Error> {
    let normed = x.copy()?;
    #[expect(clippy::cast_possible_truncation, reason = "computing is in F32")]
    let eps = config.rms_norm_eps as f32;
    read(weight, |weight| edit(&normed, |rows| ops::rms_norm(rows, weight, eps)))??;
    Ok(normed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    const TOKENS: [u32; 9] = [3, 41, 7, 7, 0, 49, 12, 30, 5];

    #[test]
    fn a_later_token_does_not_change_earlier_logits() {
        let model = tiny::model(true);
        let logits = |tokens: &[u32]| model.logits(tokens).unwrap().to_vec2::<f32>().unwrap();
        let (before, mut changed) = (logits(&TOKENS), TOKENS);
        changed[6] = 13;
        let after = logits(&changed);
        assert_eq!(before[..6], after[..6]);
        for (before, after) in before[6..].iter().zip(&after[6..]) {
            assert_ne!(before, after, "a later position must see the change");
        }
        for (whole, part) in before.iter().zip(logits(&TOKENS[..4])) {
            for (whole, part) in whole.iter().zip(part) {
                assert!((whole - part).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn attention_is_that_of_the_formula() {
        let config = tiny::config(true);
        let (tokens, heads, shared, dim) = (5, 4, 2, 8);
        let random = |seed, heads| tiny::noise(seed, tokens * heads * dim);
        let (q, k, v) = (random(1, heads), random(2, shared), random(3, shared));
        let tensor = |values: &[f32], heads: usize| {
            Tensor::from_slice(values, (tokens, heads * dim), &Device::Cpu).unwrap()
        };
        let mixed = attend(&tensor(&q, heads), &tensor(&k, shared), &tensor(&v, shared), &config);
        let mixed = mixed.unwrap().to_vec2::<f32>().unwrap();
        for (t, head) in (0..tokens).flat_map(|t| (0..heads).map(move |head| (t, head))) {
            let key_value = |s: usize| (s * shared + head / 2) * dim;
            let weight = |s: usize| -> f64 {
                let products =
                    (0..dim).map(|i| q[(t * heads + head) * dim + i] * k[key_value(s) + i]);
                f64::from(products.sum::<f32>() / 8_f32.sqrt()).exp()
            };
            let total: f64 = (0..=t).map(weight).sum();
            for i in 0..dim {
                let value = |s: usize| weight(s) / total * f64::from(v[key_value(s) + i]);
                let expected: f64 = (0..=t).map(value).sum();
                assert!((f64::from(mixed[t][head * dim + i]) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn likelihoods_are_those_of_the_logits() {
        for tied in [true, false] {
            let model = tiny::model(tied);
            let logits = model.logits(&TOKENS).unwrap().to_vec2::<f32>().unwrap();
            let expected: Vec<f64> = logits
                .iter()
                .zip(&TOKENS[1..])
                .map(|(row, &target)| {
                    let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
                    sum.ln() - f64::from(row[target as usize])
                })
                .collect();
            for (context, skipped) in [(0, 0), (1, 0), (3, 2), (9, 8), (20, 8)] {
                let nll = model.nll(&TOKENS, context).unwrap();
                assert_eq!(nll.len(), 8 - skipped);
                for (found, expected) in nll.iter().zip(&expected[skipped..]) {
                    assert!((found - expected).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let model = tiny::model(true);
        assert!(matches!(model.logits(&[50]), Err(Error::Token { token: 50, vocabulary: 50 })));
        for length in [0, 65] {
            let result = model.logits(&vec![1; length]);
            assert!(matches!(result, Err(Error::WindowLength { positions: 64, .. })));
        }
        let narrow = |_: &str| Ok(Tensor::zeros((50, 23), DType::F32, &Device::Cpu)?);
        let result = Llama::new(tiny::config(true), narrow);
        assert!(matches!(result, Err(Error::Shape { .. })));
        let odd = Config { head_dim: Some(7), ..tiny::config(true) };
        assert!(matches!(Llama::new(odd, narrow), Err(Error::Config { .. })));
    }
}
