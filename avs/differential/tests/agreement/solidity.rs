//! The Solidity implementation: forge's artifact in an EVM, each case a whole transaction under the limits of the chain.

use std::{cmp::Reverse, fs, io, path::PathBuf};

use alloy_primitives::{Address, Bytes, U256, hex};
use alloy_sol_types::{SolCall, sol};
use differential::{Answer, Case};
use revm::{
    Context, ExecuteEvm, MainBuilder, MainContext, MainnetEvm,
    context::{TxEnv, result::ExecutionResult},
    database::{CacheDB, EmptyDB},
    handler::MainnetContext,
    primitives::{TxKind, hardfork::SpecId},
    state::{AccountInfo, Bytecode},
};

sol! {
    struct OrderTerms {
        uint256 resources;
        uint256 requirements;
        uint256 regions;
        bytes32 manifestHash;
        uint96 maximumRate;
        uint32 duration;
        uint32[] wantedSuppliers;
        uint32[] excludedSuppliers;
    }

    struct MatchingParameters {
        uint32[8] weights;
        uint48 stakeCap;
        uint8 rankLimit;
        uint16 chunkSize;
        address rule;
    }

    function rank(
        uint64 orderId,
        uint32 closeBlock,
        bytes32 closeBlockHash,
        OrderTerms terms,
        MatchingParameters parameters,
        uint256[] bids,
        bytes bidOrder
    ) external view returns (uint256 digestWord, uint256[] ranks);
}

const RULE: Address = Address::repeat_byte(0x11);
const CALLER: Address = Address::repeat_byte(0x22);
/// What one transaction may take (EIP-7825): 512 bids fit it, whatever they are.
const TRANSACTION_GAS: u64 = 16_777_216;

/// The rule's contract on a chain of its own.
pub(crate) struct Solidity {
    evm: MainnetEvm<MainnetContext<CacheDB<EmptyDB>>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SolidityError {
    #[error("{}: the rule is not built; run `forge build` in contracts", .path.display())]
    NotBuilt {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: not an artifact; run `forge build --force` in contracts", .path.display())]
    NotAnArtifact { path: PathBuf },
    #[error("the transaction is refused: {reason}")]
    Refused { reason: String },
    #[error("the rule does not answer: {result:?}")]
    NoAnswer { result: Box<ExecutionResult> },
    #[error("the rule's answer cannot be read")]
    Unreadable(#[from] alloy_sol_types::Error),
}

impl Solidity {
    pub(crate) fn deploy() -> Result<Self, SolidityError> {
        let code = Bytecode::new_raw(artifact()?);
        let mut database = CacheDB::<EmptyDB>::default();
        database.insert_account_info(RULE, AccountInfo::from_bytecode(code));
        let evm = Context::mainnet()
            .with_db(database)
            .modify_cfg_chained(|cfg| {
                cfg.set_spec_and_mainnet_gas_params(SpecId::OSAKA);
                cfg.disable_nonce_check = true;
            })
            .build_mainnet();
        Ok(Self { evm })
    }

    /// The rule's answer, and the gas that the whole transaction took.
    pub(crate) fn answer(&mut self, case: &Case) -> Result<(Answer, u64), SolidityError> {
        self.evm.ctx.cfg.chain_id = case.chain_id;
        let transaction = TxEnv::builder()
            .caller(CALLER)
            .kind(TxKind::Call(RULE))
            .chain_id(Some(case.chain_id))
            .gas_limit(TRANSACTION_GAS)
            .data(call(case))
            .build()
            .map_err(|error| SolidityError::Refused {
                reason: format!("{error:?}"),
            })?;
        let result = self.evm.transact(transaction).map_err(|error| SolidityError::Refused {
            reason: error.to_string(),
        })?;
        match result.result {
            ExecutionResult::Success { gas, output, .. } => {
                let returned = rankCall::abi_decode_returns(output.data())?;
                let answer = Answer {
                    digest_word: returned.digestWord,
                    ranks: returned.ranks,
                };
                Ok((answer, gas.tx_gas_used()))
            }
            other => Err(SolidityError::NoAnswer {
                result: Box::new(other),
            }),
        }
    }
}

/// The contract's code as it is after its deployment.
fn artifact() -> Result<Bytes, SolidityError> {
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../contracts/out/MatchingRule.sol/MatchingRule.json"
    ));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(SolidityError::NotBuilt { path, source }),
    };
    let artifact: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let code = artifact.and_then(|artifact| hex::decode(artifact["deployedBytecode"]["object"].as_str()?).ok());
    code.map(Bytes::from).ok_or(SolidityError::NotAnArtifact { path })
}

fn call(case: &Case) -> Bytes {
    let terms = &case.terms;
    let parameters = &case.parameters;
    let call = rankCall {
        orderId: case.order_id,
        closeBlock: case.close_block,
        closeBlockHash: case.close_block_hash,
        terms: OrderTerms {
            resources: terms.resources,
            requirements: terms.requirements,
            regions: terms.regions,
            manifestHash: terms.manifest_hash,
            maximumRate: terms
                .maximum_rate
                .try_into()
                .expect("cases hold rates of at most 96 bits"),
            duration: terms.duration,
            wantedSuppliers: terms.wanted_suppliers.clone(),
            excludedSuppliers: terms.excluded_suppliers.clone(),
        },
        parameters: MatchingParameters {
            weights: *parameters.weights(),
            stakeCap: parameters
                .stake_cap()
                .try_into()
                .expect("stake caps have at most 48 bits"),
            rankLimit: parameters.rank_limit(),
            chunkSize: parameters.chunk_size(),
            rule: RULE,
        },
        bids: case
            .bids
            .iter()
            .flat_map(|bid| [bid.offer, bid.score_card, bid.capacity])
            .collect::<Vec<U256>>(),
        bidOrder: bid_order(case).into(),
    };
    call.abi_encode().into()
}

/// Indices of two bytes, so that (provider, fizz) ascends and the last bid of each comes first.
fn bid_order(case: &Case) -> Vec<u8> {
    let mut indices: Vec<u16> = (0..case.bids.len() as u16).collect();
    indices.sort_unstable_by_key(|index| (case.bids[usize::from(*index)].bidder(), Reverse(*index)));
    indices.into_iter().flat_map(u16::to_be_bytes).collect()
}
