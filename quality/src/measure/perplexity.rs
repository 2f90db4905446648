//! Perplexity, and differences between models.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::{Error, Llama, Windows};

/// Mean negative log-likelihood of a token of each window, in nats. Windows are computed side by
/// side, one on each of rayon's threads; how many there are does not change the results. `progress`
/// is called with the windows done.
///
/// # Errors
/// As [`Llama::hidden`].
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

/// Runs `job` where matrix products find no thread but this one: with every thread at work on a window
/// of its own, there is nothing to wait for.
fn alone(job: impl FnOnce() + Send) {
    match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(pool) => pool.install(job),
        // No thread to be had; those that there are will do.
        Err(_) => job(),
    }
}

/// A measurement, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Folder of the model.
    pub model: String,
    /// Tokens of a window.
    pub length: usize,
    /// Tokens at the start of each window that are not scored.
    pub context: usize,
    /// Tokens that are scored.
    pub tokens: usize,
    /// CRC-32C of all windows' tokens.
    pub tokens_crc32c: u32,
    /// Mean negative log-likelihood of a token of each window, in nats.
    pub nll: Vec<f64>,
    /// Mean over all windows.
    pub mean_nll: f64,
    /// Its standard error over windows; `None` for one window.
    pub standard_error: Option<f64>,
    /// e to the mean.
    pub perplexity: f64,
}

impl Measurement {
    /// What these windows' likelihoods amount to.
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

    /// Reads what `--json` printed for another model on the same windows.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Invalid`]; [`Error::Unpaired`] if the windows were others.
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

/// The difference between two models, from the same windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Mean of the differences in negative log-likelihood, in nats a token.
    pub mean_nll: f64,
    /// Its standard error over windows; `None` for one window.
    pub standard_error: Option<f64>,
    /// Perplexity over that of the reference.
    pub perplexity_ratio: f64,
}

impl Difference {
    /// Of the likelihoods of the same windows.
    #[must_use]
    pub fn new(nll: &[f64], reference: &[f64]) -> Self {
        let differences: Vec<f64> = nll.iter().zip(reference).map(|(a, b)| a - b).collect();
        let mean_nll = mean(&differences);
        let perplexity_ratio = mean_nll.exp();
        Self { mean_nll, standard_error: standard_error(&differences), perplexity_ratio }
    }
}

/// The mean; NaN of nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "there are not that many")]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard error of the mean; `None` for less than two values.
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
