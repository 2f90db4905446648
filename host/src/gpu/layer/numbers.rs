//! What a layer has in device memory beside its weights, in either form: decode tables, scale and bias.

use super::super::{Gpu, LayerPart};
use super::upload::is_page_locked;
use crate::{Blob, Epilogue};
use std::borrow::Cow;

/// Decode tables, scale and bias of a layer, in host memory.
pub struct Numbers<'a> {
    table: Vec<u32>,
    exponent_table: Option<Vec<u32>>,
    scale: Option<Cow<'a, [f32]>>,
    bias: Option<&'a [f32]>,
}

impl<'a> Numbers<'a> {
    /// Returns the numbers of a blob, with the scale and the bias of `epilogue`.
    pub fn new(blob: &Blob<'_>, epilogue: Epilogue<'a>) -> Self {
        Self {
            table: blob.frequencies().kernel_table(blob.split()),
            exponent_table: blob.frequencies().exponent_table(blob.split()),
            scale: scales(blob, epilogue.scale),
            bias: epilogue.bias,
        }
    }

    /// Returns whether the scale or the bias may be page-locked memory of the caller's.
    pub fn is_page_locked(&self, gpu: &Gpu) -> bool {
        let vectors = [self.scale.as_deref(), self.bias];
        vectors.into_iter().flatten().any(|part| is_page_locked(gpu, bytemuck::cast_slice(part)))
    }

    /// Returns part, offset and bytes of the numbers that have an offset. `offsets` are the offsets of decode table,
    /// exponent table, scale and bias.
    pub fn parts(
        &self,
        offsets: [Option<usize>; 4],
    ) -> impl Iterator<Item = (LayerPart, usize, &[u8])> {
        let exponent_table = self.exponent_table.as_deref();
        let parts = [
            (LayerPart::Table, Some(bytemuck::cast_slice(&self.table))),
            (LayerPart::Table, exponent_table.map(bytemuck::cast_slice)),
            (LayerPart::Scale, self.scale.as_deref().map(bytemuck::cast_slice)),
            (LayerPart::Bias, self.bias.map(bytemuck::cast_slice)),
        ];
        parts.into_iter().zip(offsets).filter_map(|((part, bytes), at)| Some((part, at?, bytes?)))
    }
}

/// Returns the factors of the outputs: the row scales of the weights, times `more`.
fn scales<'a>(blob: &Blob<'_>, more: Option<&'a [f32]>) -> Option<Cow<'a, [f32]>> {
    let Some(stored) = blob.row_scales() else { return more.map(Cow::Borrowed) };
    let scales = stored.iter().map(|scale| scale.to_f32());
    Some(Cow::Owned(match more {
        Some(more) => scales.zip(more).map(|(scale, more)| scale * more).collect(),
        None => scales.collect(),
    }))
}
