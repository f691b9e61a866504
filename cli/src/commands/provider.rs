//! `spheron provider`: register, update, close, list.

mod close;
mod list;

use std::path::Path;

use alloy::primitives::{Address, B256, U256};
use alloy::providers::RootProvider;
use alloy::signers::local::PrivateKeySigner;
use avs::words::ScoreCard;
use bindings::{ICertificateRegistry, IProviderRegistry, IStakeManager};
use eyre::ensure;
use gateway::Fingerprint;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use crate::amounts;
use crate::arguments::{Provider, Register, Update};
use crate::chain::{Call, read};
use crate::failure::Failure;
use crate::output::facts;
use crate::session::Session;

/// Decimals of SPON.
const SPON_DECIMALS: u8 = 18;

pub(super) async fn run(session: &Session<'_>, arguments: &Provider) -> eyre::Result<()> {
    match arguments {
        Provider::Register(register) => self::register(session, register).await,
        Provider::Update(update) => self::update(session, update).await,
        Provider::Close(arguments) => close::run(session, arguments).await,
        Provider::List => list::run(session).await,
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
    if fingerprint.is_some() {
        session.output.note(
            "an agent that runs keeps the certificate that it was started with: if this is another one, name its file as `identity` \
             in the agent's configuration and start it again, or users refuse to talk to it",
        );
    }
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
    let owner = signer.address();
    session.output.step("looking at what is registered");
    let registry = session.registry();
    let (known, published) = tokio::try_join!(read(registry.providerOf(owner)), published(session, owner))?;
    let mut calls = Vec::new();
    if let Some(current) = fingerprint.filter(|wanted| *wanted != published) {
        calls.push(certificate_call(session, current));
    }
    calls.extend(registration_call(session, known, &wanted).await?);
    let missing = missing_stake(session, known, stake).await?;
    if !missing.is_zero() {
        let contracts = &session.chain.network.contracts;
        let (token, spender) = (contracts.spon, contracts.stake_manager);
        let approval = session.approval(owner, token, spender, missing, "SPON", SPON_DECIMALS);
        calls.extend(approval.await?);
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
        add_stake(session, signer, provider, missing).await?;
    }
    show_registered(session, provider, owner, wanted, fingerprint.unwrap_or(published)).await
}

/// Fingerprint of the certificate that an address has published; zero is none.
async fn published(session: &Session<'_>, owner: Address) -> eyre::Result<B256> {
    let registry = session.chain.network.contracts.certificate_registry;
    let certificates = ICertificateRegistry::new(registry, &session.chain.provider);
    Ok(read(certificates.fingerprints(owner)).await?.current)
}

fn certificate_call(session: &Session<'_>, current: B256) -> Call {
    let publish = ICertificateRegistry::publishCall {
        current,
        next: B256::ZERO,
    };
    let registry = session.chain.network.contracts.certificate_registry;
    Call::new("to publish the gateway's certificate", registry, &publish)
}

/// What makes the registration the wanted one, if it is not.
async fn registration_call(session: &Session<'_>, known: u32, wanted: &Description) -> eyre::Result<Option<Call>> {
    let registry = session.chain.network.contracts.provider_registry;
    if known != 0 && describe(session, known).await? == *wanted {
        return Ok(None);
    }
    let Description {
        name,
        gateway,
        region,
        zone,
        tokens,
    } = wanted.clone();
    Ok(Some(if known == 0 {
        let register = IProviderRegistry::registerCall {
            name,
            gateway,
            region,
            zone,
            tokens,
        };
        Call::new("to register", registry, &register)
    } else {
        let update = IProviderRegistry::updateCall {
            name,
            gateway,
            region,
            zone,
            tokens,
        };
        Call::new("to update the registration", registry, &update)
    }))
}

fn stakes<'a>(session: &'a Session<'_>) -> IStakeManager::IStakeManagerInstance<&'a RootProvider> {
    IStakeManager::new(session.chain.network.contracts.stake_manager, &session.chain.provider)
}

/// Units of SPON that a provider lacks to the wanted stake.
async fn missing_stake(session: &Session<'_>, known: u32, wanted: Option<U256>) -> eyre::Result<U256> {
    let Some(wanted) = wanted else { return Ok(U256::ZERO) };
    if known == 0 {
        return Ok(wanted);
    }
    Ok(wanted.saturating_sub(read(stakes(session).stakeOf(known)).await?))
}

async fn add_stake(session: &Session<'_>, signer: &PrivateKeySigner, provider: u32, amount: U256) -> eyre::Result<()> {
    session
        .output
        .step(format!("staking {} SPON", amounts::whole(amount, SPON_DECIMALS)));
    let stake = IStakeManager::stakeCall { provider, amount };
    let stake = Call::new("to stake", session.chain.network.contracts.stake_manager, &stake);
    session.chain.execute(signer, vec![stake]).await?;
    Ok(())
}

async fn show_registered(
    session: &Session<'_>,
    provider: u32,
    owner: Address,
    wanted: Description,
    certificate: B256,
) -> eyre::Result<()> {
    let (registry, stakes) = (session.registry(), stakes(session));
    let (card, stake) = tokio::try_join!(read(registry.scoreCard(provider)), read(stakes.stakeOf(provider)))?;
    let card = ScoreCard::unpack(card)?;
    let stake = amounts::whole(stake, SPON_DECIMALS);
    let value = json!({
        "provider": provider.to_string(),
        "owner": owner,
        "name": wanted.name,
        "gateway": wanted.gateway,
        "certificate": certificate,
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
