//! Tests that run on the fake driver, with each set of kernels.

use super::bench::{Bench, ROOM, assert_clean, is_of_weights};
use super::fake::{self, Fault, Report};
use super::scenario::{self, Errors, Operands};
use fused_rans::gpu::{Gpu, GpuError, KernelSet, MemoryInfo, UploadOptions};
use fused_rans::{Blob, Epilogue};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

/// Injected codes: out of memory; device busy; no device; no context; uncorrectable memory error; illegal address;
/// context destroyed; launch failed; unknown.
const CODES: [u32; 9] = [2, 46, 100, 201, 214, 700, 709, 719, 999];
/// Codes after which the context is lost.
const STICKY: [u32; 6] = [100, 214, 700, 709, 719, 999];
/// Calls that free something.
const ENDS: [&str; 8] = [
    "cuDevicePrimaryCtxRelease_v2",
    "cuEventDestroy_v2",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuModuleUnload",
    "cuStreamDestroy_v2",
];
/// Returns the driver's code in an error.
fn code(error: &GpuError) -> u32 {
    match *error {
        GpuError::NoDevice { code, .. }
        | GpuError::Kernels { code }
        | GpuError::Driver { code, .. } => code,
        GpuError::OutOfMemory { .. } => 2,
        _ => panic!("not of the driver: {error:?}"),
    }
}

/// Returns whether the fault may happen without an error: in a call that frees something, or enters the context to
/// do so; in the query of the current context, which the library then enters; in the hint before a kernel's limit; or
/// in the query whether host memory is page-locked, whose failure counts as yes.
fn may_be_silent(calls: &[&str], fault: Fault) -> bool {
    let name = |at: usize| calls.get(at - 1).copied().unwrap_or("");
    let is_context = |name: &str| matches!(name, "cuCtxSetCurrent" | "cuCtxGetStreamPriorityRange");
    // The last handle of a device waits for its work before it unloads the kernels.
    let last_wait = |at: usize| name(at) == "cuCtxSynchronize" && name(at + 1) == "cuModuleUnload";
    let after = |at: usize| (at + 1..).find(|&at| !is_context(name(at)));
    match name(fault.at) {
        "cuFuncSetAttribute" => name(fault.at + 1) == "cuFuncSetAttribute",
        "cuPointerGetAttribute(host)" => !fault.sticky,
        "cuCtxSetCurrent" | "cuCtxGetStreamPriorityRange" => {
            after(fault.at).is_some_and(|next| ENDS.contains(&name(next)) || last_wait(next))
        }
        "cuCtxSynchronize" => last_wait(fault.at),
        name => ENDS.contains(&name),
    }
}

/// Counts the errors that are not about weights, and checks that each says what happened.
fn faults(errors: &Errors, fault: Fault) -> usize {
    let errors = errors.0.iter().filter(|error| !is_of_weights(error));
    let check = |error: &GpuError| {
        let code = code(error);
        assert_eq!(code, fault.code, "{fault:?}: {error:?}");
        let lost = STICKY.contains(&code) && !matches!(error, GpuError::NoDevice { .. });
        assert_eq!(error.is_sticky(), lost, "{error:?}");
        assert_eq!(error.to_string().contains("a new process"), lost, "{error}");
        let short = code == 2 && !matches!(error, GpuError::NoDevice { .. });
        assert_eq!(error.is_out_of_memory(), short, "{error:?}");
        assert_eq!(error.to_string().contains("out of memory while"), short, "{error}");
        assert!(!matches!(error, GpuError::Kernels { .. }), "{fault:?}: {error}");
    };
    errors.inspect(|error| check(error)).count()
}

#[test]
#[ignore = "needs the fake driver"]
fn without_faults_everything_is_done_and_given_back() {
    for bench in Bench::of_all_sets() {
        bench.run_cleanly();
        let mut counts = BTreeMap::<_, usize>::new();
        bench.clean.calls.iter().for_each(|name| *counts.entry(name).or_default() += 1);
        println!(
            "{:?}: {} calls {counts:?}, {} bytes",
            bench.set,
            bench.clean.calls.len(),
            bench.clean.peak
        );
        for (taken, given) in [
            ("cuMemAlloc_v2", "cuMemFree_v2"),
            ("cuStreamCreate", "cuStreamDestroy_v2"),
            ("cuEventCreate", "cuEventDestroy_v2"),
            ("cuMemHostAlloc", "cuMemFreeHost"),
            ("cuStreamEndCapture", "cuGraphDestroy"),
            ("cuGraphInstantiateWithFlags", "cuGraphExecDestroy"),
            ("cuModuleLoadData", "cuModuleUnload"),
            ("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2"),
        ] {
            assert!(counts[&taken] == counts[&given], "{counts:?}");
        }
        let count = |name| counts.get(&name).copied().unwrap_or(0);
        // Uploading a blob with checksums verified on the device launches a kernel; a resident layer needs none.
        let launches = [count("cuLaunchKernel"), count("cuLaunchKernelEx")];
        let is_old = std::env::var_os(fake::OLD).is_some();
        let expected = match bench.set {
            KernelSet::Sm80 => [19, 0],
            KernelSet::Sm90 if is_old => [18, 0],
            KernelSet::Sm90 => [11, 7],
        };
        assert_eq!(launches, expected, "{counts:?}");
    }
}

#[test]
#[ignore = "needs the fake driver"]
fn every_call_fails_for_every_reason() {
    for bench in Bench::of_all_sets() {
        let (start, mut cases) = (Instant::now(), 0);
        let calls = &bench.clean.calls;
        for (at, call) in (1..).zip(calls) {
            for fault in CODES
                .iter()
                .flat_map(|&code| [false, true].map(|sticky| Fault { at, code, sticky }))
            {
                let (errors, _) = bench.run(fault, ROOM);
                let faults = faults(&errors, fault);
                assert!(faults > 0 || may_be_silent(calls, fault), "{call}, {fault:?}: {errors:?}");
                assert!(faults <= 1 || fault.sticky, "{call}, {fault:?}: {errors:?}");
                cases += 1;
            }
            bench.run_cleanly();
        }
        println!("{:?}: {cases} cases in {:.1?}", bench.set, start.elapsed());
    }
}

#[test]
#[ignore = "needs the fake driver"]
fn device_memory_of_every_size() {
    for bench in Bench::of_all_sets() {
        let mut cases = 0;
        for capacity in (0..=bench.clean.peak).step_by(1 << 14).chain([bench.clean.peak - 1]) {
            let (errors, report) = bench.run(Fault::default(), capacity);
            let short = Fault { code: 2, ..Fault::default() };
            let faults = faults(&errors, short);
            assert!((1..=report.refused.len()).contains(&faults), "{capacity}: {errors:?}");
            for error in &errors.0 {
                if let GpuError::OutOfMemory { bytes: Some(bytes), .. } = error {
                    assert!(report.refused.contains(bytes), "{error} {report:?}");
                }
            }
            bench.run_cleanly();
            cases += 1;
        }
        println!("{:?}: {cases} sizes up to {} bytes", bench.set, bench.clean.peak);
    }
}

#[test]
#[ignore = "needs the fake driver"]
fn a_device_that_was_full_is_used_again_when_there_is_room() {
    for bench in Bench::of_all_sets() {
        bench.fake.begin(Fault::default(), ROOM);
        let gpu = bench.open(0).unwrap();
        let MemoryInfo { free, total, .. } = gpu.memory_info().unwrap();
        let mut full = Errors::default();
        bench.fake.set_capacity(total - free);
        scenario::everything(gpu.clone(), &bench.layers, &mut full);
        // Five errors: one for a CUDA stream, and one for each of four layers.
        let bias = Epilogue { scale: None, bias: Some(&[1.0; scenario::ROWS]) };
        let options = UploadOptions::new().epilogue(bias);
        let blob = Blob::parse(&bench.layers[0]).unwrap();
        let needed = options.device_byte_len(&gpu, &blob).unwrap();
        assert!(full.0.len() == 5 && full.0.iter().all(GpuError::is_out_of_memory), "{full:?}");
        assert!(
            matches!(full.0[1], GpuError::OutOfMemory { bytes: Some(bytes), .. } if bytes == needed)
        );
        bench.fake.set_capacity(ROOM);
        let mut errors = Errors::default();
        scenario::everything(gpu, &bench.layers, &mut errors);
        assert_clean(&errors, &bench.fake.report());
    }
}

#[test]
#[ignore = "needs the fake driver"]
fn a_destroyed_context_is_reported() {
    for bench in Bench::of_all_sets() {
        bench.fake.begin(Fault::default(), ROOM);
        let gpu = bench.open(0).unwrap();
        let cuda_stream = gpu.create_stream().unwrap();
        let layer = gpu.upload(&Blob::parse(&bench.layers[0]).unwrap()).unwrap();
        let mut operands = Operands::new(&gpu, &layer).unwrap();
        let mut weights = gpu.alloc(layer.decoded_byte_len()).unwrap();
        bench.fake.destroy_contexts();
        let errors = [
            layer.decode(weights.as_mut_slice(), &cuda_stream).err(),
            operands.multiply(&layer, 1, &cuda_stream).err(),
            operands.workspace.reset(&cuda_stream).err(),
            layer.verify().err(),
            gpu.synchronize().err(),
        ];
        for error in errors {
            let error = error.expect("there is no context");
            assert!(code(&error) == 709 && error.is_sticky(), "{error}");
        }
        drop((operands, weights, layer, cuda_stream, gpu));
        assert_eq!(bench.fake.report().complaints, "");
    }
}

#[test]
#[ignore = "needs the fake driver"]
fn two_devices_do_not_mix() {
    for bench in Bench::of_all_sets() {
        bench.fake.begin(Fault::default(), ROOM);
        let gpus = [0, 1].map(|ordinal| bench.open(ordinal).unwrap());
        let [here, there] = gpus.each_ref().map(|gpu| gpu.create_stream().unwrap());
        let blob = Blob::parse(&bench.layers[0]).unwrap();
        let layers = gpus.each_ref().map(|gpu| gpu.upload(&blob).unwrap());
        let operands = |on: usize| Operands::new(&gpus[on], &layers[on]).unwrap();
        // First, everything is on the layer's device. Then x, y or the workspace is on the other one.
        for other in [None, Some(0), Some(1), Some(2)] {
            let [x, y, workspace] =
                [0, 1, 2].map(|part| operands(usize::from(Some(part) == other)));
            let mut operands = Operands { x: x.x, y: y.y, workspace: workspace.workspace };
            let result = operands.multiply(&layers[0], 1, &here);
            let refused = matches!(result, Err(GpuError::OtherDevice { expected: 0, .. }));
            assert!(result.is_ok() == other.is_none() && refused == other.is_some(), "{result:?}");
        }
        let mut out = gpus[1].alloc(layers[0].decoded_byte_len()).unwrap();
        let refused = layers[0].decode(out.as_mut_slice(), &here);
        assert!(matches!(refused, Err(GpuError::OtherDevice { expected: 0, .. })), "{refused:?}");
        let refused = operands(0).multiply(&layers[0], 1, &there);
        let what = "the CUDA stream";
        assert!(
            matches!(refused, Err(GpuError::OtherDevice { what: w, expected: 0 }) if w == what),
            "{refused:?}"
        );
        // Uses both devices in turns, from one thread.
        layers[1].decode(out.as_mut_slice(), &there).unwrap();
        operands(0).multiply(&layers[0], 1, &here).unwrap();
        operands(1).multiply(&layers[1], 1, &there).unwrap();
        drop((out, layers, here, there, gpus));
        assert_eq!(bench.fake.report().complaints, "");
    }
}

#[test]
#[ignore = "needs the fake driver"]
fn kernels_are_refused_only_for_what_they_are() {
    let Some(bench) = Bench::new(KernelSet::Sm90) else { return };
    // Codes: no binary for this GPU, invalid PTX, no compiler, PTX of a newer version.
    for code in [209, 218, 221, 222] {
        let at = 1 + first_load(&bench.clean);
        bench.fake.begin(Fault { at, code, sticky: false }, ROOM);
        let error = bench.ptx.open(0, KernelSet::Sm80).expect_err("it is refused");
        assert!(matches!(error, GpuError::Kernels { code: told } if told == code), "{error}");
        assert_eq!(bench.fake.report().complaints, "");
    }
    bench.fake.begin(Fault::default(), ROOM);
    for no_ptx in ["not PTX", ".version 7.0\0"] {
        let error = Gpu::open_with(0, |_| no_ptx).expect_err("not PTX");
        assert!(matches!(error, GpuError::Kernels { code: 218 }), "{error}");
        assert!(error.to_string().contains("a newer driver"), "{error}");
    }
    assert_eq!(bench.fake.report().complaints, "");
}

/// Returns the index of the call that loads the first kernel.
fn first_load(report: &Report) -> usize {
    report.calls.iter().position(|name| *name == "cuModuleLoadData").expect("kernels are loaded")
}

#[test]
#[ignore = "needs the fake driver"]
fn refused_kernels_are_replaced_by_their_fallback() {
    use KernelSet::{Sm80, Sm90};
    let Some(bench) = Bench::new(KernelSet::Sm90) else { return };
    let check = |fault, (capability, refusal), preferred, expected: Result<KernelSet, u32>| {
        bench.fake.begin(fault, ROOM);
        bench.fake.set_capability(capability, refusal);
        let opened = bench.ptx.open(0, preferred);
        let found = opened.as_ref().map(Gpu::kernel_set).map_err(code);
        assert_eq!(found, expected, "{fault:?}, {capability:?}, {refusal}, {preferred:?}");
        drop(opened);
        assert_eq!(bench.fake.report().complaints, "");
    };
    let none = Fault::default();
    for preferred in [Sm80, Sm90] {
        check(none, ((9, 0), 0), preferred, Ok(preferred));
        for capability in [(8, 0), (8, 9), (10, 0), (12, 0)] {
            check(none, (capability, 0), preferred, Ok(Sm80));
        }
        // A refusal because of the PTX: image, binary, PTX, compiler, version, compilation, source, name.
        for refusal in [200, 209, 218, 221, 222, 223, 300, 500] {
            check(none, ((9, 0), refusal), preferred, Ok(Sm80));
        }
    }
    // Other faults are reported, and so is a refusal of both sets.
    let at = 1 + first_load(&bench.clean);
    for code in CODES {
        check(Fault { at, code, sticky: false }, ((9, 0), 0), Sm90, Err(code));
    }
    check(Fault { at, code: 222, sticky: false }, ((9, 0), 0), Sm90, Ok(Sm80));
    check(Fault { at, code: 222, sticky: true }, ((9, 0), 0), Sm90, Err(222));
}

#[test]
#[ignore = "needs the fake driver"]
fn only_the_text_that_is_needed_is_asked_for() {
    use KernelSet::{Sm80, Sm90};
    let Some(bench) = Bench::new(KernelSet::Sm90) else { return };
    for (refusal, preferred, expected) in
        [(0, Sm80, &[Sm80][..]), (0, Sm90, &[Sm90]), (222, Sm90, &[Sm90, Sm80])]
    {
        bench.fake.begin(Fault::default(), ROOM);
        bench.fake.set_capability((9, 0), refusal);
        let asked = RefCell::new(Vec::new());
        let text = |set| {
            asked.borrow_mut().push(set);
            bench.ptx.text(set)
        };
        Gpu::open_preferring(0, |_| preferred, text).unwrap();
        assert_eq!(asked.take(), expected);
    }
}
