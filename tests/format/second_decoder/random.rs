//! Random blobs and files for both decoders. Seeds are fixed: every run has the same ones.

use fused_rans::file::{CompressOptions, Progress, compress};
use fused_rans::{Blob, Dtype, Float, WeightsPerSymbol};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use support::craft::{Files, Tensor, bf16, framed, noise, plain, resealed, tensor};
use support::sources::{normal, store};
use support::{AnyGroups, AnyLargeIntegers, Recipe, Weights, integer_splits};

/// Limit of a blob's size in bytes, larger than any of these blobs: matrices that do not shrink are encoded, too.
const LARGE: usize = 1 << 20;

/// Returns blobs and their names: every type and split, whole tiles and edges, and everything that a blob can contain.
pub fn blobs() -> Vec<(String, Vec<u8>)> {
    plain_blobs().chain(split_blobs()).chain(scaled_blobs()).chain(grouped_blobs()).collect()
}

fn recipe(dtype: Dtype, rows: usize, cols: usize, weights: Weights) -> Recipe {
    let seed = (1000 * rows + cols) as u64;
    Recipe { rows, cols, weights, seed, ..Recipe::gaussian(dtype) }
}

fn plain_blobs() -> impl Iterator<Item = (String, Vec<u8>)> {
    let looks = [
        (1, 1, Weights::AnyBits),
        (17, 33, Weights::Dirty),
        (256, 256, Weights::StudentT),
        (300, 270, Weights::RawTiles),
    ];
    let recipes = Dtype::ALL.into_iter().flat_map(move |dtype| {
        looks.map(|(rows, cols, weights)| recipe(dtype, rows, cols, weights))
    });
    recipes.map(|recipe| {
        let data = recipe.bytes();
        (format!("{recipe:?}"), recipe.job(&data).max_bytes(LARGE).encode().unwrap())
    })
}

fn split_blobs() -> impl Iterator<Item = (String, Vec<u8>)> {
    integer_splits().enumerate().map(|(number, (split, weights))| {
        let recipe = Recipe {
            weights_per_symbol: split.weights_per_symbol(),
            raw_bits: Some(split.raw_bits()),
            ..recipe(Dtype::I8, 21 + 11 * number, 200 - 17 * number, weights)
        };
        let data = recipe.bytes();
        (format!("{recipe:?}"), recipe.job(&data).max_bytes(LARGE).encode().unwrap())
    })
}

/// Returns blobs with row scales: of any bits, and of numbers with large integers.
fn scaled_blobs() -> impl Iterator<Item = (String, Vec<u8>)> {
    let dtypes = [
        (Dtype::F8E4M3, WeightsPerSymbol::Two),
        (Dtype::I8, WeightsPerSymbol::Two),
        (Dtype::I8, WeightsPerSymbol::Four),
    ];
    let scaled = dtypes.into_iter().map(|(dtype, weights_per_symbol)| {
        let recipe = Recipe { weights_per_symbol, ..recipe(dtype, 90, 61, Weights::Dirty) };
        let (data, mut random) = (recipe.bytes(), SmallRng::seed_from_u64(5));
        let scales: Vec<u16> = (0..recipe.rows).map(|_| random.random()).collect();
        let job = recipe.job(&data).max_bytes(LARGE).with_row_scales(&scales);
        (format!("{recipe:?}, scales of rows"), job.encode().unwrap())
    });
    let large = WeightsPerSymbol::ALL.into_iter().map(|weights_per_symbol| {
        let recipe = Recipe { weights_per_symbol, ..recipe(Dtype::I8, 65, 130, Weights::Gaussian) };
        (format!("{recipe:?}, large"), AnyLargeIntegers::new(&recipe, 60).job().encode().unwrap())
    });
    scaled.chain(large)
}

/// Returns blobs with groups, with and without zero points, of coded and raw tiles.
fn grouped_blobs() -> impl Iterator<Item = (String, Vec<u8>)> {
    let kinds = WeightsPerSymbol::ALL.into_iter().flat_map(|weights_per_symbol| {
        [(true, 129, 290), (false, 41, 300), (true, 5, 2)].map(|(zeros, rows, cols)| {
            (
                Recipe { weights_per_symbol, ..recipe(Dtype::I8, rows, cols, Weights::RawTiles) },
                zeros,
            )
        })
    });
    kinds.map(|(recipe, zeros)| {
        let data = recipe.nibbles();
        let groups = AnyGroups::new(recipe.rows, recipe.cols, zeros, 3);
        let job = recipe.job(&data).max_bytes(LARGE);
        let blob = job.with_groups(groups.groups()).encode().unwrap();
        (format!("{recipe:?}, groups, zero points {zeros}"), blob)
    })
}

/// Returns compressed files of tensors of any type and shape, and of quantized tensors.
pub fn files(files: &Files) -> Vec<(String, Vec<u8>)> {
    let mut random = SmallRng::seed_from_u64(6);
    let formats = ["int8", "int4", "int4-zero-points", "fp8", "rate=2.5", "rate=6"];
    let quantized = formats.map(|format| {
        let options = CompressOptions::default().quantize(format.parse().unwrap());
        let tensors = Float::ALL.map(numbers);
        (format.to_owned(), packed(files, &tensors, &options))
    });
    let lossless = (0..8).map(|count| {
        let tensors: Vec<Tensor> = (0..count).map(|n| any_tensor(&mut random, n)).collect();
        (format!("{count} tensors"), packed(files, &tensors, &CompressOptions::default()))
    });
    lossless.chain(quantized).collect()
}

fn packed(files: &Files, tensors: &[Tensor], options: &CompressOptions) -> Vec<u8> {
    let metadata = if tensors.len().is_multiple_of(2) { r#"{"format":"pt"}"# } else { "" };
    let input = files.put("in", &plain(tensors, metadata, tensors.len()));
    compress(&input, files.path("out"), options, Progress::silent()).unwrap();
    std::fs::read(files.path("out")).unwrap()
}

/// Returns a tensor of normally distributed numbers to quantize.
fn numbers(dtype: Float) -> Tensor {
    let values = normal(65, 160, 0.02, dtype.byte_len() as u64).values;
    let data = values.into_iter().flat_map(|number| store(dtype, number)).collect();
    tensor(&format!("{}_proj.weight", dtype.name()), dtype.name(), &[65, 160], data)
}

fn any_tensor(random: &mut impl Rng, number: usize) -> Tensor {
    const DTYPES: [(&str, usize); 8] = [
        ("BF16", 2),
        ("I8", 1),
        ("F16", 2),
        ("F8_E4M3", 1),
        ("F32", 4),
        ("F64", 8),
        ("U8", 1),
        ("BOOL", 1),
    ];
    let (dtype, width) = DTYPES[random.random_range(0..2 + 3 * (number % 3))];
    let shape = match random.random_range(0..5) {
        0 => vec![],
        1 => vec![random.random_range(0..9)],
        2 => vec![2, random.random_range(0..3), 5],
        _ => vec![random.random_range(30..90), random.random_range(30..90)],
    };
    let bytes = width * shape.iter().product::<usize>();
    let smooth = random.random_range(0..4) > 0;
    let data = if smooth { bf16(bytes.div_ceil(2))[..bytes].to_vec() } else { noise(bytes) };
    tensor(&format!("{number} \"\\é\u{1F980}"), dtype, &shape, data)
}

/// Returns files of one quantized tensor each, whose scales make numbers at the limits of its type and beyond. No quantizer
/// makes such scales.
pub fn scaled_files() -> impl Iterator<Item = (String, Vec<u8>)> {
    let blobs = [
        extreme_blob(Dtype::F8E4M3, false),
        extreme_blob(Dtype::I8, false),
        extreme_blob(Dtype::I8, true),
    ];
    blobs.into_iter().flat_map(|blob| {
        let file =
            |float: Float| (format!("{} of any scales", float.name()), file_of(float, &blob));
        Float::ALL.map(file)
    })
}

/// Returns a blob with finite row scales, and, if `grouped`, finite group scales, of any magnitude.
fn extreme_blob(dtype: Dtype, grouped: bool) -> Vec<u8> {
    let (recipe, mut random) =
        (recipe(dtype, 50, 140, Weights::AnyBits), SmallRng::seed_from_u64(4));
    let data = if grouped { recipe.nibbles() } else { recipe.bytes() };
    let mut finite = |infinity: u16| loop {
        let bits: u16 = random.random();
        if bits & infinity != infinity {
            break bits;
        }
    };
    let scales: Vec<u16> = (0..recipe.rows).map(|_| finite(0x7F80)).collect();
    let job = recipe.job(&data).max_bytes(LARGE).with_row_scales(&scales);
    if !grouped {
        return job.encode().unwrap();
    }
    let mut groups = AnyGroups::new(recipe.rows, recipe.cols, true, 2);
    groups.scales.fill_with(|| finite(0x7C00));
    job.with_groups(groups.groups()).encode().unwrap()
}

/// Returns a compressed file of one tensor of type `float`, stored as `blob`.
fn file_of(float: Float, blob: &[u8]) -> Vec<u8> {
    let (parsed, stored) = (Blob::parse(blob).unwrap(), blob.len());
    let (rows, cols, dtype, crc) = (parsed.rows(), parsed.cols(), float.name(), parsed.crc());
    let bytes = rows * cols * float.byte_len();
    let entry = format!(
        r#"{{"w":{{"dtype":"{dtype}","shape":[{rows},{cols}],"data_offsets":[0,{bytes}]}}}}"#
    );
    let keys = r#""fused_rans":"1 00000000","fused_rans.crc32c""#;
    let original = serde_json::to_string(&entry).unwrap();
    let metadata = format!(r#"{{{keys}:"{crc:08x}","fused_rans.header":{original}}}"#);
    let tensor = format!(r#"{{"dtype":"U8","shape":[{stored}],"data_offsets":[0,{stored}]}}"#);
    resealed(&framed(&format!(r#"{{"__metadata__":{metadata},"w":{tensor}}}"#), blob), |header| {
        header
    })
}
