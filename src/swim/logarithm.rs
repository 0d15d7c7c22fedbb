//! Logarithms in integers: floats would make runs differ between platforms.
//!
//! Timeouts and limits grow with the logarithm of the cluster's size (SWIM §4.1, Lifeguard §4). They are
//! kept as fixed-point numbers with 16 bits behind the point.

/// One, in this fixed-point format.
pub(super) const ONE: u64 = 1 << 16;

/// log10(2), in fixed point.
const LOG10_OF_2: u64 = 19_728;

/// ln(1) to ln(9), in fixed point: as many accusers as are counted, and one.
const LN: [u64; 9] = [0, 45_426, 71_999, 90_852, 105_476, 117_424, 127_527, 136_278, 143_997];

/// The binary logarithm of `n`, in fixed point, rounded down. That of 0 is taken for that of 1.
pub(super) fn log2(n: u64) -> u64 {
    let n = n.max(1);
    let whole = u64::from(n.ilog2());
    // The mantissa as a number from 1 to 2 with 31 bits behind the point: squaring it doubles its logarithm.
    let mut mantissa = if whole >= 31 { n >> (whole - 31) } else { n << (31 - whole) };
    let mut fraction = 0;
    for _ in 0..16 {
        mantissa = (mantissa * mantissa) >> 31;
        fraction <<= 1;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            fraction += 1;
        }
    }
    (whole << 16) + fraction
}

/// The decimal logarithm of `n`, in fixed point. Powers of ten come out exact.
pub(super) fn log10(n: u64) -> u64 {
    let digits = u64::from(n.max(1).ilog10());
    if n == 10_u64.pow(n.max(1).ilog10()) {
        return digits << 16;
    }
    (log2(n) * LOG10_OF_2) >> 16
}

/// `ceil(log10(n + 1))`: the number of decimal digits of `n`.
pub(super) fn digits(n: u64) -> u32 {
    n.checked_ilog10().map_or(0, |log| log + 1)
}

/// `ln(n)` for `n` from 1 to 9, in fixed point; beyond, that of 9.
pub(super) fn ln(n: usize) -> u64 {
    LN[n.clamp(1, LN.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_the_tables() {
        for (n, expected) in [(1, 0), (2, ONE), (8, 3 * ONE), (10, 217_705), (1000, 653_117)] {
            assert!(log2(n).abs_diff(expected) <= 2, "log2({n}) = {}, not {expected}", log2(n));
        }
        for (n, expected) in [(1, 0), (10, ONE), (100, 2 * ONE), (10_000, 4 * ONE), (50, 111_345)] {
            assert!(log10(n).abs_diff(expected) <= 8, "log10({n}) = {}, not {expected}", log10(n));
        }
    }

    #[test]
    fn digits_is_the_ceiling_of_the_logarithm_of_one_more() {
        assert_eq!([0, 1, 9, 10, 99, 100, 9_999, 10_000].map(digits), [0, 1, 1, 2, 2, 3, 4, 5]);
    }
}
