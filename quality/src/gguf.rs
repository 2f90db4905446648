//! GGUF in, Hugging Face folder out.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::BufReader;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::{DType, Device, Tensor};

use crate::config::{Config, EMBEDDING, LayerLinear, NORM, norm_weights};
use crate::output::{self, Output};
use crate::{Error, tokenizer};

/// An open GGUF file.
pub(crate) struct Gguf<'a> {
    path: &'a Path,
    file: BufReader<File>,
    bytes: u64,
    content: Content,
}

/// Converts a Llama model in GGUF to a folder in the form of Hugging Face: `config.json`,
/// `tokenizer.json` and `model.safetensors`, dequantized and rounded to BF16. The folder appears only
/// when complete. `progress` is called with the tensors done and the tensors in all.
///
/// # Errors
/// [`Error::Exists`] if `folder` does; [`Error::Invalid`], [`Error::Unsupported`],
/// [`Error::MissingTensor`] and [`Error::Shape`] for what can be wrong with the file; [`Error::Io`].
pub fn convert(
    path: &Path,
    folder: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), Error> {
    let output = Output::folder(folder)?;
    let mut gguf = Gguf::open(path)?;
    let config = gguf.config()?;
    let json = serde_json::to_vec_pretty(&config).map_err(Error::invalid(path, "GGUF file"))?;
    write(&output, "config.json", &json)?;
    write(&output, "tokenizer.json", &tokenizer::from_gguf(&gguf)?)?;

    let tensors = gguf.tensors(&config, progress)?;
    // Without this key, the Python library refuses the file.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    output::save(&output.path().join("model.safetensors"), &tensors, metadata)?;
    output.commit()
}

/// Writes one of the small files.
fn write(output: &Output, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = output.path().join(name);
    fs::write(&path, bytes).map_err(Error::io(&path, "write"))
}

impl<'a> Gguf<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let bytes = file.metadata().map_err(Error::io(path, "open"))?.len();
        let mut file = BufReader::new(file);
        // candle divides by the alignment that the file asks for, which may be 0.
        let content = panic::catch_unwind(AssertUnwindSafe(|| Content::read(&mut file)));
        let content = content.map_err(|_| Error::invalid(path, "GGUF file")("broken header"))?;
        let content = content.map_err(Error::invalid(path, "GGUF file"))?;
        Ok(Self { path, file, bytes, content })
    }

    /// That the file cannot be used, because of this.
    pub(crate) fn invalid(&self, problem: impl Into<String>) -> Error {
        Error::invalid(self.path, "GGUF file")(problem.into())
    }

    /// That the file asks for what is not implemented.
    pub(crate) fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::unsupported(self.path, what)
    }

    /// A metadata value that may be missing.
    pub(crate) fn optional(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    /// A metadata value in the form that `convert` gives it.
    pub(crate) fn value<'s, T>(
        &'s self,
        key: &str,
        convert: impl FnOnce(&'s Value) -> candle_core::Result<T>,
    ) -> Result<T, Error> {
        let value = self.optional(key).ok_or_else(|| self.invalid(format!("{key} is missing")))?;
        convert(value).map_err(|_| self.invalid(format!("{key} is of another type")))
    }

    /// The model's dimensions.
    fn config(&self) -> Result<Config, Error> {
        let architecture = self.value("general.architecture", Value::to_string)?;
        if architecture != "llama" {
            return Err(self.unsupported(format!("architecture {architecture}")));
        }
        if self.optional("llama.rope.scaling.type").is_some() {
            return Err(self.unsupported("a scaled rotary embedding"));
        }
        let size = |key: &str| -> Result<usize, Error> {
            Ok(self.value(&format!("llama.{key}"), Value::to_u32)? as usize)
        };
        let number = |key: &str| -> Result<f64, Error> {
            Ok(in_decimal(self.value(&format!("llama.{key}"), Value::to_f32)?))
        };
        let config = Config {
            model_type: "llama".to_owned(),
            vocab_size: self.value("tokenizer.ggml.tokens", Value::to_vec)?.len(),
            hidden_size: size("embedding_length")?,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: size("block_count")?,
            num_attention_heads: size("attention.head_count")?,
            num_key_value_heads: Some(size("attention.head_count_kv")?),
            head_dim: Some(size("rope.dimension_count")?),
            max_position_embeddings: size("context_length")?,
            rms_norm_eps: number("attention.layer_norm_rms_epsilon")?,
            rope_theta: number("rope.freq_base")?,
            tie_word_embeddings: !self.content.tensor_infos.contains_key("output.weight"),
            hidden_act: "silu".to_owned(),
            attention_bias: false,
            mlp_bias: false,
            rope_scaling: None,
        };
        config.check()?;
        Ok(config)
    }

    /// All tensors of the model in BF16, by their Hugging Face names.
    fn tensors(
        &mut self,
        config: &Config,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<BTreeMap<String, Tensor>, Error> {
        let sources = sources(config);
        let known = |name: &String| sources.iter().any(|source| source.gguf == *name);
        if let Some(name) = self.content.tensor_infos.keys().find(|name| !known(name)) {
            return Err(self.unsupported(format!("tensor {name}")));
        }
        let mut tensors = BTreeMap::new();
        for (done, source) in sources.iter().enumerate() {
            let mut tensor = self.tensor(source)?;
            if let Some(heads) = source.permuted_heads {
                tensor = unpermute(&tensor, heads)?;
            }
            tensors.insert(source.name.clone(), tensor.to_dtype(DType::BF16)?);
            progress(done + 1, sources.len());
        }
        Ok(tensors)
    }

    /// One tensor in F32.
    fn tensor(&mut self, source: &Source) -> Result<Tensor, Error> {
        let Some(info) = self.content.tensor_infos.get(&source.gguf) else {
            return Err(Error::MissingTensor { name: source.gguf.clone() });
        };
        if info.shape.dims() != source.shape {
            let (expected, found) = (source.shape.clone(), info.shape.dims().to_vec());
            return Err(Error::Shape { name: source.gguf.clone(), expected, found });
        }
        // Before memory is asked for.
        let end = end(info, self.content.tensor_data_offset);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(self.invalid(format!("the file ends before tensor {} does", source.gguf)));
        }
        let tensor = info.read(&mut self.file, self.content.tensor_data_offset, &Device::Cpu);
        let tensor = tensor.and_then(|tensor| tensor.dequantize(&Device::Cpu));
        tensor.map_err(Error::invalid(self.path, "GGUF file"))
    }
}

/// Where a tensor's data end in the file.
fn end(info: &TensorInfo, data_start: u64) -> Option<u64> {
    let blocks = info.shape.elem_count().div_ceil(info.ggml_dtype.block_size());
    let bytes = blocks.checked_mul(info.ggml_dtype.type_size())?;
    data_start.checked_add(info.offset)?.checked_add(bytes as u64)
}

/// Where a tensor of the Hugging Face model comes from.
struct Source {
    name: String,
    gguf: String,
    shape: Vec<usize>,
    /// Heads, where rows are in llama.cpp's order.
    permuted_heads: Option<usize>,
}

/// All tensors of a model.
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

/// Brings the rows of query and key weights into Hugging Face's order. llama.cpp rotates neighbouring
/// rows 2i and 2i + 1 of a head as a pair; Hugging Face rotates rows i and i + half.
fn unpermute(weight: &Tensor, heads: usize) -> Result<Tensor, Error> {
    let (rows, cols) = weight.dims2()?;
    let pairs = weight.reshape((heads, rows / heads / 2, 2, cols))?;
    Ok(pairs.transpose(1, 2)?.reshape((rows, cols))?)
}

/// The F64 that reads like `value`: 1e-5, not 9.999999747378752e-6.
fn in_decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

#[cfg(test)]
mod tests;
