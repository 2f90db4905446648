//! Converts a GGUF file to a Hugging Face folder.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use candle_core::{DType, Tensor};

use super::file::Gguf;
use super::tokenizer;
use crate::Error;
use crate::model::config::{Config, EMBEDDING, LayerLinear, NORM, norm_weights};
use crate::output::{self, Output};

/// Converts a Llama model in GGUF to a folder with `config.json`, `tokenizer.json` and `model.safetensors`, dequantized and
/// rounded to BF16. The folder appears only when complete. Calls `progress` with the number of finished tensors and of all.
///
/// # Errors
/// [`Error::Exists`] if `folder` exists; [`Error::Invalid`], [`Error::Unsupported`], [`Error::MissingTensor`] and
/// [`Error::Shape`] for faults of the file; [`Error::Io`].
pub fn convert(
    path: &Path,
    folder: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), Error> {
    let output = Output::folder(folder)?;
    let mut gguf = Gguf::open(path)?;
    let config = config(&gguf)?;
    let json = serde_json::to_vec_pretty(&config).map_err(Error::invalid(path, "GGUF file"))?;
    write(&output, "config.json", &json)?;
    write(&output, "tokenizer.json", &tokenizer::from_gguf(&gguf)?)?;

    let tensors = tensors(&mut gguf, &config, progress)?;
    // The Python library refuses files without this key.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    output::save(&output.path().join("model.safetensors"), &tensors, metadata)?;
    output.commit()
}

/// Writes a small file of the folder.
fn write(output: &Output, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = output.path().join(name);
    fs::write(&path, bytes).map_err(Error::io(&path, "write"))
}

/// Reads the model's configuration.
fn config(gguf: &Gguf<'_>) -> Result<Config, Error> {
    let architecture = gguf.value("general.architecture", Value::to_string)?;
    if architecture != "llama" {
        return Err(gguf.unsupported(format!("architecture {architecture}")));
    }
    if gguf.optional("llama.rope.scaling.type").is_some() {
        return Err(gguf.unsupported("a scaled rotary embedding"));
    }
    let size = |key: &str| -> Result<usize, Error> {
        Ok(gguf.value(&format!("llama.{key}"), Value::to_u32)? as usize)
    };
    let number = |key: &str| -> Result<f64, Error> {
        Ok(in_decimal(gguf.value(&format!("llama.{key}"), Value::to_f32)?))
    };
    let config = Config {
        model_type: "llama".to_owned(),
        vocab_size: gguf.value("tokenizer.ggml.tokens", Value::to_vec)?.len(),
        hidden_size: size("embedding_length")?,
        intermediate_size: size("feed_forward_length")?,
        num_hidden_layers: size("block_count")?,
        num_attention_heads: size("attention.head_count")?,
        num_key_value_heads: Some(size("attention.head_count_kv")?),
        head_dim: Some(size("rope.dimension_count")?),
        max_position_embeddings: size("context_length")?,
        rms_norm_eps: number("attention.layer_norm_rms_epsilon")?,
        rope_theta: number("rope.freq_base")?,
        tie_word_embeddings: !gguf.tensor_names().any(|name| name == "output.weight"),
        hidden_act: "silu".to_owned(),
        attention_bias: false,
        mlp_bias: false,
        rope_scaling: None,
    };
    config.check()?;
    Ok(config)
}

/// Reads all tensors in BF16, by their Hugging Face names.
fn tensors(
    gguf: &mut Gguf<'_>,
    config: &Config,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<BTreeMap<String, Tensor>, Error> {
    let sources = sources(config);
    let known = |name: &String| sources.iter().any(|source| source.gguf == *name);
    if let Some(name) = gguf.tensor_names().find(|name| !known(name)) {
        return Err(gguf.unsupported(format!("tensor {name}")));
    }
    let mut tensors = BTreeMap::new();
    for (done, source) in sources.iter().enumerate() {
        let mut tensor = gguf.tensor(&source.gguf, &source.shape)?;
        if let Some(heads) = source.permuted_heads {
            tensor = unpermute(&tensor, heads)?;
        }
        tensors.insert(source.name.clone(), tensor.to_dtype(DType::BF16)?);
        progress(done + 1, sources.len());
    }
    Ok(tensors)
}

/// A tensor of the Hugging Face model and its source in the GGUF file.
struct Source {
    /// Name in the Hugging Face model.
    name: String,
    /// Name in the GGUF file.
    gguf: String,
    shape: Vec<usize>,
    /// Number of heads if the rows are in llama.cpp's order.
    permuted_heads: Option<usize>,
}

/// Returns the sources of all tensors.
fn sources(config: &Config) -> Vec<Source> {
    let plain = |name: &str, gguf: &str, shape: &[usize]| Source {
        name: name.to_owned(),
        gguf: gguf.to_owned(),
        shape: shape.to_vec(),
        permuted_heads: None,
    };
    let hidden = config.hidden_size;
    let vocabulary = [config.vocab_size, hidden];
    let mut sources = vec![
        plain(EMBEDDING, "token_embd.weight", &vocabulary),
        plain(NORM, "output_norm.weight", &[hidden]),
    ];
    if !config.tie_word_embeddings {
        sources.push(plain(config.head(), "output.weight", &vocabulary));
    }
    for layer in 0..config.num_hidden_layers {
        for (name, gguf) in norm_weights(layer).iter().zip(["attn_norm", "ffn_norm"]) {
            sources.push(plain(name, &format!("blk.{layer}.{gguf}.weight"), &[hidden]));
        }
        for linear in LayerLinear::ALL {
            let (gguf, permuted_heads) = match linear {
                LayerLinear::Query => ("attn_q", Some(config.num_attention_heads)),
                LayerLinear::Key => ("attn_k", Some(config.key_value_heads())),
                LayerLinear::Value => ("attn_v", None),
                LayerLinear::Output => ("attn_output", None),
                LayerLinear::Gate => ("ffn_gate", None),
                LayerLinear::Up => ("ffn_up", None),
                LayerLinear::Down => ("ffn_down", None),
            };
            let gguf = format!("blk.{layer}.{gguf}.weight");
            let source = plain(&linear.weight(layer), &gguf, &config.linear_shape(linear));
            sources.push(Source { permuted_heads, ..source });
        }
    }
    sources
}

/// Reorders the rows of query and key weights. llama.cpp rotates adjacent rows 2i and 2i + 1 of a head as a pair; Hugging
/// Face rotates rows i and i + half.
fn unpermute(weight: &Tensor, heads: usize) -> Result<Tensor, Error> {
    let (rows, cols) = weight.dims2()?;
    let pairs = weight.reshape((heads, rows / heads / 2, 2, cols))?;
    Ok(pairs.transpose(1, 2)?.reshape((rows, cols))?)
}

/// Returns the F64 with the shortest decimal form of `value`: 1e-5, not 9.999999747378752e-6.
fn in_decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

#[cfg(test)]
mod tests;
