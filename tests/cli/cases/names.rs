//! Which layers a quantizer takes, by their names, and what is said of the others.

use std::fs;

use super::{numbers, says};
use crate::place::Place;

/// Linear layers, some of which have words of others in their names.
const LINEAR: [&str; 9] = [
    "blk.0.ffn_gate.weight",
    "debiased.weight",
    "double_blocks.0.img_mod.lin.weight",
    "lm_head.weight",
    "normalizer.proj.weight",
    "time_embedding.linear_1.weight",
    "transformer_blocks.0.norm1.linear.weight",
    "visual.blocks.0.attn.qkv.weight",
    "x_embedder.weight",
];

/// Embeddings, norms and biases.
const LOOKED_UP: [&str; 6] = [
    "emb.weight",
    "model.embed_tokens.weight",
    "norm2.weight",
    "relative_attention_bias.weight",
    "shared.weight",
    "token_embd.weight",
];

/// Routers, code books, parameters of state-space models.
const CRITICAL: [&str; 7] = [
    "blk.0.ffn_gate_inp.weight",
    "mixer.A_log",
    "mixer.x_proj.weight",
    "model.layers.0.block_sparse_moe.gate.weight",
    "model.layers.0.mlp.gate.weight",
    "model.layers.0.mlp.router.weight",
    "quantizer.codebook",
];

fn place() -> Place {
    let place = Place::empty();
    let all = [&LINEAR[..], &LOOKED_UP, &CRITICAL].concat();
    let tensors: Vec<_> = all.iter().map(|name| numbers(name, "BF16", &[128, 256])).collect();
    place.put("in", &tensors);
    place
}

#[test]
fn linear_layers_are_quantized_and_the_others_named() {
    let place = place();
    for format in ["rate=4", "int8"] {
        let (lines, changed) = place.quantized(&["--format", format]);
        assert_eq!(changed, LINEAR);
        let share =
            "left lossless by name: 13 tensors other than linear layers, 59.1 % of the weights: ";
        assert!(says(&lines, &[share, " and 10 more"]), "{lines:?}");
    }
    let (lines, _) = place.quantized(&["--format", "int8", "-v"]);
    assert!(says(&lines, &[LOOKED_UP[0], CRITICAL[6]]), "{lines:?}");
    let (lines, _) = place.quantized(&["--format", "int8", "--quiet"]);
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn patterns_ask_for_embeddings_and_rules_for_all() {
    let place = place();
    let (_, changed) = place.quantized(&["--format", "int8", "--include", "."]);
    let mut expected = [&LINEAR[..], &LOOKED_UP].concat();
    expected.sort_unstable();
    assert_eq!(changed, expected);
    fs::write(place.path("rules"), "[[layer]]\nname = '.'\nformat = 'int8'\n").unwrap();
    let (_, changed) = place.quantized(&["--rules", "rules"]);
    assert_eq!(changed.len(), LINEAR.len() + LOOKED_UP.len() + CRITICAL.len());
}

/// Without loss, every one is compressed.
#[test]
fn names_do_not_matter_without_a_quantizer() {
    let place = place();
    let (lines, changed) = place.quantized(&[]);
    assert_eq!(changed, [""; 0]);
    assert!(lines.len() == 1 && says(&lines, &["22 of 22 tensors compressed"]), "{lines:?}");
}

/// The worst row and column tell of a matrix that was quantized along the wrong axis, which the total does not.
#[test]
fn verify_shows_the_worst_row_and_column() {
    let place = Place::empty();
    // A column of outputs that are a thousand times smaller than the others.
    let mut values = support::sources::normal(256, 256, 1.0, 1).values;
    values.iter_mut().skip(7).step_by(256).for_each(|x| *x /= 1000.0);
    let data = values.into_iter().flat_map(f32::to_le_bytes).collect();
    place.put("in", &[support::craft::tensor("w", "F32", &[256, 256], data)]);
    place.lines(&["compress", "in", "-o", "out", "--format", "int4"]);
    let said = place.run(&["verify", "out", "--against", "in"]);
    let table = String::from_utf8(said.stdout).unwrap();
    assert!(table.contains("worst row") && table.contains("1.00000 (7)"), "{table}");
    let json = place.run(&["verify", "out", "--against", "in", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let error = &json["errors"][0];
    assert_eq!((&error["worst_column"]["index"]), &7);
    assert_eq!(error["worst_column"]["relative_error"], 1.0);
    assert!(error["worst_row"]["relative_error"].as_f64().unwrap() < 0.2, "{error}");
}
