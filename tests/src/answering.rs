//! Quorums of the tests' own: they answer whatever a test wants, with the operators' keys and past every aggregator.

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::Provider as _;
use alloy::sol_types::SolCall;
use avs::bn254::{Aggregate, G1Point, SignedBy, hash_to_g1_roots, sum_g1};
use avs::response::{self, Domain, MatchResponse, OrderMatch};
use avs::words::RankedSupplier;
use bindings::{IBlsQuorumVerifier, IMatchingTaskManager, IOrderBook, Task, encode_bls_proof};
use devnet::agents::bls_key;
use devnet::traffic::{self, Traffic};
use devnet::{bootstrap, plan};
use eigenlayer::registration::Addresses;
use eigenlayer::registry::Registry;
use eyre::{OptionExt as _, WrapErr as _};
use serde_json::json;

use crate::network::Network;
use crate::signing::Answer;

/// Who makes orders.
pub const CUSTOMER: &str = "customer";
/// Two suppliers: the first asks so much less that the rule always ranks it first.
pub const SUPPLIERS: [(&str, u64); 2] = [("cheap-supplier", 10_000_000), ("dear-supplier", 45_000_000)];
/// Whole uSPON of the customer.
pub const CUSTOMERS_DEPOSIT: u64 = 100;

/// A market of one customer and two suppliers, without agents.
#[derive(Debug, Clone)]
pub struct Market {
    pub account: u32,
    /// Ids, in the order of [`SUPPLIERS`].
    pub suppliers: [u32; 2],
}

/// An order that closed with both suppliers' bids.
#[derive(Debug, Clone, Copy)]
pub struct Closed {
    pub order: u64,
    /// Told apart by it.
    pub number: u64,
    pub close: u64,
}

impl Network {
    /// Registers customer and suppliers. Blocks come with transactions while it does.
    pub async fn market(&self) -> eyre::Result<Market> {
        self.devnet.anvil.mine_at_once().await?;
        let traffic = Traffic::new(&self.devnet)?;
        let mut suppliers = [0; 2];
        for (id, (name, _)) in suppliers.iter_mut().zip(SUPPLIERS) {
            *id = traffic.supplier(name, 100).await?;
        }
        let account = traffic.accounts(CUSTOMER, 1, CUSTOMERS_DEPOSIT).await?[0];
        self.resume_blocks().await?;
        Ok(Market { account, suppliers })
    }

    /// Creates an order that takes bids for so many blocks, and places both suppliers' bids. Blocks come with transactions
    /// while it does, and at their own pace afterwards.
    pub async fn ordered(&self, market: &Market, number: u64, bid_window: u16) -> eyre::Result<Closed> {
        self.devnet.anvil.mine_at_once().await?;
        let closed = self.ordered_at_once(market, number, bid_window).await?;
        self.resume_blocks().await?;
        Ok(closed)
    }

    /// As [`Network::ordered`], for a chain that mines transactions as they come, and goes on to.
    pub async fn ordered_at_once(&self, market: &Market, number: u64, bid_window: u16) -> eyre::Result<Closed> {
        let traffic = Traffic::new(&self.devnet)?;
        let book = self.devnet.network.contracts.order_book;
        let call = traffic.order(market.account, bid_window, number);
        traffic.send(plan::address(CUSTOMER), book, &call).await?;
        let created = self.events::<IOrderBook::OrderCreated>(None).await?;
        let (_, created) = created.last().ok_or_eyre("the order was created")?;
        for (name, rate) in SUPPLIERS {
            let bid = IOrderBook::placeBidCall {
                orderId: created.orderId,
                fizz: 0,
                rate: alloy::primitives::Uint::from(rate),
            };
            traffic.send(plan::address(name), book, &bid).await?;
        }
        Ok(Closed {
            order: created.orderId,
            number,
            close: u64::from(created.closeBlock),
        })
    }

    /// An answer that ranks these suppliers of the market, at their own rates.
    pub async fn ranking(&self, market: &Market, closed: Closed, places: &[usize]) -> eyre::Result<Answer> {
        let terms = traffic::unpacked_terms(closed.number);
        let ranks = places.iter().map(|place| RankedSupplier {
            provider: market.suppliers[*place],
            fizz: 0,
            rate: u128::from(SUPPLIERS[*place].1),
            gpu_entry: 0,
        });
        let outcome = OrderMatch {
            order_id: closed.order,
            resources: terms.resources,
            rest_hash: terms.rest_hash(),
            ranks: ranks.collect(),
        };
        Ok(Answer {
            close_block: closed.close,
            close_block_hash: self.block_hash(closed.close).await?,
            params_version: 1,
            matches: response::encode(&[outcome])?,
        })
    }

    /// The digest operators sign for an answer to the first task of its close block.
    pub fn digest(&self, answer: &Answer) -> eyre::Result<B256> {
        let response = MatchResponse {
            close_block: answer.close_block.try_into()?,
            close_block_hash: answer.close_block_hash,
            chunk: 0,
            params_version: answer.params_version,
            matches_hash: response::matches_hash(&answer.matches),
        };
        Ok(response.digest(&Domain {
            chain_id: self.devnet.network.chain_id,
            task_manager: self.devnet.network.contracts.task_manager,
        }))
    }

    /// Has these operators sign an answer and somebody respond with it.
    pub async fn respond(&self, answer: &Answer, signers: &[&str]) -> eyre::Result<()> {
        let proof = self.quorum_proof(answer, signers).await?;
        self.respond_with(answer, proof).await
    }

    /// Responds with a proof, from an account that nobody else uses.
    pub async fn respond_with(&self, answer: &Answer, proof: Vec<u8>) -> eyre::Result<()> {
        let traffic = Traffic::new(&self.devnet)?;
        let from = traffic.unlock("responder").await?;
        let call = self.respond_call(answer, proof)?;
        traffic
            .send(from, self.devnet.network.contracts.task_manager, &call)
            .await
    }

    /// Why a response would be refused, in words; nothing if it would be taken. Tried as of the next block.
    pub async fn refusal(&self, answer: &Answer, signers: &[&str]) -> eyre::Result<Option<String>> {
        let call = self.respond_call(answer, self.quorum_proof(answer, signers).await?)?;
        let transaction = json!([{
            "from": plan::address("responder"), "to": self.devnet.network.contracts.task_manager,
            "input": Bytes::from(call.abi_encode()),
        }, "pending"]);
        let outcome: Result<Bytes, _> = self
            .devnet
            .anvil
            .provider
            .raw_request("eth_call".into(), transaction)
            .await;
        let Err(error) = outcome else { return Ok(None) };
        let data = error.as_error_resp().and_then(|response| response.as_revert_data());
        let text = data.and_then(|data| bindings::describe_revert(&data));
        Ok(Some(text.unwrap_or_else(|| error.to_string())))
    }

    fn respond_call(&self, answer: &Answer, proof: Vec<u8>) -> eyre::Result<IMatchingTaskManager::respondCall> {
        Ok(IMatchingTaskManager::respondCall {
            task: Task {
                closeBlock: answer.close_block.try_into()?,
                closeBlockHash: answer.close_block_hash,
                chunk: 0,
                paramsVersion: answer.params_version,
            },
            matches: answer.matches.clone(),
            proof: proof.into(),
        })
    }

    /// The proof that these operators signed an answer, all others did not.
    async fn quorum_proof(&self, answer: &Answer, signers: &[&str]) -> eyre::Result<Vec<u8>> {
        let network = &self.devnet.network;
        let quorums: Vec<u8> = network.eigenlayer.quorums.iter().map(|quorum| quorum.number).collect();
        let reference = u32::try_from(answer.close_block)?;
        let mut registry = Registry::new(&self.devnet.anvil.provider, Addresses::from(network));
        let state = registry.operator_state(reference, &quorums).await?;
        let digest = self.digest(answer)?;

        let mut aggregate = Aggregate::empty();
        let mut signed = Vec::new();
        for name in signers {
            let key = bls_key(name)?;
            let (public, signature) = (key.public_key(), key.sign(digest));
            let member = state.operators.get(&public.operator_id());
            let member = member.ok_or_else(|| eyre::eyre!("{name} is in no quorum at block {reference}"))?;
            let signed_by = SignedBy {
                key: &public,
                signature: &signature,
            };
            aggregate.add(signed_by, member.stakes.len().try_into()?);
            signed.push(member.id);
        }
        // The map is in the order of the ids, in which the proof names them.
        let silent: Vec<B256> = state
            .operators
            .keys()
            .copied()
            .filter(|id| !signed.contains(id))
            .collect();
        let indices = registry.proof_indices(reference, &quorums, &silent).await?;
        let keys = |quorum: &u8| -> eyre::Result<_> {
            let members = state
                .operators
                .values()
                .filter(|member| member.stakes.contains_key(quorum));
            let points: Vec<G1Point> = members.map(|member| member.key.g1()).collect();
            Ok(g1(sum_g1(&points)?))
        };
        let sigma = g1(aggregate.signature());
        let key_g2 = aggregate.key_g2();
        let proof = IBlsQuorumVerifier::BlsProof {
            nonSignerQuorumBitmapIndices: indices.non_signer_quorum_bitmap_indices,
            nonSignerPubkeys: silent.iter().map(|id| g1(state.operators[id].key.g1())).collect(),
            quorumApks: quorums.iter().map(keys).collect::<eyre::Result<_>>()?,
            apkG2: IBlsQuorumVerifier::G2Point {
                X: key_g2.x,
                Y: key_g2.y,
            },
            sigma,
            quorumApkIndices: indices.quorum_apk_indices,
            totalStakeIndices: indices.total_stake_indices,
            nonSignerStakeIndices: indices.non_signer_stake_indices,
        };
        Ok(encode_bls_proof(&proof, &hash_to_g1_roots(digest)))
    }

    /// Notes every operator's stake as of the next block.
    pub async fn refresh_stakes(&self) -> eyre::Result<()> {
        bootstrap::refresh_stakes(&self.devnet.anvil, &self.devnet.network, &self.devnet.options.plan)
            .await
            .wrap_err("refreshing the stakes")
    }

    /// Calls a restricted function as governance.
    pub async fn govern(&self, target: Address, call: &impl SolCall) -> eyre::Result<()> {
        bootstrap::govern(&self.devnet.anvil, &self.devnet.network, target, call).await
    }

    /// What the customer has in an account: unlocked and locked.
    pub async fn balances(&self, account: u32) -> eyre::Result<(U256, U256)> {
        let token = Traffic::new(&self.devnet)?.token.id;
        let balances = self.escrow().balances(account, token).call().await?;
        Ok((U256::from(balances.unlocked), U256::from(balances.locked)))
    }
}

fn g1(point: G1Point) -> IBlsQuorumVerifier::G1Point {
    IBlsQuorumVerifier::G1Point { X: point.x, Y: point.y }
}
