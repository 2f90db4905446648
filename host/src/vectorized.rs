//! Functions that are compiled for several instruction sets.

/// Compiles a function for AVX-512, for AVX2 and for any machine. A call runs the best that the machine has.
macro_rules! vectorized {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?
        $body:block
    ) => {
        $(#[$attribute])*
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt")]
                fn avx512($($argument: $type),*) $(-> $result)? $body

                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
                fn avx2($($argument: $type),*) $(-> $result)? $body

                if crate::vectorized::has_avx2() {
                    if crate::vectorized::has_avx512() {
                        // SAFETY: the machine has AVX-512 and AVX2, as the two lines above have found.
                        return unsafe { avx512($($argument),*) };
                    }
                    // SAFETY: the machine has AVX2, as the first condition has found.
                    return unsafe { avx2($($argument),*) };
                }
            }
            fn portable($($argument: $type),*) $(-> $result)? $body
            portable($($argument),*)
        }
    };
}
pub(crate) use vectorized;

/// Returns whether the machine has AVX2 and what comes with it.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
}

/// Returns whether the machine has the parts of AVX-512 that [`vectorized`] compiles for.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}
