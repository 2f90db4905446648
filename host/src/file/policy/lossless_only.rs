//! The policy of builds without quantizers (feature `quantize`): every selected matrix is compressed without loss.

use std::path::Path;

use crate::file::error::FileError;
use crate::file::format::header::Tensor;
use crate::file::format::lossless::{LosslessCoding, encode_lossless};
use crate::file::format::plain::PlainFile;
use crate::file::policy::encoded::{EncodedTensor, Outcome};
use crate::file::policy::kept::Kept;
use crate::file::policy::options::CompressOptions;
use crate::file::policy::warning::Warning;
use crate::file::progress::Progress;

/// No settings: nothing is quantized.
#[derive(Debug, Default)]
pub struct QuantizeSettings;

/// Encodes the tensors of a job's files.
pub(in crate::file) struct CompressPlan<'a> {
    files: &'a [PlainFile],
    options: &'a CompressOptions,
}

impl<'a> CompressPlan<'a> {
    /// Makes the plan for `files`.
    #[expect(clippy::unnecessary_wraps, reason = "plans of quantizers may fail")]
    pub(in crate::file) fn new(
        files: &'a [PlainFile],
        options: &'a CompressOptions,
        _progress: &mut Progress<'_>,
    ) -> Result<Self, FileError> {
        Ok(Self { files, options })
    }

    /// Encodes `tensor` of the file `path`, whose bytes are `data`, into `memory`, whose contents do not matter.
    pub(in crate::file) fn encode(
        &self,
        path: &Path,
        tensor: &Tensor,
        data: &[u8],
        memory: Vec<u8>,
    ) -> Result<EncodedTensor, FileError> {
        if !self.options.selects(&tensor.name) {
            return Ok(EncodedTensor { blob: None, outcome: Outcome::AsAsked });
        }
        let weights_per_symbol = self.options.weights_per_symbol;
        let blob = encode_lossless(
            tensor,
            data,
            LosslessCoding { weights_per_symbol, raw_bits: None },
            memory,
        )
        .map_err(|fault| FileError::tensor(path, &tensor.name, fault))?;
        Ok(EncodedTensor::lossless(tensor, blob))
    }

    /// Returns the options without effect.
    pub(in crate::file) fn warnings(&self, _quantized: usize, _kept: &[Kept]) -> Vec<Warning> {
        let mut tensors = self.files.iter().flat_map(PlainFile::tensors).peekable();
        let is_empty = tensors.peek().is_none();
        let is_selected = tensors.any(|tensor| self.options.selects(&tensor.name));
        if is_empty || is_selected { Vec::new() } else { vec![Warning::NothingSelected] }
    }

    /// Checks that no file has changed since the job opened it.
    pub(in crate::file) fn check_unchanged(&self) -> Result<(), FileError> {
        self.files.iter().try_for_each(PlainFile::check_unchanged)
    }
}
