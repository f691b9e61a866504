use alloy::primitives::{Address, Signature as EcdsaSignature, U256};
use alloy::signers::local::PrivateKeySigner;
use avs::response::matches_hash;
use chain::{Endpoints, RpcSettings};

use super::*;
use crate::matchmaker;

const DOMAIN: Domain = Domain {
    chain_id: 31337,
    task_manager: Address::repeat_byte(7),
};

/// A process that was just started on this data directory. Nothing it could reach is there.
fn process(data_directory: &std::path::Path) -> Signing {
    let nowhere = "http://127.0.0.1:9".parse().expect("a URL");
    let endpoints = Endpoints::new(&RpcSettings::new(vec![nowhere])).expect("endpoints");
    let market = Market::new(endpoints.provider(), Address::ZERO, DOMAIN.task_manager);
    let metrics = OperatorMetrics::default();
    let quorum = QuorumMember {
        key: key(),
        aggregators: Aggregators::new(&[], metrics.clone()).expect("no aggregators"),
    };
    let around = Surroundings {
        market: Arc::new(market),
        store: OperatorStore::open(data_directory).expect("store"),
        domain: DOMAIN,
        metrics,
        eigen: EigenMetrics::default(),
        shutdown: Shutdown::new(),
    };
    Signing::new(around, Some(quorum), None)
}

fn key() -> SecretKey {
    SecretKey::from_random_bytes(&[7; 64]).expect("a key")
}

fn answer(chunk: u16, orders: &[u64], word: u64) -> Answer {
    let matches = vec![U256::from(word)];
    let response = MatchResponse {
        close_block: 9,
        close_block_hash: B256::repeat_byte(3),
        chunk,
        params_version: 1,
        matches_hash: matches_hash(&matches),
    };
    Answer {
        digest: response.digest(&DOMAIN),
        response,
        matches,
        order_ids: orders.to_vec(),
    }
}

/// The only moment in which a process knows what it signs and nobody else does: after the guard is on disk, before anything
/// is sent.
#[tokio::test]
async fn restarted_between_signing_and_sending_it_gives_the_same_signature_or_none() {
    let folder = tempfile::tempdir().expect("folder");
    let first = answer(0, &[1, 2], 0x100);

    let before = process(folder.path());
    let guarded = before.guarded(vec![first.clone()]).await.expect("stored");
    assert_eq!(guarded, [(first.clone(), Verdict::First)]);
    let (signature, account) = (key().sign(first.digest), PrivateKeySigner::random());
    let proof = matchmaker::proof(&account, &first).expect("signed");
    // It dies here: the signature exists, and was sent to nobody.
    drop(before);

    let after = process(folder.path());
    let again = after.guarded(vec![first.clone()]).await.expect("stored");
    assert_eq!(again, [(first.clone(), Verdict::Again)]);
    assert_eq!(key().sign(first.digest), signature);
    assert_eq!(matchmaker::proof(&account, &first).expect("signed"), proof);

    // Whatever it would answer now, for the task or for one of its orders in another chunk, is not signed.
    for other in [
        answer(0, &[1, 2], 0x101),
        answer(0, &[3], 0x102),
        answer(5, &[2], 0x103),
    ] {
        let refused = after.guarded(vec![other]).await.expect("stored");
        assert_eq!(
            refused[0].1,
            Verdict::Refused { signed: first.digest },
            "{:?}",
            refused[0].0
        );
    }
}

/// Dying before the guard is on disk is dying before there is a signature: the next process is free.
#[tokio::test]
async fn what_was_not_recorded_was_not_signed() {
    let folder = tempfile::tempdir().expect("folder");
    drop(process(folder.path()));
    let other = answer(0, &[1], 0x101);
    let guarded = process(folder.path())
        .guarded(vec![other.clone()])
        .await
        .expect("stored");
    assert_eq!(guarded, [(other, Verdict::First)]);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_signs_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let process = process(folder.path());
    process
        .store
        .database()
        .write(|transaction| transaction.execute_batch("DROP TABLE signed_orders"))
        .await
        .expect("broken on purpose");
    process
        .guarded(vec![answer(0, &[1], 0x100)])
        .await
        .expect_err("no verdict, so no signature");
}

#[tokio::test]
async fn only_who_decides_a_close_block_signs_it() {
    let folder = tempfile::tempdir().expect("folder");
    let member = process(folder.path());
    let verifier = Address::repeat_byte(9);
    assert!(member.has_a_say(Decider::Quorum { verifier }));
    let matchmaker = Address::repeat_byte(8);
    assert!(!member.has_a_say(Decider::Matchmaker { verifier, matchmaker }));
}

#[test]
fn a_matchmakers_proof_is_its_plain_signature_of_the_digest() {
    let (account, answer) = (PrivateKeySigner::random(), answer(0, &[1], 0x100));
    let proof = matchmaker::proof(&account, &answer).expect("signed");
    assert_eq!(proof.len(), 65);
    assert!(proof[64] == 27 || proof[64] == 28, "v as contracts recover it");
    let signature = EcdsaSignature::try_from(proof.as_ref()).expect("a signature");
    let recovered = signature.recover_address_from_prehash(&answer.digest);
    assert_eq!(recovered.expect("recovers"), account.address());
}

/// What the bond covers changes from block to block, and the digest of an answer with what is left out: only the orders that were
/// signed give the same signature after a restart.
#[tokio::test]
async fn an_answer_with_orders_left_out_is_the_same_after_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let words: Vec<U256> = [1u64, 2, 3].map(|order_id| U256::from(order_id << 8)).to_vec();
    let response = MatchResponse {
        matches_hash: matches_hash(&words),
        ..answer(0, &[], 0).response
    };
    let whole = Answer {
        digest: response.digest(&DOMAIN),
        response,
        matches: words.clone(),
        order_ids: vec![1, 2, 3],
    };
    let kept = BTreeSet::from([1, 3]);
    let part = whole.clone().restricted_to(&DOMAIN, &kept).expect("a part");
    assert_eq!(part.matches, [words[0], words[2]]);
    assert_eq!(part.order_ids, [1, 3]);
    assert_eq!(part.response.matches_hash, matches_hash(&part.matches));
    assert_eq!(part.digest, part.response.digest(&DOMAIN));

    let before = process(folder.path());
    let hash = response.close_block_hash;
    assert_eq!(before.store.signed_orders(hash, 0).await.expect("read"), None);
    let guarded = before.guarded(vec![part.clone()]).await.expect("stored");
    assert_eq!(guarded, [(part.clone(), Verdict::First)]);
    drop(before);

    let after = process(folder.path());
    let signed = after.store.signed_orders(hash, 0).await.expect("read");
    assert_eq!(signed, Some(kept));
    let again = whole
        .clone()
        .restricted_to(&DOMAIN, &signed.expect("signed"))
        .expect("a part");
    let guarded = after.guarded(vec![again]).await.expect("stored");
    assert_eq!(guarded, [(part.clone(), Verdict::Again)]);
    let refused = after.guarded(vec![whole]).await.expect("stored");
    assert_eq!(refused[0].1, Verdict::Refused { signed: part.digest });
    // Another chunk and another block of that height are other tasks.
    assert_eq!(after.store.signed_orders(hash, 1).await.expect("read"), None);
    assert_eq!(after.store.signed_orders(B256::ZERO, 0).await.expect("read"), None);
}
