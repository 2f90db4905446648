//! The sets of kernels, and which of them a device gets.

/// A set of kernels: a PTX of its own. Kernels of one purpose have the same name in both sets. Each set reads layers in
/// a layout of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelSet {
    /// Kernels for compute capability 8.0 and newer.
    Sm80,
    /// Kernels for compute capability 9.0 only. They need a driver of CUDA 12.0 or newer.
    Sm90,
}

impl KernelSet {
    /// Returns the set to try first on a device of compute capability `(major, minor)`.
    #[must_use]
    pub const fn preferred(capability: (i32, i32)) -> Self {
        match capability {
            (9, 0) => Self::Sm90,
            _ => Self::Sm80,
        }
    }

    /// Returns the set to try if the driver refuses this one.
    #[must_use]
    pub const fn fallback(self) -> Option<Self> {
        match self {
            Self::Sm80 => None,
            Self::Sm90 => Some(Self::Sm80),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hopper_gets_its_own_kernels_and_others_do_not() {
        assert_eq!(KernelSet::preferred((9, 0)), KernelSet::Sm90);
        for other in [(8, 0), (8, 6), (8, 9), (9, 1), (10, 0), (12, 0)] {
            assert_eq!(KernelSet::preferred(other), KernelSet::Sm80, "{other:?}");
        }
    }
}
