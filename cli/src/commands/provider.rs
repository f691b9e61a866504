//! `spheron provider`: register, update, list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use alloy::primitives::{B256, U256};
use alloy::signers::local::PrivateKeySigner;
use avs::words::{Capacity, ScoreCard};
use bindings::{ICertificateRegistry, IOrderBook, IProviderRegistry, IStakeManager};
use eyre::{WrapErr as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gateway::Fingerprint;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::amounts;
use crate::arguments::{Provider, Register, Update};
use crate::chain::{Call, read};
use crate::failure::Failure;
use crate::market::logs;
use crate::output::{facts, table};
use crate::session::Session;

/// Decimals of SPON.
const SPON_DECIMALS: u8 = 18;
/// Providers that are read at the same time.
const READS_AT_ONCE: usize = 16;

pub(super) async fn run(session: &Session<'_>, arguments: &Provider) -> eyre::Result<()> {
    match arguments {
        Provider::Register(register) => self::register(session, register).await,
        Provider::Update(update) => self::update(session, update).await,
        Provider::List => list(session).await,
    }
}

/// What a provider says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Description {
    name: String,
    gateway: String,
    region: u8,
    zone: u8,
    tokens: u32,
}

async fn register(session: &Session<'_>, arguments: &Register) -> eyre::Result<()> {
    let fingerprint = fingerprint_of(&arguments.certificate)?;
    let tokens = token_bitmap(session, &arguments.tokens)?.unwrap_or_else(|| all_tokens(session));
    let description = Description {
        name: arguments.name.clone(),
        gateway: arguments.gateway.clone(),
        region: region_id(session, &arguments.region).await?,
        zone: arguments.zone,
        tokens,
    };
    check(&description)?;
    let signer = open_key(session, arguments.key.as_deref())?;
    let stake = stake_target(session, arguments.stake.as_deref()).await?;
    apply(session, &signer, description, Some(fingerprint), Some(stake)).await
}

async fn update(session: &Session<'_>, arguments: &Update) -> eyre::Result<()> {
    let fingerprint = arguments.certificate.as_deref().map(fingerprint_of).transpose()?;
    let tokens = token_bitmap(session, &arguments.tokens)?;
    let region = match &arguments.region {
        Some(region) => Some(region_id(session, region).await?),
        None => None,
    };
    let signer = open_key(session, arguments.key.as_deref())?;
    let id = read(session.registry().providerOf(signer.address())).await?;
    ensure!(
        id != 0,
        "{} is not registered; run `spheron provider register`",
        signer.address()
    );
    let current = describe(session, id).await?;
    let description = Description {
        name: arguments.name.clone().unwrap_or(current.name),
        gateway: arguments.gateway.clone().unwrap_or(current.gateway),
        region: region.unwrap_or(current.region),
        zone: arguments.zone.unwrap_or(current.zone),
        tokens: tokens.unwrap_or(current.tokens),
    };
    check(&description)?;
    let stake = match &arguments.stake {
        Some(_) => Some(stake_target(session, arguments.stake.as_deref()).await?),
        None => None,
    };
    apply(session, &signer, description, fingerprint, stake).await
}

/// Brings the chain to what is described: what is so already costs no transaction.
async fn apply(
    session: &Session<'_>,
    signer: &PrivateKeySigner,
    wanted: Description,
    fingerprint: Option<B256>,
    stake: Option<U256>,
) -> eyre::Result<()> {
    let (owner, contracts) = (signer.address(), &session.chain.network.contracts);
    session.output.step("looking at what is registered");
    let registry = session.registry();
    let certificates = ICertificateRegistry::new(contracts.certificate_registry, &session.chain.provider);
    let stakes = IStakeManager::new(contracts.stake_manager, &session.chain.provider);
    let (known, published) =
        tokio::try_join!(read(registry.providerOf(owner)), read(certificates.fingerprints(owner)))?;

    let mut calls = Vec::new();
    if let Some(current) = fingerprint.filter(|wanted| *wanted != published.current) {
        let publish = ICertificateRegistry::publishCall {
            current,
            next: B256::ZERO,
        };
        calls.push(Call::new(
            "to publish the gateway's certificate",
            contracts.certificate_registry,
            &publish,
        ));
    }
    let Description {
        name,
        gateway,
        region,
        zone,
        tokens,
    } = wanted.clone();
    if known == 0 {
        let register = IProviderRegistry::registerCall {
            name,
            gateway,
            region,
            zone,
            tokens,
        };
        calls.push(Call::new("to register", contracts.provider_registry, &register));
    } else if describe(session, known).await? != wanted {
        let update = IProviderRegistry::updateCall {
            name,
            gateway,
            region,
            zone,
            tokens,
        };
        calls.push(Call::new(
            "to update the registration",
            contracts.provider_registry,
            &update,
        ));
    }
    let staked = if known == 0 {
        U256::ZERO
    } else {
        read(stakes.stakeOf(known)).await?
    };
    let missing = stake.unwrap_or_default().saturating_sub(staked);
    if !missing.is_zero() {
        let approval = session
            .approval(
                owner,
                contracts.spon,
                contracts.stake_manager,
                missing,
                "SPON",
                SPON_DECIMALS,
            )
            .await?;
        calls.extend(approval);
    }
    if !calls.is_empty() {
        session.output.step(format!("registering {}", wanted.name));
    }
    session.chain.execute(signer, calls).await?;

    let provider = if known == 0 {
        read(registry.providerOf(owner)).await?
    } else {
        known
    };
    ensure!(
        provider != 0,
        "{owner} is not registered although its transaction succeeded; is the network file right?"
    );
    if !missing.is_zero() {
        session
            .output
            .step(format!("staking {} SPON", amounts::whole(missing, SPON_DECIMALS)));
        let call = IStakeManager::stakeCall {
            provider,
            amount: missing,
        };
        let call = Call::new("to stake", contracts.stake_manager, &call);
        session.chain.execute(signer, vec![call]).await?;
    }
    let (card, stake) = tokio::try_join!(read(registry.scoreCard(provider)), read(stakes.stakeOf(provider)))?;
    let card = ScoreCard::unpack(card)?;
    let stake = amounts::whole(stake, SPON_DECIMALS);
    let value = json!({
        "provider": provider.to_string(),
        "owner": owner,
        "name": wanted.name,
        "gateway": wanted.gateway,
        "fingerprint": fingerprint.unwrap_or(published.current),
        "stake": stake,
        "active": card.active,
        "tier": card.tier,
    });
    let text = facts(&[
        ("provider", provider.to_string()),
        ("owner", owner.to_string()),
        ("name", wanted.name),
        ("gateway", wanted.gateway),
        ("stake", format!("{stake} SPON")),
        (
            "active",
            if card.active {
                "yes"
            } else {
                "no: more stake is needed, or it is suspended"
            }
            .to_owned(),
        ),
        (
            "trust tier",
            if card.tier == 0 {
                "none yet: it must be verified to win orders".to_owned()
            } else {
                card.tier.to_string()
            },
        ),
    ]);
    session.output.result(&value, &text);
    Ok(())
}

async fn describe(session: &Session<'_>, id: u32) -> eyre::Result<Description> {
    let about = read(session.registry().call_builder(&IProviderRegistry::providerCall { id })).await?;
    let card = ScoreCard::unpack(about.scoreCard)?;
    Ok(Description {
        name: about.name,
        gateway: about.gateway,
        region: card.region,
        zone: card.zone,
        tokens: card.tokens,
    })
}

fn check(description: &Description) -> Result<(), Failure> {
    if !(1..=64).contains(&description.name.len()) {
        return Err(Failure::bad_input(format!(
            "the name has {} bytes; expected 1 to 64",
            description.name.len()
        )));
    }
    let url = url::Url::parse(&description.gateway).ok();
    let fits = url.is_some_and(|url| url.scheme() == "https" && url.has_host()) && description.gateway.len() <= 256;
    if !fits || !description.gateway.starts_with("https://") {
        return Err(Failure::bad_input(format!(
            "`{}` is no gateway; expected https://host:port",
            description.gateway
        )));
    }
    if description.tokens == 0 {
        return Err(Failure::bad_input(
            "no payment token is accepted; name at least one with --tokens",
        ));
    }
    Ok(())
}

fn open_key(session: &Session<'_>, key: Option<&Path>) -> eyre::Result<PrivateKeySigner> {
    match key {
        Some(path) => session.home.open_key(path),
        None => session.home.signer(),
    }
}

/// The fingerprint of the first certificate in a PEM file, which may hold its key too.
fn fingerprint_of(path: &Path) -> eyre::Result<B256> {
    let unusable =
        |reason: String| Failure::bad_input(format!("{} holds no certificate in PEM: {reason}", path.display()));
    let certificate = CertificateDer::from_pem_file(path).map_err(|error| unusable(error.to_string()))?;
    let fingerprint = Fingerprint::of_certificate(&certificate).map_err(|error| unusable(error.to_string()))?;
    Ok(fingerprint.into())
}

async fn region_id(session: &Session<'_>, name: &str) -> eyre::Result<u8> {
    let regions = session.regions().await?;
    let found = regions.iter().find(|(_, region)| *region == name).map(|(id, _)| *id);
    found.ok_or_else(|| {
        let listed: Vec<&str> = regions.values().map(String::as_str).collect();
        let network = &session.chain.network.name;
        Failure::bad_input(format!(
            "{network} has no region {name}; there are: {}",
            listed.join(", ")
        ))
        .into()
    })
}

fn token_bitmap(session: &Session<'_>, symbols: &[String]) -> Result<Option<u32>, Failure> {
    if symbols.is_empty() {
        return Ok(None);
    }
    let bits = symbols
        .iter()
        .try_fold(0u32, |bits, symbol| Ok(bits | token_bit(session.token(symbol)?.id)))?;
    Ok(Some(bits))
}

fn all_tokens(session: &Session<'_>) -> u32 {
    session
        .chain
        .network
        .tokens
        .iter()
        .fold(0, |bits, token| bits | token_bit(token.id))
}

fn token_bit(id: u8) -> u32 {
    1u32.checked_shl(id.into()).unwrap_or(0)
}

/// What must be staked in all: what was named, or the least.
async fn stake_target(session: &Session<'_>, named: Option<&str>) -> eyre::Result<U256> {
    let stakes = IStakeManager::new(session.chain.network.contracts.stake_manager, &session.chain.provider);
    let named = named
        .map(|amount| amounts::units(amount, SPON_DECIMALS, "SPON"))
        .transpose()?;
    let least = read(stakes.minimumStake()).await?;
    match named {
        Some(named) if named < least => Err(Failure::bad_input(format!(
            "a stake of {} SPON is too little; the least is {}",
            amounts::whole(named, SPON_DECIMALS),
            amounts::whole(least, SPON_DECIMALS)
        ))
        .into()),
        named => Ok(named.unwrap_or(least)),
    }
}

async fn list(session: &Session<'_>) -> eyre::Result<()> {
    let (count, regions, leases) = tokio::try_join!(read_count(session), session.regions(), live_leases(session))?;
    let providers: Vec<Value> = stream::iter(1..=count)
        .map(|id| one(session, id, &regions, leases.get(&id).copied().unwrap_or(0)))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let mut rows = vec![
        [
            "ID",
            "NAME",
            "REGION",
            "TIER",
            "CPU FREE",
            "MEMORY FREE",
            "STORAGE FREE",
            "STAKE",
            "LEASES",
            "STATE",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for provider in &providers {
        let share = |resource: &str, unit: &str| {
            let resource = &provider["capacity"][resource];
            format!("{} of {}{unit}", text(&resource["free"]), text(&resource["total"]))
        };
        rows.push(vec![
            text(&provider["id"]),
            text(&provider["name"]),
            text(&provider["region"]),
            text(&provider["tier"]),
            share("cpu", ""),
            share("memory_gib", " GiB"),
            share("storage_gib", " GiB"),
            text(&provider["stake"]),
            text(&provider["leases"]),
            if provider["active"] == true {
                "active"
            } else {
                "inactive"
            }
            .to_owned(),
        ]);
    }
    session.output.result(&json!({"providers": providers}), &table(&rows));
    Ok(())
}

async fn read_count(session: &Session<'_>) -> eyre::Result<u32> {
    read(session.registry().supplierCount()).await
}

/// Leases that were opened and not closed, by supplier: the contracts keep no count of them.
async fn live_leases(session: &Session<'_>) -> eyre::Result<BTreeMap<u32, usize>> {
    let book = session.chain.network.contracts.order_book;
    let (opened, closed) = tokio::try_join!(
        logs::<IOrderBook::LeaseCreated>(&session.chain, book, None, None),
        logs::<IOrderBook::LeaseClosed>(&session.chain, book, None, None),
    )?;
    let closed: BTreeSet<u64> = closed.into_iter().map(|(_, event)| event.orderId).collect();
    let mut live = BTreeMap::new();
    for (_, event) in opened.into_iter().filter(|(_, event)| !closed.contains(&event.orderId)) {
        *live.entry(event.supplier).or_default() += 1;
    }
    Ok(live)
}

async fn one(session: &Session<'_>, id: u32, regions: &BTreeMap<u8, String>, leases: usize) -> eyre::Result<Value> {
    let (registry, book) = (session.registry(), session.order_book());
    let stakes = IStakeManager::new(session.chain.network.contracts.stake_manager, &session.chain.provider);
    let (about, capacity, stake) = tokio::try_join!(
        read(registry.call_builder(&IProviderRegistry::providerCall { id })),
        read(book.capacityOf(id)),
        read(stakes.stakeOf(id)),
    )
    .wrap_err_with(|| format!("provider {id}"))?;
    let card = ScoreCard::unpack(about.scoreCard)?;
    let capacity = Capacity::unpack(capacity.capacity)?;
    let quotient =
        |units: u32, numerator: u64, scale: u8| manifest::decimal_text(U256::from(u64::from(units) * numerator), scale);
    let cpu = |units| quotient(units, 1, 2);
    // 16 MiB are 1/64 GiB, 256 MiB a quarter: both end within six decimals.
    let memory = |units| quotient(units, 15_625, 6);
    let storage = |units| quotient(units, 25, 2);
    let gpus: Vec<Value> = capacity
        .gpus
        .iter()
        .filter(|entry| entry.id != 0)
        .map(|entry| json!({"id": entry.id, "free": entry.free, "total": entry.total}))
        .collect();
    Ok(json!({
        "id": id.to_string(),
        "name": about.name,
        "owner": about.owner,
        "gateway": about.gateway,
        "region": regions.get(&card.region).cloned().unwrap_or_else(|| card.region.to_string()),
        "zone": card.zone,
        "tier": card.tier,
        "slashes": card.slashes,
        "active": card.active && capacity.active,
        "capacity": {
            "cpu": {"free": cpu(capacity.cpu_free), "total": cpu(capacity.cpu_total)},
            "memory_gib": {"free": memory(capacity.memory_free), "total": memory(capacity.memory_total)},
            "storage_gib": {"free": storage(capacity.storage_free), "total": storage(capacity.storage_total)},
            "gpus": gpus,
        },
        "stake": amounts::whole(stake, SPON_DECIMALS),
        "leases": leases,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            name: "p".to_owned(),
            gateway: "https://127.0.0.1:1".to_owned(),
            region: 1,
            zone: 0,
            tokens: 1,
        }
    }

    #[test]
    fn what_the_registry_would_refuse_is_bad_input() {
        assert!(check(&description()).is_ok());
        for gateway in [
            "",
            "https://",
            "http://127.0.0.1:1",
            "127.0.0.1:1",
            "https:/x",
            &format!("https://{}", "a".repeat(250)),
        ] {
            let wrong = Description {
                gateway: gateway.to_owned(),
                ..description()
            };
            assert!(check(&wrong).is_err(), "{gateway}");
        }
        for name in [String::new(), "n".repeat(65)] {
            assert!(check(&Description { name, ..description() }).is_err());
        }
        assert!(
            check(&Description {
                tokens: 0,
                ..description()
            })
            .is_err()
        );
    }

    #[test]
    fn a_certificate_is_found_beside_its_key_and_nothing_else_is_taken() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("identity.pem");
        let identity = gateway::Identity::load_or_create(&path).expect("made");
        assert_eq!(
            fingerprint_of(&path).expect("found"),
            B256::from(identity.fingerprint())
        );
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").expect("write");
        for wrong in [empty, folder.path().join("none.pem")] {
            let error = fingerprint_of(&wrong).expect_err("no certificate");
            assert_eq!(crate::failure::exit_status(&error), 2, "{error}");
        }
    }
}
