//! An average rate, spread over the layers of a model.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;

use super::error::{FileError, TensorFault};
use super::mapped::PlainFile;
use super::options::{Options, Quantization, Treatment};
use crate::quantize::{self, Curve, Quantizer, Rate, Source};

/// The rates of the tensors whose own was not the user's.
#[derive(Debug, Default)]
pub(super) struct Plan(HashMap<String, Rate>);

/// A plan that is made when it is first asked for: once it is known that there is a place for what it is made for.
pub(super) struct LazyPlan<'a> {
    files: Vec<&'a Path>,
    options: &'a Options,
    plan: OnceCell<Plan>,
}

impl<'a> LazyPlan<'a> {
    /// The plan for these files.
    pub(super) fn new(files: impl IntoIterator<Item = &'a Path>, options: &'a Options) -> Self {
        Self { files: files.into_iter().collect(), options, plan: OnceCell::new() }
    }

    /// The plan; what [`Plan::of`] fails with.
    pub(super) fn get(&self) -> Result<&Plan, FileError> {
        if let Some(plan) = self.plan.get() {
            return Ok(plan);
        }
        let plan = Plan::of(self.files.iter().copied(), self.options)?;
        Ok(self.plan.get_or_init(|| plan))
    }
}

impl Plan {
    /// The rates of the tensors of these files: those that are to be quantized to [`Quantizer::Rate`], unless a rule says to
    /// which. Without [`Options::spread`] all have the same, and nothing is read.
    fn of<'a>(
        files: impl IntoIterator<Item = &'a Path>,
        options: &Options,
    ) -> Result<Self, FileError> {
        let (mut names, mut curves, mut average) = (Vec::new(), Vec::new(), None);
        if !options.spreads() {
            return Ok(Self::default());
        }
        for path in files {
            let plain = PlainFile::open(path)?;
            for tensor in plain.tensors() {
                let Treatment::Quantize(Quantization {
                    quantizer: Quantizer::Rate(rate),
                    pinned: false,
                    packing,
                    raw_bits,
                    weight,
                }) = options.treatment(tensor)
                else {
                    continue;
                };
                let moments = options.moments(&tensor.name)?;
                let coding = quantize::Options { packing, raw_bits, moments: moments.as_ref() };
                let (dtype, rows, cols) = tensor.numbers().expect("only numbers are quantized");
                let curve = Source::new(dtype, rows, cols, plain.data(tensor))
                    .and_then(|source| Curve::of(source, coding))
                    .map_err(|fault| {
                        FileError::tensor(path, &tensor.name, TensorFault::Quantize(fault))
                    })?;
                names.push(tensor.name.clone());
                curves.push(curve.weighted(weight));
                average = Some(rate);
            }
        }
        let rates = average.map(|average| quantize::spread(&curves, average));
        Ok(Self(names.into_iter().zip(rates.into_iter().flatten()).collect()))
    }

    /// The quantizer of the tensor `name`.
    pub(super) fn quantizer(&self, name: &str, quantization: Quantization) -> Quantizer {
        let rate = self.0.get(name).copied().filter(|_| !quantization.pinned);
        rate.map_or(quantization.quantizer, Quantizer::Rate)
    }
}
