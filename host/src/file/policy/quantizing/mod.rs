//! Quantized tensors (feature `quantize`): settings, rules, calibration, and the plan that applies them.

mod calibration;
mod names;
mod plan;
mod rates;
mod rules;
mod settings;
mod side_data;
mod treatment;

pub use calibration::Calibration;
pub(in crate::file) use plan::CompressPlan;
pub use rules::{Rules, RulesError};
pub use settings::QuantizeSettings;
