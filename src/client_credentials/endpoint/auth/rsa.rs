//! Completes an RSA private key that lacks its CRT members (RFC 7518 §6.3.2, RFC 8017 §3.2). [pure]
//!
//! The arithmetic is not constant-time. It runs when a key is read, and only for a JWK without these members.
//!
//! Many writers of JWKs leave the members out, and signing libraries require them. The result is checked by a signature
//! before the key is used, so that an error in the arithmetic is detected.

use std::cmp::Ordering;

use zeroize::Zeroizing;

/// The members `p`, `q`, `dp`, `dq` and `qi`, big-endian.
pub(super) type Crt = [Zeroizing<Vec<u8>>; 5];

/// Computes the members from modulus, public exponent and private exponent. Returns `None` if they do not belong
/// together, or the public exponent exceeds 32 bits.
///
/// A key whose private exponent was computed modulo φ is found with g = 1. The work is bounded by [`MAX_GCD`] steps and
/// by [`MAX_MODULUS_BITS`].
pub(super) fn crt(n: &[u8], e: &[u8], d: &[u8]) -> Option<Crt> {
    let [n, d] = [n, d].map(Number::from_be);
    let (p, q) = factors(&n, e, &d)?;
    Some(with_factors(p, q, &d))
}

/// Computes the members from the two primes and the private exponent.
///
/// Does not check that the numbers are prime, nor that they belong to the modulus: the trial signature does.
pub(super) fn crt_of_primes(p: &[u8], q: &[u8], d: &[u8]) -> Option<Crt> {
    let [p, q, d] = [p, q, d].map(Number::from_be);
    let valid = [&p, &q].iter().all(|prime| prime.bits() > 2);
    valid.then(|| with_factors(p, q, &d))
}

/// Computes the exponents and the coefficient from the primes.
fn with_factors(p: Number, q: Number, d: &Number) -> Crt {
    let one = Number::small(1);
    let dp = d.rem(&p.minus(&one));
    let dq = d.rem(&q.minus(&one));
    let qi = inverse(&q, &p);
    [p, q, dp, dq, qi].map(|number| number.to_be())
}

/// Returns the primes, `p > q`.
///
/// `d·e - 1` is a multiple of `lcm(p - 1, q - 1)`. So for g = `gcd(p - 1, q - 1)`, or already for a factor of it,
/// `(d·e - 1)·g` is a multiple of `φ = (p - 1)·(q - 1) = n - (p + q) + 1`. The function tries each small g. Since φ is
/// only slightly smaller than n, division by n yields the multiple. From φ follows `p + q`, and from that the primes.
fn factors(n: &Number, e: &[u8], d: &Number) -> Option<(Number, Number)> {
    let e = Number::from_be(e).to_u32().filter(|e| *e > 2)?;
    let one = Number::small(1);
    // Bounds the work for an unusually large key.
    if d.bits() > n.bits() || n.bits() > MAX_MODULUS_BITS || n.bits() < 8 {
        return None;
    }
    let base = d.times_small(e).minus(&one);
    (1..=MAX_GCD).find_map(|g| {
        let multiple = base.times_small(g);
        // The quotient is k - 1, because φ is slightly smaller than n.
        let k = multiple.div_rem(n).0.to_u32()?.checked_add(1)?;
        let (phi, 0) = multiple.div_small(k) else {
            return None;
        };
        if phi.compare(n) != Ordering::Less {
            return None;
        }
        // p + q, from φ = n - (p + q) + 1.
        let sum = n.plus(&one).minus(&phi);
        let square = sum.times(&sum);
        let four_n = n.times_small(4);
        if square.compare(&four_n) == Ordering::Less {
            return None;
        }
        // p - q, from (p - q)² = (p + q)² - 4n.
        let difference = square.minus(&four_n).root();
        if sum.compare(&difference) == Ordering::Less {
            return None;
        }
        let p = sum.plus(&difference).half();
        let q = sum.minus(&difference).half();
        // The product is the proof: any other g fails here or before.
        (p.times(&q).compare(n) == Ordering::Equal && q.bits() > 1).then_some((p, q))
    })
}

/// Returns the inverse of `a` modulo `m`, by the extended Euclidean algorithm. Returns 0 if there is none.
fn inverse(a: &Number, m: &Number) -> Number {
    let (mut r, mut next_r) = (m.clone(), a.rem(m));
    let (mut t, mut next_t) = (Number::small(0), Number::small(1));
    while next_r.bits() > 0 {
        // Invariant: `t·a ≡ r` and `next_t·a ≡ next_r` modulo `m`.
        let (quotient, rest) = r.div_rem(&next_r);
        let product = quotient.times(&next_t).rem(m);
        let following = match t.compare(&product) {
            Ordering::Less => t.plus(m).minus(&product),
            _ => t.minus(&product),
        };
        (r, next_r) = (next_r, rest);
        (t, next_t) = (next_t, following);
    }
    match r.to_u32() {
        Some(1) => t,
        _ => Number::small(0),
    }
}

/// A natural number: digits in base 2^32, least significant first, without leading zeros. Zeroized on drop.
///
/// Only what the two computations need; not a general library. Operations are quadratic.
#[derive(Clone)]
struct Number(Zeroizing<Vec<u32>>);

impl Number {
    /// Creates a number of one digit.
    fn small(value: u32) -> Self {
        Self::of(vec![value])
    }

    /// Creates a number from digits, and removes leading zeros.
    fn of(digits: Vec<u32>) -> Self {
        let mut digits = Zeroizing::new(digits);
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Self(digits)
    }

    /// Reads a big-endian number.
    fn from_be(bytes: &[u8]) -> Self {
        let digits = bytes.rchunks(4);
        let digit = |chunk: &[u8]| chunk.iter().fold(0, |sum, b| sum << 8 | u32::from(*b));
        Self::of(digits.map(digit).collect())
    }

    /// Returns the number as big-endian bytes without leading zeros.
    fn to_be(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 * self.0.len() + 1));
        for digit in self.0.iter().rev() {
            bytes.extend_from_slice(&digit.to_be_bytes());
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Zeroizing::new(bytes[zeros..].to_vec())
    }

    /// Returns the number if it fits.
    fn to_u32(&self) -> Option<u32> {
        match self.0.as_slice() {
            [] => Some(0),
            [digit] => Some(*digit),
            _ => None,
        }
    }

    /// Returns the number of significant bits.
    fn bits(&self) -> usize {
        let last = self.0.last();
        last.map_or(0, |last| 32 * self.0.len() - last.leading_zeros() as usize)
    }

    /// Compares two numbers. Without leading zeros, the one with more digits is larger.
    fn compare(&self, other: &Self) -> Ordering {
        let lengths = self.0.len().cmp(&other.0.len());
        lengths.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Returns the sum.
    fn plus(&self, other: &Self) -> Self {
        let (long, short) = match self.0.len() >= other.0.len() {
            true => (self, other),
            false => (other, self),
        };
        let mut carry = 0;
        let mut digits = Vec::with_capacity(long.0.len() + 1);
        for (index, digit) in long.0.iter().enumerate() {
            let other = short.0.get(index).copied().unwrap_or(0);
            carry += u64::from(*digit) + u64::from(other);
            digits.push(carry as u32);
            carry >>= 32;
        }
        digits.push(carry as u32);
        Self::of(digits)
    }

    /// Returns the difference. `other` must not be larger.
    fn minus(&self, other: &Self) -> Self {
        let mut difference = self.clone();
        difference.subtract(other);
        Self::of(std::mem::take(&mut *difference.0))
    }

    /// Subtracts `other`, which must not be larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (index, digit) in self.0.iter_mut().enumerate() {
            let other = other.0.get(index).copied().unwrap_or(0);
            let (difference, first) = digit.overflowing_sub(other);
            let (difference, second) = difference.overflowing_sub(borrow.into());
            *digit = difference;
            borrow = first || second;
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Returns the product with a single digit.
    fn times_small(&self, factor: u32) -> Self {
        self.times(&Self::small(factor))
    }

    /// Returns the product (schoolbook multiplication).
    ///
    /// The intermediate sum fits: (2³² - 1)² + 2·(2³² - 1) = 2⁶⁴ - 1.
    fn times(&self, other: &Self) -> Self {
        let mut digits = vec![0; self.0.len() + other.0.len()];
        for (index, digit) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (offset, other) in other.0.iter().enumerate() {
                let target = &mut digits[index + offset];
                carry += u64::from(*digit) * u64::from(*other) + u64::from(*target);
                *target = carry as u32;
                carry >>= 32;
            }
            digits[index + other.0.len()] = carry as u32;
        }
        Self::of(digits)
    }

    /// Returns quotient and remainder of a division by a single digit, which must not be 0.
    fn div_small(&self, divisor: u32) -> (Self, u32) {
        let mut rest = 0;
        let mut digits = vec![0; self.0.len()];
        for (index, digit) in self.0.iter().enumerate().rev() {
            let value = u64::from(rest) << 32 | u64::from(*digit);
            digits[index] = (value / u64::from(divisor)) as u32;
            rest = (value % u64::from(divisor)) as u32;
        }
        (Self::of(digits), rest)
    }

    /// Returns quotient and remainder, by binary long division. `divisor` must not be 0.
    ///
    /// Invariant: after each step `rest` is smaller than `shifted`.
    fn div_rem(&self, divisor: &Self) -> (Self, Self) {
        let mut rest = self.clone();
        let steps = (self.bits() + 1).saturating_sub(divisor.bits());
        let mut quotient = vec![0; steps / 32 + 1];
        let mut shifted = divisor.shifted(steps);
        for step in (0..steps).rev() {
            shifted.halve();
            if rest.compare(&shifted) != Ordering::Less {
                rest.subtract(&shifted);
                quotient[step / 32] |= 1 << (step % 32);
            }
        }
        (Self::of(quotient), rest)
    }

    /// Returns the remainder.
    fn rem(&self, divisor: &Self) -> Self {
        self.div_rem(divisor).1
    }

    /// Returns the integer square root, bit by bit.
    fn root(&self) -> Self {
        let mut rest = self.clone();
        let mut root = Self::small(0);
        let mut bit = Self::small(1).shifted(self.bits().next_multiple_of(2));
        while bit.bits() > 0 {
            let candidate = root.plus(&bit);
            root.halve();
            if rest.compare(&candidate) != Ordering::Less {
                rest.subtract(&candidate);
                root = root.plus(&bit);
            }
            bit.halve();
            bit.halve();
        }
        root
    }

    /// Returns the number shifted to the left.
    fn shifted(&self, bits: usize) -> Self {
        let mut digits = vec![0; bits / 32];
        digits.extend_from_slice(&self.0);
        Self::of(digits).times_small(1 << (bits % 32))
    }

    /// Shifts the number to the right by one bit.
    fn halve(&mut self) {
        let mut carry = 0;
        for digit in self.0.iter_mut().rev() {
            let odd = *digit & 1;
            *digit = *digit >> 1 | carry << 31;
            carry = odd;
        }
        if self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Returns the number shifted to the right by one bit.
    fn half(mut self) -> Self {
        self.halve();
        self
    }
}

/// Maximum size of the modulus, in bits.
const MAX_MODULUS_BITS: usize = 16_384;

/// Maximum g that is tried. `gcd(p - 1, q - 1)` is larger for about one key in several thousand.
const MAX_GCD: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u128) -> Number {
        Number::from_be(&value.to_be_bytes())
    }

    fn value(number: &Number) -> u128 {
        number
            .to_be()
            .iter()
            .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
    }

    #[test]
    fn big_integer_arithmetic_matches_u128() {
        let samples = [
            1,
            2,
            3,
            0xFFFF_FFFF,
            0x1_0000_0000,
            0x1_0000_0001,
            0xDEAD_BEEF_0123,
            u128::from(u64::MAX),
        ];
        for a in samples {
            for b in samples {
                let (x, y) = (number(a), number(b));
                assert_eq!(value(&x.plus(&y)), a + b);
                assert_eq!(value(&x.times(&y)), a * b);
                let (quotient, rest) = x.div_rem(&y);
                assert_eq!((value(&quotient), value(&rest)), (a / b, a % b));
                assert_eq!(value(&number(a * b).root()), (a * b).isqrt());
                if a >= b {
                    assert_eq!(value(&x.minus(&y)), a - b);
                }
            }
        }
        assert_eq!(value(&inverse(&number(3), &number(11))), 4);
        assert_eq!(value(&inverse(&number(17), &number(3120))), 2753);
    }

    #[test]
    fn primes_are_recovered_from_either_private_exponent() {
        // 4159 - 1 and 2311 - 1 have 462 in common.
        for (p, q, d) in [
            (61_u128, 53_u128, 413_u128),
            (61, 53, 2753),
            (4159, 2311, 0),
        ] {
            let e = 17;
            let lambda = (p - 1) * (q - 1) / gcd(p - 1, q - 1);
            let d = match d {
                0 => value(&inverse(&number(e), &number(lambda))),
                d => d,
            };
            let be = |value: u128| value.to_be_bytes();

            let found = factors(&number(p * q), &be(e), &number(d));

            let (one, other) = found.expect("they belong together");
            assert_eq!((value(&one), value(&other)), (p, q));
        }
        assert!(factors(&number(0xFFFF_FFFF_FFFF), &[17], &number(12345)).is_none());
    }

    fn gcd(a: u128, b: u128) -> u128 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
}
