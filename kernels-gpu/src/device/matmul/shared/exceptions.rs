//! Exceptions on their way into A fragments.

use crate::device::payload::SlabPayload;
use crate::device::ptx::{lane_anew, opaque};
use crate::portable::twins::bit_select;
use crate::unrolled;
use fused_rans_layout::TileEntry;

/// Above any fragment's number.
pub const NONE: u32 = 1 << 31;

/// The exceptions of a slab, in the order of its fragments.
#[derive(Clone, Copy)]
pub struct Exceptions {
    /// Number of the next one.
    number: u32,
    /// Its fragment.
    pub fragment: u32,
}

impl Exceptions {
    /// Of a slab that has none.
    pub const NONE: Self = Self { number: 0, fragment: NONE };

    /// Those of the slab of which all is known at `slot`.
    #[inline(always)]
    pub fn new(slot: u32) -> Self {
        // SAFETY: the unit has been waited for.
        let first = unsafe { SlabPayload::exception(slot, 0) };
        Self { number: 0, fragment: first.map_or(NONE, |record| record >> 27) }
    }
}

/// Puts the exceptions among the operands of `N` fragments, from number `first` on, of `S` slabs, of which all is known
/// at `slots`. One loop for all slabs, and each once: this is hardly ever done, and would be a third of the mainloop.
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
        // SAFETY: the unit has been waited for.
        let fragment = loop {
            let Some(record) = (unsafe { SlabPayload::exception(slot, number) }) else {
                break NONE;
            };
            let fragment = record >> 27;
            if fragment >= first + N as u32 {
                break fragment;
            }
            number += 1;
            put(record, s * N as u32 + fragment - first, operands, &convert);
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

/// Puts an exception among the operands of fragment `fragment` of all.
#[inline(always)]
fn put<const S: usize, const N: usize>(
    record: u32,
    fragment: u32,
    operands: &mut [[[u32; 4]; N]; S],
    convert: impl Fn(u32) -> u32,
) {
    let (place, weight) = TileEntry::exception_fields(record);
    let weights = convert(u32::from(weight) * 0x0001_0001);
    let mask = if place.lane == lane_anew() { 0xFFFF << (16 * place.half) } else { 0 };
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
