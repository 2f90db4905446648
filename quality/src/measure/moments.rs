//! Measures the second moments of the inputs of linear layers, which calibrate quantizers.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::model::config::LayerLinear;
use crate::model::ops;
use crate::model::values::{edit, read};
use crate::output::{self, Output};
use crate::{Error, Llama, Windows};

/// Which moments to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The mean of x xᵀ, `[K, K]`.
    Matrix,
    /// The diagonal, the mean of x², `[K]`.
    Diagonal,
}

/// The weight of each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// Equal: each input is divided by its root mean square. Use it for calibration. In some layers a few tokens, such as
    /// the first of a text, have inputs a thousand times as large as the others; without this they would dominate.
    Equal,
    /// That of the unscaled inputs. Use it to measure errors of outputs.
    Unscaled,
}

/// Sums of moments by the name of the weights.
type Sums = BTreeMap<String, Tensor>;

/// Number of partial sums, which are computed in parallel. Fixed, so that every machine adds in the same order.
const PARTS: usize = 8;

/// Measures moments: means over all tokens of the windows, by the name of the weights that the input is multiplied by; if
/// several share the input, by the first name. The output head is included. Calls `progress` with the number of finished
/// windows.
///
/// # Errors
/// The errors of [`Llama::hidden`].
pub fn moments(
    model: &Llama,
    windows: &Windows,
    kind: Kind,
    weighting: Weighting,
    progress: &mut dyn FnMut(usize),
) -> Result<BTreeMap<String, Tensor>, Error> {
    let done = AtomicUsize::new(0);
    let parts: Vec<&[Vec<u32>]> =
        windows.tokens.chunks(windows.tokens.len().div_ceil(PARTS).max(1)).collect();
    let (sender, seen) = mpsc::channel();
    let sums = thread::scope(|scope| {
        let (parts, done) = (&parts, &done);
        let work = scope.spawn(move || -> Result<Vec<Sums>, Error> {
            let part = |windows: &&[Vec<u32>]| {
                let mut sums = BTreeMap::new();
                for window in *windows {
                    model.hidden(window, &mut |name, x| {
                        add(&mut sums, kind, name, &weighted(x, weighting)?)
                    })?;
                    // The receiver may be gone.
                    _ = sender.send(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
                Ok(sums)
            };
            parts.par_iter().map(part).collect()
        });
        seen.into_iter().for_each(progress);
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let mut sums = sums.into_iter();
    let all = sums.next().unwrap_or_default();
    for part in sums {
        for (name, sum) in part {
            read(&sum, |sum| edit(&all[&name], |all| ops::add(all, sum)))??;
        }
    }
    let count: usize = windows.tokens.iter().map(Vec::len).sum();
    #[expect(
        clippy::cast_precision_loss,
        reason = "fewer than 2^24 tokens, or rounding is harmless"
    )]
    let scale = 1.0 / count.max(1) as f32;
    for sum in all.values() {
        edit(sum, |sum| sum.iter_mut().for_each(|value| *value *= scale))?;
    }
    Ok(all)
}

/// Weights the inputs `x`, `[tokens, K]`.
fn weighted(x: &Tensor, weighting: Weighting) -> Result<Tensor, Error> {
    /// Added to mean squares, so that inputs of 0 stay 0.
    const TINY: f32 = 1e-30;
    if weighting == Weighting::Unscaled {
        return Ok(x.clone());
    }
    let (copy, ones) = (x.copy()?, vec![1.0; x.dim(1)?]);
    edit(&copy, |rows| ops::rms_norm(rows, &ones, TINY))?;
    Ok(copy)
}

/// Adds the moments of the inputs `x`, `[tokens, K]`.
fn add(
    sums: &mut BTreeMap<String, Tensor>,
    kind: Kind,
    name: &str,
    x: &Tensor,
) -> Result<(), Error> {
    let products = match kind {
        Kind::Matrix => x.t()?.matmul(x)?,
        Kind::Diagonal => x.sqr()?.sum(0)?,
    };
    let Some(sum) = sums.get(name) else {
        sums.insert(name.to_owned(), products);
        return Ok(());
    };
    read(&products, |products| edit(sum, |sum| ops::add(sum, products)))??;
    Ok(())
}

/// Returns, for all weights that share an input with earlier ones, the name under which the moments are stored.
#[must_use]
pub fn shared(model: &Llama) -> BTreeMap<String, String> {
    let layers = 0..model.config().num_hidden_layers;
    let pairs = layers.flat_map(|layer| {
        LayerLinear::ALL
            .map(|linear| (linear.weight(layer), linear.shares_input_with().weight(layer)))
    });
    pairs.filter(|(name, stored)| name != stored).collect()
}

/// Writes moments as a safetensors file. Its metadata contain `shared`, the JSON of [`shared`]; `tokens`, the number of
/// tokens; and `weighting`, which is `alike` for [`Weighting::Equal`] and `as they are` for [`Weighting::Unscaled`].
///
/// # Errors
/// [`Error::Io`], [`Error::Invalid`].
pub fn write(
    path: &Path,
    moments: &BTreeMap<String, Tensor>,
    shared: &BTreeMap<String, String>,
    tokens: usize,
    weighting: Weighting,
) -> Result<(), Error> {
    let output = Output::file(path)?;
    let shared = serde_json::to_string(shared).map_err(Error::invalid(path, "JSON text"))?;
    let weighting = match weighting {
        Weighting::Equal => "alike",
        Weighting::Unscaled => "as they are",
    };
    let weighting = weighting.to_owned();
    let metadata = [("shared", shared), ("tokens", tokens.to_string()), ("weighting", weighting)];
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    output::save(&output.path(), moments, metadata)?;
    output.commit()
}

#[cfg(test)]
mod tests {
    use candle_core::safetensors::MmapedSafetensors;

    use super::*;
    use crate::tiny;

    fn windows() -> Windows {
        let window = |seed: u32| (0..12).map(|i| (seed + i * i) % 50).collect();
        Windows { context: 1, tokens: (0..3).map(window).collect() }
    }

    /// Computes moments in the slow, obvious way.
    fn naive(model: &Llama, weighting: Weighting) -> BTreeMap<String, Vec<Vec<f64>>> {
        let mut sums: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
        for window in &windows().tokens {
            let mut see = |name: &str, x: &Tensor| {
                for mut x in x.to_vec2::<f32>()? {
                    if weighting == Weighting::Equal {
                        let squares: f32 = x.iter().map(|x| x * x).sum();
                        let mean = squares / x.len() as f32;
                        x.iter_mut().for_each(|x| *x /= mean.sqrt());
                    }
                    let empty = || vec![vec![0.0; x.len()]; x.len()];
                    let sum = sums.entry(name.to_owned()).or_insert_with(empty);
                    for (row, a) in sum.iter_mut().zip(&x) {
                        for (sum, b) in row.iter_mut().zip(&x) {
                            *sum += f64::from(*a) * f64::from(*b) / 36.0;
                        }
                    }
                }
                Ok(())
            };
            model.hidden(window, &mut see).unwrap();
        }
        sums
    }

    #[test]
    fn moments_are_those_of_a_naive_sum() {
        check(Weighting::Equal);
        check(Weighting::Unscaled);
    }

    fn check(weighting: Weighting) {
        let model = tiny::model(true);
        let mut done = 0;
        let mut progress = |windows| done = windows;
        let mut of =
            |kind, weighting| moments(&model, &windows(), kind, weighting, &mut progress).unwrap();
        let (matrices, diagonals) = (of(Kind::Matrix, weighting), of(Kind::Diagonal, weighting));
        assert_eq!(done, 3);
        let expected = naive(&model, weighting);
        assert!(matrices.keys().eq(expected.keys()) && diagonals.keys().eq(expected.keys()));
        // Four inputs per layer, and the output head's.
        assert_eq!(matrices.len(), 2 * 4 + 1);
        for (name, expected) in &expected {
            let matrix = matrices[name].to_vec2::<f32>().unwrap();
            let diagonal = diagonals[name].to_vec1::<f32>().unwrap();
            let close = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-5 * (1.0 + b.abs());
            for (i, (row, expected)) in matrix.iter().zip(expected).enumerate() {
                assert!(row.iter().zip(expected).all(|(&a, &b)| close(a, b)), "{name}, row {i}");
                assert!(close(diagonal[i], expected[i]), "{name}, diagonal {i}");
            }
        }
    }

    #[test]
    fn every_weight_finds_its_moments_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("moments.safetensors");
        let model = tiny::model(true);
        let moments =
            moments(&model, &windows(), Kind::Diagonal, Weighting::Equal, &mut |_| {}).unwrap();
        write(&path, &moments, &shared(&model), 36, Weighting::Equal).unwrap();

        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        assert_eq!(metadata["tokens"], "36");
        assert_eq!(metadata["weighting"], "alike");
        let shared: BTreeMap<String, String> = serde_json::from_str(&metadata["shared"]).unwrap();
        // SAFETY: no one else uses this temporary file.
        let file = unsafe { MmapedSafetensors::new(&path) }.unwrap();
        for linear in LayerLinear::ALL {
            let name = linear.weight(1);
            let stored = shared.get(&name).unwrap_or(&name);
            let shape = file.get(stored).unwrap().shape().to_vec();
            assert_eq!(shape, model.config().linear_shape(linear)[1..], "{name}");
        }
        assert_eq!(
            shared["model.layers.0.mlp.up_proj.weight"],
            "model.layers.0.mlp.gate_proj.weight"
        );
        assert_eq!(shared.len(), 2 * 3);
    }
}
