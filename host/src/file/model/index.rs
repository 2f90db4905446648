//! The index of a sharded model: which shard contains which tensor.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::is_safetensors;
use crate::file::error::{FileError, IndexFault, ModelFault};
use crate::file::format::header::Pairs;

/// Size in bytes of the largest index that is read: that of the largest safetensors header, which has more for each
/// tensor.
const MAX_INDEX: u64 = 100_000_000;

/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Names of the shards, each with the names of the tensors that it should contain.
pub(in crate::file) type Index = BTreeMap<String, Vec<String>>;

/// Reads the index `path`, without looking at the shards.
pub(in crate::file) fn read(path: &Path) -> Result<Index, FileError> {
    // Opening a pipe would wait for its other end.
    let status = fs::metadata(path).map_err(FileError::io(path, "open"))?;
    if !status.is_file() {
        return Err(FileError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(FileError::io(path, "open"))?;
    let mut text = Vec::new();
    file.take(MAX_INDEX + 1).read_to_end(&mut text).map_err(FileError::io(path, "read"))?;
    parse(&text).map_err(|fault| invalid(path, fault))
}

/// Returns the error for a fault of the index `path`.
pub(in crate::file) fn invalid(path: &Path, source: IndexFault) -> FileError {
    ModelFault::Index { path: path.to_owned(), source }.into()
}

fn parse(text: &[u8]) -> Result<Index, IndexFault> {
    if text.len() as u64 > MAX_INDEX {
        return Err(IndexFault::TooLarge(MAX_INDEX));
    }
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let WeightMap(mut pairs) =
        serde_json::from_slice(text).map_err(|error| IndexFault::Json(error.into()))?;
    pairs.0.sort_unstable();
    if let Some(twice) = pairs.0.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(IndexFault::Duplicate(twice[0].0.clone()));
    }
    let mut shards = Index::new();
    for (tensor, shard) in pairs.0 {
        match shards.get_mut(&shard) {
            Some(tensors) => tensors.push(tensor),
            None if is_plain_name(&shard) => drop(shards.insert(shard, vec![tensor])),
            None => return Err(IndexFault::ShardName { tensor, shard }),
        }
    }
    if shards.is_empty() { Err(IndexFault::Empty) } else { Ok(shards) }
}

/// Returns whether a name in an index is that of a safetensors file in the index's own folder. The rules of all
/// operating systems apply, since an index may come from anywhere.
fn is_plain_name(name: &str) -> bool {
    // These separate folders and drives; `..` is not the name of a safetensors file.
    !name.contains(['/', '\\', ':', '\0']) && is_safetensors(Path::new(name))
}

/// The entry `weight_map` of an index. The others are ignored.
struct WeightMap(Pairs);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const KEY: &str = "weight_map";
        // Not derived, since a derived implementation accepts an array, too.
        struct IndexVisitor;

        impl<'de> Visitor<'de> for IndexVisitor {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a `weight_map`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut weights = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != KEY {
                        map.next_value::<IgnoredAny>()?;
                    } else if weights.replace(map.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field(KEY));
                    }
                }
                weights.map(WeightMap).ok_or_else(|| A::Error::missing_field(KEY))
            }
        }

        deserializer.deserialize_map(IndexVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_in_the_same_folder_are_plain() {
        for name in ["model-00001-of-00002.safetensors", "a b.safetensors", "..safetensors"] {
            assert!(is_plain_name(name), "{name}");
        }
        let elsewhere = ["../a", "a/b", "/a", "./a", "..\\a", "\\a", "a/", "a\0b", "a/../b", "C:a"];
        for name in elsewhere {
            assert!(!is_plain_name(&format!("{name}.safetensors")), "{name}");
        }
        for name in ["", ".", "..", "config.json", ".safetensors", "a.safetensors/", "a.bin"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }

    #[test]
    fn larger_files_than_any_index_are_refused() {
        let mut text = br#"{"weight_map":{"a":"a.safetensors"}}"#.to_vec();
        text.resize(MAX_INDEX as usize, b' ');
        assert_eq!(parse(&text).unwrap().len(), 1);
        text.push(b' ');
        assert!(matches!(parse(&text), Err(IndexFault::TooLarge(MAX_INDEX))));
    }
}
