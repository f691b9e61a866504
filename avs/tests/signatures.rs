//! Signatures and keys from outside, and who is to blame when a sum fails.

use std::collections::BTreeSet;

use alloy_primitives::{B256, U256, keccak256};
use ark_bn254::{Fq, Fq2, G2Affine, g2};
use ark_ec::{AffineRepr, short_weierstrass::SWCurveConfig};
use ark_ff::{Field, PrimeField};
use avs::bn254::{
    Aggregate, G1Point, G2Point, KeyError, PointError, PublicKey, SecretKey, Signature, SignedBy, find_invalid,
    hash_to_g1,
};
use proptest::prelude::*;

const G1: &str = "G1";
const G2: &str = "G2";

fn secret(number: u64) -> SecretKey {
    SecretKey::from_random_bytes(
        &[keccak256(number.to_be_bytes()).0, [3; 32]]
            .concat()
            .try_into()
            .unwrap(),
    )
    .unwrap()
}

fn modulus() -> U256 {
    U256::from_limbs(Fq::MODULUS.0)
}

#[test]
fn signatures_off_the_curve_are_refused() {
    let good = secret(1).sign(B256::ZERO).point();
    assert!(Signature::parse(&good).is_ok());
    let infinity = G1Point::default();
    assert_eq!(Signature::parse(&infinity), Err(PointError::Infinity { group: G1 }));
    let off = G1Point {
        y: good.y - U256::from(1),
        ..good
    };
    assert_eq!(Signature::parse(&off), Err(PointError::NotOnCurve { group: G1 }));
    let beyond = G1Point {
        x: good.x.wrapping_add(modulus()),
        ..good
    };
    assert_eq!(
        Signature::parse(&beyond),
        Err(PointError::CoordinateRange { group: G1 })
    );
    let most = G1Point {
        x: U256::MAX,
        y: U256::MAX,
    };
    assert_eq!(Signature::parse(&most), Err(PointError::CoordinateRange { group: G1 }));
    assert_eq!(Signature::from_bytes(&[0; 64]), Err(PointError::Infinity { group: G1 }));
    let bytes = Signature::parse(&good).unwrap().to_bytes();
    assert_eq!(Signature::from_bytes(&bytes).unwrap().point(), good);
}

#[test]
fn keys_outside_the_group_are_refused() {
    let key = secret(2).public_key();
    assert_eq!(PublicKey::parse(&key.g1(), &key.g2()), Ok(key));
    let refused = |g2: G2Point| PublicKey::parse_registered(&key.g1(), &g2).unwrap_err();
    assert_eq!(
        refused(G2Point::default()),
        KeyError::Point(PointError::Infinity { group: G2 })
    );
    let swapped = G2Point {
        x: [key.g2().x[1], key.g2().x[0]],
        ..key.g2()
    };
    assert_eq!(refused(swapped), KeyError::Point(PointError::NotOnCurve { group: G2 }));
    let beyond = G2Point {
        x: [U256::MAX, key.g2().x[1]],
        ..key.g2()
    };
    assert_eq!(
        refused(beyond),
        KeyError::Point(PointError::CoordinateRange { group: G2 })
    );
    let off_subgroup = point_on_the_twist_outside_the_subgroup();
    assert_eq!(
        refused(off_subgroup),
        KeyError::Point(PointError::NotInSubgroup { group: G2 })
    );
    let other = secret(3).public_key();
    assert_eq!(PublicKey::parse(&key.g1(), &other.g2()), Err(KeyError::HalvesDiffer));
}

fn point_on_the_twist_outside_the_subgroup() -> G2Point {
    let number = |element: Fq| U256::from_limbs(element.into_bigint().0);
    (1u64..)
        .find_map(|start| {
            let x = Fq2::new(Fq::from(start), Fq::ONE);
            let y = (x.square() * x + g2::Config::COEFF_B).sqrt()?;
            let point = G2Affine::new_unchecked(x, y);
            assert!(point.is_on_curve() && !point.is_zero());
            (!point.is_in_correct_subgroup_assuming_on_curve()).then(|| G2Point {
                x: [number(x.c1), number(x.c0)],
                y: [number(y.c1), number(y.c0)],
            })
        })
        .unwrap()
}

#[test]
fn secrets_out_of_range_are_refused_and_never_shown() {
    let order = U256::from_limbs(ark_bn254::Fr::MODULUS.0);
    for wrong in [U256::ZERO, order, U256::MAX] {
        assert_eq!(
            SecretKey::from_be_bytes(&wrong.to_be_bytes()).unwrap_err(),
            KeyError::SecretRange
        );
    }
    assert_eq!(
        SecretKey::from_random_bytes(&[0; 64]).unwrap_err(),
        KeyError::SecretRange
    );
    let largest = SecretKey::from_be_bytes(&(order - U256::from(1)).to_be_bytes()).unwrap();
    assert_eq!(format!("{largest:?}"), "SecretKey(redacted)");
}

#[test]
fn nobody_signs_nothing() {
    assert!(!Aggregate::empty().verify(B256::ZERO));
    assert_eq!(Aggregate::empty().signature(), G1Point::default());
    assert!(find_invalid(B256::ZERO, &[]).is_empty());
}

#[test]
fn a_sum_needs_every_multiplicity() {
    let message = keccak256("answer");
    let (first, second) = (secret(1), secret(2));
    let (one, two) = (first.sign(message), second.sign(message));
    let mut sum = Aggregate::empty();
    sum.add(
        SignedBy {
            key: &first.public_key(),
            signature: &one,
        },
        2,
    );
    sum.add(
        SignedBy {
            key: &second.public_key(),
            signature: &two,
        },
        0,
    );
    assert!(sum.verify(message));
    sum.add(
        SignedBy {
            key: &second.public_key(),
            signature: &one,
        },
        1,
    );
    assert!(!sum.verify(message));
}

#[test]
fn a_point_given_as_a_message_is_signed_as_its_hash_would_be() {
    let message = keccak256("registration");
    let key = secret(7);
    assert_eq!(key.sign_point(&hash_to_g1(message)), Ok(key.sign(message)));
    assert_eq!(
        key.sign_point(&G1Point::default()),
        Err(PointError::Infinity { group: G1 })
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn exactly_the_culprits_are_named(count in 1usize..40, wrong in proptest::collection::btree_set(0usize..40, 0..5)) {
        let message = keccak256("answer");
        let wrong: BTreeSet<usize> = wrong.into_iter().filter(|index| *index < count).collect();
        let secrets: Vec<SecretKey> = (0..count as u64).map(secret).collect();
        let keys: Vec<PublicKey> = secrets.iter().map(SecretKey::public_key).collect();
        let signatures: Vec<Signature> = secrets
            .iter()
            .enumerate()
            .map(|(index, key)| key.sign(if wrong.contains(&index) { keccak256("other") } else { message }))
            .collect();
        let signed: Vec<SignedBy<'_>> =
            keys.iter().zip(&signatures).map(|(key, signature)| SignedBy { key, signature }).collect();
        let named = find_invalid(message, &signed);
        prop_assert_eq!(named, wrong.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn points_from_anywhere_parse_or_are_refused(limbs: [[u64; 4]; 6]) {
        let [a, b, c, d, e, f] = limbs.map(U256::from_limbs);
        let (g1, g2) = (G1Point { x: a, y: b }, G2Point { x: [c, d], y: [e, f] });
        prop_assert!(Signature::parse(&g1).is_err());
        prop_assert!(PublicKey::parse(&g1, &g2).is_err());
    }
}
