//! x
use fused_rans_host::quantize::*;
use fused_rans_host::*;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal, StudentT};
use std::time::Instant;
fn main() {
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    for (rows, cols) in
        [(576, 576), (192, 576), (1536, 576), (576, 1536), (2048, 2048), (4096, 4096)]
    {
        for heavy in [false, true] {
            let t = StudentT::new(5.0f64).unwrap();
            let data: Vec<u8> = (0..rows * cols)
                .flat_map(|_| {
                    let x: f64 =
                        if heavy { t.sample(&mut rng) } else { StandardNormal.sample(&mut rng) };
                    half::bf16::from_f64(x * 0.02).to_le_bytes()
                })
                .collect();
            let source = Source::new(Float::Bf16, rows, cols, &data).unwrap();
            for packing in Packing::ALL {
                print!("{rows}x{cols} t={heavy} {packing:?}:");
                for bits in [2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 5.7, 6.0, 7.0] {
                    let t0 = Instant::now();
                    let q = Quantizer::rate(bits)
                        .unwrap()
                        .quantize(source, Options { packing, ..Default::default() })
                        .unwrap();
                    let t1 = t0.elapsed();
                    let blob = encode(q.matrix()).unwrap();
                    let t2 = t0.elapsed() - t1;
                    let n = (rows * cols) as f64;
                    let b = Blob::parse(&blob).unwrap();
                    print!(
                        " {bits}:{:+.3}(r{} {:.3}% H{:.2} {:.0}/{:.0})",
                        8.0 * blob.len() as f64 / n - bits,
                        b.split().raw_bits(),
                        100.0 * b.exceptions() as f64 / n,
                        b.entropy(),
                        2.0 * n / t1.as_secs_f64() / 1e6,
                        2.0 * n / t2.as_secs_f64() / 1e6
                    );
                }
                println!();
            }
        }
    }
}
