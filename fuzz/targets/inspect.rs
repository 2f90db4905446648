//! Reads and compresses a model of two shards. The input is four texts that end with a 0 byte (rules, index, headers of the
//! shards), then the data of both shards.
#![no_main]

use fused_rans::file::{CompressOptions, FileError, Model, Progress, Rules};
use fused_rans::file::{compress, decompress, inspect, verify_against};
use fused_rans_fuzz::{Folder, framed, one_thread};
use libfuzzer_sys::fuzz_target;

const INDEX: &str = "model/model.safetensors.index.json";
const SHARDS: [&str; 2] = ["a.safetensors", "b.safetensors"];

fuzz_target!(init: one_thread(), |bytes: &[u8]| {
    let mut parts = bytes.splitn(5, |&byte| byte == 0);
    let [rules, index, a, b, data] = [(); 5].map(|()| parts.next().unwrap_or_default());
    let rules = str::from_utf8(rules).ok().and_then(|text| Rules::parse(text).ok());
    let folder = Folder::new();
    for (shard, header) in SHARDS.into_iter().zip([a, b]) {
        folder.put(&format!("model/{shard}"), &framed(header, data));
    }
    check(&folder, None);
    folder.put(INDEX, index);
    check(&folder, rules);
});

/// Checks that all readers agree whether the model is valid. Compresses a valid one by the rules, and restores it.
fn check(folder: &Folder, rules: Option<Rules>) {
    let plain = folder.path("model");
    let report = inspect(&plain);
    assert_eq!(Model::open(&plain).is_ok(), report.is_ok());
    let ruled = rules.is_some();
    let options = CompressOptions::default().rules(rules.unwrap_or_default());
    let packed = Folder::new();
    match compress(&plain, packed.path("packed"), &options, Progress::silent()) {
        Ok(summary) => {
            let [packed_path, back] = ["packed", "back"].map(|name| packed.path(name));
            assert_eq!(report.expect("it was read").tensors.len(), summary.tensors);
            verify_against(&packed_path, &plain, Progress::silent()).expect("it is the same");
            inspect(&packed_path).expect("it is in order");
            decompress(&packed_path, &back, Progress::silent()).expect("it was verified");
            for shard in SHARDS.into_iter().filter(|shard| back.join(shard).exists()) {
                let same =
                    packed.get(&format!("back/{shard}")) == folder.get(&format!("model/{shard}"));
                assert!(same || summary.quantized > 0, "{shard} comes back as something else");
            }
        }
        // Non-finite numbers cannot be quantized.
        Err(FileError::AlreadyCompressed { .. }) => {}
        Err(error) => assert!(ruled || report.is_err(), "{error}"),
    }
}
