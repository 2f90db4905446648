//! Flags in kernel arguments: named bits of a word.

/// Declares a set of flags that host and kernels share.
macro_rules! flags {
    ($(#[$about:meta])* $name:ident { $($(#[$about_flag:meta])* $flag:ident = $bit:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[repr(transparent)]
        pub struct $name(u32);

        impl $name {
            $($(#[$about_flag])* pub const $flag: Self = Self(1 << $bit);)+

            /// Returns the empty set.
            #[inline(always)]
            #[must_use]
            pub const fn empty() -> Self {
                Self(0)
            }

            /// Returns this set, with `flag` added if `set`.
            #[inline(always)]
            #[must_use]
            pub const fn with(self, flag: Self, set: bool) -> Self {
                if set { Self(self.0 | flag.0) } else { self }
            }

            /// Checks whether all bits of `flag` are set.
            #[inline(always)]
            #[must_use]
            pub const fn contains(self, flag: Self) -> bool {
                self.0 & flag.0 == flag.0
            }

            /// Returns the bits as the kernels receive them.
            #[inline(always)]
            #[must_use]
            pub const fn bits(self) -> u32 {
                self.0
            }
        }
    };
}

flags! {
    /// Properties of a layer that its kernels need.
    LayerFlags {
        /// The coded bits 0 mean exponent field 0. Tables of [`ExponentEntry`](crate::ExponentEntry) know this already.
        ZERO_EXPONENT = 0,
        /// Groups have zero points beside their scales.
        ZERO_POINTS = 1,
    }
}

flags! {
    /// Properties of one matmul launch.
    MatmulFlags {
        /// Outputs are F32; without it they have the type of the activations.
        OUTPUT_F32 = 0,
        /// Rows of x start at multiples of 16 bytes.
        ALIGNED_X = 1,
        /// Of launches that share x and run side by side, this is the first: the next one may start only when x is there.
        FIRST_OF_GROUP = 2,
        /// It is another one of them: x is there when it starts. It ends after the one before it.
        IN_GROUP = 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_distinct_bits() {
        let all = [LayerFlags::ZERO_EXPONENT.bits(), LayerFlags::ZERO_POINTS.bits()];
        assert_eq!(all, [1, 2]);
        assert_eq!([MatmulFlags::OUTPUT_F32.bits(), MatmulFlags::ALIGNED_X.bits()], [1, 2]);
        assert_eq!([MatmulFlags::FIRST_OF_GROUP.bits(), MatmulFlags::IN_GROUP.bits()], [4, 8]);
    }

    #[test]
    fn a_set_contains_what_was_added() {
        let flags = MatmulFlags::empty().with(MatmulFlags::ALIGNED_X, true);
        let flags = flags.with(MatmulFlags::OUTPUT_F32, false);
        assert!(flags.contains(MatmulFlags::ALIGNED_X));
        assert!(!flags.contains(MatmulFlags::OUTPUT_F32));
        assert_eq!(flags, MatmulFlags::ALIGNED_X);
    }
}
