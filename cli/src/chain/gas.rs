//! What a transaction's gas costs: what is too much for anybody, and what is too much for its sender.

use ::chain::network::Network;
use alloy::primitives::{Address, U256};
use eyre::ensure;

use crate::amounts;

/// The chain id of devnets: anvil's own. There anybody has as much ether as he says.
const DEVNET_CHAIN_ID: u64 = 31_337;
const WEI_PER_GWEI: u128 = 1_000_000_000;
const GWEI_DECIMALS: u8 = 9;
/// In wei.
const ONE_ETHER: u64 = 1_000_000_000_000_000_000;

/// Fails if an endpoint asks for more for a unit of gas than anybody wants to pay.
pub(super) fn believable(wei: u128, most_gwei: u64) -> eyre::Result<()> {
    ensure!(
        wei <= u128::from(most_gwei) * WEI_PER_GWEI,
        "the RPC endpoint asks for up to {} gwei for a unit of gas, and at most {most_gwei} are paid; nothing was sent. Use another \
         endpoint, or --max-fee GWEI if that is today's price",
        wei.div_ceil(WEI_PER_GWEI)
    );
    Ok(())
}

/// Fails if `held` wei do not pay for a transaction of at most `cost` wei.
pub(super) fn affordable(network: &Network, sender: Address, held: U256, cost: U256) -> eyre::Result<()> {
    let wei_per_gwei = U256::from(WEI_PER_GWEI);
    ensure!(
        held >= cost,
        "{sender} has {} ether on {}, and the transaction takes up to {} for its gas, so it was not sent; {}",
        amounts::whole(held / wei_per_gwei, GWEI_DECIMALS),
        network.name,
        amounts::whole(cost.div_ceil(wei_per_gwei), GWEI_DECIMALS),
        way_to_ether(network, sender)
    );
    Ok(())
}

/// What to do about an address without ether.
pub(super) fn way_to_ether(network: &Network, sender: Address) -> String {
    let send = "send it some and run the command again".to_owned();
    match network.rpc.first() {
        // The endpoint of a devnet is on this machine and no secret.
        Some(rpc) if network.chain_id == DEVNET_CHAIN_ID => {
            format!(
                "{send}; on a devnet, `cast rpc --rpc-url {rpc} anvil_setBalance {sender} {ONE_ETHER:#x}` gives it one ether"
            )
        }
        _ => send,
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use alloy::signers::local::PrivateKeySigner;
    use serde_json::{Value, json};

    use super::*;
    use crate::chain::{Call, Chain, Progress, Underway};

    /// A devnet whose node gives these answers.
    fn devnet(answers: &[Value]) -> Chain {
        let mut network = crate::serving::nowhere();
        network.name = "devnet".to_owned();
        network.chain_id = DEVNET_CHAIN_ID;
        network.rpc = vec!["http://127.0.0.1:8545".to_owned()];
        Chain::answering(network, answers)
    }

    /// Nonce, gas, fees and balance, as they are asked for before a transaction: 100 000 gas at 3 gwei and a priority of 1, of
    /// which 200 000 are paid for at up to 7 gwei.
    fn before_sending(balance: u64) -> Vec<Value> {
        let fees = json!({
            "oldestBlock": "0x1", "baseFeePerGas": ["0xb2d05e00", "0xb2d05e00"], "gasUsedRatio": [0.5], "reward": [["0x3b9aca00"]],
        });
        vec![json!("0x0"), json!("0x186a0"), fees, json!(U256::from(balance))]
    }

    fn call() -> Call {
        let call = bindings::IEscrow::openCall { owner: Address::ZERO };
        Call::new("to open an account", Address::repeat_byte(1), &call)
    }

    #[tokio::test]
    async fn an_address_without_ether_is_told_what_it_lacks_and_nothing_is_sent() {
        let signer = PrivateKeySigner::random();
        // No answer is left for the transaction itself: one wei is missing.
        let chain = devnet(&before_sending(1_400_000_000_000_000 - 1));
        let error = chain.execute(&signer, vec![call()]).await.expect_err("too poor");
        let told = format!("{error:#}");
        let address = signer.address().to_string();
        for part in [
            address.as_str(),
            "to open an account",
            "has 0.001399999 ether on devnet",
            "up to 0.0014 for its gas",
            &format!("cast rpc --rpc-url http://127.0.0.1:8545 anvil_setBalance {address} 0xde0b6b3a7640000"),
        ] {
            assert!(told.contains(part), "{part:?} is not in: {told}");
        }
        assert_eq!(chain.journal(), []);
        // Endpoints of other networks may be secrets, and give nothing away.
        let mut testnet = devnet(&before_sending(0));
        testnet.network.chain_id = 1;
        let error = testnet.execute(&signer, vec![call()]).await.expect_err("too poor");
        let told = format!("{error:#}");
        assert!(told.contains("has 0 ether") && told.contains("send it some"), "{told}");
        assert!(!told.contains("127.0.0.1"), "{told}");
    }

    #[tokio::test]
    async fn whoever_can_just_pay_for_a_transaction_sends_it() {
        let mut answers = before_sending(1_400_000_000_000_000);
        answers.push(json!(B256::repeat_byte(7)));
        let chain = devnet(&answers);
        chain.send(&PrivateKeySigner::random(), &call()).await.expect("sent");
        assert!(matches!(
            chain.journal().as_slice(),
            [Underway {
                progress: Progress::Sent,
                ..
            }]
        ));
    }

    #[test]
    fn nobody_pays_what_an_endpoint_makes_up() {
        believable(500_000_000_000, 500).expect("a price");
        let error = believable(500_000_000_001, 500).expect_err("more").to_string();
        assert!(
            error.contains("up to 501 gwei") && error.contains("--max-fee"),
            "{error}"
        );
        assert!(believable(u128::MAX, u64::MAX).is_err());
    }
}
