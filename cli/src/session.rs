//! What a command works with. Nothing is read or connected before it is needed.

use std::path::{Path, PathBuf};

use ::chain::network::{Network, Token};
use alloy::primitives::U256;
use bindings::IPaymentTokens;
use eyre::OptionExt as _;
use tokio::sync::OnceCell;

use crate::amounts;
use crate::arguments::Arguments;
use crate::chain::{Chain, read};
use crate::failure::Failure;
use crate::home::Home;
use crate::market::Windows;
use crate::orders::Orders;
use crate::output::Output;

/// The user's home, a network's chain, and where the result goes.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) output: &'a Output,
    pub(crate) home: Home,
    pub(crate) chain: Chain,
    /// Fixed when the market is deployed: read once.
    pub(crate) windows: OnceCell<Windows>,
}

impl<'a> Session<'a> {
    /// On the network that the arguments name.
    pub(crate) fn open(arguments: &Arguments, output: &'a Output) -> eyre::Result<Self> {
        let home = open_home(arguments)?;
        let network = find_network(arguments.network.as_deref(), &home)?;
        let chain = Chain::new(network, arguments.max_fee)?;
        Ok(Self {
            output,
            home,
            chain,
            windows: OnceCell::new(),
        })
    }

    /// Grace and low-funds windows of the market.
    pub(crate) async fn windows(&self) -> eyre::Result<Windows> {
        let read = async || eyre::Ok(Windows::from(&read(self.order_book().parameters()).await?));
        self.windows.get_or_try_init(read).await.copied()
    }

    /// The network's payment token of a symbol.
    pub(crate) fn token(&self, symbol: &str) -> Result<&Token, Failure> {
        let network = &self.chain.network;
        network.token(symbol).ok_or_else(|| {
            let listed: Vec<&str> = network.tokens.iter().map(|token| token.symbol.as_str()).collect();
            Failure::bad_input(format!(
                "{} lists no token {symbol}; listed are: {}",
                network.name,
                listed.join(", ")
            ))
        })
    }

    /// Units of a payment token from whole tokens as people write them.
    pub(crate) async fn units(&self, text: &str, token: &Token) -> eyre::Result<U256> {
        let units = amounts::units(text, token.decimals, &token.symbol)?;
        self.require_listed(token).await?;
        Ok(units)
    }

    /// Fails if the chain knows a token by another address or with other decimals than the network file: what somebody writes
    /// in whole tokens would be other units.
    pub(crate) async fn require_listed(&self, token: &Token) -> eyre::Result<()> {
        let list = IPaymentTokens::new(self.chain.network.contracts.payment_tokens, &self.chain.provider);
        let listed = read(list.token(token.id)).await?;
        if (listed.token, listed.decimals) == (token.address, token.decimals) {
            return Ok(());
        }
        Err(Failure::bad_input(format!(
            "the network file of {} is wrong: {} is {} with {} decimals in it, on chain token {} is {} with {} decimals; get a newer \
             file, nothing was sent",
            self.chain.network.name,
            token.symbol,
            token.address,
            token.decimals,
            token.id,
            listed.token,
            listed.decimals
        ))
        .into())
    }

    /// The payment token of an id in an order.
    pub(crate) fn token_by_id(&self, id: u8) -> eyre::Result<&Token> {
        let network = &self.chain.network;
        network.token_by_id(id).ok_or_else(|| {
            eyre::eyre!(
                "the network file of {} does not list token {id}; get a newer one",
                network.name
            )
        })
    }

    /// The orders made on this deployment of the contracts.
    pub(crate) async fn orders(&self) -> eyre::Result<Orders> {
        Ok(Orders::new(self.home.folder(), &self.chain.deployment().await?))
    }
}

/// The home that the arguments name.
pub(crate) fn open_home(arguments: &Arguments) -> eyre::Result<Home> {
    Home::new(arguments.home.as_deref(), arguments.password_file.as_deref())
}

/// Where a running devnet publishes its network file.
pub(crate) fn devnet_file() -> eyre::Result<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let state = match state {
        Some(state) => state,
        None => PathBuf::from(std::env::var_os("HOME").ok_or_eyre("HOME is not set")?).join(".local/state"),
    };
    Ok(state.join("spheron/devnet.json"))
}

fn find_network(given: Option<&str>, home: &Home) -> eyre::Result<Network> {
    let path = match given {
        None => {
            let path = devnet_file()?;
            if !path.exists() {
                return Err(Failure::bad_input(format!(
                    "no network is named and no devnet runs ({} is not there); start one with script/devnet, pass --network \
                     NAME|FILE or set SPHERON_NETWORK",
                    path.display()
                ))
                .into());
            }
            path
        }
        Some(given) => named(given, home)?,
    };
    Network::load(&path).map_err(|error| {
        let report = eyre::Report::new(error);
        let message = report.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Failure::bad_input(message).into()
    })
}

fn named(given: &str, home: &Home) -> eyre::Result<PathBuf> {
    let file = Path::new(given);
    let by_name = home.network_file(given);
    let is_name = given
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
    if file.is_file() {
        Ok(file.to_owned())
    } else if is_name && by_name.is_file() {
        Ok(by_name)
    } else if is_name {
        Err(Failure::bad_input(format!("there is no network file {given} and no {}", by_name.display())).into())
    } else {
        Err(Failure::bad_input(format!("there is no network file {given}")).into())
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use alloy::sol_types::SolCall as _;

    use super::*;

    #[tokio::test]
    async fn amounts_are_units_of_the_token_on_chain_or_none() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let output = Output::new(true);
        let listed = |address, decimals| {
            let listed = IPaymentTokens::PaymentToken {
                id: 1,
                token: address,
                symbol: "uSPON".to_owned(),
                decimals,
                status: IPaymentTokens::Status::Enabled,
                feeSchedule: 0,
                feed: IPaymentTokens::PriceFeed {
                    feed: Address::ZERO,
                    heartbeat: 1,
                    minimumPrice: 0,
                    maximumPrice: 0,
                },
                cap: 0,
            };
            let answer = IPaymentTokens::tokenCall::abi_encode_returns(&listed);
            let answer = alloy::primitives::hex::encode_prefixed(answer).into();
            Session {
                output: &output,
                home: Home::new(Some(folder.path()), None).expect("home"),
                chain: Chain::answering(crate::serving::nowhere(), &[answer]),
                windows: OnceCell::new(),
            }
        };
        let address = Address::repeat_byte(3);
        let token = Token {
            id: 1,
            symbol: "uSPON".to_owned(),
            address,
            decimals: 6,
        };
        let units = listed(address, 6).units("1.5", &token).await.expect("the same");
        assert_eq!(units, U256::from(1_500_000));
        for (other, decimals) in [(address, 18), (Address::repeat_byte(4), 6)] {
            let error = listed(other, decimals).units("1.5", &token).await.expect_err("another");
            assert_eq!(crate::failure::exit_status(&error), 2, "{error}");
            let told = format!("on chain token 1 is {other} with {decimals} decimals");
            assert!(error.to_string().contains(&told), "{error}");
        }
    }

    #[test]
    fn a_network_is_a_file_or_a_name_in_the_home() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = Home::new(Some(folder.path()), None).expect("home");
        let path = home.network_file("testnet");
        crate::files::write_private(&path, b"{}").expect("write");
        assert_eq!(named("testnet", &home).expect("by name"), path);
        assert_eq!(named(&path.display().to_string(), &home).expect("by path"), path);
        for unknown in ["mainnet", "../testnet", "no/such/file.json", ""] {
            let error = named(unknown, &home).expect_err(unknown);
            assert_eq!(crate::failure::exit_status(&error), 2, "{unknown}");
        }
        let error = find_network(Some("testnet"), &home).expect_err("not a network");
        assert!(error.to_string().contains("not a network description"), "{error}");
    }

    #[test]
    fn a_network_whose_token_nobody_could_count_in_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = Home::new(Some(folder.path()), None).expect("home");
        let named = |decimals| {
            let mut network = crate::serving::nowhere();
            network.tokens = vec![Token {
                id: 1,
                symbol: "uSPON".to_owned(),
                address: Address::ZERO,
                decimals,
            }];
            let text = serde_json::to_vec(&network).expect("JSON");
            crate::files::write_private(&home.network_file("testnet"), &text).expect("write");
            find_network(Some("testnet"), &home)
        };
        named(36).expect("fine");
        let error = named(37).expect_err("too fine");
        assert_eq!(crate::failure::exit_status(&error), 2, "{error}");
        assert!(error.to_string().contains("uSPON has 37 decimals"), "{error}");
    }
}
