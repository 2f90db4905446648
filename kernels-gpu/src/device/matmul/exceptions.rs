//! Exceptions on their way into A fragments.

use crate::device::instructions::lane_anew;
use crate::device::payload::SlabPayload;
use crate::ptx::bit_select;
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

    /// Puts the exceptions among the operands of `N` fragments from number `first` on.
    #[inline(always)]
    pub fn patch<const N: usize>(
        &mut self,
        slot: u32,
        first: u32,
        operands: &mut [[u32; 4]; N],
        convert: impl Fn(u32) -> u32,
    ) {
        // SAFETY: the unit has been waited for.
        while let Some(record) = unsafe { SlabPayload::exception(slot, self.number) } {
            self.fragment = record >> 27;
            if self.fragment >= first + N as u32 {
                return;
            }
            self.number += 1;
            let (place, weight) = TileEntry::exception_fields(record);
            let weights = convert(u32::from(weight) * 0x0001_0001);
            let mask = if place.lane == lane_anew() { 0xFFFF << (16 * place.half) } else { 0 };
            let at = 4 * (self.fragment - first) + place.register as u32;
            unrolled::<N>(
                #[inline(always)]
                |fragment| {
                    unrolled::<4>(
                        #[inline(always)]
                        |register| {
                            let here = at == (4 * fragment + register) as u32;
                            let mask = if here { mask } else { 0 };
                            let operand = &mut operands[fragment][register];
                            *operand = bit_select(mask, weights, *operand);
                        },
                    );
                },
            );
        }
        self.fragment = NONE;
    }
}
