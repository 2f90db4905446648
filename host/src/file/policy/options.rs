//! The options of a compression.

use std::fmt;

use crate::WeightsPerSymbol;
use crate::file::policy::QuantizeSettings;

/// Decides by its name whether a tensor is compressed.
type Select = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Options of [`compress`](crate::file::compress): which tensors to compress, and how. The default compresses every
/// matrix of BF16, FP16, FP8 or INT8 weights without loss.
#[derive(Default)]
pub struct CompressOptions {
    select: Option<Select>,
    pub(in crate::file) weights_per_symbol: WeightsPerSymbol,
    pub(in crate::file) quantize: QuantizeSettings,
}

impl CompressOptions {
    /// Compresses only tensors for whose name `select` returns true. The others are stored as they are.
    #[must_use]
    pub fn select(mut self, select: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.select = Some(Box::new(select));
        self
    }

    /// Sets how many integers share a symbol, where both are possible: two, the default, give smaller files; four are
    /// faster to multiply on a GPU.
    #[must_use]
    pub fn weights_per_symbol(mut self, weights_per_symbol: WeightsPerSymbol) -> Self {
        self.weights_per_symbol = weights_per_symbol;
        self
    }

    /// Returns whether the tensor `name` may be compressed.
    pub(in crate::file) fn selects(&self, name: &str) -> bool {
        self.select.as_ref().is_none_or(|select| select(name))
    }
}

impl fmt::Debug for CompressOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { select, weights_per_symbol, quantize } = self;
        f.debug_struct("CompressOptions")
            .field("select", &select.as_ref().map(|_| "Fn(&str) -> bool"))
            .field("weights_per_symbol", weights_per_symbol)
            .field("quantize", quantize)
            .finish()
    }
}
