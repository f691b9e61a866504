//! Earning, end to end on a real anvil with EigenLayer's recorded core: commission is collected and submitted, a root is posted
//! as EigenLayer does it, and the tokens arrive.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, U256};
use alloy::providers::Provider as _;
use alloy::sol_types::SolCall as _;
use bindings::ICommissionSplit;
use bindings::standard::IERC20;
use chain::network::Network;
use daemon::DirectoryLock;
use devnet::agents::{self, Agent, Role, Surroundings};
use devnet::anvil::{Anvil, Recording};
use devnet::children::Spawner;
use devnet::rewards::of_running;
use devnet::{Options, bootstrap, plan};
use eyre::{OptionExt as _, WrapErr as _, ensure};
use operator::config::Config;
use operator::membership::{self, Deposit};
use operator::rewards::{Account, claim, distribute, overview, withdraw_challenges};
use serde_json::{Value, json};

/// What hangs fails, and says so.
const TEST_DEADLINE: Duration = Duration::from_secs(240);
/// Seconds.
const DAY: u64 = 86_400;

/// Two operators in every quorum of a chain with our contracts.
struct Earning {
    folder: tempfile::TempDir,
    /// What it spawned lives as long as it does.
    _spawner: Spawner,
    anvil: Anvil,
    network: Network,
    options: Options,
    operators: Vec<Agent>,
}

impl Earning {
    async fn start() -> eyre::Result<Self> {
        let folder = tempfile::Builder::new().prefix("spheron-rewards-").tempdir()?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let mut options = Options::new(folder.path().to_owned(), PathBuf::new(), repository);
        options.plan.operators.truncate(2);
        options.plan.providers.clear();
        let recording = Recording::load(&options.repository.join(".local/eigenlayer"))?;
        let program = options.repository.join(".local/bin/anvil");
        ensure!(program.exists(), "{} is missing: run script/setup", program.display());
        let log = folder.path().join("anvil.log");
        let spawner = Spawner::new();
        let anvil = Anvil::start(&spawner, program, recording.chain_id, 0, log).await?;
        anvil.replay(&recording).await?;
        at_the_beginning_of_a_day(&anvil).await?;
        let network = bootstrap::deploy(&anvil, &recording, &options)
            .await
            .wrap_err("deploying (contracts/out must be of these sources: `forge build` in contracts)")?;
        bootstrap::fund(&anvil, &network, &options.plan).await?;
        let operators = options
            .plan
            .operators
            .iter()
            .map(|operator| Agent::new(&operator.name, Role::Operator, folder.path(), Path::new("")))
            .collect();
        let earning = Self {
            folder,
            _spawner: spawner,
            anvil,
            network,
            options,
            operators,
        };
        earning.write_files()?;
        earning.opt_in().await?;
        Ok(earning)
    }

    fn devnet_file(&self) -> PathBuf {
        self.folder.path().join("devnet.json")
    }

    fn write_files(&self) -> eyre::Result<()> {
        let mut file = serde_json::to_value(&self.network)?;
        let accounts = self.operators.iter().map(|agent| {
            let about = json!({"address": plan::address(&agent.name)});
            (agent.name.clone(), about)
        });
        file["accounts"] = accounts.collect::<serde_json::Map<String, Value>>().into();
        std::fs::write(self.devnet_file(), file.to_string())?;
        let surroundings = Surroundings {
            devnet: "rewards".to_owned(),
            docker_socket: None,
            rpc: Default::default(),
            extra_config: Default::default(),
        };
        let agents: Vec<&Agent> = self.operators.iter().collect();
        agents::write_folders(&self.options.plan, &agents, &surroundings)
    }

    async fn opt_in(&self) -> eyre::Result<()> {
        let fast_blocks = self.anvil.mine_fast();
        let joining = self.options.plan.operators.iter().zip(&self.operators);
        futures::future::try_join_all(joining.map(async |(operator, agent)| {
            let quorums = self.network.eigenlayer.quorums.iter();
            let deposits: Vec<Deposit> = quorums
                .zip(operator.restake.by_quorum())
                .map(|(quorum, tokens)| Deposit {
                    quorum: quorum.number.to_string(),
                    units: whole(tokens),
                })
                .collect();
            membership::opt_in(&config_of(agent)?, &deposits).await
        }))
        .await?;
        drop(fast_blocks);
        self.anvil.mine_every(1).await
    }

    fn config(&self, operator: usize) -> eyre::Result<Config> {
        config_of(&self.operators[operator])
    }

    fn address(&self, operator: usize) -> Address {
        plan::address(&self.operators[operator].name)
    }

    fn claim_file(&self, operator: usize) -> PathBuf {
        let name = format!("rewards-{}.json", self.operators[operator].name);
        self.folder.path().join(name)
    }

    /// What the market would have credited: the split takes whatever reaches it for commission.
    async fn earn(&self, tokens: u64) -> eyre::Result<()> {
        self.credit(self.network.contracts.spon, whole(tokens)).await
    }

    async fn credit(&self, token: Address, value: U256) -> eyre::Result<()> {
        let to = self.network.contracts.commission_split;
        let transfer = IERC20::transferCall { to, value };
        bootstrap::as_deployer(&self.anvil, token, transfer.abi_encode()).await
    }

    async fn spon_of(&self, account: Address) -> eyre::Result<U256> {
        self.balance(self.network.contracts.spon, account).await
    }

    async fn balance(&self, token: Address, account: Address) -> eyre::Result<U256> {
        let token = IERC20::new(token, &self.anvil.provider);
        Ok(token.balanceOf(account).call().await?)
    }

    /// The disputes contract says that an operator proved an answer wrong.
    async fn reward_challenger(&self, challenger: Address) -> eyre::Result<()> {
        let disputes = self.network.contracts.disputes;
        self.anvil.set_balance(disputes, 1).await?;
        self.anvil.call("anvil_impersonateAccount", json!([disputes])).await?;
        let call = ICommissionSplit::rewardChallengerCall { challenger };
        bootstrap::send_as(
            &self.anvil,
            disputes,
            self.network.contracts.commission_split,
            call.abi_encode(),
        )
        .await
    }

    /// The shipped binary.
    fn operator(&self, operator: usize, arguments: &[&str]) -> eyre::Result<std::process::Output> {
        Command::new(env!("CARGO_BIN_EXE_operator"))
            .arg("rewards")
            .args(arguments)
            .arg("--config")
            .arg(self.operators[operator].config())
            .stdin(Stdio::null())
            .output()
            .wrap_err("cannot run operator")
    }
}

/// Moves the chain's clock past the next midnight (UTC): EigenLayer takes whole days, and one that ended while a test ran would be
/// taken when it is to be refused.
async fn at_the_beginning_of_a_day(anvil: &Anvil) -> eyre::Result<()> {
    let newest = anvil.provider.get_block_by_number(BlockNumberOrTag::Latest).await?;
    let now = newest.ok_or_eyre("a chain has a newest block")?.header.timestamp;
    anvil.reach(now - now % DAY + DAY + 1).await
}

fn config_of(agent: &Agent) -> eyre::Result<Config> {
    Ok(operator::config::load(&agent.config())?)
}

fn whole(tokens: u64) -> U256 {
    U256::from(tokens) * U256::from(10).pow(U256::from(18))
}

fn refused<T: std::fmt::Debug>(outcome: eyre::Result<T>, expected: &str) {
    let error = format!("{:#}", outcome.expect_err(expected));
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_earn_arrives() -> eyre::Result<()> {
    daemon::tls::install_provider();
    let ran = tokio::time::timeout(TEST_DEADLINE, Box::pin(run())).await;
    ran.map_err(|_| eyre::eyre!("earning did not end within {} s", TEST_DEADLINE.as_secs()))?
}

async fn run() -> eyre::Result<()> {
    let mut earning = Earning::start().await?;
    let outcome = Box::pin(earn_and_claim(&earning)).await;
    earning.anvil.process.stop().await?;
    outcome
}

async fn earn_and_claim(earning: &Earning) -> eyre::Result<()> {
    let (first, second) = (earning.config(0)?, earning.config(1)?);
    refused(
        of_running(&earning.devnet_file(), false).await,
        "nothing was ever submitted for operators",
    );
    earning.earn(1_000).await?;
    let distributed = distribute(&first, Some("SPON"), &Account::default()).await?;
    assert_eq!(distributed.tokens[0].collected.units, whole(1_000));
    let early = distributed.tokens[0].not_submitted.as_deref().unwrap_or_default();
    assert!(early.contains("whole days"), "{early:?}");
    refused(distribute(&first, Some("GOLD"), &Account::default()).await, "SPON");
    let split = ICommissionSplit::new(earning.network.contracts.commission_split, &earning.anvil.provider);
    let token = earning.network.token("SPON").ok_or_eyre("SPON is listed")?.id;
    let share = split.held(token).call().await?.forOperators;
    assert!(!share.is_zero(), "the devnet gives operators a share");

    // EigenLayer's part.
    let posted = of_running(&earning.devnet_file(), true).await?;
    assert_eq!(posted.submitted, ["SPON"]);
    assert!(posted.new_root);
    let mut claims = posted.claims.clone();
    claims.sort();
    assert_eq!(claims, [earning.claim_file(0), earning.claim_file(1)]);
    let again = of_running(&earning.devnet_file(), false).await?;
    assert_eq!(
        (again.root, again.new_root),
        (posted.root, false),
        "nothing new was earned"
    );

    claim_with_own_key(earning, &first, share).await?;
    claim_with_another_key(earning, &second).await?;
    earn_more(earning, &first).await?;
    challengers_withdraw(earning, &first).await
}

async fn claim_with_own_key(earning: &Earning, config: &Config, share: U256) -> eyre::Result<()> {
    let seen = overview(config).await?;
    let spon = &seen.tokens[0];
    assert_eq!(spon.submitted.symbol, "SPON");
    assert!(
        spon.pending_for_operators.units < U256::from(4),
        "no more than dust is left"
    );
    assert!(!spon.submitted.units.is_zero() && spon.submitted.units <= share);
    assert_eq!(spon.claimed.units, U256::ZERO);
    assert_eq!(seen.submissions.len(), earning.network.eigenlayer.quorums.len());
    assert!(seen.roots[0].claimable, "{:?}", seen.roots);

    let path = earning.claim_file(0);
    refused(
        claim(config, &earning.claim_file(1), None, &Account::default()).await,
        "take the claim file of that operator",
    );
    refused(
        claim(config, &path, Some(Address::ZERO), &Account::default()).await,
        "zero address",
    );
    {
        let _running = DirectoryLock::acquire(&config.data_dir)?;
        refused(
            claim(config, &path, None, &Account::default()).await,
            "stop `operator run` meanwhile",
        );
    }
    let mut of_another_chain: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    of_another_chain["rootIndex"] = json!(7);
    let wrong = earning.folder.path().join("wrong.json");
    std::fs::write(&wrong, of_another_chain.to_string())?;
    refused(
        claim(config, &wrong, None, &Account::default()).await,
        "is it of another chain?",
    );
    of_another_chain["rootIndex"] = json!(0);
    of_another_chain["tokenLeaves"][0]["cumulativeEarnings"] = json!(whole(1_000_000).to_string());
    std::fs::write(&wrong, of_another_chain.to_string())?;
    refused(
        claim(config, &wrong, None, &Account::default()).await,
        "does not lead to the posted root",
    );

    let before = earning.spon_of(earning.address(0)).await?;
    let output = earning.operator(0, &["claim", "--json", "--claim", &path.display().to_string()])?;
    ensure!(
        output.status.success(),
        "`operator rewards claim` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let claimed: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(claimed["claimed"][0]["units"], spon.submitted.units.to_string());
    let arrived = earning.spon_of(earning.address(0)).await? - before;
    assert_eq!(arrived, spon.submitted.units, "all that was submitted arrived");
    refused(claim(config, &path, None, &Account::default()).await, "claimed already");
    Ok(())
}

/// As on a running devnet, where the operators' own accounts are in use.
async fn claim_with_another_key(earning: &Earning, config: &Config) -> eyre::Result<()> {
    let folder = earning.folder.path();
    devnet::rewards::name_claimer(&earning.anvil, &earning.network, &earning.options.plan, folder).await?;
    let path = earning.claim_file(1);
    refused(
        claim(config, &path, None, &Account::default()).await,
        "may claim for operator",
    );
    let _running = DirectoryLock::acquire(&config.data_dir)?;
    let account = Account {
        key: Some(folder.join("claimer/ecdsa.key")),
        password_file: None,
    };
    let recipient = Address::repeat_byte(0xee);
    let claimed = claim(config, &path, Some(recipient), &account).await?;
    assert_eq!(earning.spon_of(recipient).await?, claimed.claimed[0].units);
    Ok(())
}

/// A root holds what was ever earned; a claim takes what was not claimed yet.
async fn earn_more(earning: &Earning, config: &Config) -> eyre::Result<()> {
    let before = overview(config).await?.tokens[0].submitted.units;
    earning.earn(500).await?;
    let posted = of_running(&earning.devnet_file(), true).await?;
    assert_eq!((posted.root_index, posted.new_root), (1, true));
    let submitted = overview(config).await?.tokens[0].submitted.units;
    let account = Account {
        key: Some(posted.claimer_key),
        password_file: None,
    };
    let claimed = claim(config, &earning.claim_file(0), None, &account).await?;
    assert_eq!(claimed.claimed[0].units, submitted - before, "only what is new");
    let output = earning.operator(0, &["show", "--json"])?;
    let shown: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(shown["tokens"][0]["claimed"]["units"], submitted.to_string());
    let output = earning.operator(0, &["show"])?;
    let text = String::from_utf8(output.stdout)?;
    assert!(
        text.contains("submitted for you") && text.contains("claimable"),
        "{text}"
    );
    Ok(())
}

async fn challengers_withdraw(earning: &Earning, config: &Config) -> eyre::Result<()> {
    let nothing = withdraw_challenges(config, None).await?;
    assert!(nothing.withdrawn.is_empty());
    let split = ICommissionSplit::new(earning.network.contracts.commission_split, &earning.anvil.provider);
    let token = split.reward().call().await?.token;
    let token = earning
        .network
        .token_by_id(token)
        .ok_or_eyre("the reward is in a listed token")?;
    earning.credit(token.address, U256::from(1_000_000)).await?;
    distribute(config, Some(&token.symbol), &Account::default()).await?;
    earning.reward_challenger(earning.address(0)).await?;
    let seen = overview(config).await?;
    let of_token = seen
        .tokens
        .iter()
        .find(|seen| seen.challenge_rewards.token == token.address);
    let reward = of_token
        .ok_or_eyre("every listed token is shown")?
        .challenge_rewards
        .units;
    assert!(!reward.is_zero(), "the reserve is not empty");
    let recipient = Address::repeat_byte(0xcc);
    let withdrawn = withdraw_challenges(config, Some(recipient)).await?;
    assert_eq!(withdrawn.withdrawn[0].units, reward);
    assert_eq!(earning.balance(token.address, recipient).await?, reward);
    Ok(())
}
