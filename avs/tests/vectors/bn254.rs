use alloy_primitives::{B256, U256};
use avs::bn254::{Aggregate, G1Point, G2Point, PublicKey, SecretKey, Signature, SignedBy, hash_to_g1, sum_g1};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    keys: Vec<Key>,
    #[serde(rename = "hashToG1")]
    hash_to_g1: Vec<Hashed>,
    message: B256,
    signatures: Vec<[U256; 2]>,
    multiplicities: Vec<u8>,
    aggregate_signature: [U256; 2],
    aggregate_key: [[U256; 2]; 2],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    secret: B256,
    g1: [U256; 2],
    g2: [[U256; 2]; 2],
    operator_id: B256,
}

#[derive(Deserialize)]
struct Hashed {
    message: B256,
    point: [U256; 2],
}

fn g1([x, y]: [U256; 2]) -> G1Point {
    G1Point { x, y }
}

fn g2([x, y]: [[U256; 2]; 2]) -> G2Point {
    G2Point { x, y }
}

fn vectors() -> Vectors {
    super::read("bn254.json")
}

#[test]
fn keys_are_those_of_the_reference() {
    for key in vectors().keys {
        let secret = SecretKey::from_be_bytes(&key.secret).unwrap();
        assert_eq!(*secret.to_be_bytes(), key.secret.0);
        let public = secret.public_key();
        assert_eq!((public.g1(), public.g2()), (g1(key.g1), g2(key.g2)));
        assert_eq!(public.operator_id(), key.operator_id);
        assert_eq!(PublicKey::parse(&g1(key.g1), &g2(key.g2)), Ok(public));
    }
}

#[test]
fn messages_hash_to_the_points_of_the_reference() {
    for hashed in vectors().hash_to_g1 {
        assert_eq!(hash_to_g1(hashed.message), g1(hashed.point), "{}", hashed.message);
    }
}

#[test]
fn signatures_and_their_sums_are_those_of_the_reference() {
    let vectors = vectors();
    let mut aggregate = Aggregate::empty();
    for ((key, point), multiplicity) in vectors
        .keys
        .iter()
        .zip(&vectors.signatures)
        .zip(&vectors.multiplicities)
    {
        let secret = SecretKey::from_be_bytes(&key.secret).unwrap();
        let (public, signature) = (secret.public_key(), Signature::parse(&g1(*point)).unwrap());
        assert_eq!(secret.sign(vectors.message), signature);
        assert_eq!(secret.sign_point(&hash_to_g1(vectors.message)), Ok(signature));
        assert!(public.verify(vectors.message, &signature));
        aggregate.add(
            SignedBy {
                key: &public,
                signature: &signature,
            },
            *multiplicity,
        );
    }
    assert_eq!(aggregate.signature(), g1(vectors.aggregate_signature));
    assert_eq!(aggregate.key_g2(), g2(vectors.aggregate_key));
    assert!(aggregate.verify(vectors.message));
    assert!(!aggregate.verify(B256::ZERO));
}

#[test]
fn keys_add_up_as_their_secrets_do() {
    let keys = vectors().keys;
    // Secrets 1 and 2 make the key of 3; 1 and the order less 1 make infinity.
    let three = SecretKey::from_be_bytes(&U256::from(3).to_be_bytes())
        .unwrap()
        .public_key();
    assert_eq!(sum_g1([&g1(keys[0].g1), &g1(keys[1].g1)]), Ok(three.g1()));
    assert_eq!(sum_g1([&g1(keys[0].g1), &g1(keys[2].g1)]), Ok(G1Point::default()));
}
