//! `config check`: first the file by itself; then, where the chain answers, whether it suits the chain.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use ::chain::Endpoints;
use ::chain::network::Network;

use crate::agent::rpc_settings;
use crate::bidder::{prices_of, too_slow};
use crate::chain::Market;
use crate::config::{Config, ENVIRONMENT_PREFIX};

/// Writes the verdict to `out` and returns whether the configuration can be used.
///
/// # Errors
/// When the verdict cannot be written.
pub fn check(file: &Path, json: bool, out: &mut dyn Write) -> eyre::Result<bool> {
    let Ok(config) = daemon::config::load::<Config>(Some(file), ENVIRONMENT_PREFIX) else {
        return Ok(daemon::config::check::<Config>(
            Some(file),
            ENVIRONMENT_PREFIX,
            json,
            out,
        )?);
    };
    match tokio::runtime::Runtime::new()?.block_on(unsuitable(&config)) {
        Ok(problems) if problems.is_empty() => {}
        Ok(problems) if json => {
            let verdict = serde_json::json!({ "valid": false, "problems": problems });
            writeln!(out, "{verdict}")?;
            return Ok(false);
        }
        Ok(problems) => {
            writeln!(
                out,
                "the configuration does not suit its network:\n  {}",
                problems.join("\n  ")
            )?;
            return Ok(false);
        }
        Err(error) => tracing::warn!("the file is checked alone, because the chain cannot be asked: {error:#}"),
    }
    if let Some(advice) = config.settle.advice() {
        tracing::warn!("{advice}");
    }
    Ok(daemon::config::check::<Config>(
        Some(file),
        ENVIRONMENT_PREFIX,
        json,
        out,
    )?)
}

/// Why the configuration does not suit the chain it is for; nothing where it does. The chain must answer.
///
/// # Errors
/// When the chain cannot be read.
async fn unsuitable(config: &Config) -> eyre::Result<Vec<String>> {
    daemon::tls::install_provider();
    let network = Network::load(&config.network)?;
    let endpoints = Endpoints::new(&rpc_settings(config, &network)?)?;
    let market = Market::new(
        endpoints.provider(),
        Arc::new(network),
        config.keys.load().await?.address(),
    );
    let (parameters, gpus) = tokio::try_join!(market.parameters(), market.gpu_models())?;
    let mut problems = prices_of(&config.pricing, market.network(), &gpus)
        .err()
        .unwrap_or_default();
    if !config.bidding.command.is_empty() {
        let window = market.block_time().await? * u32::from(parameters.bidWindow);
        problems.extend(too_slow(config.bidding.command_timeout, window));
    }
    Ok(problems)
}
