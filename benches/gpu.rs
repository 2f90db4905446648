//! Measures decoding on the GPU and compares it with a device-to-device copy in the same run. Also measures the upload
//! and the verification of layers, and the host's time to queue a product.
//!
//! Prints one line per layer and type: microseconds, G weights/s, GB/s read and written, and the share of the copy's
//! bandwidth. If a path is given, also writes the lines there as CSV. Checks the outputs before it times anything.
//! Alternates between copies of layers and outputs, so that the L2 cache is cold.

#[cfg(not(feature = "cuda"))]
fn main() {
    println!("built without the feature `cuda`: nothing to measure");
}

#[cfg(feature = "cuda")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = match fused_rans::gpu::open_as_tested(0) {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("skipped: {error}");
            return Ok(());
        }
    };
    let csv = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    bench::run(&gpu, csv)
}

#[cfg(feature = "cuda")]
mod bench {
    use fused_rans::gpu::{
        Check, CudaStream, DeviceBuffer, DeviceSlice, DeviceSliceMut, Gpu, GpuError, Layer,
        UploadOptions,
    };
    use fused_rans::{Activations, Blob, Dtype, Float, Matrix, Outputs, encode};
    use std::error::Error;
    use std::fmt::Write;
    use std::time::Instant;
    use support::Weights;

    const SHAPES: [(usize, usize); 4] = [(5632, 2048), (4096, 4096), (14336, 4096), (28672, 8192)];
    /// Number of timed batches. The result is the median of their times.
    const BATCHES: usize = 50;
    /// Number of calls per batch. They are queued one behind another, so that the GPU does not wait for launches.
    const CALLS: usize = 10;
    /// Bytes to alternate over: more than the L2 cache of any device so far.
    const COLD: usize = 256 << 20;

    pub fn run(gpu: &Gpu, csv: Option<String>) -> Result<(), Box<dyn Error>> {
        let cuda_stream = gpu.create_stream()?;
        let copy = copy_rate(gpu, &cuda_stream)?;
        let name = gpu.name()?;
        println!("{name}: device-to-device copy {copy:.0} GB/s, read and written");
        let mut table = String::from("gpu,dtype,rows,cols,bits_per_weight,us,gweights,gbps,copy\n");
        for dtype in Dtype::ALL {
            for (rows, cols) in SHAPES {
                let (layer_bytes, us) = decode_time(gpu, &cuda_stream, dtype, rows, cols)?;
                let weights = (rows * cols) as f64;
                let rate = weights / us / 1e3;
                let gbps = (layer_bytes as f64 + weights * dtype.byte_len() as f64) / us / 1e3;
                let bits = 8.0 * layer_bytes as f64 / weights;
                println!(
                    "decode {:8} {rows:5} x {cols:5} {bits:6.2} b/w {us:9.1} us {rate:6.0} \
                     G weights/s {gbps:6.0} GB/s {:4.0} % of copy",
                    dtype.name(),
                    100.0 * gbps / copy
                );
                writeln!(
                    table,
                    "{name},{},{rows},{cols},{bits:.3},{us:.2},{rate:.1},{gbps:.1},{copy:.1}",
                    dtype.name()
                )?;
            }
        }
        for dtype in Dtype::ALL {
            loading(gpu, dtype)?;
        }
        queueing(gpu, &cuda_stream)?;
        if let Some(path) = csv {
            std::fs::write(path, table)?;
        }
        Ok(())
    }

    /// Returns Gaussian weights and their blob.
    fn weights(
        dtype: Dtype,
        rows: usize,
        cols: usize,
    ) -> Result<(Vec<u8>, Vec<u8>), Box<dyn Error>> {
        let data = Weights::Gaussian.bytes(dtype, rows * cols, 1);
        let bytes = encode(Matrix::from_bytes(dtype, &data, rows, cols)?)?.into_bytes();
        Ok((data, bytes))
    }

    /// Prints how fast the largest layer is uploaded and verified. Measures the upload twice: with the tiles checked on
    /// the CPU, and on the device.
    fn loading(gpu: &Gpu, dtype: Dtype) -> Result<(), Box<dyn Error>> {
        let (rows, cols) = SHAPES[SHAPES.len() - 1];
        let (_, bytes) = weights(dtype, rows, cols)?;
        let blob = Blob::parse(&bytes)?;
        let on_device = || UploadOptions::new().check(Check::OnDevice);
        let layer = gpu.upload(&blob)?;
        let uploads = wall_ms(|| gpu.upload(&blob).map(drop))?;
        let fast = wall_ms(|| gpu.upload_with(&blob, on_device()).map(drop))?;
        let verified = wall_ms(|| layer.verify())?;
        let rate = |ms: f64| bytes.len() as f64 / ms / 1e6;
        println!(
            "load {:8} {rows} x {cols}, {:.0} MB: upload {uploads:.1} ms {:.2} GB/s, checked on the \
             device {fast:.1} ms {:.2} GB/s, verify {verified:.2} ms {:.0} GB/s",
            dtype.name(),
            bytes.len() as f64 / 1e6,
            rate(uploads),
            rate(fast),
            rate(verified)
        );
        Ok(())
    }

    /// Prints the host's time to queue a product in four ways: with our buffers; with another library's buffers, for
    /// which the driver is asked; with unchecked addresses; as a CUDA graph.
    fn queueing(gpu: &Gpu, cuda_stream: &CudaStream) -> Result<(), Box<dyn Error>> {
        let (rows, cols, m) = (512, 512, 1);
        let (_, bytes) = weights(Dtype::Bf16, rows, cols)?;
        let layer = gpu.upload(&Blob::parse(&bytes)?)?;
        let mut workspace = gpu.alloc_workspace(layer.workspace_size(m)?)?;
        let (x, mut y) = (gpu.alloc(2 * cols)?, gpu.alloc(4 * rows)?);
        let checked = queue_us(gpu, || {
            let x =
                Activations { data: x.as_slice(), dtype: Float::Bf16, rows: m, row_stride: cols };
            let y = Outputs { data: y.as_mut_slice(), dtype: Float::F32, row_stride: rows };
            layer.matmul(x, y, &mut workspace, cuda_stream)
        })?;
        let [x_at, y_at] = [&x, &y].map(DeviceBuffer::address);
        let foreign = queue_us(gpu, || {
            // SAFETY: the buffers outlive the device's work.
            let (data, out) = unsafe {
                (DeviceSlice::from_raw(x_at, x.len()), DeviceSliceMut::from_raw(y_at, y.len()))
            };
            let x = Activations { data, dtype: Float::Bf16, rows: m, row_stride: cols };
            let y = Outputs { data: out, dtype: Float::F32, row_stride: rows };
            layer.matmul(x, y, &mut workspace, cuda_stream)
        })?;
        let raw = queue_us(gpu, || {
            let x = Activations { data: x_at, dtype: Float::Bf16, rows: m, row_stride: cols };
            let y = Outputs { data: y_at, dtype: Float::F32, row_stride: rows };
            // SAFETY: the buffers are as large as the arguments say, and outlive the device's work.
            unsafe { layer.matmul_raw(x, y, &mut workspace, cuda_stream) }
        })?;
        let mut graph = cuda_stream.capture(|cuda_stream| {
            let x =
                Activations { data: x.as_slice(), dtype: Float::Bf16, rows: m, row_stride: cols };
            let y = Outputs { data: y.as_mut_slice(), dtype: Float::F32, row_stride: rows };
            layer.matmul(x, y, &mut workspace, cuda_stream)
        })?;
        // SAFETY: layer, workspace and buffers outlive the device's work.
        let graph = queue_us(gpu, || unsafe { graph.launch(cuda_stream) })?;
        println!(
            "queue a product, the host's time: matmul {checked:.2} us, buffers of other libraries {foreign:.2} us, \
             matmul_raw {raw:.2} us, graph {graph:.2} us"
        );
        Ok(())
    }

    /// Returns the host's time for `call` in microseconds: the median over the batches.
    fn queue_us(
        gpu: &Gpu,
        mut call: impl FnMut() -> Result<(), GpuError>,
    ) -> Result<f64, GpuError> {
        // As many calls as the driver queues without waiting for the device.
        const QUEUED: usize = 500;
        let mut times = Vec::with_capacity(BATCHES);
        for _ in 0..BATCHES {
            gpu.synchronize()?;
            let start = Instant::now();
            (0..QUEUED).try_for_each(|_| call())?;
            times.push(1e6 * start.elapsed().as_secs_f64() / QUEUED as f64);
        }
        gpu.synchronize()?;
        Ok(middle(times))
    }

    /// Returns the time of `call` in milliseconds: the median of seven.
    fn wall_ms(call: impl Fn() -> Result<(), GpuError>) -> Result<f64, GpuError> {
        let time = |_| {
            let start = Instant::now();
            call().map(|()| 1e3 * start.elapsed().as_secs_f64())
        };
        (0..7).map(time).collect::<Result<_, _>>().map(middle)
    }

    /// Returns a layer's size in device memory in bytes, and the median time of a decode call in microseconds.
    fn decode_time(
        gpu: &Gpu,
        cuda_stream: &CudaStream,
        dtype: Dtype,
        rows: usize,
        cols: usize,
    ) -> Result<(usize, f64), Box<dyn Error>> {
        let (data, bytes) = weights(dtype, rows, cols)?;
        let blob = Blob::parse(&bytes)?;
        let copies = (COLD / bytes.len()).max(1) + 1;
        let layers = (0..copies).map(|_| gpu.upload(&blob)).collect::<Result<Vec<Layer>, _>>()?;
        let outs = (0..copies).map(|_| gpu.alloc(data.len()));
        let mut outs = outs.collect::<Result<Vec<DeviceBuffer>, _>>()?;
        for layer in &layers {
            if layer.decode_to_bytes()? != data {
                return Err("the decoded weights differ".into());
            }
        }
        let us = median(gpu, cuda_stream, |call| {
            let (layer, out) = (&layers[call % copies], &mut outs[call % copies]);
            // SAFETY: layers and outputs outlive the events that `median` waits for. One CUDA stream
            // runs the calls one after another.
            unsafe { layer.queue_decode(out.as_mut_slice(), cuda_stream)? };
            Ok(())
        })?;
        Ok((layers[0].device_byte_len(), us))
    }

    /// Returns the speed of a copy of 1 GiB in GB/s, counting bytes read and bytes written.
    fn copy_rate(gpu: &Gpu, cuda_stream: &CudaStream) -> Result<f64, Box<dyn Error>> {
        let bytes = 1 << 30;
        let (from, mut to) = (gpu.alloc(bytes)?, gpu.alloc(bytes)?);
        let us =
            median(
                gpu,
                cuda_stream,
                |_| Ok(cuda_stream.copy(from.as_slice(), to.as_mut_slice())?),
            )?;
        Ok(2.0 * bytes as f64 / us / 1e3)
    }

    /// Returns the device's time for `call` in microseconds: the median over the batches.
    fn median(
        gpu: &Gpu,
        cuda_stream: &CudaStream,
        mut call: impl FnMut(usize) -> Result<(), Box<dyn Error>>,
    ) -> Result<f64, Box<dyn Error>> {
        (0..CALLS).try_for_each(&mut call)?;
        let (start, end) = (gpu.create_event()?, gpu.create_event()?);
        let mut times = Vec::with_capacity(BATCHES);
        for batch in 0..BATCHES {
            start.record(cuda_stream)?;
            (batch * CALLS..(batch + 1) * CALLS).try_for_each(&mut call)?;
            end.record(cuda_stream)?;
            end.synchronize()?;
            times.push(f64::from(end.elapsed_ms(&start)?) * 1e3 / CALLS as f64);
        }
        Ok(middle(times))
    }

    /// Returns the median.
    fn middle(mut times: Vec<f64>) -> f64 {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}
