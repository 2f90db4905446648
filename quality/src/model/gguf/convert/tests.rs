//! Tests of the conversion.

use candle_core::IndexOp;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};

use super::*;
use crate::model::ops::Rotary;
use crate::{Llama, Tokens, Weights, tiny};
use candle_core::Device;
use std::fs::File;

/// Reorders the rows of query and key weights as llama.cpp's converter does.
fn permute(weight: &Tensor, heads: usize) -> Tensor {
    let (rows, cols) = weight.dims2().unwrap();
    let halves = weight.reshape((heads, 2, rows / heads / 2, cols)).unwrap();
    halves.transpose(1, 2).unwrap().reshape((rows, cols)).unwrap()
}

#[test]
fn unpermute_undoes_permute() {
    let weight = Tensor::arange(0_u32, 24 * 5, &Device::Cpu).unwrap();
    let weight = weight.reshape((24, 5)).unwrap();
    let permuted = permute(&weight, 3);
    let row = |i: usize| permuted.i(i).unwrap().to_vec1::<u32>().unwrap();
    assert_eq!((row(1)[0], row(2)[0], row(8)[0]), (4 * 5, 5, 8 * 5));
    let back = unpermute(&permuted, 3).unwrap();
    assert_eq!(back.to_vec2::<u32>().unwrap(), weight.to_vec2::<u32>().unwrap());
}

#[test]
fn rotating_halves_of_unpermuted_heads_is_rotating_neighbors() {
    const HEADS: usize = 2;
    const DIM: usize = 8;
    const POSITION: usize = 3;
    let heads: Vec<f32> = (0..HEADS * DIM).map(|i| (i as f32).sin()).collect();

    let mut neighbors = heads.clone();
    for head in neighbors.chunks_exact_mut(DIM) {
        for (i, pair) in head.chunks_exact_mut(2).enumerate() {
            let angle = POSITION as f64 * 100_f64.powf(-2.0 * i as f64 / DIM as f64);
            let (sin, cos) = (angle.sin() as f32, angle.cos() as f32);
            (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
        }
    }
    let unpermuted = |heads: Vec<f32>| {
        let column = Tensor::from_vec(heads, (HEADS * DIM, 1), &Device::Cpu).unwrap();
        let rows = unpermute(&column, HEADS).unwrap().flatten_all().unwrap();
        rows.to_vec1::<f32>().unwrap()
    };
    let mut halves = unpermuted(heads).repeat(POSITION + 1);
    Rotary::new(POSITION + 1, DIM, 100.0).rotate(&mut halves, HEADS);
    let halves = &halves[POSITION * HEADS * DIM..];
    for (a, b) in halves.iter().zip(unpermuted(neighbors)) {
        assert!((a - b).abs() < 1e-6);
    }
}

#[test]
fn decimals_are_short() {
    assert_eq!(in_decimal(1e-5), 1e-5);
    assert_eq!(in_decimal(100_000.0), 100_000.0);
}

#[test]
fn broken_files_are_refused_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (path, folder) = (directory.path().join("in.gguf"), directory.path().join("out"));
    for bytes in [&b""[..], b"GGUF", b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"] {
        fs::write(&path, bytes).unwrap();
        let result = convert(&path, &folder, &mut |_, _| {});
        assert!(matches!(result, Err(Error::Invalid { .. })), "{result:?}");
    }
    let result = convert(&directory.path().join("none"), &folder, &mut |_, _| {});
    assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
/// Writes the small model as a GGUF file.
fn gguf(path: &Path, config: &Config, tensors: &BTreeMap<String, Tensor>, alignment: u32) {
    let text = |text: &str| Value::String(text.to_owned());
    let texts = |texts: &[&str]| Value::Array(texts.iter().map(|item| text(item)).collect());
    let letters: Vec<String> = (0..46).map(|i| char::from(b'A' + i).to_string()).collect();
    let mut tokens = vec!["<s>", "\u{120}", "he", "\u{120}he"];
    tokens.extend(letters.iter().map(String::as_str));
    let types = (0..tokens.len()).map(|id| Value::I32(if id == 0 { 3 } else { 1 })).collect();
    let size = |size: usize| Value::U32(size as u32);
    let metadata = [
        ("general.alignment", Value::U32(alignment)),
        ("general.architecture", text("llama")),
        ("llama.embedding_length", size(config.hidden_size)),
        ("llama.feed_forward_length", size(config.intermediate_size)),
        ("llama.block_count", size(config.num_hidden_layers)),
        ("llama.attention.head_count", size(config.num_attention_heads)),
        ("llama.attention.head_count_kv", size(config.key_value_heads())),
        ("llama.rope.dimension_count", size(config.head_dim())),
        ("llama.context_length", size(config.max_position_embeddings)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(100.0)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", texts(&tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", texts(&["h e", "\u{120} he"])),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
    ];
    let mut stored = Vec::new();
    for source in sources(config) {
        let mut tensor = tensors[&source.name].to_dtype(DType::F32).unwrap();
        if let Some(heads) = source.permuted_heads {
            tensor = permute(&tensor, heads);
        }
        stored.push((source.gguf, QTensor::quantize(&tensor, GgmlDType::F32).unwrap()));
    }
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let stored: Vec<(&str, &QTensor)> =
        stored.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = File::create(path).unwrap();
    gguf_file::write(&mut file, &metadata, &stored).unwrap();
}

#[test]
fn a_converted_model_is_the_model() {
    let directory = tempfile::tempdir().unwrap();
    let (path, folder) = (directory.path().join("in.gguf"), directory.path().join("out"));
    for tied in [true, false] {
        let config = tiny::config(tied);
        let tensors = tiny::tensors(&config);
        gguf(&path, &config, &tensors, 32);
        convert(&path, &folder, &mut |_, _| {}).unwrap();
        assert_eq!(Config::read(&folder.join("config.json")).unwrap(), config);
        let weights = Weights::open(&folder).unwrap();
        for source in sources(&config) {
            let tensor = weights.tensor_f32(&source.name).unwrap();
            let expected = tensors[&source.name].to_dtype(DType::F32).unwrap();
            let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&tensor), values(&expected), "{}", source.name);
        }
        assert!(matches!(weights.tensor("x"), Err(Error::MissingTensor { .. })));
        let logits = |model: &Llama| model.logits(&[1, 2, 3]).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(logits(&Llama::load(&folder).unwrap()), logits(&tiny::model(tied)));

        let text = directory.path().join("text");
        fs::write(&text, "he he heAB").unwrap();
        let tokens = Tokens::read(&folder, &[text]).unwrap();
        assert_eq!(tokens, Tokens { prefix: vec![0], text: vec![2, 3, 3, 4, 5] });
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn damaged_files_are_refused_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (path, folder) = (directory.path().join("in.gguf"), directory.path().join("out"));
    let config = tiny::config(true);
    let tensors = tiny::tensors(&config);
    gguf(&path, &config, &tensors, 0);
    assert!(matches!(convert(&path, &folder, &mut |_, _| {}), Err(Error::Invalid { .. })));

    gguf(&path, &config, &tensors, 32);
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).unwrap();
        let result = convert(&path, &folder, &mut |_, _| {});
        assert!(matches!(result, Err(Error::Invalid { .. })), "{length} bytes: {result:?}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
