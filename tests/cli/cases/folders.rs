//! Folders as people have them.

use std::fs;
use std::path::Path;

use super::{numbers, says};
use crate::place::Place;
use support::craft::tree;

fn layer(name: &str) -> [support::craft::Tensor; 1] {
    [numbers(name, "BF16", &[128, 128])]
}

impl Place {
    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Compresses and restores the folder `in`. Checks that every file comes back unless it was listed as left out.
    /// Returns the lines that were said.
    fn folder_comes_back(&self) -> Vec<String> {
        let lines = self.lines(&["compress", "in", "-o", "out"]);
        self.lines(&["decompress", "out", "-o", "back"]);
        let (mut expected, found) = (tree(&self.path("in")), tree(&self.path("back")));
        for line in lines.iter().filter_map(|line| line.strip_prefix("left out: ")) {
            expected.remove(Path::new(line)).expect("a file of the folder");
        }
        assert!(found == expected, "{:?}", found.keys());
        fs::remove_dir_all(self.path("out")).unwrap();
        fs::remove_dir_all(self.path("back")).unwrap();
        lines
    }
}

#[test]
fn pipelines_and_pooling() {
    let place = Place::empty();
    for part in ["unet", "vae", "text_encoder/deep"] {
        place.put(&format!("in/{part}/model.safetensors"), &layer("w"));
        place.write(&format!("in/{part}/config.json"), b"{}");
    }
    place.write("in/model_index.json", b"{}");
    assert!(says(&place.folder_comes_back(), &["3 of 3 tensors compressed"]));

    let place = Place::empty();
    place.put("in/model.safetensors", &layer("w"));
    place.write("in/1_Pooling/config.json", b"{}");
    place.write("in/modules.json", b"[]");
    assert_eq!(place.folder_comes_back().len(), 1);
}

#[test]
fn other_weights_and_halves_of_downloads_are_left_out() {
    let place = Place::empty();
    place.put("in/OLD.SAFETENSORS", &layer("a"));
    place.put("in/weights.safetensors", &layer("b"));
    let left_out = [
        "64.tflite",
        "coreml.zip",
        "flax_model.msgpack",
        "m.mlmodel",
        "m.nemo",
        "model-2.safetensors.incomplete",
        "model.onnx_data",
        "onnx/model.ONNX",
        "rust_model.ot",
        "state.pkl",
        "weights.npz",
        "x.npy",
        "y.part",
    ];
    for name in left_out {
        place.write(&format!("in/{name}"), b"x");
    }
    place.write("in/tokenizer.json", b"{}");
    let lines = place.folder_comes_back();
    let listed: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("left out: ")).collect();
    assert_eq!(listed, left_out);
    assert!(says(&lines, &["2 of 2 tensors compressed"]), "{lines:?}");
    let lines = place.lines(&["compress", "in", "-o", "out", "-v"]);
    assert!(says(&lines, &["copied: tokenizer.json (2 bytes)"]), "{lines:?}");
    // What was put beside the compressed files later is told, too.
    place.write("out/head.pt", b"x");
    let lines = place.lines(&["decompress", "out", "-o", "back"]);
    assert!(lines.contains(&"left out: head.pt".to_owned()), "{lines:?}");
}

#[test]
fn indexes_that_are_wrong_are_no_obstacle() {
    let index = |entries: &[(&str, &str)]| {
        let map: serde_json::Map<String, serde_json::Value> =
            entries.iter().map(|&(name, file)| (name.to_owned(), file.into())).collect();
        serde_json::json!({ "weight_map": map }).to_string().into_bytes()
    };
    let name = "in/model.safetensors.index.json";
    let (a, b) = ("a.safetensors", "b.safetensors");
    let cases = [
        ("stale", index(&[("a", "model-00001-of-00013.safetensors")]), "does not exist"),
        ("tied", index(&[("a", a), ("b", b), ("lm_head.weight", a)]), "is not in its file"),
        ("twice", index(&[("a", a), ("b", b), ("x", a)]), "tensor `x` is in"),
    ];
    for (case, index, what) in cases {
        let place = Place::empty();
        let twice = |name: &str| {
            let mut tensors = layer(name).to_vec();
            if case == "twice" {
                tensors.extend(layer("x"));
            }
            tensors
        };
        place.put("in/a.safetensors", &twice("a"));
        place.put("in/b.safetensors", &twice("b"));
        place.write(name, &index);
        let lines = place.folder_comes_back();
        assert!(says(&lines, &["warning: ", what]), "{case}: {lines:?}");
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
    // Saved by an editor that puts a mark before the text.
    let place = Place::empty();
    place.put("in/a.safetensors", &layer("a"));
    place.write(name, &[b"\xEF\xBB\xBF", &index(&[("a", a)])[..]].concat());
    assert_eq!(place.folder_comes_back().len(), 1);
    // What cannot be read says how to go on.
    place.write(name, &[0xFF, 0xFE, b'{', 0]);
    let error = place.error(&["compress", "in", "-o", "out"]);
    assert!(
        error.contains("delete the index: then all files of its folder are the model"),
        "{error}"
    );
}

/// A download that is not complete is no model.
#[test]
fn missing_shards_are_an_error() {
    let place = Place::empty();
    place.put("in/a.safetensors", &layer("a"));
    let index = br#"{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}"#;
    place.write("in/model.safetensors.index.json", index);
    let error = place.error(&["compress", "in", "-o", "out"]);
    assert!(error.contains("complete the download, or delete the index"), "{error}");
    assert!(error.ends_with("tensor `b`: its file `b.safetensors` does not exist"), "{error}");
}

#[test]
fn caches_are_told_from_models() {
    let place = Place::empty();
    place.put("in/blobs/0123abcd", &layer("w"));
    place.put("in/snapshots/main/model.safetensors", &layer("w"));
    let error = place.error(&["compress", "in", "-o", "out"]);
    assert!(error.contains("name one of the folders in its `snapshots`"), "{error}");
    place.ok(&["compress", "in/snapshots/main", "-o", "out"]);
}

/// Copies of a model inside of its folder, and states of its training, are no parts of it. What else is there comes along.
#[test]
fn models_inside_of_a_model_are_left_out() {
    let place = Place::empty();
    place.put("in/model.safetensors", &layer("w"));
    place.put("in/original/model.safetensors", &layer("w"));
    place.write("in/original/params.json", b"{}");
    place.write("in/checkpoint-1/broken.safetensors", b"no");
    place.write("in/checkpoint-1/model.safetensors.index.json", b"no");
    let lines = place.folder_comes_back();
    let left_out = [
        "checkpoint-1/broken.safetensors",
        "checkpoint-1/model.safetensors.index.json",
        "original/model.safetensors",
    ];
    for name in left_out {
        assert!(lines.contains(&format!("left out: {name}")), "{lines:?}");
    }
    assert_eq!(lines.len(), 4, "{lines:?}");
    // A pipeline has parts, even where its root has weights.
    place.write("in/modules.json", b"[]");
    std::fs::remove_dir_all(place.path("in/checkpoint-1")).unwrap();
    assert!(says(&place.folder_comes_back(), &["2 of 2 tensors compressed"]));
}

#[test]
fn variants_side_by_side() {
    let place = Place::empty();
    place.put("in/diffusion_pytorch_model.safetensors", &layer("w"));
    place.put("in/diffusion_pytorch_model.fp16.safetensors", &layer("w"));
    let lines = place.folder_comes_back();
    assert!(says(&lines, &["warning: ", "tensor `w` is in"]), "{lines:?}");
    // Each has its own share of a rate.
    place.lines(&["compress", "in", "-o", "out", "--format", "rate=4", "--spread"]);
    place.ok(&["verify", "out"]);
}
