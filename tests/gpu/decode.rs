//! Compares the output of the decode kernels with the original weights, on a GPU. Skipped if there is none.
#![cfg(feature = "cuda")]

use fused_rans::file::{self, CompressedFile};
use fused_rans::gpu::{self, Arena, Check, Gpu, GpuError, UploadOptions};
use fused_rans::{Blob, BlobError, Dtype, Encoder, Matrix, WeightsPerSymbol, encode};
use proptest::prelude::*;
use support::{Job, Weights, any_matrix, device, encoded};

/// Decodes on the device. Returns the number of exceptions, or `None` if the matrix does not shrink.
fn check(gpu: &Gpu, job: Job<'_>) -> Option<u64> {
    let matrix = job.matrix;
    let blob = job.encoder.encode(matrix).ok()?;
    let layer = gpu.upload(&blob).unwrap();
    assert_eq!(layer.device_byte_len(), UploadOptions::new().device_byte_len(gpu, &blob).unwrap());
    let same = layer.decode_to_bytes().unwrap() == matrix.as_bytes();
    assert!(same, "{:?} {:?} differs", matrix.dtype(), matrix.grid());
    Some(blob.exception_count())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_matrix_comes_back_from_the_device(matrix in any_matrix()) {
        if let Some(gpu) = device() {
            check(gpu, matrix.job(&matrix.bytes()));
        }
    }
}

#[test]
fn large_and_odd_layers_of_every_type() {
    let Some(gpu) = device() else { return };
    for dtype in Dtype::ALL {
        for (rows, cols) in [(2048, 5632), (1000, 1000), (4099, 1027), (192, 576), (17, 4096)] {
            for weights in [Weights::Gaussian, Weights::Dirty, Weights::MostlyZero] {
                let data = weights.bytes(dtype, rows * cols, 11);
                let matrix = Matrix::from_bytes(dtype, &data, rows, cols).unwrap();
                let job = Job { matrix, encoder: Encoder::new() };
                let exceptions = check(gpu, job);
                if dtype == Dtype::I8 {
                    let encoder = job.encoder.weights_per_symbol(WeightsPerSymbol::Four);
                    check(gpu, Job { encoder, ..job });
                }
                // Thin matrices may not shrink, and one byte's values may leave no exceptions.
                let dirty = matches!(weights, Weights::Dirty) && rows >= 192;
                if dirty && dtype.byte_len() == 2 {
                    assert!(exceptions > Some(0), "{dtype:?} was meant to have exceptions");
                }
            }
        }
    }
}

#[test]
fn all_bf16_values_at_once() {
    let Some(gpu) = device() else { return };
    // Mostly ordinary weights, so that the tile is coded, and every bit pattern once.
    let mut data = Weights::Gaussian.bytes(Dtype::Bf16, 1024 * 1024, 5);
    for value in 0..=u16::MAX {
        let at = usize::from(value) * 16;
        data[2 * at..2 * at + 2].copy_from_slice(&value.to_le_bytes());
    }
    let matrix = Matrix::from_bytes(Dtype::Bf16, &data, 1024, 1024).unwrap();
    assert!(check(gpu, Job { matrix, encoder: Encoder::new() }) > Some(10_000));
}

#[test]
fn a_buffer_of_another_size_is_refused() {
    let Some(gpu) = device() else { return };
    let data = Weights::Gaussian.bytes(Dtype::Bf16, 512 * 512, 5);
    let bytes = encoded(Matrix::from_bytes(Dtype::Bf16, &data, 512, 512).unwrap()).unwrap();
    let layer = gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let (mut small, cuda_stream) =
        (gpu.alloc(data.len() - 2).unwrap(), gpu.create_stream().unwrap());
    let error = layer.decode(small.as_mut_slice(), &cuda_stream).expect_err("too small");
    assert!(matches!(error, GpuError::Blob(BlobError::BufferSize { .. })), "{error}");
}

#[test]
fn real_weights_come_back_from_the_device() {
    let Some(gpu) = device() else { return };
    let plain = concat!(env!("CARGO_MANIFEST_DIR"), "/data/whisper-base-sample.bf16.safetensors");
    // Also tests the same layers in FP16, if there is a file of them.
    let paths = std::env::var("FUSED_RANS_WEIGHTS").unwrap_or_default();
    let directory = tempfile::tempdir().unwrap();
    let mut layers = 0;
    for path in [plain].into_iter().chain(paths.split(':').filter(|path| !path.is_empty())) {
        let compressed = directory.path().join("compressed");
        file::compress(
            path,
            &compressed,
            &file::CompressOptions::default(),
            file::Progress::silent(),
        )
        .unwrap();
        let compressed = CompressedFile::open(&compressed).unwrap();
        for name in compressed.blob_names() {
            let blob = compressed.blob(name).unwrap();
            let mut weights = vec![0; blob.decoded_byte_len()];
            blob.decode(&mut weights).unwrap();
            assert!(gpu.upload(&blob).unwrap().decode_to_bytes().unwrap() == weights, "{name}");
            layers += 1;
        }
    }
    println!("{layers} real layers");
    assert!(layers >= 2);
}

#[test]
#[ignore = "takes 15 GB of memory"]
fn a_layer_of_more_than_four_gigabytes() {
    let Some(gpu) = device() else { return };
    let (rows, cols) = (66_000, 65_536);
    let some = Weights::Gaussian.bytes(Dtype::I8, 1_000_003, 1);
    let data: Vec<u8> = some.iter().copied().cycle().take(rows * cols).collect();
    assert!(data.len() > 1 << 32);
    let matrix = Matrix::from_bytes(Dtype::I8, &data, rows, cols).unwrap();
    check(gpu, Job { matrix, encoder: Encoder::new() }).expect("it shrinks");
}

#[test]
fn handles_outlive_the_device_and_are_dropped_anywhere() {
    if device().is_none() {
        return;
    }
    let gpu = gpu::open(0).unwrap();
    let (buffer, cuda_stream) = (gpu.alloc(1 << 20).unwrap(), gpu.create_stream().unwrap());
    drop(gpu);
    std::thread::spawn(move || drop((buffer, cuda_stream))).join().unwrap();
}

#[test]
fn layers_are_used_from_many_threads_and_cuda_streams() {
    let Some(gpu) = device() else { return };
    // The layers have one type, but lane streams of different lengths, so they need different sizes of shared memory.
    let layer = |weights: Weights| {
        let data = weights.bytes(Dtype::I8, 768 * 1024, 9);
        let bytes = encoded(Matrix::from_bytes(Dtype::I8, &data, 768, 1024).unwrap()).unwrap();
        (gpu.upload(&Blob::parse(&bytes).unwrap()).unwrap(), data)
    };
    let layers = [layer(Weights::Gaussian), layer(Weights::Small), layer(Weights::MostlyZero)];
    std::thread::scope(|scope| {
        for (layer, data) in layers.iter().chain(&layers) {
            scope.spawn(|| (0..8).for_each(|_| assert!(layer.decode_to_bytes().unwrap() == *data)));
        }
    });
}

#[test]
fn without_a_device_there_is_an_error_that_says_so() {
    let error = gpu::open(9999).expect_err("nobody has ten thousand devices");
    let text = error.to_string();
    match error {
        // Without a driver, the error says so instead.
        GpuError::NoDriver { .. } => assert!(text.contains("no CUDA driver"), "{text}"),
        _ => assert!(text.contains("no CUDA device 9999"), "{text}"),
    }
    assert!(text.contains("the CPU decoder needs none"), "{text}");
}

#[test]
fn kernels_that_do_not_load_are_a_typed_error() {
    if device().is_some() {
        let error = Gpu::open_with(0, |_| "not PTX").expect_err("not PTX");
        assert!(matches!(error, gpu::GpuError::Kernels { .. }), "{error}");
    }
}

/// Returns the weights and the blob of a layer.
fn layer_of(dtype: Dtype, rows: usize, cols: usize) -> (Vec<u8>, Vec<u8>) {
    let data = Weights::Gaussian.bytes(dtype, rows * cols, 3);
    let bytes = encode(Matrix::from_bytes(dtype, &data, rows, cols).unwrap())
        .expect("it shrinks")
        .into_bytes();
    (data, bytes)
}

#[test]
fn layers_are_uploaded_to_an_arena_and_their_memory_is_used_again() {
    let Some(gpu) = device() else { return };
    let layers = Dtype::ALL.map(|dtype| layer_of(dtype, 512, 768));
    let blobs = layers.each_ref().map(|(_, bytes)| Blob::parse(bytes).unwrap());
    let sizes =
        blobs.each_ref().map(|blob| UploadOptions::new().device_byte_len(gpu, blob).unwrap());
    let total = sizes.iter().map(|size| size.next_multiple_of(256)).sum();
    let mut arena = Arena::new(gpu.alloc(total).unwrap()).unwrap();
    let mut uploaded = Vec::new();
    for (blob, size) in blobs.iter().zip(sizes) {
        let memory = arena.cut(size).unwrap();
        let layer = gpu.upload_with(blob, UploadOptions::new().memory(memory)).unwrap();
        assert!(layer.is_memory_borrowed() && layer.device_byte_len() == size);
        uploaded.push(layer);
    }
    assert!(arena.remaining() < 256);
    let error = arena.cut(4096).expect_err("nothing is left");
    assert!(matches!(error, GpuError::TooShort { needed: 4096, .. }), "{error}");
    for (layer, (data, _)) in uploaded.iter().zip(&layers) {
        layer.verify().unwrap();
        assert!(layer.decode_to_bytes().unwrap() == *data);
    }
    // The memory of the largest layer is large enough for any other.
    let at = (0..4).max_by_key(|&at| sizes[at]).unwrap();
    gpu.synchronize().unwrap();
    // SAFETY: the device has been waited for.
    let memory = unsafe { uploaded.swap_remove(at).into_memory() };
    let other = (at + 1) % 4;
    let options = UploadOptions::new().memory(memory).check(Check::OnDevice);
    let layer = gpu.upload_with(&blobs[other], options).unwrap();
    assert!(layer.decode_to_bytes().unwrap() == layers[other].0);
    // Too short and misaligned ranges are refused.
    let mut arena = Arena::new(gpu.alloc(1 << 20).unwrap()).unwrap();
    let options = UploadOptions::new().memory(arena.cut(1000).unwrap());
    let error = gpu.upload_with(&blobs[0], options).expect_err("too short");
    assert!(matches!(error, GpuError::TooShort { found: 1000, .. }), "{error}");
    // The arena lives as long as its layers.
    drop((arena, gpu.synchronize().unwrap()));
    assert!(layer.decode_to_bytes().unwrap() == layers[other].0);
}

#[test]
fn uploads_are_ordered_on_cuda_streams() {
    let Some(gpu) = device() else { return };
    let (data, bytes) = layer_of(Dtype::Bf16, 2048, 2048);
    let blob = Blob::parse(&bytes).unwrap();
    let streams = [gpu.create_stream().unwrap(), gpu.create_stream().unwrap()];
    let mut pinned = gpu.alloc_pinned(bytes.len()).unwrap();
    pinned.copy_from_slice(&bytes);
    let from_pinned = Blob::parse(&pinned).unwrap();
    let mut out = gpu.alloc(data.len()).unwrap();
    for round in 0..8 {
        // Queues work that delays the upload.
        let (from, mut to) = (gpu.alloc(256 << 20).unwrap(), gpu.alloc(256 << 20).unwrap());
        streams[0].copy(from.as_slice(), to.as_mut_slice()).unwrap();
        let layer = match round % 3 {
            0 => gpu.upload_async(&blob, UploadOptions::new(), &streams[0]),
            1 => gpu.upload_async(&from_pinned, UploadOptions::new(), &streams[0]),
            // SAFETY: the blob lives until the end of the test.
            _ => unsafe { gpu.queue_upload(&from_pinned, UploadOptions::new(), &streams[0]) },
        };
        // Kernels wait for the upload even on the other CUDA stream.
        let layer = layer.unwrap();
        out.fill(0).unwrap();
        layer.decode(out.as_mut_slice(), &streams[round / 4]).unwrap();
        assert!(out.to_vec().unwrap() == data, "round {round}");
        layer.verify().unwrap();
    }
}
