//! What becomes of each tensor: options, rules, calibration, plan, warnings.

pub mod calibration;
pub mod options;
pub mod plan;
pub mod rules;
pub mod warning;
