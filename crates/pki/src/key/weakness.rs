//! Weaknesses that can be told from the public half of a key.

use std::sync::LazyLock;

use num_bigint::BigUint;

use super::{KeyKind, KeyRejection};

/// Every prime below this is tried as a factor. CA/B BR 6.1.6 asks for 752. What a generator that
/// never sieves makes survives a bound B with a probability of 1.12 / ln B (Mertens): 17 % for 752,
/// 13 % here, and still 10 % for 65,536 at ten times the cost. So more does not pay.
const PRIMES_BELOW: u32 = 4096;

/// The largest prime of the ROCA fingerprint (Nemec et al., CCS 2017, §4.1: the primes up to 167
/// divide the M of every affected size).
const ROCA_LAST_PRIME: u32 = 167;

/// Rounds of Fermat's method (CA/B BR 6.1.1.3).
const FERMAT_ROUNDS: u32 = 100;

/// Refuses moduli that are even, have a small factor, bear the ROCA fingerprint, or whose primes
/// are close to each other. The size has been checked.
pub(super) fn check_modulus(n: &[u8]) -> Result<(), KeyRejection> {
    if n.last().is_none_or(|last| last & 1 == 0) {
        return Err(KeyRejection::SmallFactor { factor: 2 });
    }
    let limbs = limbs(n);
    let mut roca = true;
    for group in &*GROUPS {
        let of_group = remainder(&limbs, group.product);
        for prime in &group.primes {
            let remainder = of_group % prime.value;
            if remainder == 0 {
                return Err(KeyRejection::SmallFactor { factor: prime.value });
            }
            if let Some(powers) = &prime.powers_of_65537 {
                roca = roca && powers.contains(remainder);
            }
        }
    }
    if roca {
        return Err(KeyRejection::Roca);
    }
    if has_close_primes(n) {
        return Err(KeyRejection::ClosePrimes);
    }
    Ok(())
}

/// Primes whose product fits 32 bits, so that one pass over the modulus serves all of them.
struct Group {
    product: u32,
    primes: Vec<Prime>,
}

struct Prime {
    value: u32,
    /// For primes of the ROCA fingerprint: the residues that a ROCA modulus can have.
    powers_of_65537: Option<Residues>,
}

/// A set of residues modulo a number up to 256.
#[derive(Default)]
struct Residues([u128; 2]);

impl Residues {
    fn insert(&mut self, residue: u32) {
        if let Some(word) = self.0.get_mut((residue >> 7) as usize) {
            *word |= 1 << (residue & 127);
        }
    }

    fn contains(&self, residue: u32) -> bool {
        self.0.get((residue >> 7) as usize).is_some_and(|word| word >> (residue & 127) & 1 == 1)
    }
}

static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| {
    let mut primes: Vec<u32> = Vec::new();
    for candidate in (3..PRIMES_BELOW).step_by(2) {
        let composite =
            primes.iter().take_while(|prime| **prime * **prime <= candidate).any(|prime| candidate % prime == 0);
        if !composite {
            primes.push(candidate);
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    for value in primes {
        let powers_of_65537 = (value <= ROCA_LAST_PRIME).then(|| {
            let mut powers = Residues::default();
            let mut power = 1;
            while !powers.contains(power) {
                powers.insert(power);
                power = power * (65_537 % value) % value;
            }
            powers
        });
        let prime = Prime { value, powers_of_65537 };
        match groups.last_mut().map(|group| (group.product.checked_mul(value), group)) {
            Some((Some(product), group)) => {
                group.product = product;
                group.primes.push(prime);
            }
            _ => groups.push(Group { product: value, primes: vec![prime] }),
        }
    }
    groups
});

/// Big-endian octets as big-endian 32-bit words.
fn limbs(octets: &[u8]) -> Vec<u32> {
    octets.rchunks(4).rev().map(|chunk| chunk.iter().fold(0, |word, octet| word << 8 | u32::from(*octet))).collect()
}

fn remainder(limbs: &[u32], modulus: u32) -> u32 {
    let modulus = u64::from(modulus);
    let rest = limbs.iter().fold(0, |rest, limb| (rest << 32 | u64::from(*limb)) % modulus);
    u32::try_from(rest).expect("a remainder is smaller than its modulus, which has 32 bits")
}

/// Products of the moduli below, small enough for sums of three residues in 64 bits and large
/// enough that only one number in some twenty thousand passes as a square without being one.
const SIEVES: [(u32, &[u32]); 2] = [
    (64 * 9 * 5 * 7 * 11 * 13 * 17 * 19, &[64, 9, 5, 7, 11, 13, 17, 19]),
    (23 * 29 * 31 * 37 * 41 * 43, &[23, 29, 31, 37, 41, 43]),
];

/// Fermat's method: n = a² - b² with a from the root of n upwards. Long arithmetic is done once;
/// the rounds step residues of a and b² and only a b² that is a square modulo everything tried is
/// looked at as a number.
fn has_close_primes(n: &[u8]) -> bool {
    let n = BigUint::from_bytes_be(n);
    let mut a = n.sqrt();
    if &a * &a < n {
        a += 1u32;
    }
    let b_squared = &a * &a - &n;
    let mut sieves = SIEVES.map(|(product, moduli)| Sieve {
        product: u64::from(product),
        moduli,
        a: u64::from(remainder(&limbs(&a.to_bytes_be()), product)),
        b_squared: u64::from(remainder(&limbs(&b_squared.to_bytes_be()), product)),
    });
    for round in 0..FERMAT_ROUNDS {
        if sieves.iter().all(Sieve::may_be_a_square) {
            let a = &a + round;
            let b_squared = &a * &a - &n;
            let b = b_squared.sqrt();
            if &b * &b == b_squared {
                return true;
            }
        }
        sieves.iter_mut().for_each(Sieve::step);
    }
    false
}

struct Sieve {
    product: u64,
    moduli: &'static [u32],
    a: u64,
    b_squared: u64,
}

impl Sieve {
    fn may_be_a_square(&self) -> bool {
        self.moduli.iter().all(|modulus| {
            let residue = self.b_squared % u64::from(*modulus);
            SQUARES.get(*modulus as usize).is_some_and(|squares| squares >> residue & 1 == 1)
        })
    }

    /// From a to a + 1: b² grows by 2a + 1.
    fn step(&mut self) {
        self.b_squared = (self.b_squared + 2 * self.a + 1) % self.product;
        self.a = (self.a + 1) % self.product;
    }
}

/// For each modulus up to 64 the set of its squares.
static SQUARES: LazyLock<[u64; 65]> = LazyLock::new(|| {
    let mut table = [0; 65];
    for (modulus, squares) in (0u64..).zip(&mut table).skip(1) {
        for root in 0..modulus {
            *squares |= 1u64 << (root * root % modulus);
        }
    }
    table
});

/// The y coordinates, little-endian without the sign of x, of the points whose order divides 8:
/// 0 (order 4), 1 (order 1), -1 (order 2), and the two of order 8.
const SMALL_ORDER: [&[u8; 32]; 5] = [
    &[0; 32],
    b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
    b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
];

/// The numbers of edwards25519 (RFC 8032 §5.1).
struct Edwards {
    /// 2^255 - 19.
    p: BigUint,
    /// -121665/121666.
    d: BigUint,
    /// (p - 1) / 2.
    half: BigUint,
}

static EDWARDS: LazyLock<Edwards> = LazyLock::new(|| {
    let p = (BigUint::from(1u32) << 255u32) - 19u32;
    let inverse = BigUint::from(121_666u32).modpow(&(&p - 2u32), &p);
    let d = (&p - 121_665u32) * inverse % &p;
    let half = (&p - 1u32) >> 1u32;
    Edwards { p, d, half }
});

/// Refuses encodings that decode to no point (RFC 8032 §5.1.3) and points of small order.
pub(super) fn check_edwards_point(point: &[u8; 32]) -> Result<(), KeyRejection> {
    let no_point = KeyRejection::NotOnCurve { kind: KeyKind::Ed25519 };
    let mut little_endian = *point;
    if let Some(last) = little_endian.last_mut() {
        *last &= 0x7f;
    }
    if SMALL_ORDER.contains(&&little_endian) {
        return Err(KeyRejection::SmallOrder);
    }
    let Edwards { p, d, half } = &*EDWARDS;
    let y = BigUint::from_bytes_le(&little_endian);
    if y >= *p {
        return Err(no_point);
    }
    // x² = (y² - 1) / (d y² + 1) has a root where numerator times denominator has one (Euler).
    let y_squared = &y * &y % p;
    let product = (&y_squared + p - 1u32) * (d * &y_squared + 1u32) % p;
    if product.modpow(half, p) != BigUint::from(1u32) {
        return Err(no_point);
    }
    Ok(())
}
