//! Exceptions: weights that replace those decoded in their place.

use crate::device::payload::SlabPayload;
use crate::device::ptx::{opaque, reread_lane};
use crate::portable::twins::bit_select;
use crate::unrolled;
use fused_rans_layout::TileEntry;

/// Larger than the number of any fragment.
pub const NONE: u32 = 1 << 31;

/// A position in the list of a slab's exceptions, which is sorted by fragment.
#[derive(Clone, Copy)]
pub struct Exceptions {
    /// Number of the next exception.
    number: u32,
    /// Its fragment.
    pub fragment: u32,
}

impl Exceptions {
    /// The position in an empty list.
    pub const NONE: Self = Self { number: 0, fragment: NONE };

    /// Returns the start of the list of the slab whose slot is at address `slot`.
    #[inline(always)]
    pub fn new(slot: u32) -> Self {
        // SAFETY: the segment has been waited for.
        let first = unsafe { SlabPayload::exception(slot, 0) };
        Self { number: 0, fragment: first.map_or(NONE, |record| record >> 27) }
    }
}

/// Replaces the exceptions among the operands of `N` fragments, from number `first` on, of `S` slabs, whose slots are at
/// the addresses `slots`. `convert` turns a weight into an operand. One loop for all slabs, not unrolled: it is
/// hardly ever entered, and would be a third of the mainloop's code.
#[inline(always)]
pub fn patch<const S: usize, const N: usize>(
    exceptions: &mut [Exceptions; S],
    slots: [u32; S],
    first: u32,
    operands: &mut [[[u32; 4]; N]; S],
    convert: impl Fn(u32) -> u32,
) {
    let mut s = 0;
    while s < S as u32 {
        let (mut slot, mut number) = (slots[0], exceptions[0].number);
        if S > 1 && s == 1 {
            (slot, number) = (slots[S - 1], exceptions[S - 1].number);
        }
        // SAFETY: the segment has been waited for.
        let fragment = loop {
            let Some(record) = (unsafe { SlabPayload::exception(slot, number) }) else {
                break NONE;
            };
            let fragment = record >> 27;
            if fragment >= first + N as u32 {
                break fragment;
            }
            number += 1;
            replace(record, s * N as u32 + fragment - first, operands, &convert);
        };
        unrolled::<S>(
            #[inline(always)]
            |i| {
                if i as u32 == s {
                    exceptions[i] = Exceptions { number, fragment };
                }
            },
        );
        s = opaque(s + 1);
    }
}

/// Replaces the operand that `record` lists, in fragment `fragment` of all slabs' fragments.
#[inline(always)]
fn replace<const S: usize, const N: usize>(
    record: u32,
    fragment: u32,
    operands: &mut [[[u32; 4]; N]; S],
    convert: impl Fn(u32) -> u32,
) {
    let (place, weight) = TileEntry::exception_fields(record);
    let weights = convert(u32::from(weight) * 0x0001_0001);
    let mask = if place.lane == reread_lane() { 0xFFFF << (16 * place.half) } else { 0 };
    let at = 4 * fragment + place.register as u32;
    unrolled::<S>(
        #[inline(always)]
        |s| {
            unrolled::<N>(
                #[inline(always)]
                |i| {
                    unrolled::<4>(
                        #[inline(always)]
                        |register| {
                            let here = at == (4 * (s * N + i) + register) as u32;
                            let operand = &mut operands[s][i][register];
                            *operand = bit_select(if here { mask } else { 0 }, weights, *operand);
                        },
                    );
                },
            );
        },
    );
}
