//! The negative logarithm of a hash, in integers: weights need it, and floats differ between machines.
//!
//! A hash is a number below 2^64; as a fraction of that its binary logarithm is below zero. The integer part is
//! counted in leading zeros; the rest is looked up in a table of 256 steps, with a straight line between two. The table
//! is computed by squaring, bit by bit, when this is compiled. It is part of the format: not a bit may change.

/// The fractional bits of a logarithm.
const FRACTION: u32 = 48;
/// The steps of the table, and their number in bits.
const STEPS: usize = 256;
const STEP_BITS: u32 = 8;

/// `log2(1 + i / 256)`, with 48 fractional bits.
static TABLE: [u64; STEPS + 1] = table();

const fn table() -> [u64; STEPS + 1] {
    let mut table = [0; STEPS + 1];
    let mut step = 0;
    let mut argument: u64 = 1 << 32;
    while step < STEPS {
        table[step] = log2_of_mantissa(argument);
        argument += 1 << (32 - STEP_BITS);
        step += 1;
    }
    table[STEPS] = 1 << FRACTION;
    table
}

/// The logarithm of a number from 1 to below 2 with 32 fractional bits: squaring doubles it, and each time that the
/// square is 2 or more, the next bit of the logarithm is one.
const fn log2_of_mantissa(argument: u64) -> u64 {
    // 62 fractional bits, so that rounding stays below the last bit of the result.
    let mut mantissa = widen(argument) << 30;
    let (mut result, mut bit) = (0, 0);
    while bit < FRACTION {
        mantissa = (mantissa * mantissa) >> 62;
        result <<= 1;
        if mantissa >> 63 != 0 {
            mantissa >>= 1;
            result |= 1;
        }
        bit += 1;
    }
    result
}

/// `u128::from` is not yet for constants.
const fn widen(value: u64) -> u128 {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    u128::from_le_bytes([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// `-log2(hash / 2^64)`, with 48 fractional bits: from just above 0 to 65. The higher the hash, the lower it is.
pub(super) fn negative_log2(hash: u64) -> u64 {
    let zeros = hash.leading_zeros();
    if zeros == u64::BITS {
        return 65 << FRACTION;
    }
    // The leading one is cut off; what is left is the fraction of a number from 1 to below 2.
    let fraction = (hash << zeros) << 1;
    let step = usize::try_from(fraction >> (u64::BITS - STEP_BITS)).expect("eight bits fit");
    let within = u128::from((fraction << STEP_BITS) >> (u64::BITS - FRACTION));
    let rise = u128::from(TABLE[step + 1] - TABLE[step]);
    let line = u64::try_from((rise * within) >> FRACTION).expect("less than one step");
    (u64::from(zeros + 1) << FRACTION) - (TABLE[step] + line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: u64 = 1 << FRACTION;

    #[test]
    fn powers_of_two_are_exact() {
        for zeros in 0..64 {
            assert_eq!(negative_log2(1 << (63 - zeros)), (zeros + 1) * ONE);
        }
        assert_eq!(negative_log2(0), 65 * ONE);
    }

    #[test]
    fn between_them_it_is_that_of_mathematics() {
        // -log2(0.75), -log2(0.625), -log2(0.9): computed elsewhere, 48 fractional bits.
        for (hash, expected) in [
            (3 << 62, 116_822_670_443_561),
            (5 << 61, 190_860_273_699_730),
            (16_602_069_666_338_596_454, 42_785_067_187_393),
        ] {
            let found = negative_log2(hash);
            assert!(found.abs_diff(expected) < ONE / 100_000, "{hash}: {found} for {expected}");
        }
    }

    #[test]
    fn it_falls_as_the_hash_rises() {
        let mut last = u64::MAX;
        for step in 0..100_000_u64 {
            let next = negative_log2(step * (u64::MAX / 100_000));
            assert!(next <= last);
            last = next;
        }
        assert!(negative_log2(u64::MAX) < ONE / 1_000_000);
    }
}
