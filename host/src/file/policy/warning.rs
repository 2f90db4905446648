//! Options that have no effect.

use std::fmt;

/// An option of [`compress`](crate::file::compress) that has no effect on any tensor of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A quantizer was chosen, but no tensor is quantized. Embeddings, norms, biases and tensors that are not selected
    /// are never quantized.
    Format,
    /// The rate is to be shared, but no tensor is quantized to a shared rate.
    ShareRate,
    /// There is a calibration, but no tensor is quantized to a rate.
    Calibration,
    /// The calibration has moments for none of the tensors that are quantized to a rate.
    OtherCalibration,
    /// A rule's pattern, this one, is in the name of no selected tensor.
    Rule(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str(
                "nothing is quantized: the only selected matrices are embeddings, norms and biases, which are \
                 quantized on request only",
            ),
            Self::ShareRate => f.write_str(
                "sharing the rate has no effect: no tensor is quantized to a shared rate",
            ),
            Self::Calibration => f.write_str(
                "the calibration has no effect: no tensor is quantized to a rate, and only rates use it",
            ),
            Self::OtherCalibration => f.write_str(
                "the calibration has no effect: it has moments for none of the tensors that are quantized to a rate",
            ),
            Self::Rule(name) => {
                write!(f, "the rule for `{name}` has no effect: this is in the name of no selected tensor")
            }
        }
    }
}
