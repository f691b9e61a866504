//! What the middleware's registries say of operators: stakes and keys as of a block, and the indices a quorum proof needs.

use std::collections::BTreeMap;

use alloy::contract::Error as ContractError;
use alloy::primitives::{Address, B256, Bytes};
use alloy::providers::Provider;
use avs::bn254::{KeyError, PublicKey};
use futures::future::try_join_all;

use crate::contracts::{IBlsApkRegistry, IOperatorStateRetriever, ISocketRegistry};
use crate::registration::Addresses;

/// An operator as the registries know it.
#[derive(Clone, Debug)]
pub struct Operator {
    pub address: Address,
    /// Keccak of the G1 key.
    pub id: B256,
    /// Its BLS key, as the registry checked it.
    pub key: PublicKey,
    /// Stake by quorum number; absent where it is not a member.
    pub stakes: BTreeMap<u8, u128>,
}

/// All operators as of one block.
#[derive(Clone, Debug)]
pub struct OperatorState {
    pub block: u32,
    /// By operator id.
    pub operators: BTreeMap<B256, Operator>,
}

/// Indices into the registries' histories, as the quorum proof carries them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProofIndices {
    pub non_signer_quorum_bitmap_indices: Vec<u32>,
    pub quorum_apk_indices: Vec<u32>,
    pub total_stake_indices: Vec<u32>,
    pub non_signer_stake_indices: Vec<Vec<u32>>,
}

/// Why the registries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the registries did not answer")]
    Contract(#[from] ContractError),
    #[error("operator {operator}: the registered BLS key is not a point of the curve")]
    MalformedKey { operator: Address, source: KeyError },
    #[error("operator {operator}: the registered G1 key hashes to {found}, not to its id {id}")]
    WrongId { operator: Address, id: B256, found: B256 },
}

/// Reads of the registries, with the operators' keys kept (a registered key never changes).
#[derive(Debug)]
pub struct Registry<P> {
    provider: P,
    addresses: Addresses,
    keys: BTreeMap<B256, PublicKey>,
}

impl<P: Provider> Registry<P> {
    pub fn new(provider: P, addresses: Addresses) -> Self {
        Self {
            provider,
            addresses,
            keys: BTreeMap::new(),
        }
    }

    /// Operators of the quorums as of a block: one call, and two more per operator never seen before.
    pub async fn operator_state(&mut self, block: u32, quorums: &[u8]) -> Result<OperatorState, RegistryError> {
        let retriever = IOperatorStateRetriever::new(self.addresses.operator_state_retriever, &self.provider);
        let coordinator = self.addresses.registry_coordinator;
        let members = retriever
            .getOperatorState(coordinator, Bytes::copy_from_slice(quorums), block)
            .call()
            .await?;
        let unknown: BTreeMap<B256, Address> = members
            .iter()
            .flatten()
            .filter(|member| !self.keys.contains_key(&member.operatorId))
            .map(|member| (member.operatorId, member.operator))
            .collect();
        let fetched = try_join_all(unknown.iter().map(|(id, operator)| self.fetch_key(*id, *operator))).await?;
        self.keys.extend(unknown.keys().copied().zip(fetched));

        let mut operators: BTreeMap<B256, Operator> = BTreeMap::new();
        for (members, &quorum) in members.iter().zip(quorums) {
            for member in members {
                let key = self.keys[&member.operatorId];
                operators
                    .entry(member.operatorId)
                    .or_insert_with(|| Operator {
                        address: member.operator,
                        id: member.operatorId,
                        key,
                        stakes: BTreeMap::new(),
                    })
                    .stakes
                    .insert(quorum, member.stake.to::<u128>());
            }
        }
        Ok(OperatorState { block, operators })
    }

    /// Indices for a proof as of a block, by the same contract the reference services use. Non-signers in the order the proof
    /// lists them.
    pub async fn proof_indices(
        &self,
        block: u32,
        quorums: &[u8],
        non_signers: &[B256],
    ) -> Result<ProofIndices, RegistryError> {
        let retriever = IOperatorStateRetriever::new(self.addresses.operator_state_retriever, &self.provider);
        let found = retriever
            .getCheckSignaturesIndices(
                self.addresses.registry_coordinator,
                block,
                Bytes::copy_from_slice(quorums),
                non_signers.to_vec(),
            )
            .call()
            .await?;
        Ok(ProofIndices {
            non_signer_quorum_bitmap_indices: found.nonSignerQuorumBitmapIndices,
            quorum_apk_indices: found.quorumApkIndices,
            total_stake_indices: found.totalStakeIndices,
            non_signer_stake_indices: found.nonSignerStakeIndices,
        })
    }

    /// The socket an operator recorded on chain.
    pub async fn socket(&self, socket_registry: Address, operator_id: B256) -> Result<String, RegistryError> {
        Ok(ISocketRegistry::new(socket_registry, &self.provider)
            .getOperatorSocket(operator_id)
            .call()
            .await?)
    }

    async fn fetch_key(&self, id: B256, operator: Address) -> Result<PublicKey, RegistryError> {
        let registry = IBlsApkRegistry::new(self.addresses.bls_apk_registry, &self.provider);
        let registered = registry.getRegisteredPubkey(operator).call().await?;
        let g2 = registry.getOperatorPubkeyG2(operator).call().await?;
        let key = PublicKey::parse_registered(&registered._0.into(), &g2.into())
            .map_err(|source| RegistryError::MalformedKey { operator, source })?;
        let found = key.operator_id();
        if found != id {
            return Err(RegistryError::WrongId { operator, id, found });
        }
        Ok(key)
    }
}
