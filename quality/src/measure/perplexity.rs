//! Measures perplexity, and its differences between models.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::{Error, Llama, Windows};

/// Computes the mean negative log-likelihood of the tokens of each window, in nats. Computes as many windows at once as rayon
/// has threads; their number does not change the results. Calls `progress` with the number of finished windows.
///
/// # Errors
/// The errors of [`Llama::hidden`].
pub fn nll(
    model: &Llama,
    windows: &Windows,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<f64>, Error> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = |results: &mpsc::Sender<(usize, Result<f64, Error>)>| {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(window) = windows.tokens.get(index) else { break };
            let result = model.nll(window, windows.context).map(|nll| mean(&nll));
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            if results.send((index, result)).is_err() {
                break;
            }
        }
    };
    let mut means = vec![f64::NAN; windows.tokens.len()];
    thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for _ in 0..rayon::current_num_threads().min(windows.tokens.len()) {
            let (sender, work) = (sender.clone(), &work);
            scope.spawn(move || alone(|| work(&sender)));
        }
        drop(sender);
        for (done, (index, result)) in results.into_iter().enumerate() {
            means[index] = result?;
            progress(done + 1);
        }
        Ok(means)
    })
}

/// Runs `job` with a thread pool of one thread, so that matrix products do not wait for threads that compute other windows.
fn alone(job: impl FnOnce() + Send) {
    match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(pool) => pool.install(job),
        // No thread can be started: the existing pool works, too.
        Err(_) => job(),
    }
}

/// A measurement of perplexity, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Folder of the model.
    pub model: String,
    /// Number of tokens of a window.
    pub length: usize,
    /// Number of tokens at the start of each window that are not scored.
    pub context: usize,
    /// Number of scored tokens.
    pub tokens: usize,
    /// CRC-32C of all windows' tokens.
    pub tokens_crc32c: u32,
    /// Mean negative log-likelihood of each window, in nats per token.
    pub nll: Vec<f64>,
    /// Mean of `nll`.
    pub mean_nll: f64,
    /// Standard error of the mean over windows; `None` for a single window.
    pub standard_error: Option<f64>,
    /// e to the power of the mean.
    pub perplexity: f64,
}

impl Measurement {
    /// Computes a measurement from the likelihoods `nll` of `windows`.
    #[must_use]
    pub fn new(model: &Path, windows: &Windows, nll: Vec<f64>) -> Self {
        let mean_nll = mean(&nll);
        Self {
            model: model.display().to_string(),
            length: windows.tokens.first().map_or(0, Vec::len),
            context: windows.context,
            tokens: windows.scored(),
            tokens_crc32c: windows.checksum(),
            mean_nll,
            standard_error: standard_error(&nll),
            perplexity: mean_nll.exp(),
            nll,
        }
    }

    /// Reads a measurement of another model on the same windows, as `--json` prints it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Invalid`]; [`Error::Unpaired`] if it was made on other windows.
    pub fn read(path: &Path, windows: &Windows) -> Result<Self, Error> {
        let text = fs::read(path).map_err(Error::io(path, "read"))?;
        let read: Self =
            serde_json::from_slice(&text).map_err(Error::invalid(path, "measurement"))?;
        let found = (read.tokens_crc32c, read.tokens, read.context, read.nll.len());
        if found != (windows.checksum(), windows.scored(), windows.context, windows.tokens.len()) {
            return Err(Error::Unpaired { path: path.to_owned() });
        }
        Ok(read)
    }
}

/// The paired difference between two models on the same windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Mean difference of the negative log-likelihoods, in nats per token.
    pub mean_nll: f64,
    /// Standard error of the mean over windows; `None` for a single window.
    pub standard_error: Option<f64>,
    /// Perplexity divided by the reference's.
    pub perplexity_ratio: f64,
}

impl Difference {
    /// Computes the difference from the likelihoods of the same windows.
    #[must_use]
    pub fn new(nll: &[f64], reference: &[f64]) -> Self {
        let differences: Vec<f64> = nll.iter().zip(reference).map(|(a, b)| a - b).collect();
        let mean_nll = mean(&differences);
        let perplexity_ratio = mean_nll.exp();
        Self { mean_nll, standard_error: standard_error(&differences), perplexity_ratio }
    }
}

/// Returns the mean; NaN for no values.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "there are not that many")]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns the standard error of the mean; `None` for fewer than two values.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "there are not that many")]
pub fn standard_error(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (mean, count) = (mean(values), values.len() as f64);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (count - 1.0) / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    #[test]
    fn threads_do_not_change_results() {
        let model = tiny::model(true);
        let window = |seed: u32| (0..12).map(|i| (seed + i * i) % 50).collect();
        let windows = Windows { context: 1, tokens: (0..7).map(window).collect() };
        let expected: Vec<f64> =
            windows.tokens.iter().map(|tokens| mean(&model.nll(tokens, 1).unwrap())).collect();
        for threads in [1, 3, 16] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut steps = Vec::new();
            let found = pool.install(|| {
                let found = nll(&model, &windows, &mut |done| steps.push(done));
                assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7]);
                found
            });
            assert_eq!(found.unwrap(), expected, "{threads} threads");
        }
        let bad = Windows { context: 1, tokens: vec![vec![1, 2], vec![1, 99], vec![3, 4]] };
        assert!(matches!(nll(&model, &bad, &mut |_| {}), Err(Error::Token { token: 99, .. })));
    }

    #[test]
    fn paired_differences_do_not_see_how_windows_vary() {
        let reference = [1.0, 4.0, 2.0, 8.0];
        let nll = [1.1, 4.3, 2.2, 8.2];
        let difference = Difference::new(&nll, &reference);
        assert!((difference.mean_nll - 0.2).abs() < 1e-12);
        // The differences 0.1, 0.3, 0.2, 0.2: variance 0.02 / 3, over 4 windows.
        let expected = (0.02_f64 / 3.0 / 4.0).sqrt();
        assert!((difference.standard_error.unwrap() - expected).abs() < 1e-12);
        assert!((difference.perplexity_ratio - 0.2_f64.exp()).abs() < 1e-12);
        assert_eq!(standard_error(&[1.0]), None);
        assert_eq!(standard_error(&[3.0, 3.0]), Some(0.0));
    }

    #[test]
    fn measurements_are_compared_on_the_same_windows_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reference.json");
        let windows = Windows { context: 1, tokens: vec![vec![1, 2], vec![3, 4]] };
        let measurement = Measurement::new(Path::new("model"), &windows, vec![2.0, 3.0]);
        fs::write(&path, serde_json::to_string(&measurement).unwrap()).unwrap();
        assert_eq!(Measurement::read(&path, &windows).unwrap(), measurement);

        let other = Windows { context: 1, tokens: vec![vec![1, 2], vec![3, 5]] };
        assert!(matches!(Measurement::read(&path, &other), Err(Error::Unpaired { .. })));
        fs::write(&path, "{").unwrap();
        assert!(matches!(Measurement::read(&path, &other), Err(Error::Invalid { .. })));
    }
}
