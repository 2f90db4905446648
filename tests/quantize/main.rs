//! Quantizers.

mod quantizers;
mod rates;
mod reference;
