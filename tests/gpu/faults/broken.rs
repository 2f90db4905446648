//! Tests contexts that break, each in a process of its own.

use super::{Product, blob, device_alone, driver};
use fused_rans::gpu::{CudaStream, Gpu, GpuError, KernelSet};
use fused_rans::{Blob, Dtype, WeightsPerSymbol};
use fused_rans_layout::{ActivationType, KernelId, WeightCoding};
use std::process::Command;

const IN_CHILD: &str = "FUSED_RANS_BROKEN";

/// Returns whether this is the process that may break its context. If not, runs the test `name` in such a process, which must
/// succeed.
fn is_child(name: &str) -> bool {
    if std::env::var_os(IN_CHILD).is_some() {
        return true;
    }
    let name = format!("broken::{name}");
    let program = std::env::current_exe().unwrap();
    let ran =
        Command::new(program).args([&name, "--exact", "--nocapture"]).env(IN_CHILD, "1").output();
    let ran = ran.unwrap();
    let output = String::from_utf8_lossy(&ran.stdout);
    print!("{output}");
    assert!(ran.status.success(), "{}{output}", String::from_utf8_lossy(&ran.stderr));
    assert!(output.contains("1 passed"), "{output}");
    false
}

/// Checks that everything fails with the error of a lost context.
fn all_is_lost(gpu: &Gpu, mut product: Product, cuda_stream: &CudaStream) {
    let bytes = blob(Dtype::Bf16, 256, 256);
    let parsed = Blob::parse(&bytes).unwrap();
    let errors: Vec<(&str, Option<GpuError>)> = vec![
        ("decode", product.layer.decode_to_bytes().err()),
        ("matmul", product.queue(cuda_stream).and_then(|()| gpu.synchronize()).err()),
        ("verify", product.layer.verify().err()),
        ("fragments", product.layer.fragments(product.case.x).err()),
        ("workspace", gpu.alloc_workspace(product.workspace.size()).err()),
        ("reset", product.workspace.reset(cuda_stream).and_then(|()| gpu.synchronize()).err()),
        ("upload", gpu.upload(&parsed).err()),
        ("buffer", gpu.alloc(1 << 20).err()),
        ("memory", gpu.memory_info().err()),
        ("CUDA stream", gpu.create_stream().err()),
        ("synchronize", gpu.synchronize().err()),
    ];
    for (what, error) in errors {
        if what == "fragments" && product.layer.is_resident() {
            continue;
        }
        let error = error.unwrap_or_else(|| panic!("{what} worked"));
        println!("{what}: {error}");
        assert!(error.is_sticky() && !error.is_out_of_memory(), "{what}: {error}");
    }
    // Dropping must not fail either.
    drop(product);
}

/// Returns PTX with the kernels that an upload loads. They write to an invalid address.
fn stray() -> String {
    const BODY: &str = ".reg .b64 %a;\nmov.u64 %a, 16;\nst.global.b32 [%a], 1;\nret;\n\n}\n";
    let matmul = |exponent_table| {
        let weights =
            WeightCoding::new(Dtype::Bf16, 0, WeightsPerSymbol::Two, exponent_table, false);
        KernelId::matmul(weights, ActivationType::Bf16, 1)
    };
    let decode = KernelId::decode(Dtype::Bf16, WeightsPerSymbol::Two);
    let kernels = [decode, matmul(true), matmul(false)].map(|id| {
        let name = id.expect("it is in the table").name();
        format!(".visible .entry {name}()\n{{\n{BODY}")
    });
    format!(".version 7.0\n.target sm_80\n.address_size 64\n\n{}", kernels.concat())
}

#[test]
fn errors_of_other_kernels_are_reported() {
    let Some((gpu, _alone)) = device_alone() else { return };
    if !is_child("errors_of_other_kernels_are_reported") {
        return;
    }
    let product = Product::new(gpu, Dtype::Bf16, 512, 512, 1);
    let (cuda_stream, bytes) = (gpu.create_stream().unwrap(), blob(Dtype::Bf16, 256, 256));
    // A second handle of the same context, with faulty kernels.
    let ptx = stray();
    let other = Gpu::open_preferring(0, |_| KernelSet::Sm80, |_| &ptx).unwrap();
    let stray = other.upload(&Blob::parse(&bytes).unwrap()).unwrap();
    let mut out = other.alloc(stray.decoded_byte_len()).unwrap();
    let error = stray.decode(out.as_mut_slice(), &cuda_stream).expect_err("it writes to nowhere");
    println!("the stray kernel: {error}");
    assert!(error.is_sticky(), "{error}");
    all_is_lost(gpu, product, &cuda_stream);
}

#[test]
fn a_destroyed_context_is_reported() {
    let Some((gpu, _alone)) = device_alone() else { return };
    if !is_child("a_destroyed_context_is_reported") {
        return;
    }
    let mut product = Product::new(gpu, Dtype::Bf16, 512, 512, 1);
    product.check(gpu).unwrap();
    let cuda_stream = gpu.create_stream().unwrap();
    driver::destroy_context();
    all_is_lost(gpu, product, &cuda_stream);
}
