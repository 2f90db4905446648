//! Whole models: folders, indexes, single files.

mod indexes;
mod quantized;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::craft;

use fused_rans::ErrorKind;
use fused_rans::file::{
    self, CompressOptions, FileError, Model, ModelFault, Progress, Summary, inspect,
};
use support::craft::{Files, bf16, i8, noise, plain, tensor, tree};

use crate::counts;

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Returns two shards and their index.
fn weights() -> [(&'static str, Vec<u8>); 3] {
    let one =
        [tensor("embed", "BF16", &[64, 48], bf16(64 * 48)), tensor("z", "F32", &[], noise(4))];
    let two = [tensor("head", "I8", &[96, 64], i8(96 * 64)), tensor("norm", "BF16", &[7], bf16(7))];
    // An index may list the tensors of a shard apart from each other.
    let index = format!(
        r#"{{"metadata": {{"total_size": 12306}}, "weight_map":
        {{"z": "{ONE}", "head": "{TWO}", "embed": "{ONE}", "norm": "{TWO}"}}}}"#
    );
    [(ONE, plain(&one, "", 0)), (TWO, plain(&two, r#"{"format":"pt"}"#, 3)), (INDEX, index.into())]
}

/// Creates a folder with these files.
fn folder(files: &Files, name: &str, entries: &[(&str, Vec<u8>)]) -> PathBuf {
    let path = files.path(name);
    fs::create_dir(&path).unwrap();
    for (name, bytes) in entries {
        fs::write(path.join(name), bytes).unwrap();
    }
    path
}

/// Returns the bytes of all entries of a folder, by name: `None` for folders.
fn contents(path: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let entry = |entry: fs::DirEntry| {
        let bytes = entry.file_type().unwrap().is_file().then(|| fs::read(entry.path()).unwrap());
        (entry.file_name().into_string().unwrap(), bytes)
    };
    fs::read_dir(path).unwrap().map(|next| entry(next.unwrap())).collect()
}

fn names(path: &Path) -> Vec<String> {
    contents(path).into_keys().collect()
}

fn compress(input: &Path, output: &Path) -> Result<Summary, FileError> {
    file::compress(input, output, &CompressOptions::default(), Progress::silent())
}

fn decompress(input: &Path, output: &Path) -> Result<Summary, FileError> {
    file::decompress(input, output, Progress::silent())
}

fn verify(path: &Path, against: Option<&Path>) -> Result<Summary, FileError> {
    match against {
        Some(against) => file::verify_against(path, against, Progress::silent()),
        None => file::verify(path, Progress::silent()),
    }
}

fn fault(error: FileError) -> ModelFault {
    match error {
        FileError::Model(fault) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn folders_come_back() {
    let files = Files::new();
    let mut entries = weights().to_vec();
    entries.push(("config.json", b"{}".to_vec()));
    entries.push(("tokenizer.model", noise(99)));
    let input = folder(&files, "in", &entries);
    let expected = contents(&input);
    let left_out =
        [".gitattributes", "consolidated.safetensors", "onnx/model.onnx", "pytorch_model.bin"];
    fs::create_dir(input.join("onnx")).unwrap();
    fs::write(input.join("onnx/model.onnx"), "weights").unwrap();
    fs::write(input.join(".gitattributes"), "").unwrap();
    fs::write(input.join("pytorch_model.bin"), "weights").unwrap();
    fs::write(input.join("consolidated.safetensors"), "the same again").unwrap();

    let model = Model::open(&input).unwrap();
    assert!(model.shards().eq([input.join(ONE), input.join(TWO)]));
    assert!(model.left_out().eq(left_out.map(Path::new)));
    assert!(model.companions().eq(["config.json", INDEX, "tokenizer.model"].map(Path::new)));
    let (packed, back) = (files.path("packed"), files.path("back"));
    let summary = compress(&input, &packed).unwrap();
    let found = contents(&packed);
    assert!(found.keys().eq(expected.keys()));
    for (name, bytes) in &found {
        let is_shard = [ONE, TWO].contains(&name.as_str());
        assert_eq!(bytes == &expected[name], !is_shard, "{name}");
    }
    let sizes = |map: &BTreeMap<_, Option<Vec<u8>>>| {
        [ONE, TWO].map(|name| map[name].as_ref().unwrap().len() as u64).iter().sum::<u64>()
    };
    let (original_bytes, stored_bytes) = (sizes(&expected), sizes(&found));
    assert_eq!((summary.tensors, summary.blobs, summary.quantized), (4, 2, 0));
    assert_eq!((summary.original_bytes, summary.stored_bytes), (original_bytes, stored_bytes));
    let copied = ["config.json", INDEX, "tokenizer.model"].map(PathBuf::from);
    assert_eq!(
        (&summary.copied[..], &summary.left_out[..]),
        (&copied[..], &left_out.map(PathBuf::from)[..])
    );
    assert_eq!(counts(&verify(&packed, None).unwrap()), counts(&summary));
    assert_eq!(counts(&verify(&packed, Some(&input)).unwrap()), counts(&summary));
    let restored = decompress(&packed, &back).unwrap();
    assert_eq!(counts(&restored), counts(&summary));
    assert_eq!((&restored.copied[..], restored.left_out.len()), (&copied[..], 0));
    assert_eq!(contents(&back), expected);
    assert_eq!(files.names(), ["back", "in", "packed"]);
}

#[test]
fn an_index_names_a_model_with_its_shards() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let expected = contents(&input);
    fs::write(input.join("config.json"), "{}").unwrap();
    let index = input.join(INDEX);
    compress(&index, &files.path("packed")).unwrap();
    let packed = files.path("packed").join(INDEX);
    verify(&packed, Some(&index)).unwrap();
    decompress(&packed, &files.path("back")).unwrap();
    assert_eq!(contents(&files.path("back")), expected);
    let model = Model::open(&index).unwrap();
    assert!(model.companions().eq([Path::new(INDEX)]) && model.left_out().next().is_none());
    // The folder finds an index of another name, too.
    fs::rename(&index, input.join("other.safetensors.index.json")).unwrap();
    compress(&input, &files.path("again")).unwrap();
    assert_eq!(names(&files.path("again")).len(), 4);
}

#[test]
fn models_of_one_file_are_found() {
    let files = Files::new();
    let [(_, one), (_, two), _] = weights();
    let single = "model.safetensors";
    let entries = [(single, one.clone()), ("model.fp16.safetensors", one.clone())];
    let input = folder(&files, "in", &entries);
    compress(&input, &files.path("packed")).unwrap();
    assert_eq!(names(&files.path("packed")), [single]);
    decompress(&files.path("packed"), &files.path("back")).unwrap();
    assert_eq!(fs::read(files.path("back").join(single)).unwrap(), one);
    verify(&files.path("packed"), Some(&input.join(single))).unwrap();

    // Some programs write an index even for one file.
    let index = format!(r#"{{"weight_map": {{"z": "{single}"}}}}"#);
    fs::write(input.join(INDEX), index).unwrap();
    compress(&input, &files.path("indexed")).unwrap();
    assert_eq!(names(&files.path("indexed")), [single, INDEX]);

    // Without an index and `model.safetensors`, all files are the model.
    let pair = folder(&files, "pair", &[("a.safetensors", one.clone()), ("b.safetensors", two)]);
    assert_eq!(compress(&pair, &files.path("packed pair")).unwrap().tensors, 4);
    assert_eq!(names(&files.path("packed pair")), ["a.safetensors", "b.safetensors"]);
}

#[test]
fn single_files_are_what_they_were() {
    let files = Files::new();
    let input = files.put("in", &weights()[0].1);
    let packed = files.packed(&weights()[0].1);
    let (output, back) = (files.path("out"), files.path("back"));
    let summary = compress(&input, &output).unwrap();
    assert!(fs::read(&output).unwrap() == packed);
    assert_eq!(counts(&verify(&output, Some(&input)).unwrap()), counts(&summary));
    assert_eq!(counts(&decompress(&output, &back).unwrap()), counts(&summary));
    assert_eq!(fs::read(&back).unwrap(), weights()[0].1);
    assert!(Model::open(&output).unwrap().shards().eq([&output]));
    let missing = compress(&files.path("missing"), &output).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
}

#[test]
fn folders_without_weights_are_refused() {
    let files = Files::new();
    let empty = folder(&files, "empty", &[("config.json", vec![]), ("model.bin", vec![])]);
    let found = fault(Model::open(&empty).unwrap_err());
    assert!(matches!(found, ModelFault::NoWeights { path } if path == empty));
    assert_eq!(files.names(), ["empty"]);
}

/// Compresses and restores the folder `input`, and checks that every file of it comes back but those left out. Returns the
/// warnings.
fn comes_back_with_warnings(files: &Files, input: &Path) -> Vec<String> {
    let (packed, back) = (files.path("packed"), files.path("back"));
    let summary = compress(input, &packed).unwrap();
    verify(&packed, Some(input)).unwrap();
    decompress(&packed, &back).unwrap();
    let mut expected = tree(input);
    for name in &summary.left_out {
        expected.remove(name).expect("a file");
    }
    assert_eq!(tree(&back), expected);
    fs::remove_dir_all(packed).unwrap();
    fs::remove_dir_all(back).unwrap();
    summary.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn two_models_in_one_folder_both_come_back() {
    let files = Files::new();
    let both = folder(&files, "both", &weights());
    fs::copy(both.join(ONE), both.join("model.safetensors")).unwrap();
    let warnings = comes_back_with_warnings(&files, &both);
    assert!(
        warnings[0].contains("more than one model, model.safetensors and model.safetensors.index"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("is in"), "{warnings:?}");
    assert_eq!(warnings.len(), 2);

    let indexes = folder(&files, "indexes", &weights());
    fs::rename(indexes.join(INDEX), indexes.join("a.safetensors.index.json")).unwrap();
    fs::write(indexes.join("b.safetensors.index.json"), &weights()[2].1).unwrap();
    assert_eq!(comes_back_with_warnings(&files, &indexes), [""; 0]);
    Model::open(indexes.join("a.safetensors.index.json")).unwrap();
    assert_eq!(files.names(), ["both", "indexes"]);
}

#[test]
fn tensors_in_two_shards_come_back_with_a_warning() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let two = [tensor("norm", "BF16", &[7], bf16(7)), tensor("embed", "U8", &[0], vec![])];
    fs::write(input.join(TWO), plain(&two, "", 0)).unwrap();
    let index = format!(r#"{{"weight_map":{{"norm":"{TWO}","z":"{ONE}"}}}}"#);
    for with_index in [true, false] {
        match with_index {
            true => fs::write(input.join(INDEX), &index).unwrap(),
            false => fs::remove_file(input.join(INDEX)).unwrap(),
        }
        let model = Model::open(&input).unwrap();
        let [ModelFault::TensorTwice { path, other, tensor }] =
            model.faults().collect::<Vec<_>>()[..]
        else {
            panic!("{model:?}")
        };
        assert_eq!((path, other), (&input.join(TWO), &input.join(ONE)));
        assert_eq!(tensor, "embed");
        assert_eq!(comes_back_with_warnings(&files, &input).len(), 1);
    }
}

#[test]
fn folders_inside_of_a_folder_come_back() {
    let files = Files::new();
    let [(_, one), (_, two), (_, index)] = weights();
    let input = folder(&files, "in", &[("model_index.json", b"{}".to_vec())]);
    for (name, bytes) in [
        ("unet/model.safetensors", &one),
        ("unet/config.json", &b"{}".to_vec()),
        ("text_encoder/model-00001-of-00002.safetensors", &one),
        ("text_encoder/model-00002-of-00002.safetensors", &two),
        ("text_encoder/model.safetensors.index.json", &index),
        // Variants side by side.
        ("vae/diffusion_pytorch_model.safetensors", &one),
        ("vae/diffusion_pytorch_model.fp16.safetensors", &one),
        ("1_Pooling/config.json", &b"{}".to_vec()),
        ("unet/deep/er/note.txt", &b"x".to_vec()),
        ("unet/model.fp16.safetensors", &one),
        // Not of the model.
        ("onnx/model.onnx", &b"x".to_vec()),
        (".cache/x.safetensors", &one),
    ] {
        let path = input.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::create_dir(input.join("empty")).unwrap();
    let model = Model::open(&input).unwrap();
    let left_out = [".cache", "onnx/model.onnx"];
    assert!(model.left_out().eq(left_out.map(Path::new)));
    assert_eq!(model.shards().count(), 6);
    fs::remove_dir_all(input.join(".cache")).unwrap();
    let warnings = comes_back_with_warnings(&files, &input);
    assert!(warnings.len() == 2 && warnings[1].contains("vae"), "{warnings:?}");
}

#[test]
fn outputs_are_empty_places_outside_of_the_input() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let before = contents(&input);
    let kept = folder(&files, "kept", &[("precious", b"1".to_vec())]);
    let file = files.put("file", b"2");
    for input in [&input, &input.join(INDEX)] {
        for output in [&kept, &file] {
            let error = compress(input, output).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(matches!(fault(error), ModelFault::OutputExists { path } if path == *output));
        }
        let root = files.path("in");
        for output in [root.clone(), root.join("."), files.path("kept/../in")] {
            let error = compress(input, &output).unwrap_err();
            assert!(matches!(error, FileError::SameFile { path } if path == output));
        }
        for output in ["in/out", "kept/../in/out"].map(|output| files.path(output)) {
            let error = compress(input, &output).unwrap_err();
            assert!(
                matches!(fault(error), ModelFault::OutputInside { path, .. } if path == output)
            );
        }
        for output in ["nowhere/out", "nowhere/.."].map(|output| files.path(output)) {
            let error = compress(input, &output).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(matches!(error, FileError::NoFolder { path } if path == files.path("nowhere")));
        }
        let output = files.path("file/out");
        let error = compress(input, &output).unwrap_err();
        assert!(matches!(error, FileError::Io { path, .. } if path == output));
    }
    compress(&input, &files.path("new")).unwrap();
    fs::create_dir(files.path("empty")).unwrap();
    compress(&input, &files.path("empty/")).unwrap();
    assert_eq!(contents(&files.path("empty")), contents(&files.path("new")));
    assert!(matches!(
        fault(decompress(&files.path("new"), &kept).unwrap_err()),
        ModelFault::OutputExists { .. }
    ));
    assert_eq!(contents(&input), before);
    assert_eq!(contents(&kept).into_keys().collect::<Vec<_>>(), ["precious"]);
    assert_eq!(files.names(), ["empty", "file", "in", "kept", "new"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let files = Files::new();
    // The cache of Hugging Face's tools has such links.
    fs::create_dir(files.path("blobs")).unwrap();
    let snapshot = folder(&files, "snapshot", &[]);
    let entries = weights().into_iter().chain([("config.json", b"{}".to_vec())]);
    for (number, (name, bytes)) in entries.enumerate() {
        fs::write(files.path(&format!("blobs/{number}")), bytes).unwrap();
        symlink(format!("../blobs/{number}"), snapshot.join(name)).unwrap();
    }
    symlink("../blobs", snapshot.join("folder")).unwrap();
    symlink("snapshot", files.path("link")).unwrap();
    compress(&files.path("link"), &files.path("packed")).unwrap();
    decompress(&files.path("packed"), &files.path("back")).unwrap();
    let expected: BTreeMap<String, Option<Vec<u8>>> = weights()
        .into_iter()
        .chain([("config.json", b"{}".to_vec())])
        .map(|(name, bytes)| (name.to_owned(), Some(bytes)))
        .collect();
    assert_eq!(contents(&files.path("back")), expected);
    let mode = |name: &str| fs::metadata(files.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("packed"), mode("blobs"));

    let inside = fault(compress(&snapshot, &files.path("link/out")).unwrap_err());
    assert!(matches!(inside, ModelFault::OutputInside { .. }));
    let same = compress(&snapshot, &files.path("link")).unwrap_err();
    assert!(matches!(same, FileError::SameFile { .. }));
    symlink("nothing", files.path("dangling")).unwrap();
    let dangling = fault(compress(&snapshot, &files.path("dangling")).unwrap_err());
    assert!(matches!(dangling, ModelFault::OutputExists { .. }));
    // The link of a file that was never downloaded is broken.
    for name in ["config.json", TWO] {
        fs::remove_file(snapshot.join(name)).unwrap();
        symlink("../blobs/absent", snapshot.join(name)).unwrap();
        let error = compress(&snapshot, &files.path("out")).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let names = ["back", "blobs", "dangling", "link", "packed", "snapshot"];
    assert_eq!(files.names(), names);
}

#[test]
fn damaged_shards_are_named_and_leave_nothing() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let packed = files.path("packed");
    compress(&input, &packed).unwrap();
    let damage = |path: PathBuf, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    };
    // The weights of the last shard are damaged: this is found when the first one has been restored.
    damage(packed.join(TWO), &|bytes| *bytes.last_mut().unwrap() ^= 1);
    let mut done = Vec::new();
    let progress = Progress::new(|bytes, _| done.push(bytes));
    let errors = [
        file::decompress(&packed, files.path("back"), progress).unwrap_err(),
        verify(&packed, None).unwrap_err(),
        verify(&packed, Some(&input)).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, FileError::Tensor { path, .. } if *path == packed.join(TWO)));
    }
    assert!(done.len() >= 2, "the first shard was restored");
    let empty = folder(&files, "empty", &[]);
    decompress(&packed, &empty).unwrap_err();
    assert!(names(&empty).is_empty());
    damage(input.join(TWO), &|bytes| bytes.truncate(bytes.len() - 1));
    let error = compress(&input, &files.path("out")).unwrap_err();
    assert!(matches!(&error, FileError::Truncated { path, .. } if *path == input.join(TWO)));
    assert_eq!(files.names(), ["empty", "in", "packed"]);
}

#[test]
fn plain_shards_among_compressed_ones_are_copied() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let mixed = files.path("mixed");
    compress(&input, &mixed).unwrap();
    fs::copy(input.join(ONE), mixed.join(ONE)).unwrap();
    let mut steps = Vec::new();
    let progress = Progress::new(|done, total| steps.push((done, total)));
    let summary = file::decompress(&mixed, files.path("back"), progress).unwrap();
    assert_eq!(contents(&files.path("back")), contents(&input));
    let total = Model::open(&input).unwrap().tensor_bytes();
    assert_eq!(steps.last(), Some(&(total, total)));
    assert_eq!((summary.tensors, summary.blobs), (4, 1));
    assert_eq!(counts(&verify(&mixed, None).unwrap()), counts(&summary));
    assert_eq!(counts(&verify(&mixed, Some(&input)).unwrap()), counts(&summary));

    // These fail before any work is done.
    let progress = Progress::new(|_, _| unreachable!());
    let options = CompressOptions::default();
    let again = file::compress(&mixed, files.path("out"), &options, progress);
    let again = again.unwrap_err();
    assert!(matches!(again, FileError::AlreadyCompressed { path } if path == mixed.join(TWO)));
    let plain = decompress(&input, &files.path("out")).unwrap_err();
    assert!(matches!(plain, FileError::NotCompressed { path } if path == input));
    assert!(matches!(verify(&input, None), Err(FileError::NotCompressed { .. })));

    // Only the comparison can find damage of a plain shard.
    let mut bytes = fs::read(mixed.join(ONE)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(mixed.join(ONE), bytes).unwrap();
    verify(&mixed, None).unwrap();
    let error = verify(&mixed, Some(&input)).unwrap_err();
    assert!(matches!(error, FileError::Differs { tensor, what: "bytes", .. } if tensor == "z"));
    fs::remove_file(mixed.join(INDEX)).unwrap();
    let less = [tensor("embed", "BF16", &[64, 48], bf16(64 * 48))];
    fs::write(mixed.join(ONE), craft::plain(&less, "", 0)).unwrap();
    let error = verify(&mixed, Some(&input)).unwrap_err();
    let missing = "missing in the compressed file";
    assert!(
        matches!(error, FileError::Differs { tensor, what, .. } if tensor == "z" && what == missing)
    );
    assert_eq!(files.names(), ["back", "in", "mixed"]);
}

/// A rewritten shard must not be taken for a plain one, and copied.
#[test]
fn shards_that_another_program_has_rewritten_are_refused() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let packed = files.path("packed");
    compress(&input, &packed).unwrap();
    let (header, data) = craft::unframed(&fs::read(packed.join(TWO)).unwrap());
    fs::write(packed.join(TWO), craft::framed(&format!(" {header}"), &data)).unwrap();
    let error = decompress(&packed, &files.path("back")).unwrap_err();
    assert!(matches!(error, FileError::Header { path, .. } if path == packed.join(TWO)));
}

#[test]
fn comparison_needs_the_same_shards() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let packed = files.path("packed");
    compress(&input, &packed).unwrap();
    // One of the models has one shard less, and an index without it.
    let index = format!(r#"{{"weight_map":{{"z":"{ONE}"}}}}"#);
    let less = folder(&files, "less", &[(ONE, weights()[0].1.clone()), (INDEX, index.into())]);
    let missing = |error: FileError| match fault(error) {
        ModelFault::NoCounterpart { path, against } => (path, against),
        other => panic!("{other:?}"),
    };
    let error = verify(&packed, Some(&less)).unwrap_err();
    assert_eq!(missing(error), (packed.join(TWO), less.clone()));
    compress(&less, &files.path("packed less")).unwrap();
    let error = verify(&files.path("packed less"), Some(&input)).unwrap_err();
    assert_eq!(missing(error), (input.join(TWO), files.path("packed less")));
    verify(&files.path("packed less"), Some(&less.join(ONE))).unwrap();
    let error = verify(&files.path("packed less"), Some(&input.join(TWO))).unwrap_err();
    assert!(matches!(error, FileError::Differs { .. }));
}

#[test]
fn progress_counts_over_all_shards() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let total = 2 * 64 * 48 + 4 + 96 * 64 + 2 * 7;
    assert_eq!(Model::open(&input).unwrap().tensor_bytes(), total);
    let (packed, back) = (files.path("packed"), files.path("back"));
    for job in 0..4 {
        let mut steps = Vec::new();
        let progress = Progress::new(|done, total| steps.push((done, total)));
        let summary = match job {
            0 => file::compress(&input, &packed, &CompressOptions::default(), progress),
            1 => file::verify(&packed, progress),
            2 => file::verify_against(&packed, &input, progress),
            _ => file::decompress(&packed, &back, progress),
        };
        assert_eq!(summary.unwrap().tensors, steps.len());
        assert!(steps.is_sorted() && steps.iter().all(|&(_, all)| all == total), "{steps:?}");
        assert_eq!(steps.last(), Some(&(total, total)));
    }
    assert_eq!(Model::open(&packed).unwrap().tensor_bytes(), total);
}

#[test]
fn reports_add_up() {
    let files = Files::new();
    let input = folder(&files, "in", &weights());
    let packed = files.path("packed");
    compress(&input, &packed).unwrap();
    for path in [&input, &packed, &packed.join(INDEX)] {
        let report = inspect(path).unwrap();
        let root = if path == &input { &input } else { &packed };
        let [one, two] = [ONE, TWO].map(|name| file::inspect(root.join(name)).unwrap());
        assert_eq!(report.tensors, [one.tensors, two.tensors].concat());
        let (all, one, two) = (&report.totals, &one.totals, &two.totals);
        assert_eq!(all.weights, 64 * 48 + 1 + 96 * 64 + 7);
        assert_eq!(all.original_bytes, one.original_bytes + two.original_bytes);
        assert_eq!(all.stored_bytes, one.stored_bytes + two.stored_bytes);
        let weights = all.weights as f64;
        assert!((all.bits_per_weight - 8.0 * all.stored_bytes as f64 / weights).abs() < 1e-9);
        let bits =
            |tensor: &file::TensorReport| tensor.weights as f64 * tensor.entropy_bits_per_weight;
        let bits: f64 = report.tensors.iter().map(bits).sum();
        assert!((all.entropy_bits_per_weight - bits / weights).abs() < 1e-9);
    }
}
