//! Checkpoints that are quantized already: their scales, zero points and other side data stay exact.

use super::{codes, numbers, says};
use crate::place::Place;
use support::craft::Tensor;

/// Quantizes a checkpoint in every format, together with a layer that can be quantized. Nothing else may change.
fn only_the_plain_layer_changes(mut tensors: Vec<Tensor>) {
    let place = Place::empty();
    tensors.push(numbers("plain.weight", "BF16", &[256, 256]));
    place.put("in", &tensors);
    for format in ["rate=4", "int4", "int4-zero-points", "int8", "fp8"] {
        let (lines, changed) = place.quantized(&["--format", format]);
        assert_eq!(changed, ["plain.weight"], "{format}");
        assert!(says(&lines, &["not quantized: ", "quantized before"]), "{lines:?}");
    }
    // A pattern or a rule may match more than its author thought of.
    std::fs::write(place.path("rules"), "[[layer]]\nname = '.'\nformat = 'int8'\n").unwrap();
    for args in [["--include", "."], ["--rules", "rules"]] {
        let (_, changed) = place.quantized(&[&args[..], &["--format", "int8"]].concat());
        assert_eq!(changed, ["plain.weight"], "{args:?}");
    }
}

#[test]
fn fp8_with_block_scales() {
    only_the_plain_layer_changes(vec![
        codes("model.layers.0.mlp.gate_proj.weight", "F8_E4M3", &[512, 1024], 1),
        numbers("model.layers.0.mlp.gate_proj.weight_scale_inv", "F32", &[64, 64]),
    ]);
    // The same names in BF16, and a factor beside them.
    only_the_plain_layer_changes(vec![
        codes("x.weight", "F8_E5M2", &[512, 1024], 1),
        numbers("x.scale", "BF16", &[64, 128]),
        numbers("x.proj_down", "BF16", &[512, 16]),
    ]);
}

#[test]
fn gptq_and_awq() {
    only_the_plain_layer_changes(vec![
        codes("q_proj.qweight", "I32", &[64, 512], 4),
        codes("q_proj.qzeros", "I32", &[32, 64], 4),
        numbers("q_proj.scales", "F16", &[32, 512]),
        codes("q_proj.g_idx", "I32", &[512], 4),
    ]);
}

#[test]
fn compressed_tensors() {
    only_the_plain_layer_changes(vec![
        codes("q_proj.weight_packed", "I32", &[512, 64], 4),
        numbers("q_proj.weight_scale", "BF16", &[512, 32]),
        codes("q_proj.weight_shape", "I64", &[2], 8),
    ]);
    only_the_plain_layer_changes(vec![
        codes("q_proj.weight", "I8", &[512, 512], 1),
        numbers("q_proj.weight_scale", "BF16", &[512, 32]),
    ]);
    // NVFP4.
    only_the_plain_layer_changes(vec![
        codes("q_proj.weight", "U8", &[512, 256], 1),
        codes("q_proj.weight_scale", "F8_E4M3", &[512, 32], 1),
        numbers("q_proj.weight_scale_2", "F32", &[32, 64]),
    ]);
}

#[test]
fn bitsandbytes_and_mlx() {
    only_the_plain_layer_changes(vec![
        codes("q_proj.weight", "U8", &[1 << 17, 1], 1),
        numbers("q_proj.weight.absmax", "F32", &[64, 64]),
        numbers("q_proj.weight.quant_map", "F32", &[16, 16]),
    ]);
    only_the_plain_layer_changes(vec![
        codes("q_proj.weight", "I8", &[512, 512], 1),
        numbers("q_proj.SCB", "F32", &[16, 32]),
    ]);
    only_the_plain_layer_changes(vec![
        codes("q_proj.weight", "U32", &[512, 64], 4),
        numbers("q_proj.scales", "BF16", &[512, 32]),
        numbers("q_proj.biases", "BF16", &[512, 32]),
    ]);
}

#[test]
fn experts_in_mxfp4() {
    only_the_plain_layer_changes(vec![
        codes("mlp.experts.gate_up_proj_blocks", "U8", &[4, 64, 16, 16], 1),
        codes("mlp.experts.gate_up_proj_scales", "U8", &[4, 64, 16], 1),
        numbers("mlp.experts.gate_up_proj_bias", "BF16", &[64, 64]),
    ]);
}

/// The scales may be in another file than their weights.
#[test]
fn scales_in_another_shard() {
    let place = Place::empty();
    let scales = numbers("x.magnitudes", "F32", &[64, 64]);
    place.put("in/a.safetensors", &[codes("x.weight", "F8_E4M3", &[512, 1024], 1)]);
    place.put("in/b.safetensors", std::slice::from_ref(&scales));
    let lines = place.lines(&["compress", "in", "-o", "out", "--format", "int8"]);
    assert!(says(&lines, &["warning: nothing is quantized"]), "{lines:?}");
    assert!(says(&lines, &["1 tensor with scales or the like", "x.magnitudes"]), "{lines:?}");
    // By itself, it is a matrix like others.
    place.put("in2", &[scales]);
    let lines = place.lines(&["compress", "in2", "-o", "out2", "--format", "int8"]);
    assert!(says(&lines, &["1 of them quantized"]), "{lines:?}");
}

#[test]
fn side_data_in_modules_of_their_own() {
    only_the_plain_layer_changes(vec![
        codes("down_proj.indices", "I32", &[64, 512], 4),
        numbers("down_proj.centroids.weight", "BF16", &[128, 32]),
        numbers("down_proj.res_centroids.weight", "BF16", &[128, 32]),
    ]);
    only_the_plain_layer_changes(vec![
        codes("q_proj.base_layer.weight", "U8", &[1 << 17, 1], 1),
        numbers("q_proj.lora_A.default.weight", "BF16", &[32, 256]),
        numbers("q_proj.lora_B.default.weight", "BF16", &[256, 32]),
    ]);
}

/// Layers beside codes, and models beside quantized ones, are layers like others.
#[test]
fn layers_beside_codes_are_quantized() {
    let place = Place::empty();
    let layers = ["attn.wk", "attn.in_proj_weight"];
    place.put(
        "in",
        &[
            codes("attn.wq", "I8", &[512, 512], 1),
            codes("attn.attn_mask", "U8", &[512, 512], 1),
            numbers(layers[0], "BF16", &[128, 256]),
            numbers(layers[1], "BF16", &[128, 256]),
        ],
    );
    let (_, mut changed) = place.quantized(&["--format", "int8"]);
    changed.reverse();
    assert_eq!(changed, layers);
    // Both models of a pipeline have the same names.
    std::fs::remove_file(place.path("in")).unwrap();
    std::fs::remove_file(place.path("out")).unwrap();
    place.put("in/one/model.safetensors", &[codes("q.weight", "F8_E4M3", &[512, 512], 1)]);
    place.put("in/two/model.safetensors", &[numbers("q.weight", "BF16", &[128, 256])]);
    let lines = place.lines(&["compress", "in", "-o", "out", "--format", "int8"]);
    assert!(says(&lines, &["1 of them quantized"]), "{lines:?}");
}
