use alloy_primitives::{B256, U256};
use ark_bn254::{Fq, Fq2, G1Affine, G1Projective, G2Affine};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, BigInt, Field, PrimeField};

/// A point of G1 as the contracts encode it; infinity is (0, 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct G1Point {
    pub x: U256,
    pub y: U256,
}

/// A point of G2 as the contracts encode it: each coordinate is (imaginary, real); infinity is all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct G2Point {
    pub x: [U256; 2],
    pub y: [U256; 2],
}

/// Coordinates that are no usable point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    #[error("a coordinate of the {group} point is not below the field's modulus")]
    CoordinateRange { group: &'static str },
    #[error("the {group} point is not on the curve")]
    NotOnCurve { group: &'static str },
    #[error("the {group} point is not in the prime-order subgroup")]
    NotInSubgroup { group: &'static str },
    #[error("the {group} point is infinity")]
    Infinity { group: &'static str },
}

impl G1Point {
    /// The point, neither infinity nor off the curve.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn parse(&self) -> Result<G1Affine, PointError> {
        const GROUP: &str = "G1";
        if self.x.is_zero() && self.y.is_zero() {
            return Err(PointError::Infinity { group: GROUP });
        }
        let out_of_range = PointError::CoordinateRange { group: GROUP };
        let (x, y) = (
            field_element(self.x).ok_or(out_of_range)?,
            field_element(self.y).ok_or(out_of_range)?,
        );
        let point = G1Affine::new_unchecked(x, y);
        // Every point of this curve over Fq is in the prime-order group.
        if point.is_on_curve() {
            Ok(point)
        } else {
            Err(PointError::NotOnCurve { group: GROUP })
        }
    }

    pub(super) fn from_affine(point: G1Affine) -> Self {
        point.xy().map_or_else(Self::default, |(x, y)| Self {
            x: number(x),
            y: number(y),
        })
    }
}

impl G2Point {
    /// The point, in the prime-order subgroup and not infinity.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn parse(&self) -> Result<G2Affine, PointError> {
        const GROUP: &str = "G2";
        if *self == Self::default() {
            return Err(PointError::Infinity { group: GROUP });
        }
        let element = |value| field_element(value).ok_or(PointError::CoordinateRange { group: GROUP });
        let coordinate = |[imaginary, real]: [U256; 2]| Ok(Fq2::new(element(real)?, element(imaginary)?));
        let point = G2Affine::new_unchecked(coordinate(self.x)?, coordinate(self.y)?);
        if !point.is_on_curve() {
            return Err(PointError::NotOnCurve { group: GROUP });
        }
        if !point.is_in_correct_subgroup_assuming_on_curve() {
            return Err(PointError::NotInSubgroup { group: GROUP });
        }
        Ok(point)
    }

    pub(super) fn from_affine(point: G2Affine) -> Self {
        point.xy().map_or_else(Self::default, |(x, y)| Self {
            x: [number(x.c1), number(x.c0)],
            y: [number(y.c1), number(y.c0)],
        })
    }
}

/// Sum of G1 keys: the aggregate key of a quorum.
///
/// # Errors
/// When a point is not one.
pub fn sum_g1<'a>(points: impl IntoIterator<Item = &'a G1Point>) -> Result<G1Point, PointError> {
    let mut sum = G1Projective::ZERO;
    for point in points {
        sum += point.parse()?;
    }
    Ok(G1Point::from_affine(sum.into_affine()))
}

/// The curve point of a message, found as `BN254.hashToG1` of the middleware finds it: x is the message modulo the field's
/// modulus, counted up until x^3 + 3 is a square; y is its root by the power (p + 1) / 4.
///
/// Takes as long as it takes to find x; messages are public.
pub fn hash_to_g1(message: B256) -> G1Point {
    G1Point::from_affine(hash_to_curve(message))
}

/// The roots that spare a contract the exponentiations of [`hash_to_g1`]: for every x tried in vain one of -(x^3 + 3), which
/// shows that x^3 + 3 has none, then one of y.
pub fn hash_to_g1_roots(message: B256) -> Vec<U256> {
    let three = Fq::from(3u64);
    let mut x = Fq::from_be_bytes_mod_order(message.as_slice());
    let mut roots = Vec::new();
    loop {
        let beta = x.square() * x + three;
        let y = beta.pow(SQUARE_ROOT_POWER);
        if y.square() == beta {
            // A power, so a square; of a non-square the negative is one, because -1 is none.
            roots.push(number(y.pow(SQUARE_ROOT_POWER)));
            return roots;
        }
        roots.push(number((-beta).pow(SQUARE_ROOT_POWER)));
        x += Fq::ONE;
    }
}

/// (p + 1) / 4, lowest limb first.
const SQUARE_ROOT_POWER: BigInt<4> = BigInt::new([
    0x4f082305b61f3f52,
    0x65e05aa45a1c72a3,
    0x6e14116da0605617,
    0x0c19139cb84c680a,
]);

pub(super) fn hash_to_curve(message: B256) -> G1Affine {
    let three = Fq::from(3u64);
    let mut x = Fq::from_be_bytes_mod_order(message.as_slice());
    loop {
        let beta = x.square() * x + three;
        let y = beta.pow(SQUARE_ROOT_POWER);
        if y.square() == beta {
            return G1Affine::new_unchecked(x, y);
        }
        x += Fq::ONE;
    }
}

fn field_element(value: U256) -> Option<Fq> {
    Fq::from_bigint(BigInt::new(*value.as_limbs()))
}

fn number(element: Fq) -> U256 {
    U256::from_limbs(element.into_bigint().0)
}

#[cfg(test)]
mod tests {
    use ark_ff::BigInteger;

    use super::*;

    #[test]
    fn roots_prove_the_point_of_a_message() {
        let mut most = 0;
        for seed in 0u64..200 {
            let message = alloy_primitives::keccak256(seed.to_be_bytes());
            let roots = hash_to_g1_roots(message);
            most = most.max(roots.len());
            let (last, in_vain) = roots.split_last().expect("at least one try");
            let mut x = Fq::from_be_bytes_mod_order(message.as_slice());
            for root in in_vain {
                let root = field_element(*root).expect("below the modulus");
                assert_eq!(root.square(), -(x.square() * x + Fq::from(3u64)));
                x += Fq::ONE;
            }
            let point = hash_to_g1(message);
            assert_eq!(point.x, number(x));
            assert_eq!(
                point.y,
                number(field_element(*last).expect("below the modulus").square())
            );
        }
        assert!(most > 2, "no message took more than two tries");
    }

    #[test]
    fn the_root_is_taken_by_a_quarter_of_the_modulus_plus_one() {
        let mut four_times = SQUARE_ROOT_POWER;
        assert!(!four_times.mul2() && !four_times.mul2());
        let mut modulus_plus_one = Fq::MODULUS;
        assert!(!modulus_plus_one.add_with_carry(&BigInt::one()));
        assert_eq!(four_times, modulus_plus_one);
    }
}
