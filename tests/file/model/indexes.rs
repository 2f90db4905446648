//! Damaged and hostile indexes, and indexes of other shards.

use std::fs;

use fused_rans::ErrorKind;
use fused_rans::file::{IndexFault, Model, ModelFault};

use super::{INDEX, ONE, TWO, comes_back_with_warnings, compress, fault, folder, weights};
use support::craft::Files;

/// Returns the fault of the index `text` of two shards. Opening the folder and opening the index must give the same.
fn index_fault(files: &Files, text: &str) -> IndexFault {
    let input = files.path("in");
    fs::write(input.join(INDEX), text).unwrap();
    let [a, b] = [&input, &input.join(INDEX)].map(|input| {
        let error = compress(input, &files.path("out")).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Corruption);
        fault(error)
    });
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
    assert!(!files.names().iter().any(|name| name == "out" || name.starts_with('.')));
    match a {
        ModelFault::Index { path, source } if path == input.join(INDEX) => source,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn invalid_indexes_are_refused() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let map = |entries: &str| index_fault(&files, &format!(r#"{{"weight_map":{{{entries}}}}}"#));

    // All of these paths lead to a shard.
    files.put("out.safetensors", &weights()[0].1);
    fs::create_dir(input.join("inner")).unwrap();
    fs::copy(input.join(ONE), input.join("inner").join(ONE)).unwrap();
    fs::copy(input.join(ONE), input.join("shard.bin")).unwrap();
    let absolute = input.join(ONE);
    let inner = format!("inner/{ONE}");
    let dotted = format!("./{ONE}");
    for name in
        ["../out.safetensors", absolute.to_str().unwrap(), &inner, &dotted, "shard.bin", "", ".."]
    {
        let found = map(&format!(r#""z":{name:?}"#));
        let IndexFault::ShardName { tensor, shard } = found else { panic!("{name}: {found:?}") };
        assert_eq!((tensor.as_str(), shard.as_str()), ("z", name));
    }

    let twice = map(&format!(r#""z":"{ONE}","norm":"{TWO}","z":"{ONE}""#));
    assert!(matches!(twice, IndexFault::Duplicate(tensor) if tensor == "z"));
    assert!(matches!(map(""), IndexFault::Empty));
}

/// All files of the folder come back, whatever the index says of them.
#[test]
fn indexes_that_are_wrong_give_warnings() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let warning = |map: &str| {
        fs::write(input.join(INDEX), format!(r#"{{"weight_map":{map}}}"#)).unwrap();
        let warnings = comes_back_with_warnings(&files, &input);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        warnings[0].clone()
    };
    let stale = warning(r#"{"z":"absent.safetensors"}"#);
    assert!(stale.ends_with("tensor `z`: its file `absent.safetensors` does not exist"), "{stale}");
    assert_eq!(Model::open(&input).unwrap().shards().count(), 2);
    // By itself, such an index names no model.
    let found = fault(Model::open(input.join(INDEX)).unwrap_err());
    assert!(matches!(found, ModelFault::Index { source: IndexFault::NoShard { .. }, .. }));
    for misplaced in ["head", "nowhere"] {
        let found = warning(&format!(r#"{{"z":"{ONE}","{misplaced}":"{ONE}","norm":"{TWO}"}}"#));
        let expected = format!("tensor `{misplaced}` is not in its file `{ONE}`");
        assert!(found.ends_with(&expected), "{found}");
        Model::open(input.join(INDEX)).unwrap();
    }
    // Some editors put a mark before the text.
    fs::write(input.join(INDEX), [b"\xEF\xBB\xBF", &weights()[2].1[..]].concat()).unwrap();
    assert_eq!(comes_back_with_warnings(&files, &input), [""; 0]);
}

#[test]
fn indexes_of_another_form_are_refused() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let good = format!(r#"{{"z":"{ONE}"}}"#);
    let wrong = [
        String::new(),
        "null".to_owned(),
        "{}".to_owned(),
        format!("[{good}]"),
        good.clone(),
        format!(r#"{{"weight_map":{good}}} {{}}"#),
        format!(r#"{{"weight_map":{good},}}"#),
        format!(r#"{{"weight_map":{good},"weight_map":{good}}}"#),
        format!(r#"{{"weight_map":["{ONE}"]}}"#),
        r#"{"weight_map":null}"#.to_owned(),
        r#"{"weight_map":{"z":1}}"#.to_owned(),
        r#"{"weight_map":{"z":null}}"#.to_owned(),
        format!(r#"{{"weight_map":{{"z":["{ONE}"]}}}}"#),
        // Nested so deep that a recursive parser would exhaust the stack.
        format!(r#"{{"weight_map":{}"#, "[".repeat(1_000_000)),
        format!(r#"{{"metadata":{}"#, "[".repeat(1_000_000)),
    ];
    for text in wrong {
        let found = index_fault(&files, &text);
        assert!(matches!(found, IndexFault::Json(_)), "{text:.80}: {found:?}");
    }
    let index = weights()[2].1.clone();
    for length in 0..index.len() {
        fs::write(input.join(INDEX), &index[..length]).unwrap();
        assert!(Model::open(&input).is_err(), "{length}");
    }
    // The other entries may have any JSON value.
    fs::write(input.join(INDEX), format!(r#"{{"weight_map":{good},"metadata":[1e999]}}"#)).unwrap();
    Model::open(&input).unwrap();
    fs::write(input.join(INDEX), [&index[..], b"\xFF"].concat()).unwrap();
    Model::open(&input).unwrap_err();
    fs::remove_file(input.join(INDEX)).unwrap();
    fs::create_dir(input.join(INDEX)).unwrap();
    assert_eq!(Model::open(&input).unwrap().companions().count(), 0, "a folder is no index");
}
