use alloy_primitives::{Address, B256, U256};
use avs::{
    bn254::{G1Point, SecretKey},
    response::{Domain, MatchResponse, decode, encode, matches_hash},
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    chain_id: u64,
    task_manager: Address,
    close_block: u32,
    close_block_hash: B256,
    chunk: u16,
    params_version: u16,
    matches: Vec<U256>,
    matches_hash: B256,
    separator: B256,
    digest: B256,
    secret: B256,
    signature: [U256; 2],
}

#[test]
fn digests_and_signatures_are_those_of_the_reference() {
    for vector in super::read::<Vec<Vector>>("responses.json") {
        let domain = Domain {
            chain_id: vector.chain_id,
            task_manager: vector.task_manager,
        };
        assert_eq!(domain.separator(), vector.separator);
        assert_eq!(matches_hash(&vector.matches), vector.matches_hash);
        let response = MatchResponse {
            close_block: vector.close_block,
            close_block_hash: vector.close_block_hash,
            chunk: vector.chunk,
            params_version: vector.params_version,
            matches_hash: vector.matches_hash,
        };
        assert_eq!(response.digest(&domain), vector.digest);
        let signature = SecretKey::from_be_bytes(&vector.secret).unwrap().sign(vector.digest);
        assert_eq!(
            signature.point(),
            G1Point {
                x: vector.signature[0],
                y: vector.signature[1]
            }
        );
    }
}

#[test]
fn match_words_decode_and_encode_to_themselves() {
    for vector in super::read::<Vec<Vector>>("responses.json") {
        assert_eq!(encode(&decode(&vector.matches).unwrap()).unwrap(), vector.matches);
    }
}
