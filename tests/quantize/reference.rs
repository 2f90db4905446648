//! The obvious ways to quantize, one number at a time.

use fused_rans::quantize::Quantizer;
use half::{bf16, f16};
use support::sources::Numbers;

/// Returns, for each number, the nearest of all numbers that the format has with the scale of the number's row or group.
pub fn quantize(quantizer: Quantizer, numbers: &Numbers) -> Vec<f32> {
    let rows = numbers.values.chunks_exact(numbers.cols);
    match quantizer {
        Quantizer::Int8 => rows.flat_map(|row| by_row(row, 127.0, &integers(-127, 127))).collect(),
        Quantizer::Fp8 => rows.flat_map(|row| by_row(row, 448.0, &e4m3())).collect(),
        Quantizer::Int4 { zero_points } => rows
            .flat_map(|row| {
                let factor = factor(row);
                row.chunks(128).flat_map(move |group| by_group(group, factor, zero_points))
            })
            .collect(),
        _ => unreachable!("rates have no obvious way"),
    }
}

fn integers(from: i32, to: i32) -> Vec<f64> {
    (from..=to).map(f64::from).collect()
}

/// Returns all e4m3 numbers.
fn e4m3() -> Vec<f64> {
    let magnitude = |bits: u32| match bits >> 3 {
        0 => f64::from(bits & 7) / 512.0,
        exponent => (1.0 + f64::from(bits & 7) / 8.0) * (f64::from(exponent) - 7.0).exp2(),
    };
    (0..0x7F).map(magnitude).flat_map(|x| [x, -x]).collect()
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, x| most.max(x.abs()))
}

fn nearest(number: f32, levels: &[f64], scale: f64) -> f32 {
    let distance = |level: &&f64| (*level * scale - f64::from(number)).abs();
    let level = levels.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    (level.expect("a format has levels") * scale) as f32
}

fn by_row(row: &[f32], most: f32, levels: &[f64]) -> Vec<f32> {
    let scale = f64::from(bf16::from_f32(largest(row) / most).to_f32());
    row.iter().map(|&number| nearest(number, levels, scale)).collect()
}

/// Returns the power of 2 by which the scales of a row's groups are divided to fit in binary16.
fn factor(row: &[f32]) -> f64 {
    let scale = eleven_bits(f64::from(largest(row) / 7.0));
    let mut factor = 1.0;
    while scale > 0.0 && scale / factor < 1.0 / 4096.0 {
        factor /= 2.0;
    }
    while scale / factor >= 32768.0 {
        factor *= 2.0;
    }
    factor
}

/// Rounds a number of at least 0 to 11 significant bits, as many as binary16 has.
fn eleven_bits(number: f64) -> f64 {
    let step = (number.log2().floor() - 10.0).exp2();
    if number > 0.0 { (number / step).round_ties_even() * step } else { 0.0 }
}

fn by_group(group: &[f32], factor: f64, zero_points: bool) -> Vec<f32> {
    let ends = group.iter().fold((0.0f32, 0.0f32), |(low, high), &x| (low.min(x), high.max(x)));
    let range = match zero_points {
        true => (f64::from(ends.1) - f64::from(ends.0)) / 15.0,
        false => f64::from(largest(group)) / 7.0,
    };
    let scale = f64::from(f16::from_f64(range / factor).to_f32()) * factor;
    let zero = match zero_points && scale > 0.0 {
        true => (-f64::from(ends.0) / scale).min(15.0).round_ties_even() - 8.0,
        false => 0.0,
    };
    let levels: Vec<f64> = (-8..8).map(|level| f64::from(level) - zero).collect();
    group.iter().map(|&number| nearest(number, &levels, scale)).collect()
}

/// Returns the sum of `e H e^T` over the rows of errors e.
pub fn output_error(numbers: &Numbers, back: &[f32], moments: &[f32]) -> f64 {
    let cols = numbers.cols;
    let error = |row: &[f32], back: &[f32]| -> f64 {
        let e: Vec<f64> =
            row.iter().zip(back).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect();
        let of = |i: usize| {
            (0..cols).map(|j| e[i] * f64::from(moments[i * cols + j]) * e[j]).sum::<f64>()
        };
        (0..cols).map(of).sum()
    };
    numbers.values.chunks_exact(cols).zip(back.chunks_exact(cols)).map(|(a, b)| error(a, b)).sum()
}

/// Returns the step of a row whose `weights` dequantize to `numbers`.
pub fn step(numbers: &[f32], weights: &[u8]) -> f64 {
    let (number, weight) = numbers
        .iter()
        .zip(weights)
        .find(|(_, weight)| **weight != 0)
        .expect("not all weights are 0");
    f64::from(*number) / f64::from(weight.cast_signed())
}

/// Rounds each row's weights one after another, the input with the largest moment first. Each becomes the multiple of the
/// step for which the outputs' error is least, if all later weights could still take any value. These are solved for.
pub fn feedback(numbers: &Numbers, moments: &[f32], steps: &[f64]) -> Vec<i32> {
    let cols = numbers.cols;
    let mean = (0..cols).map(|n| f64::from(moments[n * cols + n])).sum::<f64>() / cols as f64;
    let h = |i: usize, j: usize| {
        f64::from(moments[i * cols + j]) + if i == j { 0.01 * mean } else { 0.0 }
    };
    let mut order: Vec<usize> = (0..cols).collect();
    order.sort_by(|&a, &b| moments[b * cols + b].total_cmp(&moments[a * cols + a]));
    let mut out = vec![0; numbers.values.len()];
    for (row, &step) in steps.iter().enumerate() {
        let weights = &numbers.values[row * cols..][..cols];
        let mut wanted: Vec<f64> = weights.iter().map(|&w| w.into()).collect();
        for place in 0..cols {
            let at = order[place];
            let rounded = (wanted[at] / step).round_ties_even();
            out[row * cols + at] = rounded as i32;
            // Solving with H of the later weights gives their best values, given this error.
            let error = rounded * step - wanted[at];
            let free = &order[place + 1..];
            let shares = solve(free.len(), |i, j| h(free[i], free[j]), |i| h(free[i], at) * error);
            for (&other, share) in free.iter().zip(shares) {
                wanted[other] -= share;
            }
        }
    }
    out
}

/// Solves a positive definite system by elimination.
fn solve(n: usize, a: impl Fn(usize, usize) -> f64, b: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut rows: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| a(i, j)).chain([b(i)]).collect()).collect();
    for i in 0..n {
        let pivot = rows[i].clone();
        for row in &mut rows[i + 1..] {
            let factor = row[i] / pivot[i];
            row[i..].iter_mut().zip(&pivot[i..]).for_each(|(x, p)| *x -= factor * p);
        }
    }
    let mut x = vec![0.0; n];
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|j| rows[i][j] * x[j]).sum();
        x[i] = (rows[i][n] - sum) / rows[i][i];
    }
    x
}
