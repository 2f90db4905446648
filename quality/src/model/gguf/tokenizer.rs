//! Makes a `tokenizer.json` of a GGUF file's vocabulary.

use candle_core::quantized::gguf_file::Value;
use serde_json::{Map, Value as Json, json};
use tokenizers::Tokenizer;

use super::file::Gguf;
use crate::Error;

/// Value of `tokenizer.ggml.token_type` for control tokens, which no text contains.
const CONTROL: i64 = 3;

/// Returns the `tokenizer.json` of a byte-level BPE tokenizer.
pub(super) fn from_gguf(gguf: &Gguf<'_>) -> Result<Vec<u8>, Error> {
    let model = gguf.value("tokenizer.ggml.model", Value::to_string)?;
    if model != "gpt2" {
        return Err(gguf.unsupported(format!("tokenizer {model}")));
    }
    let tokens = strings(gguf, "tokenizer.ggml.tokens")?;
    let vocabulary: Map<String, Json> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special_tokens(gguf, &tokens)?,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer(gguf)?,
        "post_processor": post_processor(gguf, &tokens)?,
        "decoder": byte_level(),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges(gguf)?,
        },
    });
    let json = json.to_string().into_bytes();
    Tokenizer::from_bytes(&json).map_err(|error| gguf.invalid(error.to_string()))?;
    Ok(json)
}

/// Reads an array of strings.
fn strings<'a>(gguf: &'a Gguf<'_>, key: &str) -> Result<Vec<&'a str>, Error> {
    gguf.value(key, |value| {
        value.to_vec()?.iter().map(|value| Ok(value.to_string()?.as_str())).collect()
    })
}

/// Reads the pairs of tokens to merge, the most frequent first.
fn merges(gguf: &Gguf<'_>) -> Result<Vec<[String; 2]>, Error> {
    let key = "tokenizer.ggml.merges";
    let pairs = strings(gguf, key)?.into_iter().map(|merge| {
        let (left, right) = merge.split_once(' ')?;
        Some([left.to_owned(), right.to_owned()])
    });
    pairs.collect::<Option<_>>().ok_or_else(|| gguf.invalid(format!("{key} has no pair of tokens")))
}

/// Returns the special tokens, which are never split.
fn special_tokens(gguf: &Gguf<'_>, tokens: &[&str]) -> Result<Vec<Json>, Error> {
    let types: Vec<i64> = gguf.value("tokenizer.ggml.token_type", |value| {
        value.to_vec()?.iter().map(|value| value.to_i32().map(i64::from)).collect()
    })?;
    let token = |(id, (content, kind)): (usize, (&&str, i64))| {
        (kind == CONTROL).then(|| {
            json!({
                "id": id, "content": content, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        })
    };
    Ok(tokens.iter().zip(types).enumerate().filter_map(token).collect())
}

/// Returns the split of text before merges: GPT-2's; SmolLM's also splits at each digit.
fn pre_tokenizer(gguf: &Gguf<'_>) -> Result<Json, Error> {
    match gguf.value("tokenizer.ggml.pre", Value::to_string)?.as_str() {
        "gpt-2" => Ok(byte_level()),
        "smollm" => Ok(json!({
            "type": "Sequence",
            "pretokenizers": [{ "type": "Digits", "individual_digits": true }, byte_level()],
        })),
        other => Err(gguf.unsupported(format!("pre-tokenizer {other}"))),
    }
}

/// Returns GPT-2's split into words and its mapping of bytes to letters.
fn byte_level() -> Json {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true })
}

/// Returns the step that inserts the BOS token before a text; null if the model was trained without it.
fn post_processor(gguf: &Gguf<'_>, tokens: &[&str]) -> Result<Json, Error> {
    let key = "tokenizer.ggml.add_bos_token";
    if gguf.optional(key).is_none() || !gguf.value(key, Value::to_bool)? {
        return Ok(Json::Null);
    }
    let id = gguf.value("tokenizer.ggml.bos_token_id", Value::to_u32)?;
    let bos = tokens.get(id as usize).ok_or_else(|| gguf.invalid("there is no BOS token"))?;
    let special = |type_id| json!({ "SpecialToken": { "id": bos, "type_id": type_id } });
    let sequence = |id, type_id| json!({ "Sequence": { "id": id, "type_id": type_id } });
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [special(0), sequence("A", 0)],
        "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
        "special_tokens": { *bos: { "id": bos, "ids": [id], "tokens": [bos] } },
    }))
}
