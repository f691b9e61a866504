//! `devnet rewards`: the devnet's stand-in for EigenLayer's rewards updater, which works off chain.
//!
//! It has the commission split collect and submit the operators' share, sums up what was submitted for each operator since
//! the chain began, posts the root of everybody's earnings and writes a claim file for each of them. EigenLayer's updater also
//! divides an operator's rewards between it and those who delegated to it, by the operator's split; here every operator is its
//! own and only staker, so that both parts are its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::{DynProvider, Provider as _, ProviderBuilder};
use alloy::sol_types::{SolCall, SolError as _};
use alloy::transports::TransportError;
use bindings::ICommissionSplit;
use chain::network::{Network, Token};
use eigenlayer::registration::Addresses;
use eigenlayer::rewards::IRewardsCoordinator::{EarnerTreeMerkleLeaf, TokenTreeMerkleLeaf};
use eigenlayer::rewards::{self, Claim, IRewardsCoordinator, Submission, claim_file};
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::agents;
use crate::anvil::Anvil;
use crate::bootstrap::{DEPLOYER, send_as};
use crate::plan::{self, Plan};

/// How long the chain may take to come to the next day.
const DAY_DEADLINE: Duration = Duration::from_secs(30);

/// The account that may claim for every operator, and its ether.
const CLAIMER: &str = "claimer";
const GAS_MONEY: u64 = 100;

/// What EigenLayer hashes before the fields of an earner's and of a token's leaf.
const EARNER_LEAF: u8 = 0;
const TOKEN_LEAF: u8 = 1;

/// What everybody earned: token units by token, by earner.
pub type Earnings = BTreeMap<Address, BTreeMap<Address, U256>>;

/// What `devnet rewards` did.
#[derive(Debug, Clone, Serialize)]
pub struct Posted {
    /// Symbols of the tokens in which operators' shares were submitted this time, and why others were not.
    pub submitted: Vec<String>,
    pub not_submitted: BTreeMap<String, String>,
    pub root_index: u32,
    pub root: B256,
    /// Whether the root is new; otherwise nothing was earned since the last one.
    pub new_root: bool,
    /// One claim file an operator.
    pub claims: Vec<PathBuf>,
    /// Key of the account that may claim for all of them.
    pub claimer_key: PathBuf,
}

/// Pays the operators of the devnet that wrote `devnet_file`; the claim files lie beside it.
pub async fn of_running(devnet_file: &Path, next_day: bool) -> eyre::Result<Posted> {
    ensure!(
        devnet_file.is_file(),
        "no devnet runs here ({} is missing): start it with script/devnet",
        devnet_file.display()
    );
    let network = Network::load(devnet_file)?;
    let url = network.rpc.first().ok_or_eyre("the devnet has no RPC endpoint")?;
    let provider = ProviderBuilder::new()
        .connect_http(url.parse().wrap_err_with(|| format!("{url:?} is no URL"))?)
        .erased();
    let text = std::fs::read(devnet_file).wrap_err_with(|| format!("cannot read {}", devnet_file.display()))?;
    let about: Value =
        serde_json::from_slice(&text).wrap_err_with(|| format!("{} is damaged", devnet_file.display()))?;
    let accounts = about["accounts"].as_object().into_iter().flatten();
    let names = accounts
        .filter_map(|(name, account)| Some((account["address"].as_str()?.parse().ok()?, name.clone())))
        .collect();
    let folder = devnet_file.parent().unwrap_or(Path::new("."));
    Updater::new(&provider, &network)
        .await
        .wrap_err("is the devnet still running?")?
        .run(folder, &names, next_day)
        .await
}

/// Makes an account (`claimer` below `folder`) that may claim for every operator: the operators' own accounts are in use as long
/// as their processes run. To be called before those start.
pub async fn name_claimer(anvil: &Anvil, network: &Network, plan: &Plan, folder: &Path) -> eyre::Result<()> {
    let updater = Updater::new(&anvil.provider, network).await?;
    let claimer = plan::address(CLAIMER);
    let folder = folder.join(CLAIMER);
    std::fs::create_dir_all(&folder).wrap_err_with(|| format!("cannot create {}", folder.display()))?;
    let key = alloy::primitives::hex::encode_prefixed(plan::key(CLAIMER).to_bytes());
    agents::secret_file(&folder.join("ecdsa.key"), &key)?;
    anvil.set_balance(claimer, GAS_MONEY).await?;
    let call = IRewardsCoordinator::setClaimerForCall { claimer };
    for operator in &plan.operators {
        let account = plan::address(&operator.name);
        anvil.call("anvil_impersonateAccount", json!([account])).await?;
        let named = send_as(anvil, account, updater.coordinator, call.abi_encode()).await;
        anvil.call("anvil_stopImpersonatingAccount", json!([account])).await?;
        named.wrap_err_with(|| format!("naming the account that claims for {}", operator.name))?;
    }
    Ok(())
}

/// A running devnet's chain.
#[derive(Debug)]
pub struct Updater<'a> {
    provider: &'a DynProvider,
    network: &'a Network,
    split: Address,
    /// EigenLayer's.
    coordinator: Address,
}

impl<'a> Updater<'a> {
    pub async fn new(provider: &'a DynProvider, network: &'a Network) -> eyre::Result<Self> {
        let split = network.contracts.commission_split;
        let coordinator = ICommissionSplit::new(split, provider).rewardsCoordinator().call().await;
        let coordinator = coordinator.wrap_err_with(|| format!("the commission split {split} cannot be read"))?;
        let updater = IRewardsCoordinator::new(coordinator, provider)
            .rewardsUpdater()
            .call()
            .await?;
        ensure!(
            updater == DEPLOYER,
            "only {updater} may post roots here: this is no devnet of ours"
        );
        Ok(Self {
            provider,
            network,
            split,
            coordinator,
        })
    }

    /// Collects, submits, posts the root, and writes a claim file for each operator into `folder`, named by `names` or by
    /// address. With `next_day` the chain's clock is first moved past the next midnight, because EigenLayer takes only whole
    /// days: leases are billed for that time, or end.
    pub async fn run(&self, folder: &Path, names: &BTreeMap<Address, String>, next_day: bool) -> eyre::Result<Posted> {
        for token in &self.network.tokens {
            self.collect(token).await?;
        }
        if next_day {
            self.skip_to_next_day().await?;
        }
        let (mut submitted, mut not_submitted) = (Vec::new(), BTreeMap::new());
        for token in &self.network.tokens {
            match self.submit(token).await? {
                None => submitted.push(token.symbol.clone()),
                Some(reason) => {
                    not_submitted.insert(token.symbol.clone(), reason);
                }
            }
        }
        let made = rewards::submissions(
            self.provider,
            self.coordinator,
            self.network.contracts.service_manager,
            self.split,
            self.network.deployed_at,
        )
        .await?;
        if made.is_empty() {
            let reasons: Vec<String> = not_submitted
                .iter()
                .map(|(symbol, reason)| format!("{symbol}: {reason}"))
                .collect();
            bail!(
                "nothing was ever submitted for operators ({}); leases that end pay a commission, and --next-day moves the \
                 clock past the day they ended on",
                reasons.join("; ")
            );
        }
        let (root, claims) = tree(&earnings(&made));
        let (root_index, new_root) = self.post(root, &made).await?;
        Ok(Posted {
            submitted,
            not_submitted,
            root_index,
            root,
            new_root,
            claims: write_claims(folder, names, root, root_index, claims)?,
            claimer_key: folder.join(CLAIMER).join("ecdsa.key"),
        })
    }

    async fn collect(&self, token: &Token) -> eyre::Result<()> {
        let call = ICommissionSplit::collectCall { token: token.id };
        match self.send(self.split, &call).await {
            Ok(()) => Ok(()),
            Err(error) if reverts_with(&error, &ICommissionSplit::NothingToCollect::SELECTOR) => Ok(()),
            Err(error) => Err(failure(
                &error,
                format!("collecting the commission in {}", token.symbol),
            )),
        }
    }

    /// Submits the operators' share; says why it did not.
    async fn submit(&self, token: &Token) -> eyre::Result<Option<String>> {
        let quorums = &self.network.eigenlayer.quorums;
        let quorums: Vec<u8> = quorums.iter().map(|quorum| quorum.number).collect();
        let head = u32::try_from(self.provider.get_block_number().await?).wrap_err("the devnet's block number")?;
        let operators = rewards::named_operators(self.provider, &Addresses::from(self.network), &quorums, head).await?;
        let call = ICommissionSplit::rewardOperatorsCall {
            token: token.id,
            operators,
        };
        let Err(error) = self.send(self.split, &call).await else {
            return Ok(None);
        };
        let reasons = [
            (
                ICommissionSplit::NothingToReward::SELECTOR,
                "nothing is held for operators",
            ),
            (
                ICommissionSplit::RewardsTooEarly::SELECTOR,
                "EigenLayer takes whole days that are past",
            ),
        ];
        match reasons.iter().find(|(selector, _)| reverts_with(&error, selector)) {
            Some((_, reason)) => Ok(Some((*reason).to_owned())),
            None => Err(failure(
                &error,
                format!("submitting the operators' share in {}", token.symbol),
            )),
        }
    }

    /// Moves the chain's clock past the next midnight (UTC).
    async fn skip_to_next_day(&self) -> eyre::Result<()> {
        let coordinator = IRewardsCoordinator::new(self.coordinator, self.provider);
        let interval = u64::from(coordinator.CALCULATION_INTERVAL_SECONDS().call().await?).max(1);
        let now = self.timestamp().await?;
        let wanted = now - now % interval + interval + 1;
        self.raw("evm_increaseTime", json!([wanted - now])).await?;
        self.raw("evm_mine", json!([])).await?;
        let deadline = Instant::now() + DAY_DEADLINE;
        while self.timestamp().await? < wanted {
            ensure!(
                Instant::now() < deadline,
                "the chain did not come to the next day within {} s",
                DAY_DEADLINE.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Posts the root unless it is the newest one; its index, and whether it is new. Roots of a devnet can be claimed against at
    /// once: whoever tries it out does not want to wait two hours.
    async fn post(&self, root: B256, made: &[Submission]) -> eyre::Result<(u32, bool)> {
        let newest = rewards::newest_roots(self.provider, self.coordinator, 1).await?;
        if let Some(newest) = newest.first().filter(|newest| newest.root == root) {
            return Ok((newest.index, false));
        }
        let coordinator = IRewardsCoordinator::new(self.coordinator, self.provider);
        if coordinator.activationDelay().call().await? != 0 {
            let at_once = IRewardsCoordinator::setActivationDelayCall { activationDelay: 0 };
            self.send_or_fail(self.coordinator, &at_once, "letting roots be claimed against at once")
                .await?;
        }
        // Each root is of a later time than the one before; two tokens may have been submitted for the same days.
        let posted = u64::from(coordinator.currRewardsCalculationEndTimestamp().call().await?);
        let end = made.iter().map(|submission| submission.until).max().unwrap_or_default();
        let call = IRewardsCoordinator::submitRootCall {
            root,
            rewardsCalculationEndTimestamp: u32::try_from(end.max(posted + 1)).wrap_err("the devnet's clock")?,
        };
        self.send_or_fail(self.coordinator, &call, "posting the root").await?;
        let newest = rewards::newest_roots(self.provider, self.coordinator, 1).await?;
        let newest = newest.first().filter(|newest| newest.root == root);
        Ok((newest.ok_or_eyre("the posted root is not the newest one")?.index, true))
    }

    async fn timestamp(&self) -> eyre::Result<u64> {
        let newest = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await?;
        Ok(newest.ok_or_eyre("the devnet has no newest block")?.header.timestamp)
    }

    async fn raw(&self, method: &'static str, parameters: Value) -> eyre::Result<Value> {
        self.provider
            .raw_request(method.into(), parameters)
            .await
            .wrap_err_with(|| format!("anvil refused {method}"))
    }

    async fn send_or_fail(&self, to: Address, call: &impl SolCall, what: &str) -> eyre::Result<()> {
        let sent = self.send(to, call).await;
        sent.map_err(|error| failure(&error, what.to_owned()))
    }

    /// Sends from the deployer's account, which anvil has unlocked. It is tried first: anvil mines what reverts.
    async fn send(&self, to: Address, call: &impl SolCall) -> Result<(), TransportError> {
        let transaction = json!({"from": DEPLOYER, "to": to, "input": Bytes::from(call.abi_encode())});
        let _returned: Bytes = self
            .provider
            .raw_request("eth_call".into(), json!([transaction, "pending"]))
            .await?;
        let receipt: Value = self
            .provider
            .raw_request("eth_sendTransactionSync".into(), json!([transaction]))
            .await?;
        match receipt["status"] == "0x1" {
            true => Ok(()),
            false => Err(alloy::transports::TransportErrorKind::custom_str(
                "the transaction reverted in its block",
            )),
        }
    }
}

fn reverts_with(error: &TransportError, selector: &[u8; 4]) -> bool {
    chain::reverts::data_of(error).is_some_and(|data| data.starts_with(selector))
}

fn failure(error: &TransportError, what: String) -> eyre::Report {
    let known = chain::reverts::data_of(error).and_then(|data| {
        rewards::describe_revert(&data)
            .map(str::to_owned)
            .or_else(|| bindings::describe_revert(&data))
    });
    eyre::eyre!("{what}: {}", known.unwrap_or_else(|| error.to_string()))
}

/// Sums up what was submitted.
pub fn earnings(made: &[Submission]) -> Earnings {
    let mut earnings = Earnings::new();
    for submission in made {
        for (operator, amount) in &submission.rewards {
            *earnings
                .entry(*operator)
                .or_default()
                .entry(submission.token)
                .or_default() += amount;
        }
    }
    earnings
}

/// The root of everybody's earnings, and every earner's claim of all it earned; the root's index is still zero.
pub fn tree(earnings: &Earnings) -> (B256, Vec<Claim>) {
    let token_trees: Vec<(Address, Tree, Vec<TokenTreeMerkleLeaf>)> = earnings
        .iter()
        .map(|(earner, earned)| {
            let leaves: Vec<TokenTreeMerkleLeaf> = earned
                .iter()
                .map(|(token, units)| TokenTreeMerkleLeaf {
                    token: *token,
                    cumulativeEarnings: *units,
                })
                .collect();
            (*earner, Tree::new(leaves.iter().map(token_leaf).collect()), leaves)
        })
        .collect();
    let earner_leaves: Vec<EarnerTreeMerkleLeaf> = token_trees
        .iter()
        .map(|(earner, tokens, _)| EarnerTreeMerkleLeaf {
            earner: *earner,
            earnerTokenRoot: tokens.root(),
        })
        .collect();
    let earners = Tree::new(earner_leaves.iter().map(earner_leaf).collect());
    let claims = token_trees.into_iter().zip(earner_leaves).zip(0_u32..);
    let claims = claims.map(|(((_, tokens, token_leaves), earner_leaf), index)| {
        let indices = 0..u32::try_from(token_leaves.len()).expect("a network lists at most 32 tokens");
        Claim {
            rootIndex: 0,
            earnerIndex: index,
            earnerTreeProof: earners.proof(index),
            earnerLeaf: earner_leaf,
            tokenTreeProofs: indices.clone().map(|index| tokens.proof(index)).collect(),
            tokenIndices: indices.collect(),
            tokenLeaves: token_leaves,
        }
    });
    (earners.root(), claims.collect())
}

fn earner_leaf(leaf: &EarnerTreeMerkleLeaf) -> B256 {
    keccak256([&[EARNER_LEAF], leaf.earner.as_slice(), leaf.earnerTokenRoot.as_slice()].concat())
}

fn token_leaf(leaf: &TokenTreeMerkleLeaf) -> B256 {
    let earned = leaf.cumulativeEarnings.to_be_bytes::<32>();
    keccak256([&[TOKEN_LEAF], leaf.token.as_slice(), &earned].concat())
}

/// A Merkle tree as EigenLayer checks it: leaves filled up with zeros to a power of two, siblings from the leaf upwards.
struct Tree {
    /// Leaves first, root last.
    levels: Vec<Vec<B256>>,
}

impl Tree {
    fn new(mut leaves: Vec<B256>) -> Self {
        leaves.resize(leaves.len().next_power_of_two(), B256::ZERO);
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.chunks_exact(2).map(|pair| keccak256(pair.concat())).collect();
            levels.push(above);
        }
        Self { levels }
    }

    fn root(&self) -> B256 {
        self.levels
            .last()
            .and_then(|top| top.first())
            .copied()
            .unwrap_or_default()
    }

    fn proof(&self, index: u32) -> Bytes {
        let mut position = index as usize;
        let mut proof = Vec::new();
        for level in self.levels.iter().take(self.levels.len() - 1) {
            proof.extend_from_slice(level[position ^ 1].as_slice());
            position /= 2;
        }
        proof.into()
    }
}

fn write_claims(
    folder: &Path,
    names: &BTreeMap<Address, String>,
    root: B256,
    root_index: u32,
    claims: Vec<Claim>,
) -> eyre::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for claim in claims {
        let claim = Claim {
            rootIndex: root_index,
            ..claim
        };
        let earner = claim.earnerLeaf.earner;
        let name = names.get(&earner).cloned().unwrap_or_else(|| format!("{earner:#x}"));
        let path = folder.join(format!("rewards-{name}.json"));
        let text = serde_json::to_string_pretty(&claim_file::render(root, &claim))?;
        std::fs::write(&path, text).wrap_err_with(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

impl std::fmt::Display for Posted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for symbol in &self.submitted {
            writeln!(formatter, "submitted    the operators' share in {symbol}")?;
        }
        for (symbol, reason) in &self.not_submitted {
            writeln!(formatter, "             nothing in {symbol}: {reason}")?;
        }
        let new = if self.new_root { "posted" } else { "posted before" };
        write!(formatter, "root {:<7} {} ({new})", self.root_index, self.root)?;
        for path in &self.claims {
            write!(formatter, "\nclaim file   {}", path.display())?;
        }
        write!(
            formatter,
            "\n\nClaim with: operator rewards claim --config OPERATOR/config.toml --claim FILE --key {}",
            self.claimer_key.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(token: u8, rewards: &[(u8, u64)]) -> Submission {
        Submission {
            block: 1,
            quorum: 0,
            token: Address::repeat_byte(token),
            from: 0,
            until: 86_400,
            rewards: rewards
                .iter()
                .map(|(operator, units)| (Address::repeat_byte(*operator), U256::from(*units)))
                .collect(),
        }
    }

    /// As EigenLayer's contract does it.
    fn leads_to(root: B256, leaf: B256, mut index: u32, proof: &[u8]) -> bool {
        let mut node = leaf;
        for sibling in proof.chunks_exact(32) {
            let pair = match index % 2 {
                0 => [node.as_slice(), sibling].concat(),
                _ => [sibling, node.as_slice()].concat(),
            };
            node = keccak256(pair);
            index /= 2;
        }
        node == root
    }

    #[test]
    fn earnings_add_up_over_quorums_and_days() {
        let sums = earnings(&[
            submission(1, &[(10, 5), (11, 6)]),
            submission(1, &[(10, 7)]),
            submission(2, &[(11, 8)]),
        ]);
        assert_eq!(
            sums[&Address::repeat_byte(10)][&Address::repeat_byte(1)],
            U256::from(12)
        );
        assert_eq!(sums[&Address::repeat_byte(11)][&Address::repeat_byte(1)], U256::from(6));
        assert_eq!(sums[&Address::repeat_byte(11)][&Address::repeat_byte(2)], U256::from(8));
    }

    #[test]
    fn every_claim_leads_to_the_root() {
        for operators in 1..=9_u8 {
            let rewards: Vec<(u8, u64)> = (1..=operators)
                .map(|operator| (operator, u64::from(operator)))
                .collect();
            let made: Vec<Submission> = (1..=operators).map(|token| submission(100 + token, &rewards)).collect();
            let (root, claims) = tree(&earnings(&made));
            assert_eq!(claims.len(), usize::from(operators));
            for claim in claims {
                let leaf = earner_leaf(&claim.earnerLeaf);
                assert!(
                    leads_to(root, leaf, claim.earnerIndex, &claim.earnerTreeProof),
                    "earner"
                );
                assert_eq!(claim.tokenLeaves.len(), usize::from(operators));
                for ((leaf, index), proof) in claim
                    .tokenLeaves
                    .iter()
                    .zip(&claim.tokenIndices)
                    .zip(&claim.tokenTreeProofs)
                {
                    assert!(
                        leads_to(claim.earnerLeaf.earnerTokenRoot, token_leaf(leaf), *index, proof),
                        "token"
                    );
                }
            }
        }
    }
}
